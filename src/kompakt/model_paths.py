"""Paths of model files: told at once what is wrong with one, before a framework starts."""

from __future__ import annotations

import zipfile
from pathlib import Path

from kompakt.errors import InputError

H5 = (".h5", ".hdf5")
"""Names of what ``model.save`` of Keras 2 writes."""

MODEL_FILES = (".keras", *H5)
"""Ends of the names of model files."""

GIVE = "give the path of a .keras or .h5 file"


def check_model_path(path: str | Path) -> Path:
    """``path``, where a model file lies; of what is in it only the first bytes are looked at.

    Raises:
        InputError: there is none, or a folder; of a SavedModel, how to get a model file of it.

    Example:
        >>> try:
        ...     check_model_path("no.keras")
        ... except InputError as error:
        ...     print(error)
        model file no.keras does not exist; give the path of a .keras or .h5 file
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"model file {path} is a {_kind(path)}")
    if not path.is_file():
        raise InputError(f"model file {path} does not exist; {GIVE}")
    if path.suffix not in H5 and (path.suffix != ".keras" or not zipfile.is_zipfile(path)):
        raise InputError(
            f"{path}: not a .keras file (a zip with config.json and weights); save the model with "
            "model.save('name.keras')"
        )
    return path


def _kind(folder: Path) -> str:
    """What a folder is, with its remedy."""
    if (folder / "keras_metadata.pb").is_file():
        return (
            "SavedModel folder of Keras 2, which Keras 3 cannot make a model of; load it with Keras 2 (pip install "
            "tf_keras) and save it with model.save('name.h5')"
        )
    if (folder / "saved_model.pb").is_file():
        return f"SavedModel folder, a graph that no Keras model can be made of; {GIVE} of the model that it came from"
    return f"folder; {GIVE}"
