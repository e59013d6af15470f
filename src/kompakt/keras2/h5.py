"""Read a model from an HDF5 file, whichever Keras wrote it. Nothing is unpickled and the file is not changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from kompakt.errors import InputError
from kompakt.keras2.causal import causal_padded
from kompakt.keras2.config import modern
from kompakt.keras2.mends import Mends
from kompakt.keras2.names import without_slashes
from kompakt.keras2.training import compile_arguments
from kompakt.keras2.weights import assign, restore, text

Config = dict[str, Any]

NO_MODEL = "no Keras model (an HDF5 file of something else); save the model with model.save('name.keras')"
WEIGHTS_ALONE = (
    "holds weights alone and no model; build the model by its code, model.load_weights({name!r}), and save it with "
    "model.save('name.keras')"
)
MEAN = (
    "layer {name!r} is TensorFlow's tf.reduce_mean of integers, which gives a whole number and in Keras 3 a fraction; "
    "in Keras 2 put a tf.cast(x, 'float32') before it, where a fraction is meant, and save the model again"
)
NO_INPUT = "the model has no Input, so that the shapes of its weights are not known; give it one in Keras 2"
FRESH = "what it had gathered (momentum and the like) begins anew"


def read_h5(path: Path, *, safe: bool, compiled: bool) -> tuple[keras.Model, list[str]]:
    """(the model in an ``.h5`` file, one line for each kind of mend).

    Args:
        path: of the file. safe: whether code in it is refused. compiled: as it was compiled.

    Raises:
        InputError: no model in it, or one that Keras 3 cannot compute; code. The text does not name the file.

    Example:
        >>> import tempfile; path = Path(tempfile.mkdtemp(), "m.h5")
        >>> keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)], name="m").save(path)
        >>> model, mended = read_h5(path, safe=True, compiled=False)
        >>> model.name, mended
        ('m', [])
    """
    try:
        with h5py.File(path, "r") as file:
            config = _config(file, path.name)
            if not text(file.attrs.get("keras_version", "1")).startswith("2"):
                return _as_keras_3(path, file, safe, compiled), []
            return _as_keras_2(file, config, safe, compiled)
    except OSError as error:
        raise InputError(f"not an HDF5 file, damaged or cut short ({_short(error)}); save the model again") from error


def _config(file: h5py.File, name: str) -> Config:
    """class_name and config of the model."""
    given = file.attrs.get("model_config")
    if given is None:
        alone = "layer_names" in file.attrs or "layer_names0" in file.attrs or "layers" in file or "vars" in file
        raise InputError(WEIGHTS_ALONE.format(name=name) if alone else NO_MODEL)
    try:
        config = json.loads(text(given), object_hook=_tuple)
    except ValueError as error:
        raise InputError(f"its model_config is no JSON ({_short(error)}); save the model again") from error
    if not isinstance(config, dict) or not {"class_name", "config"} <= set(config) or "model_weights" not in file:
        raise InputError(NO_MODEL)
    return config


def _tuple(item: Config) -> Any:
    return list(item["items"]) if item.get("class_name") == "__tuple__" else item


def _as_keras_3(path: Path, file: h5py.File, safe: bool, compiled: bool) -> keras.Model:
    version = text(file.attrs.get("keras_version", "1"))
    if version.startswith(("0", "1")):
        raise InputError(
            f"written by Keras {version}; load it with Keras 2 and save it again, with model.save('name.h5')"
        )
    model = keras.saving.load_model(path, compile=False, safe_mode=safe)
    if compiled and "training_config" in file.attrs:  # Keras itself cannot read the 'mse' that it wrote there
        _compile(model, file, Mends())
        restore(model.optimizer, file)
    return model


def _as_keras_2(file: h5py.File, config: Config, safe: bool, compiled: bool) -> tuple[keras.Model, list[str]]:
    backend = text(file.attrs.get("backend", "tensorflow"))
    if backend != "tensorflow":
        raise InputError(
            f"written by Keras 2 on {backend}, whose kernels lie otherwise; save it with Keras 2 on TensorFlow"
        )
    mends = Mends()
    named, renamed = without_slashes(config, mends)
    new = modern(causal_padded(named, mends), safe=safe, mends=mends)
    model = keras.saving.deserialize_keras_object(new, safe_mode=safe)
    if isinstance(model, keras.Model):
        if not model.built:
            raise InputError(NO_INPUT)
        _check_means(model)
        assign(model, file["model_weights"], renamed)
        if compiled and "training_config" in file.attrs:
            _compile(model, file, mends)
            _count(model, file, mends)
    return model, mends.lines()


def _check_means(model: keras.Model) -> None:
    """TensorFlow's mean of integers is an integer, Keras' is none."""
    for each in getattr(model, "operations", model.layers):
        if isinstance(each, keras.Model):
            _check_means(each)
        elif type(each).__name__ == "Mean" and keras.backend.is_int_dtype(each.input.dtype):
            raise InputError(MEAN.format(name=each.name))


def _compile(model: keras.Model, file: h5py.File, mends: Mends) -> None:
    model.compile(**compile_arguments(json.loads(text(file.attrs["training_config"])), mends))
    model.optimizer.build(model.trainable_variables)


def _count(model: keras.Model, file: h5py.File, mends: Mends) -> None:
    """The optimizer's step, which schedules go by."""
    if "optimizer_weights" not in file:
        return
    found: list[Any] = []
    file["optimizer_weights"].visititems(lambda name, item: found.append(item) if _is_count(name, item) else None)
    if found:
        model.optimizer.iterations.assign(np.asarray(found[0]))
    mends.add(f"optimizer {type(model.optimizer).__name__}", FRESH + ("; its step count is kept" if found else ""))


def _is_count(name: str, item: Any) -> bool:
    last = name.rsplit("/", 1)[-1].split(":")[0]
    return isinstance(item, h5py.Dataset) and item.shape == () and last in ("iter", "iteration", "iterations")


def _short(error: Exception) -> str:
    line = " ".join(str(error).split())
    return line if len(line) <= 120 else line[:117] + "..."
