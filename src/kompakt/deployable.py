"""The form of a model that its file has: flat, with folded BatchNormalizations and layers that have operators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

from kompakt.copies import copy_layer
from kompakt.errors import InputError
from kompakt.graph import Copier, map_layers, rebuild
from kompakt.placement import marker
from kompakt.planning import carry
from kompakt.rewrite.activation_layers import activation_layers, has_layer
from kompakt.rewrite.affine_to_depthwise import affine_to_depthwise
from kompakt.rewrite.attention_steps import attention_steps
from kompakt.rewrite.fold_batchnorm import fold_batchnorm
from kompakt.rewrite.inline import inline
from kompakt.rewrite.input_types import float_inputs, index_inputs
from kompakt.rewrite.layered_operations import layered_operations
from kompakt.rewrite.merge_twins import merge_twins
from kompakt.rewrite.normalization_steps import RULES as NORMALIZATIONS
from kompakt.rewrite.normalization_steps import normalization_steps
from kompakt.rewrite.own_arithmetic import own_arithmetic
from kompakt.rewrite.plain_operators import RULES as DECOMPOSED
from kompakt.rewrite.plain_operators import plain_operators
from kompakt.rewrite.prelu_steps import prelu_steps
from kompakt.rewrite.split_activation import has_to_split, split_activation
from kompakt.rewrite.split_separable import PARTS as SEPARABLE
from kompakt.rewrite.split_separable import split_separable
from kompakt.rewrite.time_distributed import time_distributed
from kompakt.rewrite.trace import is_own
from kompakt.rewrite.unroll_recurrent import unroll_recurrent
from kompakt.sites import is_graph, sites, weight_slots
from kompakt.transform import Transform


@dataclass(frozen=True)
class Step:
    """A rewrite and the layers (or operations) that it looks for: a copy of a large model takes seconds."""

    rewrite: Callable[[keras.Model], Any]
    concerns: Callable[[Any], bool]


def _is(*kinds: type) -> Callable[[Any], bool]:
    return lambda layer: isinstance(layer, kinds)


def _inlined(model: keras.Model) -> tuple[keras.Model, dict[str, str]]:
    """(``model`` with the models in it entered, {weight site: its name now})."""
    flat, names = inline(model)
    now = {
        id(variable): f"{names[id(layer)]}/{slot}"
        for layer in model._flatten_layers()
        if id(layer) in names
        for slot, (_, variable, _) in weight_slots(layer).items()
    }
    return flat, {site.name: now[id(site.variable)] for site in sites(model) if id(site.variable) in now}


def _over_time(model: keras.Model) -> tuple[keras.Model, dict[str, str]]:
    """What is over time as calls on its steps, and the models there entered; in those too."""
    moved: dict[str, str] = {}
    while True:
        model, more = time_distributed(model)
        moved = _then(moved, more)
        if not any(map(is_graph, model.layers)):
            return model, moved
        model, more = _inlined(model)
        moved = _then(moved, more)


BEFORE_FOLDING = (
    Step(_over_time, _is(layers.TimeDistributed)),
    Step(activation_layers, has_layer),
    Step(own_arithmetic, is_own),
    Step(float_inputs, _is(layers.Rescaling)),
    Step(index_inputs, _is(layers.Embedding)),
    Step(normalization_steps, _is(*NORMALIZATIONS)),
    Step(attention_steps, _is(layers.MultiHeadAttention)),
    Step(prelu_steps, _is(layers.PReLU)),
    Step(unroll_recurrent, _is(layers.RNN, layers.Bidirectional)),
    Step(layered_operations, lambda operation: not isinstance(operation, layers.Layer)),
    Step(split_separable, _is(*SEPARABLE)),
    Step(split_activation, has_to_split),
)
"""What makes a flat model one of layers that have operators, in this order."""

FROM_FOLDING = (
    Step(lambda model: fold_batchnorm(model)[0], _is(layers.BatchNormalization)),
    Step(merge_twins, _is(layers.ReLU, layers.Activation)),
    Step(affine_to_depthwise, _is(layers.BatchNormalization, layers.Rescaling, layers.Normalization)),
    Step(plain_operators, _is(*DECOMPOSED)),
)
"""The rest, after which BatchNormalizations are gone."""


def unfolded(model: keras.Model) -> tuple[keras.Model, dict[str, list[Transform]]]:
    """(a flat float model with its BatchNormalizations, {its site: what earlier techniques left there})."""
    plain, keeps = carry(model)
    flat, start = _inlined(plain)
    flat, moved = _through(BEFORE_FOLDING, flat)
    now = _then(start, moved)
    return flat, {now.get(name, name): kept for name, kept in keeps.items()}


def folded(model: keras.Model) -> keras.Model:
    """The float model that the file is made of, from :func:`unfolded`: each site of that is one of this."""
    return _mark_inputs(_through(FROM_FOLDING, model)[0])


def _through(steps: Sequence[Step], model: keras.Model) -> tuple[keras.Model, dict[str, str]]:
    """(``model`` after the steps that concern a layer of it, {site that moved: its name now})."""
    moved: dict[str, str] = {}
    for step in steps:
        if any(map(step.concerns, model.operations)):
            made = step.rewrite(model)
            model, more = made if isinstance(made, tuple) else (made, {})
            moved = _then(moved, more)
    return model, moved


def _then(moved: dict[str, str], more: dict[str, str]) -> dict[str, str]:
    """{site: its name after both moves}."""
    return {**more, **{old: more.get(new, new) for old, new in moved.items()}}


def with_weights(model: keras.Model, source: keras.Model) -> keras.Model:
    """A copy of the flat ``model`` with the weights of the layers of ``source`` that have the same names."""
    copy, known = map_layers(model, copy_layer), {layer.name: layer for layer in source.layers}
    for layer in copy.layers:
        if layer.weights and layer.name in known:
            layer.set_weights(known[layer.name].get_weights())
    return copy


def _mark_inputs(model: keras.Model) -> keras.Model:
    """An Identity after each float input, so that the input tensor has a site for its grid."""
    taken = {layer.name for layer in model.layers}

    def mark(tensor: Any) -> Any:
        if not keras.backend.is_float_dtype(tensor.dtype):
            return tensor
        name = marker(tensor.name.split(":")[0])
        if name in taken:
            raise InputError(f"a layer is called {name!r}, which quantize needs for the input's grid: rename it")
        return layers.Identity(name=name)(tensor)

    copier = Copier(copy_layer)
    return rebuild(model, lambda call, args, kwargs: copier(call.layer)(*args, **kwargs), on_input=mark)
