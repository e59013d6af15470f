"""Where an integer file rounds activations: which outputs get a grid of their own, and which share one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

from kompakt.graph import Call, Copier, Names, calls, readers_beyond, rebuild, users
from kompakt.rewrite.split_activation import fused
from kompakt.scopes import taken
from kompakt.sites import BOTH, MARK, OUTPUT

MOVES = (
    layers.Flatten,
    layers.Reshape,
    layers.Permute,
    layers.MaxPooling1D,
    layers.MaxPooling2D,
    layers.MaxPooling3D,
    layers.Cropping1D,
    layers.Cropping2D,
    layers.Cropping3D,
    layers.ZeroPadding1D,
    layers.ZeroPadding2D,
    layers.ZeroPadding3D,
    layers.RepeatVector,
    layers.UpSampling1D,
    layers.UpSampling3D,
)
"""Layers that only move integers, or choose among them: their output is on their input's grid already."""

MOVING_OPERATIONS = ("GetItem", "Transpose", "Squeeze", "ExpandDims", "Split", "Flip", "Reshape")
"""Operations that only move integers; ``layered_operations`` has no layer for them."""

AVERAGES = (layers.AveragePooling1D, layers.AveragePooling2D, layers.AveragePooling3D, layers.Resizing)
"""Layers whose output is rounded to their input's grid: between the integers there, or one of them."""

SILENT = (
    layers.Dropout,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.SpatialDropout3D,
    layers.GaussianNoise,
    layers.GaussianDropout,
    layers.AlphaDropout,
    layers.ActivityRegularization,
    layers.Identity,
    layers.AugMix,
    layers.CutMix,
    layers.MixUp,
    layers.RandAugment,
    layers.RandomBrightness,
    layers.RandomColorDegeneration,
    layers.RandomColorJitter,
    layers.RandomContrast,
    layers.RandomElasticTransform,
    layers.RandomErasing,
    layers.RandomFlip,
    layers.RandomGaussianBlur,
    layers.RandomGrayscale,
    layers.RandomHue,
    layers.RandomInvert,
    layers.RandomPerspective,
    layers.RandomPosterization,
    layers.RandomRotation,
    layers.RandomSaturation,
    layers.RandomSharpness,
    layers.RandomShear,
    layers.RandomTranslation,
    layers.RandomZoom,
)
"""Layers that do nothing at inference: no operator, no tensor."""

FOLLOWS = (*MOVES, *AVERAGES, *SILENT)
"""Layers that compute in the precision of what comes in."""

SAME_GRID = (layers.Concatenate, layers.Maximum, layers.Minimum)
"""Layers whose TFLite operator has one grid for its inputs and its output."""

FUSES = (
    layers.Dense,
    layers.Conv1D,
    layers.Conv2D,
    layers.DepthwiseConv1D,
    layers.DepthwiseConv2D,
    layers.Conv2DTranspose,
    layers.Add,
    layers.Subtract,
    layers.Multiply,
)
"""Layers whose TFLite operator takes a following ReLU in."""

FIXED: dict[str, tuple[float, float]] = {
    "softmax": (0.0, 255.0 / 256.0),
    "sigmoid": (0.0, 255.0 / 256.0),
    "tanh": (-1.0, 127.0 / 128.0),
}
"""Activation -> the range that TFLite's int8 specification fixes for its output."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """An activation grid to put at a site: ``low`` and ``high`` where the runtime fixes them."""

    site: str
    low: float | None = None
    high: float | None = None


FIXED_WIDE = 32767.0 / 32768.0
"""The reach of all of these in 16 bits: the step is 2^-15."""


def marker(name: str) -> str:
    """Name of the Identity layer that carries the grid of ``name``: an input, or a tensor put on another grid.

    One that TensorFlow takes: Keras hands it no names of inputs, and a model that trains has to go on training.
    """
    return f"{taken(name)}{MARK}"


def is_marker(layer: Any) -> bool:
    """Whether ``layer`` does nothing but carry a grid."""
    return isinstance(layer, layers.Identity) and layer.name.endswith(MARK)


def fixed_range(grid: Grid, bits: int) -> tuple[float | None, float | None]:
    """(low, high) where the runtime fixes them for ``bits``, else (None, None)."""
    if grid.low is None or bits == 8:
        return grid.low, grid.high
    return -FIXED_WIDE, FIXED_WIDE


def sole_reader(call: Call, readers: Any) -> bool:
    """Whether the output of ``call`` is read once, layers that do nothing at inference aside."""
    return len(_effective(call, readers)) == 1


def grids_per_call(model: keras.Model) -> keras.Model:
    """A copy of a flat ``model`` in which a shared layer has a grid after every call or after none.

    Where some of its calls need one and others do not (a fused ReLU follows them), a linear Activation after
    each that does carries it: a layer has one grid for all its calls.

    Example:
        >>> i, d = keras.Input((4,)), keras.layers.Dense(4, name="d")
        >>> m = grids_per_call(keras.Model(i, d(keras.layers.ReLU(name="r")(d(i)))))
        >>> [grid.site for grid in activation_grids(m)]
        ['r/output', 'd_rounded/output']
    """
    readers, needed = users(model), dict[int, set[bool]]()
    for call in calls(model):
        needed.setdefault(id(call.layer), set()).add(_needs_grid(call, readers))
    names, copier = Names(model), Copier()

    def visit(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        outputs = copier(call.layer)(*args, **kwargs)
        if len(needed[id(call.layer)]) == 1 or not _needs_grid(call, readers):
            return outputs
        return layers.Activation("linear", name=names.free(f"{call.layer.name}_rounded"))(outputs)

    return rebuild(model, visit)


def activation_grids(model: keras.Model) -> tuple[Grid, ...]:
    """The activation grids of a flat functional model, as TFLite's integer kernels have them.

    A tensor gets none where it never exists as integers in the file: before a fused ReLU, in a layer that
    does nothing at inference, or where it only moves integers that have a grid already.

    Example:
        >>> i = keras.Input((4,))
        >>> m = keras.Model(i, keras.layers.ReLU(name="r")(keras.layers.Dense(2, name="d")(i)))
        >>> [grid.site for grid in activation_grids(m)]
        ['r/output']
    """
    readers = users(model)
    grids: dict[str, Grid] = {}
    for call in calls(model):
        layer = call.layer
        if isinstance(layer, SAME_GRID):
            grids[layer.name] = Grid(site=f"{layer.name}/{BOTH}")
        elif _needs_grid(call, readers):
            low, high = FIXED.get(_activation(layer), (None, None))
            grids[layer.name] = Grid(site=f"{layer.name}/{OUTPUT}", low=low, high=high)
    return tuple(grids.values())


def _needs_grid(call: Call, readers: Any) -> bool:
    layer = call.layer
    if (isinstance(layer, SILENT) and not is_marker(layer)) or isinstance(layer, (*MOVES, *AVERAGES)):
        return False
    if not isinstance(layer, layers.Layer) or isinstance(layer, layers.Embedding):
        return False
    if _activation(layer) in FIXED:
        return True
    after = _effective(call, readers)
    if len(after) != 1 or after[0] is None:
        return True
    reader = after[0].layer
    if joins(reader):
        return False
    return not (isinstance(layer, FUSES) and _plain(layer) and fused(reader))


def _effective(call: Call, readers: Any) -> list[Call | None]:
    """Readers of a call's output, looking through layers that do nothing at inference."""
    return readers_beyond(call.outputs, readers, lambda layer: isinstance(layer, SILENT) and not is_marker(layer))[1]


