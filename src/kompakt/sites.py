"""The only table from layer type to its tensors and channel axes, and the sites of a model.

A *unit* is a layer that can be wrapped: a leaf of a functional or sequential model (nested ones are entered),
or a whole subclassed model. A *site* is a tensor of a unit: ``conv1/kernel``, ``mha/query_dense/kernel``,
``conv1/output``. Layers inside a unit (MultiHeadAttention, Bidirectional, a user's block) are reached by path.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import Model, Sequential, layers, ops

from kompakt.errors import InputError
from kompakt.spelling import nearest

Layer = Any
AxisRule = Callable[[Layer], tuple[int, ...]]

OUTPUT = "output"
"""Slot of a layer's output tensor."""

MARK = "_grid"
"""End of the name of an Identity layer that does nothing but carry a grid."""

MARKED = f"{MARK}/{OUTPUT}"
"""End of the site of such a layer."""

BOTH = "io"
"""Slot of the input and the output of a layer that must have one grid on both sides."""


def layer_of(name: str) -> str:
    """The layer that a site, or a tensor's name in a file, begins with.

    Example:
        >>> layer_of("conv1/output"), layer_of("conv1:t12")
        ('conv1', 'conv1')
    """
    return re.split("[/:]", name)[0]


def _last(_: Layer) -> tuple[int, ...]:
    return (-1,)


def _last_but_one(_: Layer) -> tuple[int, ...]:
    return (-2,)


def _depthwise(_: Layer) -> tuple[int, ...]:
    return (-2, -1)


def _tensor(_: Layer) -> tuple[int, ...]:
    return ()


def _einsum(layer: Layer) -> tuple[int, ...]:
    """Axes of the kernel that appear in the output and not in the input."""
    inputs, result = layer.equation.replace("...", "").split("->")
    data, kernel = inputs.split(",")
    return tuple(i - len(kernel) for i, label in enumerate(kernel) if label in result and label not in data)


TABLE: dict[type, dict[str, AxisRule]] = {
    layers.Dense: {"kernel": _last},
    layers.EinsumDense: {"kernel": _einsum},
    layers.Conv1D: {"kernel": _last},
    layers.Conv2D: {"kernel": _last},
    layers.Conv3D: {"kernel": _last},
    layers.Conv1DTranspose: {"kernel": _last_but_one},
    layers.Conv2DTranspose: {"kernel": _last_but_one},
    layers.Conv3DTranspose: {"kernel": _last_but_one},
    layers.DepthwiseConv1D: {"kernel": _depthwise},
    layers.DepthwiseConv2D: {"kernel": _depthwise},
    layers.SeparableConv1D: {"depthwise_kernel": _depthwise, "pointwise_kernel": _last},
    layers.SeparableConv2D: {"depthwise_kernel": _depthwise, "pointwise_kernel": _last},
    layers.Embedding: {"embeddings": _tensor},
    layers.LSTMCell: {"kernel": _last, "recurrent_kernel": _last},
    layers.GRUCell: {"kernel": _last, "recurrent_kernel": _last},
    layers.SimpleRNNCell: {"kernel": _last, "recurrent_kernel": _last},
}
"""Layer type -> its weight tensors, each with the rule for its channel axes (the ones that get a scale each)."""


DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
"""Layers with so few weights a channel that zeros or shared values cost accuracy and save nothing."""


def is_depthwise(layer: Layer, slot: str) -> bool:
    """Whether the tensor at ``slot``, of ``layer``, is a depthwise kernel: one input channel, few values a channel.

    Example:
        >>> is_depthwise(layers.DepthwiseConv2D(3), "kernel"), is_depthwise(layers.Dense(8), "kernel")
        (True, False)
    """
    return isinstance(layer, DEPTHWISE) or slot.endswith("depthwise_kernel")


@dataclass(frozen=True, kw_only=True)
class Site:
    """A named tensor of a layer.

    Attributes:
        name: ``unit/slot``, the name a rule matches.
        unit: name of the unit; ``path/of/layer`` for a nested model, "" for a subclassed model.
        slot: path inside the unit: ``kernel``, ``query_dense/kernel``, ``output``.
        layer: the Keras layer that owns the tensor.
        variable: the Keras variable, or None for an output.
        axis: the channel axes of the variable.
    """

    name: str
    unit: str
    slot: str
    layer: Layer
    variable: Any
    axis: tuple[int, ...]


