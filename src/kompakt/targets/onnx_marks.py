"""An integer model with marks in it: a fake quantization at each place where the file has a grid."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import layers, ops

from kompakt.copies import copy_layer
from kompakt.graph import Call, Copier, Names, rebuild
from kompakt.placement import AVERAGES, MOVES, SAME_GRID, SILENT, is_marker
from kompakt.records import Encoding
from kompakt.sites import BOTH, OUTPUT

LEVELS = 256
"""Steps of a mark, from -128 to 127 of its number each: what tf2onnx makes of it has its number as scale."""


FINEST = 16
"""Parts of a step that a resizing is taken to make."""


class HalvesAway(layers.Layer):  # type: ignore[misc]
    r"""Moves what lies between two integers of a grid away from the integer 0, by less than tells it from the others.

    .. math:: y = x + s \epsilon \cdot sign(x / s + z)

    TFLite rounds averages so, and QuantizeLinear rounds halves to the even integer.
    """

    def __init__(self, grid: Encoding, least: float, name: str) -> None:
        super().__init__(name=name, dtype="float32")
        self.step, self.zero, self.least = grid.scale[0], grid.zero_point[0], least

    def call(self, x: Any) -> Any:
        return x + ops.sign(x + self.zero * self.step) * (self.step * self.least)

    def compute_output_shape(self, shape: Any) -> Any:
        return shape


class OntoGrid(layers.Layer):  # type: ignore[misc]
    r"""Makes numbers on one grid those that XNNPACK puts on another: with 8 bits of the ratio, halves up.

    .. math:: y = x \cdot m s_y / (256 s_x) + s_y \epsilon, \quad m = round(256 s_x / s_y)
    """

    def __init__(self, given: Encoding, result: Encoding, name: str) -> None:
        super().__init__(name=name, dtype="float32")
        ratio = 256.0 * given.scale[0] / result.scale[0]
        self.factor, self.up = round(ratio) / ratio, result.scale[0] / 1024.0

    def call(self, x: Any) -> Any:
        return x * self.factor + self.up

    def compute_output_shape(self, shape: Any) -> Any:
        return shape


class Mark(layers.Layer):  # type: ignore[misc]
    """Stands for the grid ``number``, counted from 1."""

    def __init__(self, number: int, name: str) -> None:
        super().__init__(name=name, dtype="float32")
        self.number = number

    def call(self, x: Any) -> Any:
        import tensorflow as tf

        low, high = -LEVELS / 2 * self.number, (LEVELS / 2 - 1) * self.number
        return tf.raw_ops.FakeQuantWithMinMaxArgs(inputs=x, min=low, max=high, num_bits=8)

    def compute_output_shape(self, shape: Any) -> Any:
        return shape


def marked(model: keras.Model, encodings: Mapping[str, Encoding]) -> tuple[keras.Model, Sequence[str]]:
    """(a copy of a flat ``model`` with marks, the sites whose grids they stand for: number 1 is the first).

    An average has the grid of what it averages, as in TFLite.
    """
    grids = [site for site, e in encodings.items() if e.scale and site.rsplit("/", 1)[-1] in (OUTPUT, BOTH)]
    number = {site: i + 1 for i, site in enumerate(grids)}
    names, copier, on = Names(model), Copier(copy_layer), dict[int, str]()

    def mark(tensor: Any, site: str) -> Any:
        made = Mark(number[site], names.free(f"mark{number[site]}"))(tensor)
        on[id(made)] = site
        keep.append(made)
        return made

    def onto(tensor: Any, site: str) -> Any:
        before = on.get(id(tensor))
        if before is None:
            return tensor
        return OntoGrid(encodings[before], encodings[site], names.free(f"{site.split('/')[0]}_onto"))(tensor)

    keep: list[Any] = []

    def visit(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        name, layer = call.layer.name, call.layer
        given = keras.tree.flatten((args, kwargs))
        before = next((on[id(t)] for t in given if id(t) in on), None)
        both = f"{name}/{BOTH}"
        if isinstance(layer, SAME_GRID) and both in number:
            args = keras.tree.map_structure(lambda t: mark(onto(t, both), both), args)
        made = copier(layer)(*args, **kwargs)
        site = both if both in number else f"{name}/{OUTPUT}"
        if site in number:
            return mark(made, site)
        if isinstance(layer, AVERAGES) and before:
            least = 1 / (4 * math.prod(getattr(layer, "pool_size", (FINEST,))))
            return mark(HalvesAway(encodings[before], least, names.free(f"{name}_halves"))(made), before)
        if before and isinstance(layer, (*MOVES, *SILENT)) and not is_marker(layer):
            on[id(made)] = before
            keep.append(made)
        return made

    return rebuild(model, visit), grids