def _plain(layer: Any) -> bool:
    """No activation of its own: it can take the next one in."""
    return getattr(layer, "activation", None) in (None, keras.activations.linear)


def _activation(layer: Any) -> str:
    if isinstance(layer, layers.Softmax):
        return "softmax"
    if isinstance(layer, layers.Activation):
        return str(keras.activations.serialize(layer.activation))
    return ""


def joins(layer: Any) -> bool:
    """Whether what a layer reads is on that layer's own grid, where nothing else reads it."""
    return isinstance(layer, SAME_GRID) or _is_linear(layer)


def _is_linear(layer: Any) -> bool:
    """Whether a layer hands on what it gets, in the same tensor of the file, and has a grid for it."""
    return isinstance(layer, layers.Activation) and _activation(layer) == "linear"


def follows(operation: Any) -> bool:
    """Whether a layer or operation computes in the precision of what comes in: it moves numbers, or picks some."""
    return isinstance(operation, FOLLOWS) or _moves(operation)


def _moves(operation: Any) -> bool:
    return not isinstance(operation, layers.Layer) and type(operation).__name__ in MOVING_OPERATIONS


def input_grids(model: keras.Model) -> dict[str, tuple[str | None, ...]]:
    """Layer -> the site whose grid each of its input tensors is on, None where that is not known.

    ``model`` is an attached flat model: looks back through what only moves integers or does nothing.
    """
    source: dict[int, str] = {}
    found: dict[str, tuple[str | None, ...]] = {}
    for call in calls(model):
        layer, chains = call.layer, getattr(call.layer, "chains", {})
        inner = getattr(layer, "transformed_layer", layer)
        found[layer.name] = tuple(source.get(id(t)) for t in call.inputs)
        before = next(iter(found[layer.name]), None)
        slot = next((s for s in (OUTPUT, BOTH, "embeddings") if s in chains), None)
        after = f"{layer.name}/{slot}" if slot else None
        if slot is None and follows(inner):
            after = before
        if after is not None:
            source.update({id(t): after for t in call.outputs})
    return found


def output_grids(model: keras.Model) -> dict[str, str]:
    """Layer -> the site whose grid its output is rounded to: its own, a fused ReLU's, or its reader's."""
    readers = users(model)

    def after(call: Call) -> str | None:
        if OUTPUT in getattr(call.layer, "chains", {}):
            return f"{call.layer.name}/{OUTPUT}"
        following = readers[id(call.outputs[0])]
        if len(following) != 1 or following[0] is None:
            return None
        reader = following[0]
        if BOTH in getattr(reader.layer, "chains", {}):
            return f"{reader.layer.name}/{BOTH}"
        inner = getattr(reader.layer, "transformed_layer", reader.layer)
        return after(reader) if fused(inner) or _is_linear(inner) or isinstance(inner, SILENT) else None

    found = {call.layer.name: after(call) for call in calls(model)}
    return {name: site for name, site in found.items() if site is not None}


def last_logits(model: keras.Model) -> str | None:
    """The site before the final softmax or sigmoid of a one-output attached model, or None where there is none.

    A step of the logits can be many steps of the softmax: integer files are compared on the logits.
    """
    if len(model.outputs) != 1:
        return None
    for call in calls(model):
        inner = getattr(call.layer, "transformed_layer", call.layer)
        if any(t is model.outputs[0] for t in call.outputs) and _activation(inner) in FIXED:
            return input_grids(model)[call.layer.name][0]
    return None
