"""Cross-layer equalization: give the channels between two linear layers ranges of one size."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from kompakt.copies import copy_layer
from kompakt.graph import Call, Copier, as_functional, call_counts, calls, rebuild, users
from kompakt.sites import DEPTHWISE

Layer = Any

MAKES: dict[type, int] = {
    layers.Dense: -1,
    layers.Conv1D: -1,
    layers.Conv2D: -1,
    layers.Conv3D: -1,
    layers.Conv1DTranspose: -2,
    layers.Conv2DTranspose: -2,
    layers.Conv3DTranspose: -2,
}
"""Linear layer -> the axis of its kernel for output channels; the other of the last two is for input channels."""

"""Linear layers with a filter of its own for each channel."""

LINEAR: tuple[Any, ...] = (*MAKES, *DEPTHWISE)

BETWEEN = (
    layers.Dropout,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.SpatialDropout3D,
    layers.Identity,
    layers.LeakyReLU,
    layers.MaxPooling1D,
    layers.MaxPooling2D,
    layers.MaxPooling3D,
    layers.AveragePooling1D,
    layers.AveragePooling2D,
    layers.AveragePooling3D,
    layers.GlobalAveragePooling1D,
    layers.GlobalAveragePooling2D,
    layers.GlobalAveragePooling3D,
    layers.GlobalMaxPooling1D,
    layers.GlobalMaxPooling2D,
    layers.GlobalMaxPooling3D,
    layers.ZeroPadding1D,
    layers.ZeroPadding2D,
    layers.ZeroPadding3D,
    layers.Cropping1D,
    layers.Cropping2D,
    layers.Cropping3D,
    layers.UpSampling1D,
    layers.UpSampling2D,
    layers.UpSampling3D,
    layers.Flatten,
)
"""Layers with ``f(s x) = s f(x)`` for a positive ``s`` a channel."""

HOMOGENEOUS = ("linear", "relu", "leaky_relu")
"""Activations of which that is true as well."""

ROUNDS = 100
CLOSE = 1e-3
"""Equalizing goes on until no factor is further from 1 than this, for so many rounds at most."""


@dataclass(frozen=True, kw_only=True)
class Evened:
    """What evens out the channels of a model: it can be done to one with other weights.

    Attributes:
        factors: (layer, the linear layer after it) -> what the channels between them are divided by, (channels,).
        clipped: names of layers whose ReLU6 becomes a ReLU. lines: what was done and what was left.
    """

    factors: Mapping[tuple[str, str], np.ndarray]
    clipped: frozenset[str]
    lines: tuple[str, ...]


@dataclass(frozen=True)
class _Pair:
    """Two linear layers and what is between them."""

    first: Layer
    second: Layer
    clipped: tuple[Layer, ...]  # ReLU6, to be replaced


def plan_equalize(model: keras.Model, *, replace_relu6: bool = False, leave: Collection[str] = ()) -> Evened:
    """What evens out the channels of ``model``; see :func:`kompakt.repairs.equalize.equalize`.

    Args:
        model: flat, BatchNormalizations folded.
        replace_relu6: make each ReLU6 that is in the way a ReLU. leave: names of layers to leave as they are.
    """
    pairs, left = _pairs(as_functional(model), replace_relu6, leave)
    weights = {id(layer): _Weights(layer) for pair in pairs for layer in (pair.first, pair.second)}
    before = [weights[id(pair.first)].spread() for pair in pairs]
    factors = [np.ones(weights[id(pair.first)].channels) for pair in pairs]
    for _ in range(ROUNDS):
        moved = [_balance(weights[id(pair.first)], weights[id(pair.second)]) for pair in pairs]
        factors = [factor * by for factor, by in zip(factors, moved, strict=True)]
        if max((np.abs(np.log(by)).max(initial=0.0) for by in moved), default=0.0) < CLOSE:
            break
    lines = [
        f"{pair.first.name} -> {pair.second.name}: {weights[id(pair.first)].channels} channels, ranges of "
        f"{pair.first.name} {spread:.3g} times apart, now {weights[id(pair.first)].spread():.3g} times"
        + (", ReLU6 replaced by ReLU" if pair.clipped else "")
        for pair, spread in zip(pairs, before, strict=True)
    ]
    return Evened(
        factors={(p.first.name, p.second.name): factor for p, factor in zip(pairs, factors, strict=True)},
        clipped=frozenset(layer.name for pair in pairs for layer in pair.clipped),
        lines=(*lines, *(f"{name}: left as it is ({why})" for name, why in left.items())),
    )


def apply_equalize(model: keras.Model, plan: Evened) -> keras.Model:
    """A copy of ``model`` with the channels divided as planned, of it or of a model with layers of these names."""
    model = as_functional(model)
    weights = {name: _Weights(model.get_layer(name)) for pair in plan.factors for name in pair}
    for (first, second), factor in plan.factors.items():
        weights[first].divide(factor)
        weights[second].multiply(factor)

    def make(layer: Layer) -> Layer:
        copy = copy_layer(layer, change=_unclipped if layer.name in plan.clipped else lambda config: config)
        if layer.name in weights:
            weights[layer.name].give(copy)
        return copy

    copier = Copier(make)
    return rebuild(model, lambda call, args, kwargs: copier(call.layer)(*args, **kwargs))


class _Weights:
    """The kernel and bias of a linear layer, float64, with their channels in known places."""

    def __init__(self, layer: Layer) -> None:
        self.kernel = np.asarray(ops.convert_to_numpy(layer.kernel), "float64")
        self.bias = np.asarray(ops.convert_to_numpy(layer.bias), "float64") if layer.use_bias else None
        self.depthwise = isinstance(layer, DEPTHWISE)
        self.makes = -1 if self.depthwise else next(axis for kind, axis in MAKES.items() if isinstance(layer, kind))
        made = self.kernel.shape[-2] * self.kernel.shape[-1] if self.depthwise else self.kernel.shape[self.makes]
        self.channels = made

    def made(self) -> np.ndarray:
        """The kernel as (others, output channels); a view where it can be."""
        if self.depthwise:
            return self.kernel.reshape(-1, self.channels)
        return np.moveaxis(self.kernel, self.makes, -1).reshape(-1, self.channels)

    def read(self, channels: int) -> np.ndarray:
        """The kernel as (others, channels that it reads); a flattened input has each channel at several places."""
        if self.depthwise:
            return np.moveaxis(self.kernel, -2, -1).reshape(-1, channels)
        reads = -1 if self.makes == -2 else -2
        moved = np.moveaxis(self.kernel, reads, -1)
        return moved.reshape(-1, channels)

    def divide(self, factor: np.ndarray) -> None:
        """Make the output channels smaller by ``factor``, (channels,)."""
        if self.depthwise:
            self.kernel = self.kernel / factor.reshape(self.kernel.shape[-2:])
        else:
            self.kernel = self.kernel / factor.reshape(-1, *[1] * (-1 - self.makes))
        if self.bias is not None:
            self.bias = self.bias / factor

    def multiply(self, factor: np.ndarray) -> None:
        """Make what is read from the input channels larger by ``factor``, (channels,)."""
        reads = -2 if self.depthwise or self.makes == -1 else -1
        repeated = np.tile(factor, self.kernel.shape[reads] // len(factor))
        self.kernel = self.kernel * repeated.reshape(-1, *[1] * (-1 - reads))

    def spread(self) -> float:
        """Largest over smallest range of the output channels that are not dead."""
        reach = np.abs(self.made()).max(axis=0)
        reach = reach[reach > 0]
        return float(reach.max() / reach.min()) if reach.size else 1.0

    def give(self, layer: Layer) -> None:
        layer.kernel.assign(self.kernel.astype("float32"))
        if self.bias is not None:
            layer.bias.assign(self.bias.astype("float32"))


def _balance(first: _Weights, second: _Weights) -> np.ndarray:
    """Scale the channels between two layers; returns by what, (channels,)."""
    r1 = np.abs(first.made()).max(axis=0)
    r2 = np.abs(second.read(first.channels)).max(axis=0)
    live = (r1 > 0) & (r2 > 0)
    factor = np.sqrt(np.where(live, r1, 1.0) / np.where(live, r2, 1.0))  # a dead channel stays
    first.divide(factor)
    second.multiply(factor)
    return np.asarray(factor)


def _pairs(model: keras.Model, relu6: bool, leave: Collection[str]) -> tuple[list[_Pair], dict[str, str]]:
    """The pairs of ``model``, and layer -> why it is the first of none."""
    readers, count = users(model), call_counts(model)
    pairs: list[_Pair] = []
    left: dict[str, str] = {}
    for call in calls(model):
        if not isinstance(call.layer, LINEAR) or call.layer.name in left:
            continue
        found = _follow(call, readers, relu6)
        if isinstance(found, _Pair):
            found = _unfit(found.first, count, leave) or _unfit(found.second, count, leave) or found
        if isinstance(found, _Pair):
            pairs.append(found)
        else:
            left[call.layer.name] = found
    return pairs, left


def _follow(call: Call, readers: Any, relu6: bool) -> _Pair | str:
    """The pair that starts with the layer of ``call``, or why there is none."""
    clipped: list[Layer] = []
    at, first = call, call.layer
    while True:
        why = _blocks(at.layer, relu6, clipped)
        if why:
            return why
        after = readers[id(at.outputs[0])]
        if len(after) != 1:
            return f"{at.layer.name} has {len(after)} readers" if after else "nothing reads it"
        if after[0] is None:
            return "an output of the model"
        at = after[0]
        if isinstance(at.layer, LINEAR):
            return _Pair(first, at.layer, tuple(clipped))
        if not _passes(at.layer):
            return f"{at.layer.name} ({type(at.layer).__name__}) follows"


def _passes(layer: Layer) -> bool:
    """Whether a layer that is not linear may lie between two that are; :func:`_blocks` says of its activation."""
    return isinstance(layer, (*BETWEEN, layers.ReLU, layers.Activation)) and _last(layer)


def _blocks(layer: Layer, relu6: bool, clipped: list[Layer]) -> str:
    """Why channels cannot be scaled through what ``layer`` does to its result, or ""."""
    if isinstance(layer, layers.ReLU):
        name = "relu" if layer.max_value is None and not layer.threshold else "relu6" if _is_relu6(layer) else "ReLU"
    else:
        activation = getattr(layer, "activation", None)
        name = "linear" if activation is None else str(keras.activations.serialize(activation))
    if name in HOMOGENEOUS:
        return ""
    if name != "relu6":
        return f"{name} of {layer.name} does not scale with its input"
    if relu6:
        clipped.append(layer)
        return ""
    return f"relu6 of {layer.name} clips at 6; replace_relu6=True makes it a ReLU"


def _is_relu6(layer: Layer) -> bool:
    return layer.max_value == 6.0 and not layer.threshold and not layer.negative_slope


def _unclipped(config: dict[str, Any]) -> dict[str, Any]:
    return {**config, **({"max_value": None} if "max_value" in config else {"activation": "relu"})}


def _unfit(layer: Layer, count: dict[int, int], leave: Collection[str]) -> str:
    """Why a linear layer can be in no pair, or ""."""
    if layer.name in leave:
        return f"{layer.name} is to be left"
    if count[id(layer)] > 1:
        return f"{layer.name} is called more than once"
    if getattr(layer, "groups", 1) > 1:
        return f"{layer.name} has groups"
    return "" if _last(layer) else f"{layer.name} has its channels first"


def _last(layer: Layer) -> bool:
    return getattr(layer, "data_format", "channels_last") == "channels_last"
