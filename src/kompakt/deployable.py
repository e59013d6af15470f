"""The form of a model that its file has: flat, with folded BatchNormalizations and layers that have operators."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from kompakt.errors import InputError
from kompakt.graph import Copier, copy_layer, map_layers, rebuild
from kompakt.placement import marker
from kompakt.planning import carry
from kompakt.rewrite.affine_to_depthwise import affine_to_depthwise
from kompakt.rewrite.attention_steps import attention_steps
from kompakt.rewrite.float_inputs import float_inputs
from kompakt.rewrite.fold_batchnorm import fold_batchnorm
from kompakt.rewrite.inline import inline
from kompakt.rewrite.layered_operations import layered_operations
from kompakt.rewrite.merge_twins import merge_twins
from kompakt.rewrite.normalization_steps import normalization_steps
from kompakt.rewrite.own_arithmetic import own_arithmetic
from kompakt.rewrite.plain_operators import plain_operators
from kompakt.rewrite.prelu_steps import prelu_steps
from kompakt.rewrite.split_activation import split_activation
from kompakt.rewrite.split_separable import split_separable
from kompakt.rewrite.time_distributed import time_distributed
from kompakt.rewrite.unroll_recurrent import unroll_recurrent
from kompakt.sites import sites
from kompakt.transform import Transform


def unfolded(model: keras.Model) -> tuple[keras.Model, dict[str, list[Transform]]]:
    """(a flat float model with its BatchNormalizations, {its site: what earlier techniques left there})."""
    plain, keeps = carry(model)
    flat, names = inline(plain)
    renamed = {}
    for site in sites(plain):
        owner = names.get(id(site.layer))
        renamed[site.name] = site.name if owner is None else f"{owner}/{site.slot.split('/')[-1]}"
    flat, inner = time_distributed(float_inputs(own_arithmetic(flat)))
    flat, heads = attention_steps(normalization_steps(flat))
    flat, steps = unroll_recurrent(prelu_steps(flat))
    flat, moved = split_separable(layered_operations(flat))
    moved |= {**inner, **heads, **steps}
    return split_activation(flat), {moved.get(renamed[name], renamed[name]): kept for name, kept in keeps.items()}


def folded(model: keras.Model) -> keras.Model:
    """The float model that the file is made of, from :func:`unfolded`: each site of that is one of this."""
    flat, _ = fold_batchnorm(model)
    return _mark_inputs(plain_operators(affine_to_depthwise(merge_twins(flat))))


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