def weight_slots(layer: Layer, prefix: str = "") -> dict[str, tuple[Layer, Any, tuple[int, ...]]]:
    """Slot -> (owner, variable, channel axes) of every weight tensor in ``layer`` and the layers inside it."""
    rules = next((row for kind, row in TABLE.items() if isinstance(layer, kind)), {})
    found = {
        prefix + slot: (layer, getattr(layer, slot), rule(layer))
        for slot, rule in rules.items()
        if getattr(layer, slot, None) is not None
    }
    if rules:
        return found
    for name, inner in inner_layers(layer):
        for slot, value in weight_slots(inner, f"{prefix}{name}/").items():
            found.setdefault(slot, value)
    return found


class OwnWeights:
    """A user's layer that says itself which of its tensors techniques may be put on, beside those of the table.

    They can be attached to and are baked in; without this, all that it has made itself to be trained can be. Files are
    not checked for them: only sites of the table are.

    Example:
        >>> import keras
        >>> class Biased(keras.layers.Dense, OwnWeights):
        ...     def own_weights(self):
        ...         return [self.kernel, self.bias]
        >>> layer = Biased(2)
        >>> layer.build((None, 3))
        >>> sorted(attachable_slots(layer)), sorted(weight_slots(layer))
        (['bias', 'kernel'], ['kernel'])
    """

    def own_weights(self) -> Sequence[Any]:
        """Variables of the layer, once it is built."""
        return ()


def attachable_slots(layer: Layer) -> dict[str, tuple[Layer, Any, tuple[int, ...]]]:
    """:func:`weight_slots`, and the tensors of a layer of the user's: those it names itself (:class:`OwnWeights`),
    else those it has made itself to be trained.
    """
    found = weight_slots(layer)
    known = {id(variable) for _, variable, _ in found.values()}
    for prefix, owner in _layers(layer):
        for variable in _own_weights(owner):
            if id(variable) not in known:
                known.add(id(variable))
                axis = (-1,) if len(variable.shape) > 1 else ()
                found[prefix + _attribute(owner, variable)] = (owner, variable, axis)
    return found


