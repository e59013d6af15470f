"""What layers inside a model make, seen while the model runs once; subclassed models too."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from kompakt.distillation.outputs import Told
from kompakt.errors import InputError
from kompakt.graph import symbolic_inputs
from kompakt.inference import outputs_of
from kompakt.sites import is_graph
from kompakt.spelling import nearest

UNKNOWN_SIZE = 16
"""Length of an axis that a model leaves open, where shapes are tried."""


def find_layer(model: keras.Model, name: str, whose: str) -> Any:
    """The layer of a name, however deep it lies.

    Args:
        whose: "teacher" or "student", for the error.

    Raises:
        InputError: there is none, or several.

    Example:
        >>> m = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="head")])
        >>> find_layer(m, "head", "student").units
        2
    """
    inner = {id(getattr(layer, "transformed_layer", None)) for layer in model._flatten_layers()}
    known = [layer for layer in model._flatten_layers(include_self=False) if id(layer) not in inner]
    found = [layer for layer in known if layer.name == name]
    if not found:
        raise InputError(f"{whose}_layer={name!r}: the {whose} has none{nearest(name, [x.name for x in known])}")
    if len(found) > 1:
        raise InputError(f"{whose}_layer={name!r}: the {whose} has {len(found)} of that name; rename one")
    return found[0]


@contextmanager
def capture(model: keras.Model, names: Sequence[str], whose: str) -> Iterator[dict[str, Any]]:
    """While it lasts, what the named layers make is put in the mapping it gives: of their last call.

    Example:
        >>> m = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="a"), keras.layers.Dense(2)])
        >>> with capture(m, ["a"], "student") as seen:
        ...     _ = m(np.zeros((1, 4)))
        >>> tuple(seen["a"].shape)
        (1, 3)
    """
    seen: dict[str, Any] = {}
    with ExitStack() as stack:
        for name in dict.fromkeys(names):
            layer = find_layer(model, name, whose)
            layer.call = _watched(layer.call, name, seen)
            stack.callback(delattr, layer, "call")
        yield seen


def _watched(call: Any, name: str, seen: dict[str, Any]) -> Any:
    def watched(*args: Any, **kwargs: Any) -> Any:
        made = call(*args, **kwargs)
        seen[name] = tree.flatten(made)[0]  # of an LSTM with its states, what it hands on
        return made

    return watched


def trial_inputs(model: keras.Model, batch: int = 2) -> Any:
    """Zeros in the form that ``model`` takes: open axes have length 16.

    Example:
        >>> trial_inputs(keras.Sequential([keras.Input((None, 4)), keras.layers.LSTM(2)])).shape
        (2, 16, 4)
    """

    def zeros(tensor: Any) -> Any:
        shape = (batch, *(UNKNOWN_SIZE if n is None else n for n in tensor.shape[1:]))
        return np.zeros(shape, keras.backend.standardize_dtype(tensor.dtype))

    return tree.map_structure(zeros, symbolic_inputs(model))


def shapes_at(model: keras.Model, names: Sequence[str], whose: str) -> dict[str, tuple[int, ...]]:
    """The shapes that the named layers make of a batch of two zeros.

    Raises:
        InputError: a layer is unknown, or not called when the model runs.
    """
    inputs = tree.map_structure(ops.convert_to_tensor, trial_inputs(model))
    with capture(model, names, whose) as seen:
        outputs_of(model, inputs)
    for name in names:
        if name not in seen:
            raise InputError(f"{whose}_layer={name!r}: it is not called when the {whose} runs; name another")
    return {name: tuple(map(int, tensor.shape)) for name, tensor in seen.items()}


def places(shape: Sequence[int | None]) -> float:
    """How many places features of a shape (batch, ..., channels) have; an open axis has any number.

    Example:
        >>> places((None, 7, 7, 16)), places((None, 1, 1, 64)), places((None, None, 8)), places((None, 10))
        (49, 1, inf, 0)
    """
    return math.prod(math.inf if n is None else n for n in shape[1:-1]) if len(shape) > 2 else 0


def feature_layer(model: keras.Model, whose: str, *, spatial: bool) -> str:
    """The layer whose output is compared where none is named: the last with places, or the last but one.

    Args:
        spatial: whether the output has to have places, (batch, ..., channels) with more than one of them.

    Raises:
        InputError: there is none, or the model is subclassed and has no order of layers.

    Example:
        >>> m = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Conv2D(2, 3, name="c"), keras.layers.Flatten()])
        >>> feature_layer(m, "student", spatial=True)
        'c'
    """
    ordered = [] if isinstance(model, Told) else model.layers[:-1]  # an ensemble's are its teachers
    hidden = [layer for layer in ordered if not isinstance(layer, keras.layers.InputLayer)]
    known = [layer for layer in hidden if is_graph(model) and getattr(layer, "_inbound_nodes", None)]
    fit = [layer for layer in known if not spatial or places(getattr(layer.output, "shape", ())) > 1]
    if not fit:
        names = ", ".join(layer.name for layer in model._flatten_layers(include_self=False))
        raise InputError(f"no layer of the {whose} is the usual one to compare: give {whose}_layer=, one of {names}")
    return str(fit[-1].name)
