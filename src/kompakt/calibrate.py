"""Run data once and let every activation range that asks for it see what comes by."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import tree

from kompakt.attach import transforms_of
from kompakt.errors import InputError
from kompakt.sites import is_graph
from kompakt.transforms.quantize import RANGES, FakeQuant


def batches(data: Any, batch_size: int = 32, *, shapes: Sequence[Sequence[int | None]] | None = None) -> Iterator[Any]:
    """Batches of inputs out of arrays (one, a list or a dict of them) or out of an iterable of batches.

    Args:
        shapes: of the model's inputs, None for sizes that are free. A list of arrays is one array an input where
            there are several inputs, and batches of the one where there is one.

    Raises:
        InputError: nothing in it, another shape than the model takes, or a NaN or infinity.
    """
    count = 0
    if not isinstance(data, Iterable):
        raise InputError(f"calibration data: received {type(data).__name__}, expected arrays or batches of them")
    given = tree.flatten(data) if isinstance(data, list) else []
    if given and not any(hasattr(leaf, "shape") for leaf in given):
        raise InputError("calibration data: received a list of numbers, expected an array: give numpy.asarray(...)")
    one_input = isinstance(data, list) and shapes is not None and len(shapes) == 1
    for batch in _slices(data, batch_size) if _is_arrays(data) and not one_input else data:
        inputs = batch[0] if isinstance(batch, tuple) else batch
        leaves = [np.asarray(leaf) for leaf in tree.flatten(inputs)]
        _check_shapes(leaves, shapes)
        for values in leaves:
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                raise InputError(
                    f"calibration data: {int((~np.isfinite(values)).sum())} values of a batch are NaN or "
                    "infinite; expected finite numbers, clean the data"
                )
            count += len(values)
        yield inputs
    if not count:
        raise InputError("calibration data is empty: expected at least one sample, some hundreds are usual")


def _check_shapes(leaves: Sequence[np.ndarray], shapes: Sequence[Sequence[int | None]] | None) -> None:
    if shapes is None:
        return
    if len(leaves) != len(shapes):
        raise InputError(f"calibration data: received {len(leaves)} arrays a batch, the model takes {len(shapes)}")
    for leaf, shape in zip(leaves, shapes, strict=True):
        same = len(leaf.shape) == len(shape) and all(
            m in (None, n) for n, m in zip(leaf.shape[1:], shape[1:], strict=True)
        )
        if not same:
            raise InputError(
                f"calibration data: received an array of shape {leaf.shape}, the model takes {tuple(shape)}"
            )


def calibrate(model: keras.Model, data: Any, *, method: str = "moving_average", batch_size: int = 32) -> keras.Model:
    """Measure the activation ranges of an attached ``model`` on ``data``, in place.

    Weights are on their grid meanwhile, activations are not.

    Args:
        data: arrays of samples, or an iterable of batches.
        method: "moving_average" is the mean of the batches' minima and maxima; "minmax" holds every value seen.

    Returns:
        The same model.

    Raises:
        InputError: empty data, NaN or infinity, or an unknown method.

    Example:
        >>> from kompakt.attach import attach
        >>> m = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="d")])
        >>> q = attach(m, {"d/output": [FakeQuant(symmetric=False)]})
        >>> _ = calibrate(q, np.ones((8, 4), "float32"))
    """
    if method not in RANGES:
        raise InputError(f"method {method!r}: expected one of {', '.join(RANGES)}")
    ranges = [t for _, t in transforms_of(model) if isinstance(t, FakeQuant) and not t.on_weights]
    try:
        for transform in ranges:
            transform.calibrating = method
        shapes = [tuple(t.shape) for t in model.inputs] if is_graph(model) else None
        for inputs in batches(data, batch_size, shapes=shapes):
            model(tree.map_structure(keras.ops.convert_to_tensor, inputs), training=False)
    finally:
        for transform in ranges:
            transform.calibrating = None
    return model


def _is_arrays(data: Any) -> bool:
    if isinstance(data, (dict, list)):
        return all(hasattr(leaf, "shape") for leaf in tree.flatten(data))
    return hasattr(data, "shape")


def _slices(data: Any, batch_size: int) -> Iterable[Any]:
    leaves = tree.flatten(data)
    size = len(leaves[0]) if leaves else 0
    for start in range(0, size, batch_size):
        yield tree.map_structure(lambda a, start=start: a[start : start + batch_size], data)