def _layers(layer: Layer, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(path with a slash at its end, layer) of ``layer`` and those inside it."""
    yield prefix, layer
    for name, inner in inner_layers(layer):
        yield from _layers(inner, f"{prefix}{name}/")


def _own_weights(layer: Layer) -> Sequence[Any]:
    """The tensors that a layer names itself; of another layer of the user's those that it has made to be trained."""
    if isinstance(layer, OwnWeights):
        return layer.own_weights()
    of_keras = isinstance(layer, Model) or type(layer).__module__.startswith(("keras.src.", "kompakt."))
    return () if of_keras else layer._trainable_variables


def _attribute(layer: Layer, variable: Any) -> str:
    """The name by which ``layer`` knows ``variable``."""
    names = (name.strip("_") for name, value in vars(layer).items() if value is variable)
    return next(names, str(variable.name))


def inner_layers(layer: Layer) -> Iterator[tuple[str, Layer]]:
    """The layers directly inside ``layer`` by attribute (``query_dense``, ``blocks/0``).

    Not by their own names: those are made up anew in every copy of a subclassed model.
    """
    if is_graph(layer):
        yield from ((str(i), inner) for i, inner in enumerate(layer.layers))
        return
    own = layer._flatten_layers(include_self=False, recursive=False)
    # On torch a layer is a module too, which keeps the layers that are attributes in a mapping of its own.
    for attribute, value in {**vars(layer).get("_modules", {}), **vars(layer)}.items():
        if attribute in ("_layers", "_tracker", "_metrics", "_modules") or attribute.startswith("_self_"):
            continue
        for path, leaf in _leaves(value, attribute.strip("_")):
            if any(leaf is inner for inner in own):
                yield path, leaf


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """What is in a list or mapping and those in it, by path. Only keys that can be part of one are followed:
    ``compile`` leaves a mapping from layers to flags in every model.
    """
    if isinstance(value, dict):
        for key in sorted((key for key in value if isinstance(key, (str, int))), key=str):
            yield from _leaves(value[key], f"{path}/{key}")
    elif isinstance(value, (list, tuple)):
        for i, inner in enumerate(value):
            yield from _leaves(inner, f"{path}/{i}")
    else:
        yield path, value


def is_graph(model: Layer) -> bool:
    """Whether the model's layers and their connections are known (functional, or sequential once built)."""
    return isinstance(model, Sequential) or hasattr(model, "_nodes_by_depth")


def units(model: Model) -> dict[str, Layer]:
    """Name -> unit, each layer once, in the order of the graph.

    Raises:
        InputError: the model has no weights yet.
    """
    check_built(model)
    found: dict[str, Layer] = {}
    seen: set[int] = set()

    def walk(layer: Layer, prefix: str) -> None:
        for inner in layer.layers:
            if id(inner) in seen:
                continue
            seen.add(id(inner))
            if is_graph(inner):
                walk(inner, f"{prefix}{inner.name}/")
            elif not isinstance(inner, layers.InputLayer):
                found[prefix + inner.name] = inner

    if is_graph(model):
        walk(model, "")
    else:
        found[""] = model
    return found


def check_built(model: Any) -> None:
    """Raise InputError unless ``model`` is a Keras model that has its weights."""
    if isinstance(model, (str, os.PathLike)):
        raise InputError(f"received the path {str(model)!r}, expected a keras.Model: kompakt.load_model reads the file")
    if not isinstance(model, Model):
        raise InputError(f"received {type(model).__name__}, expected a keras.Model")
    if not model.built:
        raise InputError(f"the model {model.name!r} has no weights yet: call it once on data, or give it an Input")


def sites(model: Model) -> Iterator[Site]:
    """Every weight and output site of ``model``. A wrapped layer gives the sites of the layer inside it.

    Raises:
        InputError: it is no Keras model, or has no weights yet.

    Example:
        >>> import keras
        >>> m = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="d")])
        >>> [site.name for site in sites(m)]
        ['d/kernel', 'd/output']
    """
    for unit, layer in units(model).items():
        inner = getattr(layer, "transformed_layer", layer)
        start = f"{unit}/" if unit else ""
        for slot, (owner, variable, axis) in weight_slots(inner).items():
            yield Site(name=start + slot, unit=unit, slot=slot, layer=owner, variable=variable, axis=axis)
        yield Site(name=start + OUTPUT, unit=unit, slot=OUTPUT, layer=inner, variable=None, axis=())


def check_finite(site: Site) -> None:
    """Raise where the weight at ``site`` has NaN or infinities: no mask, ranking, codebook or grid comes of them."""
    if site.variable is not None:
        check_values(site.name, site.variable)


def check_values(name: str, variable: Any) -> None:
    """:func:`check_finite` of a variable that is at no site."""
    fault = finite_fault(variable)
    if fault:
        raise InputError(f"{name}: {fault}; go back to weights from before them")


def finite_fault(variable: Any) -> str:
    """'3 of 64 values are NaN or infinite', or nothing where all are finite."""
    values = np.asarray(ops.convert_to_numpy(variable))
    bad = 0 if values.dtype.kind in "iub" else int((~np.isfinite(values.astype("float32"))).sum())
    return f"{bad} of {values.size} values are NaN or infinite" if bad else ""


def match(pattern: str, names: Iterable[str]) -> list[str]:
    """Names that the glob ``pattern`` matches, where ``*`` also crosses slashes.

    Raises:
        InputError: none does; the text has the nearest name.

    Example:
        >>> match("conv*/kernel", ["conv1/kernel", "dense/kernel"])
        ['conv1/kernel']
    """
    names = list(names)
    found = [pattern] if pattern in names else fnmatch.filter(names, pattern)
    if not found:
        raise InputError(f"no site matches {pattern!r}{nearest(pattern, names)}")
    return found
