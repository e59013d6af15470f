"""Run data once and let every activation range that asks for it see what comes by."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import tree

from kompakt.attach import transforms_of
from kompakt.errors import InputError
from kompakt.sites import is_graph
from kompakt.spelling import one_of
from kompakt.transforms.quantize import FakeQuant
from kompakt.transforms.ranges import METHODS, SEARCHES, Grid, Histogram, Range, squared_error

log = logging.getLogger("kompakt")

SAID, WORSE = 1.05, 4.0
"""Squared error of a range, over that of the whole range, from which on it is said, and from which on not used.

Twice the error is no sign of a worse file: clipped to the percentile, a ResNet-8 had 1.85 times the error at a layer
and agreed with the float model on 98.6 % of 3,500 images, against 98.1 % with whole ranges.
"""

CLIPS = "%s: %s clips %.4g..%.4g to %.4g..%.4g, at %.3g times the squared error"
"""What is said where a method finds a range of more error than the least and most values have."""


def batches(
    data: Any,
    batch_size: int = 32,
    *,
    shapes: Sequence[Sequence[int | None]] | None = None,
    what: str = "calibration data",
) -> Iterator[Any]:
    """Batches of inputs out of arrays (one, a list or a dict of them) or out of an iterable of batches.

    Args:
        data: a tuple that starts with arrays is (inputs, labels) or (inputs, labels, weights), as in a batch.
        shapes: of the model's inputs, None for sizes that are free. A list of arrays is one array an input where
            there are several inputs, and batches of the one where there is one. what: errors call the data so.

    Raises:
        InputError: nothing in it, another shape than the model takes, or a NaN or infinity.
    """
    count = 0
    data = checked_kind(without_labels(data, what), what)
    given = tree.flatten(data) if isinstance(data, list) else []
    if given and not any(hasattr(leaf, "shape") for leaf in given):
        raise InputError(f"{what}: received a list of numbers, expected an array: give numpy.asarray(...)")
    for batch in _slices(data, batch_size) if is_whole(data, shapes) else data:
        # On every backend: a tf.data.Dataset gives TensorFlow's tensors on JAX too.
        inputs = tree.map_structure(np.asarray, batch[0] if isinstance(batch, tuple) else batch)
        leaves = tree.flatten(inputs)
        _check_shapes(leaves, shapes, what)
        for values in leaves:
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                raise InputError(
                    f"{what}: {int((~np.isfinite(values)).sum())} values of a batch are NaN or "
                    "infinite; expected finite numbers, clean the data"
                )
            count += len(values)
        yield inputs
    if not count:
        raise InputError(f"{what} is empty: expected at least one sample, some hundreds are usual")


def without_labels(data: Any, what: str = "calibration data") -> Any:
    """The inputs of (inputs,), (inputs, labels) or (inputs, labels, weights); any other ``data``, tuples of tuples too.

    Raises:
        InputError: more than three things, or labels of another number.

    Example:
        >>> without_labels((np.ones((2, 3)), np.zeros(2))).shape
        (2, 3)
    """
    if not isinstance(data, tuple) or not data or isinstance(data[0], tuple):
        return data
    sizes = [len(leaf) for leaf in tree.flatten(data) if np.ndim(leaf)]
    if len(data) > 3 or len(set(sizes)) > 1:
        raise InputError(
            f"{what}: received a tuple of {len(data)} things with {', '.join(map(str, sizes))} rows, expected (inputs, "
            "labels) of as many samples each; batches, and several inputs, go into a list"
        )
    return data[0]


def checked_kind(data: Any, what: str = "calibration data") -> Any:
    """``data``, or its batches where it has no iterator and counts them (``keras.utils.PyDataset``).

    Raises:
        InputError: neither, or it never ends.
    """
    if hasattr(data, "cardinality") and int(data.cardinality()) == ENDLESS:
        raise InputError(f"{what}: the dataset repeats without end; give dataset.take(number of batches)")
    if hasattr(data, "__getitem__") and isinstance(data, keras.utils.PyDataset):
        count = _length(data)
        if count is None:
            raise InputError(f"{what}: the PyDataset has no length; define __len__, the number of batches")
        return (data[i] for i in range(count))
    if isinstance(data, (str, os.PathLike)):
        raise InputError(
            f"{what}: received the path {str(data)!r}, expected arrays: those of a file are "
            "kompakt.load_data(path).x_train"
        )
    if callable(data) and not isinstance(data, Iterable):
        raise InputError(f"{what}: received a function, expected what it returns: call it, as in calibration=batches()")
    if not isinstance(data, Iterable):
        raise InputError(f"{what}: received {type(data).__name__}, expected arrays or batches of them")
    return data


ENDLESS = -1
"""``cardinality()`` of a ``tf.data.Dataset`` that repeats."""


def _check_shapes(leaves: Sequence[np.ndarray], shapes: Sequence[Sequence[int | None]] | None, what: str) -> None:
    if shapes is None:
        return
    if len(leaves) != len(shapes):
        raise InputError(f"{what}: received {len(leaves)} arrays a batch, the model takes {len(shapes)}")
    for leaf, shape in zip(leaves, shapes, strict=True):
        check_shape(leaf.shape, shape, what)


def check_shape(found: Sequence[int], wanted: Sequence[int | None], what: str) -> None:
    """Raise InputError where samples of the shape ``found`` are none of ``wanted``, whatever their number."""
    if _fits(found[1:], wanted[1:]) and len(found) == len(wanted):
        return
    one = _fits(found, wanted[1:])
    hint = "; that is one sample: give several as one array, one alone as sample[None]" if one else ""
    raise InputError(f"{what}: received an array of shape {tuple(found)}, the model takes {tuple(wanted)}{hint}")


def _fits(found: Sequence[int], wanted: Sequence[int | None]) -> bool:
    return len(found) == len(wanted) and all(n in (None, m) for m, n in zip(found, wanted, strict=True))


def by_name(model: keras.Model, inputs: Any, what: str = "calibration data") -> Any:
    """``inputs``, where they are a mapping that ``model`` takes.

    Raises:
        InputError: it names inputs that the model has not, or lacks one.

    Example:
        >>> m = keras.Sequential([keras.Input((2,), name="x"), keras.layers.ReLU()])
        >>> by_name(m, {"y": np.ones((1, 2))})
        Traceback (most recent call last):
        kompakt.errors.InputError: calibration data has the inputs 'y', the model takes 'x': rename them, or give arrays
    """
    if not isinstance(inputs, Mapping) or not is_graph(model):
        return inputs
    structure = getattr(model, "_inputs_struct", None)
    names = list(structure) if isinstance(structure, Mapping) else [t.name.split(":")[0] for t in model.inputs]
    if set(inputs) != set(names):
        given, taken = (", ".join(map(repr, each)) for each in (inputs, names))
        raise InputError(f"{what} has the inputs {given}, the model takes {taken}: rename them, or give arrays")
    return inputs


def calibrate(
    model: keras.Model,
    data: Any,
    *,
    method: str = "moving_average",
    batch_size: int = 32,
    report: Callable[[str, float | None], None] | None = None,
) -> keras.Model:
    """Measure the activation ranges of an attached ``model`` on ``data``, in place.

    Weights are on their grid meanwhile, activations are not. ``data`` is gone through once. A range that the
    runtime fixes (a softmax's) stays. A range of "percentile" or "entropy" with 4 times the squared error of the
    whole range is not used: a warning names the site. From 1.05 times on, a line of the log (INFO) does.

    Args:
        data: arrays of samples, or an iterable of batches: a list, a generator, a ``tf.data.Dataset``, a
            ``keras.utils.PyDataset``; the inputs alone, or tuples (x, y) and (x, y, weights), of arrays too.
        method: "moving_average" is the mean of the batches' minima and maxima; "minmax" holds every value seen;
            "percentile", "mse" (least squared error) and "entropy" (least divergence) clip.
        batch_size: of arrays.
        report: called as ``report("calibrating", share)`` after each batch: the share of the batches that are done,
            None where nobody knows how many come (a generator).

    Returns:
        The same model. What was measured, trained or set there before does not count any more.

    Raises:
        InputError: empty data, NaN or infinity, or an unknown method; the ranges are then as they were.

    Example:
        >>> from kompakt.attach import attach
        >>> m = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="d")])
        >>> q = attach(m, {"d/output": [FakeQuant(symmetric=False)]})
        >>> _ = calibrate(q, np.ones((8, 4), "float32"), method="mse")
    """
    check_method(method)
    ranges = {name: t for name, t in transforms_of(model) if isinstance(t, FakeQuant) and not (t.on_weights or t.fixed)}
    seen = {name: Histogram() for name in ranges} if method in SEARCHES else {}
    shapes = [tuple(t.shape) for t in model.inputs] if is_graph(model) else None
    data = without_labels(data)
    whole = _count(data, batch_size, shapes)
    with _anew(ranges.values()):
        for name, transform in ranges.items():
            transform.calibrating = functools.partial(_look, seen[name]) if seen else method
        for done, inputs in enumerate(batches(data, batch_size, shapes=shapes), 1):
            model(tree.map_structure(keras.ops.convert_to_tensor, by_name(model, inputs)), training=False)
            if report is not None:
                report("calibrating", done / whole if whole else None)
        for name, histogram in seen.items():
            ranges[name].set_range(*_searched(name, histogram, ranges[name], method))
    return model


@contextlib.contextmanager
def _anew(ranges: Collection[FakeQuant]) -> Iterator[None]:
    """``ranges`` as if nothing had been seen; as they were where what is done meanwhile fails."""
    before = [[np.array(keras.ops.convert_to_numpy(w)) for w in transform.weights] for transform in ranges]
    try:
        for transform in ranges:
            transform.forget()
        yield
    except BaseException:
        for transform, values in zip(ranges, before, strict=True):
            for weight, value in zip(transform.weights, values, strict=True):
                weight.assign(value)
        raise
    finally:
        for transform in ranges:
            transform.calibrating = None


def check_method(method: str) -> None:
    """Raise InputError unless ``method`` is a way to calibrate."""
    if method not in METHODS:
        raise InputError(f"method {method!r}: {one_of(method, METHODS)}")


def _look(seen: Histogram, values: Any) -> None:
    seen.add(keras.ops.convert_to_numpy(values))


def _searched(name: str, seen: Histogram, transform: FakeQuant, method: str) -> Range:
    """The range that ``method`` finds, or the whole one where that rounds better."""
    if seen.faults or not seen.least <= seen.most:
        raise InputError(
            f"{name}: {seen.faults} values there are NaN or infinite in calibration; look for an overflow, or a "
            "division by zero, in the layers up to it"
        )
    grid = Grid(bits=transform.bits, centered=transform.centered)
    low, high = SEARCHES[method](seen, grid)
    error, before = (squared_error(seen, grid, *ends) for ends in ((low, high), (seen.least, seen.most)))
    told = (name, method, seen.least, seen.most, low, high, error / max(before, 1e-300))
    if error > WORSE * before:
        log.warning(CLIPS + ": not used", *told)
        return seen.least, seen.most
    if error > SAID * before:
        log.info(CLIPS, *told)
    return low, high


def is_whole(data: Any, shapes: Sequence[Any] | None) -> bool:
    """Whether ``data`` is arrays of all samples, and not batches.

    A list is one of batches where there are tuples in it or the model has one input; where it has more it holds an
    array for each.
    """
    lists = isinstance(data, list) and ((shapes is not None and len(shapes) == 1) or isinstance((*data, 0)[0], tuple))
    return _is_arrays(data) and not lists


def _is_arrays(data: Any) -> bool:
    if isinstance(data, (dict, list)):
        return all(hasattr(leaf, "shape") for leaf in tree.flatten(data))
    return hasattr(data, "shape")


def _count(data: Any, batch_size: int, shapes: Sequence[Any] | None) -> int | None:
    """How many batches :func:`batches` gives, or None where that is not known before they are gone through."""
    if is_whole(data, shapes):
        return math.ceil(len((tree.flatten(data) or [()])[0]) / batch_size)
    return _length(data)


def _length(data: Any) -> int | None:
    """How many batches ``data`` says that it has."""
    try:
        if isinstance(data, keras.utils.PyDataset):
            return None if data.num_batches is None else int(data.num_batches)
        return len(data)
    except (TypeError, NotImplementedError):
        return None


def _slices(data: Any, batch_size: int) -> Iterable[Any]:
    leaves = tree.flatten(data)
    size = len(leaves[0]) if leaves else 0
    for start in range(0, size, batch_size):
        yield tree.map_structure(lambda a, start=start: a[start : start + batch_size], data)
