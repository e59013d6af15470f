"""The chains of a model from ``kompakt.quantize``, with the grids that a QuantizeConfig asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
from keras import ops

from kompakt.attach import Transformed
from kompakt.copies import copy_layer
from kompakt.graph import calls, map_layers
from kompakt.sites import BOTH, OUTPUT, attachable_slots
from kompakt.tfmot.quantization.asked import Asked
from kompakt.tfmot.quantization.grids import activation_grid, watched, weight_grid
from kompakt.tfmot.quantization.own_quantizer import OwnQuantizer
from kompakt.transform import Chain, Transform
from kompakt.transforms.quantize import FakeQuant

Edit = Callable[[str, Sequence[Transform]], Sequence[Transform] | None]
"""(site, its transforms) -> what is there instead, or None where it stays."""


def with_chains(model: keras.Model, edit: Edit) -> keras.Model:
    """A copy of an attached flat ``model`` with other transforms; new ones are prepared on what is there.

    Example:
        >>> from kompakt.attach import attach, transforms_of
        >>> m = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="d")])
        >>> q = attach(m, {"d/kernel": [FakeQuant(8)]})
        >>> [t.bits for _, t in transforms_of(with_chains(q, lambda site, held: [FakeQuant(4)]))]
        [4]
    """

    def make(layer: Any) -> Any:
        if not isinstance(layer, Transformed):
            return copy_layer(layer)
        inner = copy_layer(layer.transformed_layer)
        chains = {}
        for slot, chain in layer.chains.items():
            copied = copy_layer(chain)
            new = edit(f"{layer.name}/{slot}", list(copied))
            chains[slot] = copied if new is None else _prepared(new, inner, slot)
        return Transformed(inner, {slot: chain for slot, chain in chains.items() if list(chain)})

    return map_layers(model, make)


def _prepared(transforms: Sequence[Transform], layer: Any, slot: str) -> Chain:
    chain = Chain(transforms)
    if slot in (OUTPUT, BOTH):
        chain.build_for(())
    else:
        _, variable, axis = attachable_slots(layer)[slot]
        chain.prepare(ops.convert_to_tensor(variable), axis)
    return chain


def edited(
    model: keras.Model, owner: Callable[[str], str | None], asked: Mapping[str, Asked], *, per_tensor: bool
) -> keras.Model:
    """``model`` with the grids that were asked for.

    Args:
        owner: layer -> the user's annotated one that it was made from. asked: user's layer -> what its config says.
        per_tensor: weights without a config have one scale.
    """
    last = _last_of(model, owner)

    def edit(site: str, held: Sequence[Transform]) -> Sequence[Transform] | None:
        layer, _, slot = site.partition("/")
        told = asked.get(owner(layer) or "")
        grid = next((each for each in held if isinstance(each, FakeQuant)), None)
        if grid is None:
            return (
                None if told is None or not any(isinstance(each, OwnQuantizer) for each in held) else _own(site, held)
            )
        if told is None:
            wanted = per_tensor and grid.on_weights and owner(layer) is not None
            return _in_place(held, weight_alike(grid)) if wanted else None
        if slot not in (OUTPUT, BOTH):
            given = next((each.quantizer for each in held if isinstance(each, OwnQuantizer)), None)
            new = watched(grid) if given is None else weight_grid(site, given, grid)
        else:
            quantizer = _of_activation(told, last=layer in last)
            new = watched(grid) if quantizer is None else activation_grid(site, quantizer, grid)
        return _in_place(held, new)

    return with_chains(model, edit)


def weight_alike(grid: FakeQuant) -> list[Transform]:
    """A weight's grid with one scale for the tensor.

    Example:
        >>> weight_alike(FakeQuant(4))[0].per_tensor
        True
    """
    return [FakeQuant(grid.bits, symmetric=True, ranges=grid.ranges, mode=grid.mode, per_tensor=True)]


def _of_activation(told: Asked, *, last: bool) -> Any:
    first, second = (told.output, told.activation) if last else (told.activation, told.output)
    return first if first is not None else second


def _in_place(held: Sequence[Transform], new: Sequence[Transform]) -> list[Transform]:
    """``held`` with ``new`` in the place of the grid, and of the quantizer that asked for it."""
    found: list[Transform] = []
    for each in held:
        if isinstance(each, FakeQuant):
            found += new
        elif not isinstance(each, OwnQuantizer):
            found.append(each)
    return found


def _own(site: str, held: Sequence[Transform]) -> list[Transform]:
    """A tensor that no file is asked for: a layer of the user's computes with it."""
    usual = FakeQuant(8, symmetric=True)
    found: list[Transform] = []
    for each in held:
        found += weight_grid(site, each.quantizer, usual) if isinstance(each, OwnQuantizer) else [each]
    return found


def _last_of(model: keras.Model, owner: Callable[[str], str | None]) -> set[str]:
    """The layers that give what a user's layer computes: the last made from each."""
    found: dict[str, str] = {}
    for call in calls(model):
        user = owner(call.layer.name)
        if user is not None:
            found[user] = call.layer.name
    return set(found.values())
