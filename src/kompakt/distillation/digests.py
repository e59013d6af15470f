"""Digests of a model and of data, by which what was computed of them is known again."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from kompakt.errors import InputError, first_line
from kompakt.sites import check_built

CHUNK = 1 << 24
"""Bytes of an array that are read at once."""

NO_PART = ("trainable", "compile_config", "build_config")
"""Keys of a config that do not change what a model predicts."""


@dataclass(frozen=True, kw_only=True)
class ArrayDigest:
    """An array of the inputs.

    Attributes:
        name: its place in the structure, as in ``x['image']``. shape, dtype: with the samples. sha256: of the bytes.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    sha256: str


def model_digest(model: keras.Model) -> dict[str, str]:
    """Digests of what decides over a model's predictions: its config and its weights.

    Whether it is frozen, and what it was compiled with, is no part of them. Names of layers are.

    Raises:
        InputError: the model has no config, or is not built.

    Example:
        >>> m = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> before = model_digest(m)
        >>> m.trainable = False
        >>> model_digest(m) == before, sorted(before)
        (True, ['layers or settings', 'weights'])
    """
    check_built(model)
    try:
        config = keras.saving.serialize_keras_object(model.get_config())
        text = json.dumps([type(model).__name__, _plain(config)], sort_keys=True)
    except Exception as error:  # a user's get_config may raise anything
        raise InputError(
            f"the model {model.name!r} ({type(model).__name__}) has no config that can be written "
            f"({first_line(error)}); give its class get_config()"
        ) from error
    weights = hashlib.sha256()
    for weight in model.weights:
        _read(weights, np.asarray(ops.convert_to_numpy(weight.value)))
    return {"layers or settings": hashlib.sha256(text.encode()).hexdigest(), "weights": weights.hexdigest()}


def data_digests(x: Any) -> list[ArrayDigest]:
    """A digest an array of ``x``, which is read in pieces of 16 MB.

    Args:
        x: an array, or arrays in lists and mappings; with the samples along the first axis.

    Raises:
        InputError: something else is in it, such as a ``tf.data.Dataset``, or the arrays differ in length.

    Example:
        >>> found = data_digests({"a": np.zeros((3, 2)), "b": np.zeros(3, "int32")})
        >>> [(each.name, each.shape, each.dtype) for each in found]
        [("x['a']", (3, 2), 'float64'), ("x['b']", (3,), 'int32')]
    """
    return [
        ArrayDigest(name=name, shape=array.shape, dtype=array.dtype.name, sha256=_of_array(array))
        for name, array in _arrays(x)
    ]


def versions() -> dict[str, str]:
    """What predictions are computed with.

    Example:
        >>> sorted(versions())
        ['backend', 'keras', 'kompakt']
    """
    backend = keras.backend.backend()
    found = {name: getattr(sys.modules.get(name), "__version__", "") for name in (backend, "keras", "kompakt")}
    return {"backend": f"{backend} {found[backend]}", "keras": found["keras"], "kompakt": found["kompakt"]}


def _plain(config: Any) -> Any:
    if isinstance(config, dict):
        return {str(key): _plain(value) for key, value in config.items() if key not in NO_PART}
    return [_plain(value) for value in config] if isinstance(config, (list, tuple)) else config


def _arrays(x: Any) -> list[tuple[str, np.ndarray]]:
    leaves = [("x" + "".join(f"[{key!r}]" for key in path), leaf) for path, leaf in tree.flatten_with_path(x)]
    found = [(name, _array(name, leaf)) for name, leaf in leaves]
    lengths = {name: len(array) for name, array in found}
    if len(set(lengths.values())) != 1 or not min(lengths.values()):
        raise InputError(f"x has arrays of {lengths or 'no'} samples; expected as many in each, and one at least")
    return found


def _array(name: str, leaf: Any) -> np.ndarray:
    whole = leaf if isinstance(leaf, np.ndarray) else ops.convert_to_numpy(leaf) if ops.is_tensor(leaf) else None
    if whole is None or not whole.shape or whole.dtype.hasobject:
        raise InputError(
            f"{name} is of the type {type(leaf).__name__}: held predictions belong to samples in a fixed order; pass "
            "an array, or a list or mapping of arrays"
        )
    return whole


def _of_array(array: np.ndarray) -> str:
    made = hashlib.sha256()
    _read(made, array)
    return made.hexdigest()


def _read(into: Any, array: np.ndarray) -> None:
    """Bring shape, dtype and bytes of an array into a hash, some rows at a time."""
    into.update(f"{array.shape} {array.dtype.name};".encode())
    rows = array if array.ndim else array.reshape(1)
    step = max(1, CHUNK // max(1, rows[:1].nbytes))
    for start in range(0, len(rows), step):
        into.update(np.ascontiguousarray(rows[start : start + step]).reshape(-1).view(np.uint8))
