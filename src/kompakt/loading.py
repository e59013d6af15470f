"""Read a model file, with errors that say what it is instead, and write one."""

from __future__ import annotations

import json
import logging
import re
import tempfile
import zipfile
import zlib
from pathlib import Path

import keras

# These tell Keras the classes of attached models.
import kompakt.attach
import kompakt.transforms  # noqa: F401
from kompakt.errors import InputError
from kompakt.files import write_atomic
from kompakt.keras2.config import LAMBDA, unknown
from kompakt.keras2.h5 import read_h5
from kompakt.model_paths import H5, check_model_path

log = logging.getLogger("kompakt.keras2")  # the command line lets it speak


def load_model(path: str | Path, *, safe: bool = True, compiled: bool = False) -> keras.Model:
    """The Keras model in a ``.keras`` or ``.h5`` file. Nothing is unpickled; code in the file (Lambda) is refused.

    An ``.h5`` file may be of Keras 2. What Keras 3 spells otherwise is translated; what had to be left out or replaced,
    without changing what the model computes, is told in the log of ``kompakt``, a line for each kind.

    Args:
        path: of the file. safe: False lets a file that you trust run the code in its Lambda layers.
        compiled: as it was compiled, optimizer and all, to train on.

    Raises:
        InputError: missing, not a Keras file, damaged, made of classes that are not known here, or with a layer that
            Keras 3 does not have.

    Example:
        >>> import tempfile; path = tempfile.mkdtemp() + "/m.keras"
        >>> keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)], name="m").save(path)
        >>> load_model(path).name
        'm'
    """
    path = check_model_path(path)
    try:
        model = _read(path, safe, compiled)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except Exception as error:
        raise InputError(f"{path}: {_reason(error, path)}") from error
    if not isinstance(model, keras.Model):
        raise InputError(f"{path}: holds an object of the class {type(model).__name__}, expected a keras.Model")
    return model


def _read(path: Path, safe: bool, compiled: bool) -> keras.Model:
    if path.suffix in H5:
        model, mended = read_h5(path, safe=safe, compiled=compiled)
        for line in mended:
            log.warning("%s: mended: %s", path.name, line)
        return model
    version, config = _written(path)
    if version.startswith("2") and '"hard_sigmoid"' in config:
        raise InputError(f"written by Keras {version}, whose 'hard_sigmoid' is not that of Keras 3; {AS_H5}")
    return keras.saving.load_model(path, compile=compiled, safe_mode=safe)


def _written(path: Path) -> tuple[str, str]:
    """(version of Keras that wrote a ``.keras`` file, its config); "" where it does not say."""
    try:
        with zipfile.ZipFile(path) as pack:
            version = json.loads(pack.read("metadata.json")).get("keras_version", "")
            return str(version), pack.read("config.json").decode("utf-8")
    except (KeyError, ValueError, RecursionError, AttributeError, OSError, zipfile.BadZipFile, zlib.error):
        return "", ""  # Keras says what is wrong


AS_H5 = "load it with Keras 2 (pip install tf_keras) and save it with model.save('name.h5'), which is read here"


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


def _reason(error: Exception, path: Path) -> str:
    """What Keras says at length, in one line with its remedy."""
    text = " ".join(str(error).split()) or type(error).__name__
    found = re.search(r"Could not locate (class|function) '(\w+)'", text)
    if found:
        return unknown(found[1], found[2])
    if "is a Python lambda" in text or "deserialization of a `Lambda` layer" in text:
        return LAMBDA
    text = text.rsplit("Exception encountered: ", 1)[-1]
    version = _written(path)[0] if path.suffix not in H5 else ""
    remedy = f"it was written by Keras {version}: {AS_H5}" if version.startswith("2") else "save it again with Keras 3"
    return f"cannot be loaded ({text if len(text) <= 200 else text[:197] + '...'}); {remedy}"
