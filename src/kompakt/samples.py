"""The samples that a file is compared on: those given for it, else some of the calibration's."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import tree

from kompakt.calibrate import batches, by_name, check_shape, checked_kind, is_whole, without_labels
from kompakt.data import sample_rows
from kompakt.errors import InputError
from kompakt.graph import symbolic_inputs

COMPARED = 256
"""Calibration samples that a file is compared on where no others are given."""


def compared_on(model: keras.Model, verify: Any, calibration: Any) -> tuple[Any, Any, Any]:
    """(inputs that the file is compared on, their labels, ``calibration`` to go on with); None for what there is not.

    A generator is read as far as samples are wanted, and comes back with these batches in front.

    Raises:
        InputError: data that ``model`` does not take.
    """
    if verify is not None:
        return *_given(model, verify), calibration
    if calibration is None:
        return None, None, None
    inputs, shapes = without_labels(calibration, "calibration="), _shapes(model)
    if is_whole(inputs, shapes):
        return sample_rows(checked(model, inputs, "calibration="), COMPARED), None, calibration
    read: list[Any] = []
    if isinstance(inputs, Iterator):
        read = list(_until(COMPARED, inputs))
        return _rows(model, read, "calibration data", COMPARED), None, itertools.chain(read, inputs)
    return _rows(model, inputs, "calibration data", COMPARED), None, calibration


def _given(model: keras.Model, verify: Any) -> tuple[Any, Any]:
    """(inputs, labels or None) of ``verify=``."""
    if isinstance(verify, tuple) and len(verify) != 2:
        raise InputError(f"verify=: received {len(verify)} things, expected inputs, or a pair (inputs, labels)")
    given, labels = verify if isinstance(verify, tuple) else (verify, None)
    if is_whole(given, _shapes(model)):
        inputs = checked(model, given, "verify=")
    else:
        found: list[Any] = []
        inputs = _rows(model, _apart(given, found), "verify=", None)
        labels = np.concatenate(found) if found and labels is None else labels
    if labels is not None:
        _check_labels(np.asarray(labels), len(tree.flatten(inputs)[0]))
    return inputs, labels


def _apart(data: Any, labels: list[Any]) -> Any:
    """The batches of ``data``; their labels are put into ``labels``."""
    for batch in checked_kind(data, "verify="):
        if isinstance(batch, tuple) and len(batch) > 1:
            labels.append(np.asarray(batch[1]))
        yield batch


def _until(count: int, data: Iterator[Any]) -> Iterator[Any]:
    """Batches until there are ``count`` samples."""
    while count > 0:
        batch = next(data, None)
        if batch is None:
            return
        yield batch
        leaves = tree.flatten(batch[0] if isinstance(batch, tuple) else batch)
        count -= max(1, *(len(leaf) for leaf in leaves if np.ndim(leaf)), 1)


def _rows(model: keras.Model, data: Any, what: str, count: int | None) -> Any:
    """The samples of the first batches of ``data``, drawn from until there are ``count``."""
    found: list[Any] = []
    seen = 0
    for batch in batches(data, shapes=_shapes(model), what=what):
        found.append(by_name(model, batch, what))
        seen += len(tree.flatten(batch)[0])
        if count is not None and seen >= count:
            break
    whole = tree.map_structure(lambda *rows: np.concatenate(rows), *found)
    return whole if count is None else sample_rows(whole, count)


def _shapes(model: keras.Model) -> list[tuple[int | None, ...]]:
    return [tuple(tensor.shape) for tensor in tree.flatten(symbolic_inputs(model))]


def checked(model: keras.Model, inputs: Any, name: str) -> Any:
    """``inputs`` as arrays, finite and in the shapes that ``model`` takes.

    Raises:
        InputError: they are not.

    Example:
        >>> m = keras.Sequential([keras.Input((2,)), keras.layers.ReLU()])
        >>> checked(m, [[1.0, 2.0, 3.0]], "verify=")
        Traceback (most recent call last):
        kompakt.errors.InputError: verify=: received 3 arrays, the model takes 1
    """
    arrays = tree.map_structure(np.asarray, by_name(model, inputs, name))
    leaves, wanted = tree.flatten(arrays), tree.flatten(symbolic_inputs(model))
    if len(leaves) != len(wanted):
        raise InputError(f"{name}: received {len(leaves)} arrays, the model takes {len(wanted)}")
    for leaf, tensor in zip(leaves, wanted, strict=True):
        if not len(leaf):
            raise InputError(f"{name} is empty: expected at least one sample")
        check_shape(leaf.shape, tensor.shape, name)
        if leaf.dtype.kind == "f" and not np.isfinite(leaf).all():
            raise InputError(f"{name}: {int((~np.isfinite(leaf)).sum())} values are NaN or infinite; clean the data")
    return arrays


def _check_labels(labels: np.ndarray, samples: int) -> None:
    if not labels.ndim or labels.dtype.kind not in "biuf" or len(labels) != samples:
        raise InputError(
            f"verify=: the second of the pair has shape {labels.shape} and type {labels.dtype}, expected a label for "
            f"each of the {samples} samples; several inputs go into a list"
        )
