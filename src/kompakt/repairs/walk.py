"""Carry calibration data through models call by call, so that a layer can be mended on what reaches it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from kompakt.attach import Transformed, transforms_of
from kompakt.calibrate import batches
from kompakt.copies import copy_layer
from kompakt.errors import InputError
from kompakt.gauges import settled
from kompakt.graph import Call, as_functional, calls, map_layers, users
from kompakt.sites import is_graph, units
from kompakt.spelling import nearest
from kompakt.transforms.quantize import FakeQuant

CALLED_AGAIN = "%s: %s left it as it is (it is called more than once)"
"""What is said of a shared layer: its calls would each ask for something else."""

Layer = Any
Given = list[tuple[tuple[Any, ...], dict[str, Any]]]
"""The arguments of one call, (args, kwargs) a batch."""


@dataclass(frozen=True, kw_only=True)
class Visit:
    """One call of a layer, with the data that reaches it.

    Attributes:
        layer: of the model that is mended. name: of its unit; "" for what is no unit (an op).
        reference: the layer in its place in the model that it should agree with; the layer itself where there is none.
        given, expected_given: arguments a batch, in the model and in the reference.
        alone: the layer is called once in the model.
    """

    layer: Layer
    name: str
    reference: Layer
    given: Given
    expected_given: Given
    alone: bool


def layer_by_layer(
    model: keras.Model, data: Any, visit: Callable[[Visit], None], *, reference: keras.Model | None = None
) -> None:
    """Call ``visit`` for each call of a layer in ``model``, inputs first, before the layer itself is run.

    What ``visit`` changes in a layer is what later layers see. Only the tensors that are still to be read are
    kept, so memory is that of the widest part of the graph on all of ``data``.

    Args:
        model: functional, sequential (nested or not) or traceable; its layers are run as they are after ``visit``.
        data: arrays of inputs or an iterable of batches.
        reference: a model with the same units, run on the same data beside it.

    Raises:
        InputError: bad data, or a reference with other layers.
    """
    twins = _twins(model, reference)
    flat = as_functional(model)
    shapes = [tuple(tensor.shape) for tensor in flat.inputs]
    held = [tree.flatten(inputs) for inputs in batches(data, shapes=shapes)]
    inputs = [[_array(leaves[i]) for leaves in held] for i in range(len(flat.inputs))]
    _Walk(twins, visit, _count(flat)).follow(flat, [inputs] if reference is None else [inputs, inputs])


def _twins(model: keras.Model, reference: keras.Model | None) -> dict[int, tuple[str, Layer]]:
    """id of a layer of ``model`` -> (name of its unit, the layer in its place in ``reference``)."""
    known = units(model) if is_graph(model) else {}
    if reference is None:
        return {id(layer): (name, layer) for name, layer in known.items()}
    others = units(reference)
    for name in known:
        if name not in others:
            raise InputError(
                f"the reference has no layer {name!r}{nearest(name, others)}; expected the model before its weights "
                "went onto a grid, with the same layers"
            )
    return {id(layer): (name, others[name]) for name, layer in known.items()}


def _count(model: keras.Model) -> dict[int, int]:
    """id of a layer -> its calls, those in nested models too."""
    found: dict[int, int] = defaultdict(int)
    for call in calls(model):
        inner = _count(as_functional(call.layer)) if is_graph(call.layer) else {id(call.layer): 1}
        for layer, count in inner.items():
            found[layer] += count
    return found


class _Walk:
    """Lanes of batches through one graph: the reference first, where there is one, the model last."""

    def __init__(
        self, twins: Mapping[int, tuple[str, Layer]], visit: Callable[[Visit], None], count: Mapping[int, int]
    ) -> None:
        self._twins, self._visit, self._count = twins, visit, count

    def follow(self, model: keras.Model, inputs: list[list[list[Any]]]) -> list[list[list[Any]]]:
        """``inputs`` and outputs: lane, tensor, batch."""
        left = {tensor: len(by) for tensor, by in users(model).items()}
        lanes = [{id(t): value for t, value in zip(model.inputs, given, strict=True)} for given in inputs]
        for call in calls(model):
            if any(id(t) not in lanes[0] for t in call.inputs):
                continue
            for values, made in zip(lanes, self._call(call, lanes), strict=True):
                values.update({id(t): each for t, each in zip(call.outputs, made, strict=True)})
            for tensor in call.inputs:
                left[id(tensor)] -= 1
                if not left[id(tensor)]:
                    for values in lanes:
                        values.pop(id(tensor), None)
        return [[values[id(t)] for t in model.outputs] for values in lanes]

    def _call(self, call: Call, lanes: list[dict[int, Any]]) -> list[list[list[Any]]]:
        if is_graph(call.layer):
            inner = as_functional(call.layer)
            return self.follow(inner, [[values[id(t)] for t in call.inputs] for values in lanes])
        name, twin = self._twins.get(id(call.layer), ("", call.layer))
        given = [_arguments(call, values) for values in lanes]
        results = [_run(twin, given[0])] if len(lanes) > 1 else []
        self._visit(
            Visit(
                layer=call.layer,
                name=name,
                reference=twin,
                given=given[-1],
                expected_given=given[0],
                alone=self._count.get(id(call.layer), 0) == 1,
            )
        )
        return [*results, _run(call.layer, given[-1])]


def _arguments(call: Call, values: Mapping[int, Any]) -> Given:
    needed = {id(t): values[id(t)] for t in call.inputs}
    count = len(next(iter(needed.values()))) if needed else 0
    return [call.node.arguments.fill_in({key: value[i] for key, value in needed.items()}) for i in range(count)]


def _run(layer: Layer, given: Given) -> list[list[Any]]:
    """Outputs: tensor, batch."""
    made = [[_array(x) for x in tree.flatten(layer(*args, **kwargs))] for args, kwargs in given]
    return [list(each) for each in zip(*made, strict=True)]


def _array(x: Any) -> Any:
    """On the host: a batch of every layer would fill an accelerator."""
    return x if isinstance(x, np.ndarray) else np.array(ops.convert_to_numpy(x))


def without_grids(model: keras.Model) -> keras.Model:
    """A copy of an attached ``model`` with the layers as they are inside, on no grid.

    Example:
        >>> from kompakt.attach import attach
        >>> from kompakt.transforms.quantize import FakeQuant
        >>> m = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="d")])
        >>> type(without_grids(attach(m, {"d/kernel": [FakeQuant(4)]})).layers[0]).__name__
        'Dense'
    """
    return map_layers(settled(model), lambda layer: copy_layer(getattr(layer, "transformed_layer", layer)))


def check_attached(model: keras.Model, what: str) -> None:
    """Raise unless ``model`` is a graph with a weight on a grid, which ``what`` works on."""
    on_grid = is_graph(model) and any(isinstance(t, FakeQuant) and t.on_weights for _, t in transforms_of(model))
    if not on_grid:
        raise InputError(
            f"{what}: the model {model.name!r} has no grids on its weights; expected one from kompakt.quantize"
        )


def with_layer(layer: Any, inner: Layer, slots: Sequence[str] | None = None) -> Any:
    """A Transformed around ``inner`` with copies of the chains of ``layer`` (those at ``slots``)."""
    chains = {slot: copy_layer(chain) for slot, chain in layer.chains.items() if slots is None or slot in slots}
    return Transformed(inner, chains)


def bare(layer: Layer) -> Layer:
    """A copy of a plain ``layer`` without its activation."""
    return copy_layer(
        layer, change=lambda config: {**config, **({"activation": "linear"} if "activation" in config else {})}
    )
