"""Folded kernels held in the units they were trained in: put there, and taken away."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from kompakt.attach import Transformed
from kompakt.copies import copy_layer
from kompakt.graph import map_layers
from kompakt.transform import Chain
from kompakt.transforms.gauge import Gauge

SLOT = "kernel"
LEAST = 2
"""Powers of two by which folding must have changed a kernel before its units are changed."""


def folding_factors(before: keras.Model, after: keras.Model) -> dict[str, float]:
    """Layer -> the power of two by which folding has made its kernel smaller or larger, where it is 4 or more.

    Args:
        before, after: flat models with the same layers, before and after their BatchNormalizations were folded.
    """
    known = {layer.name: layer for layer in before.layers}
    found = {}
    for layer in after.layers:
        old, new = (_size(each) for each in (known.get(layer.name), layer))
        power = round(np.log2(new / old)) if old and new else 0
        if abs(power) >= LEAST:
            found[layer.name] = 2.0**power
    return found


def _size(layer: Any) -> float:
    """Root mean square of a kernel; 0 where there is none."""
    kernel = getattr(layer, "kernel", None)
    return 0.0 if kernel is None else float(np.sqrt(np.mean(np.square(keras.ops.convert_to_numpy(kernel)))))


def with_gauges(model: keras.Model, factors: Mapping[str, float]) -> keras.Model:
    """A copy of an attached ``model`` that computes the same bits, with a Gauge before what is on these kernels."""

    def make(layer: Any) -> Any:
        if layer.name not in factors or SLOT not in getattr(layer, "chains", {}):
            return copy_layer(layer)
        gauge = Gauge(factors[layer.name])
        gauge.prepare(layer.variable(SLOT), ())
        return _with_chain(layer, [gauge, *layer.chains[SLOT]], 1.0 / gauge.factor)

    return map_layers(model, make) if factors else model


def settled(model: keras.Model) -> keras.Model:
    """An attached ``model`` whose kernels are held as they are: a copy where it has a Gauge, else itself."""

    def make(layer: Any) -> Any:
        held = _gauges(layer)
        if not held:
            return copy_layer(layer)
        kept = [transform for transform in layer.chains[SLOT] if not isinstance(transform, Gauge)]
        return _with_chain(layer, kept, math.prod(gauge.factor for gauge in held))

    return map_layers(model, make) if any(map(_gauges, model.layers)) else model


def _gauges(layer: Any) -> list[Gauge]:
    """Those on the kernel of a layer."""
    return [t for t in getattr(layer, "chains", {}).get(SLOT, ()) if isinstance(t, Gauge)]


def _with_chain(layer: Any, transforms: list[Any], factor: float) -> Transformed:
    """A copy of a Transformed ``layer`` with these transforms on its kernel, which is multiplied by ``factor``."""
    inner = copy_layer(layer.transformed_layer)
    inner.kernel.assign(np.asarray(keras.ops.convert_to_numpy(inner.kernel)) * np.float32(factor))
    chains = {slot: copy_layer(chain) for slot, chain in layer.chains.items() if slot != SLOT}
    chains[SLOT] = Chain([copy_layer(transform) for transform in transforms])
    return Transformed(inner, chains)
