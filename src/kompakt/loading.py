"""Read a model file, with errors that say what it is instead, and write one."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import keras

# These tell Keras the classes of attached models.
import kompakt.attach
import kompakt.transforms  # noqa: F401
from kompakt.errors import InputError
from kompakt.files import check_keras_file, write_atomic


def load_model(path: str | Path, *, safe: bool = True, compiled: bool = False) -> keras.Model:
    """The Keras model in a ``.keras`` file. Nothing is unpickled; code in the file (Lambda) is refused.

    Args:
        path: of the file. safe: False lets a file that you trust run the code in its Lambda layers.
        compiled: as it was compiled, optimizer and all, to train on.

    Raises:
        InputError: missing, not a Keras file, damaged, or made of classes that are not known here.

    Example:
        >>> import tempfile; path = tempfile.mkdtemp() + "/m.keras"
        >>> keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)], name="m").save(path)
        >>> load_model(path).name
        'm'
    """
    path = check_keras_file(path)
    try:
        model = keras.saving.load_model(path, compile=compiled, safe_mode=safe)
    except Exception as error:
        raise InputError(f"{path}: {_reason(error)}") from error
    if not isinstance(model, keras.Model):
        raise InputError(f"{path}: holds an object of the class {type(model).__name__}, expected a keras.Model")
    return model


def save_model(model: keras.Model, path: str | Path) -> None:
    """Write ``model`` to a ``.keras`` file, which is there whole or not at all.

    Example:
        >>> import tempfile; path = tempfile.mkdtemp() + "/m.keras"
        >>> save_model(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)], name="m"), path)
        >>> load_model(path).name
        'm'
    """
    with tempfile.TemporaryDirectory() as folder:
        model.save(f"{folder}/model.keras")
        write_atomic(path, Path(folder, "model.keras").read_bytes())


def _reason(error: Exception) -> str:
    """What Keras says at length, in one line with its remedy."""
    text = " ".join(str(error).split()) or type(error).__name__
    unknown = re.search(r"Could not locate (class|function) '(\w+)'", text)
    if unknown:
        return (
            f"made with the {unknown[1]} {unknown[2]!r}, which is not known here; register it with "
            "keras.saving.register_keras_serializable and import its module before loading (on the command line: "
            "--import MODULE)"
        )
    if "is a Python lambda" in text:
        return (
            "holds a Lambda layer, whose code would run here; where you trust the file, give --trust "
            "(in Python safe=False)"
        )
    text = text.rsplit("Exception encountered: ", 1)[-1]
    return f"cannot be loaded ({text if len(text) <= 200 else text[:197] + '...'}); save it again with Keras 3"
