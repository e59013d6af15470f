"""``quantize_model`` and ``quantize_apply``: ``kompakt.quantize``, with what was annotated."""

from __future__ import annotations

import glob
from collections.abc import Mapping
from typing import Any

import keras

from kompakt.assignment import origin
from kompakt.attach import Transformed, attach
from kompakt.copies import copy_layer
from kompakt.deployable import folded, unfolded
from kompakt.errors import InputError
from kompakt.graph import calls, map_layers
from kompakt.placement import is_marker
from kompakt.quantization import quantize
from kompakt.sites import DEPTHWISE, check_built, is_graph, sites, units
from kompakt.techniques import cluster, prune
from kompakt.tfmot.quantization.annotate import (
    QuantizeAnnotate,
    quantize_annotate_model,
    without_annotations,
)
from kompakt.tfmot.quantization.asked import Asked, asked_of
from kompakt.tfmot.quantization.chains import edited
from kompakt.tfmot.quantization.own_quantizer import OwnQuantizer
from kompakt.tfmot.quantization.scheme import CLUSTERS, Default8BitQuantizeScheme, Plan, plan_of
from kompakt.transform import Transform

PREFIX = "quant_"


def quantize_model(to_quantize: keras.Model, quantized_layer_name_prefix: str | None = PREFIX) -> keras.Model:
    """A trainable copy of a model that computes as its int8 file will.

    It is what ``kompakt.quantize(model)`` makes: flat, each BatchNormalization folded into the layer before it, every
    weight a scale a channel, ranges that start from the first training batch (``kompakt.calibrate`` measures them
    without training). Models inside it are entered, and subclassed ones traced.

    Args:
        to_quantize: not changed. quantized_layer_name_prefix: of the names of its layers; None or "" for none.

    Raises:
        InputError: no model, no weights yet, or nothing to quantize.

    Example:
        >>> m = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="d")])
        >>> [layer.name for layer in quantize_model(m).layers[1:]]
        ['input_grid', 'quant_d']
    """
    return quantize_apply(quantize_annotate_model(to_quantize), quantized_layer_name_prefix=quantized_layer_name_prefix)


def quantize_apply(
    model: keras.Model,
    scheme: Any = None,
    quantized_layer_name_prefix: str | None = PREFIX,
) -> keras.Model:
    """A trainable copy of an annotated model in which the annotated layers compute as they will in an integer file.

    Args:
        model: with ``quantize_annotate_layer`` in it, or from ``quantize_annotate_model``; not changed. Layers
            without an annotation stay float, and so does the file there.
        scheme: Default8BitQuantizeScheme() by default. quantized_layer_name_prefix: of the names of the layers that
            are made of annotated ones; None or "" for none.

    Returns:
        A flat functional model. ``kompakt.export`` writes its file, ``kompakt.calibrate`` measures its ranges.

    Raises:
        InputError: nothing is annotated, or a scheme or QuantizeConfig asks for what no runtime has.

    Example:
        >>> from kompakt.tfmot.quantization.annotate import quantize_annotate_layer
        >>> annotated = quantize_annotate_layer(keras.layers.Dense(2, name="d"))
        >>> m = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, name="float"), annotated])
        >>> [type(quantize_apply(m).get_layer(name)).__name__ for name in ("float", "quant_d")]
        ['Dense', 'Transformed']
    """
    check_built(model)
    plan = plan_of(Default8BitQuantizeScheme() if scheme is None else scheme)
    known = units(model).values() if is_graph(model) else ()
    if not any(isinstance(layer, QuantizeAnnotate) for layer in known):
        raise InputError(
            f"the model {model.name!r} has no annotated layer: mark some with quantize_annotate_layer or all with "
            "quantize_annotate_model, or call quantize_model"
        )
    plain, marked = without_annotations(model)
    wanted = {layer.name: layer for layer in units(plain).values()}
    asked = {name: asked_of(_inner(wanted[name]), config) for name, config in marked.items() if config is not None}
    names = [layer.name for layer in plain._flatten_layers()]
    kept = _keeping(plain, plan, marked)
    owned = attach(kept, _placed(plain, asked)) if any(each.weights for each in asked.values()) else kept
    made = quantize(owned, plan.mode, rules=_rules(owned, plan, marked, asked, names))

    def owner(layer: str) -> str | None:
        found = origin(layer, names)
        return found if found in marked else None

    return _renamed(edited(made, owner, asked, per_tensor=plan.per_tensor), owner, quantized_layer_name_prefix or "")


def _inner(layer: Any) -> Any:
    return getattr(layer, "transformed_layer", layer)


def _keeping(model: keras.Model, plan: Plan, marked: Mapping[str, Any]) -> keras.Model:
    """``model`` with what keeps the values and zeros of its annotated layers; depthwise kernels have few of either."""
    for what in plan.keeps:
        named = [
            glob.escape(site.name)
            for site in sites(model)
            if site.variable is not None and _last(site.unit) in marked and not isinstance(site.layer, DEPTHWISE)
        ]
        if named:
            model = cluster(model, keep=what, sites=named) if what == CLUSTERS else prune(model, keep=what, sites=named)
    return model


def _last(unit: str) -> str:
    return unit.rsplit("/", 1)[-1]


def _placed(model: keras.Model, asked: Mapping[str, Asked]) -> dict[str, list[Transform]]:
    """Weight site -> its Quantizer, which ``quantize`` then carries along to where the weight is in the file."""
    return {
        f"{unit}/{slot}": [OwnQuantizer(quantizer)]
        for unit, layer in units(model).items()
        if layer.name in asked
        for slot, quantizer in asked[layer.name].weights.items()
    }


def _rules(
    model: keras.Model, plan: Plan, marked: Mapping[str, Any], asked: Mapping[str, Asked], names: list[str]
) -> dict[str, Any] | None:
    """What ``quantize`` is told of layers that are not as the mode has them; None where all are."""
    flat = [layer.name for layer in folded(unfolded(model)[0]).layers if not isinstance(layer, keras.layers.InputLayer)]
    there = {origin(name, names) for name in flat}
    weighty = {layer.name for layer in units(model).values() if _inner(layer).weights}
    rules: dict[str, Any] = {}
    if (there & weighty) - set(marked):
        rules = {"*": "float"} | {glob.escape(name): plan.mode for name in marked if name in there}
    for name in (name for name in marked if name in there):
        if name in asked and asked[name].nothing:
            rules[glob.escape(name)] = "float"
        bits = _weight_bits(plan, asked.get(name))
        if bits is not None and name in weighty:
            rules[glob.escape(name)] = bits
    return rules or None


def _weight_bits(plan: Plan, asked: Asked | None) -> int | None:
    """Bits of a layer's weights where they are not those of the mode."""
    if asked is None:
        return plan.weights
    widths = [getattr(quantizer, "num_bits", None) for quantizer in asked.weights.values()]
    known = [min(int(width), 8) for width in widths if width is not None]  # more is refused where the grid is made
    return min(known) if known and (plan.mode == "w4a8" or min(known) != 8) else None


def _renamed(model: keras.Model, owner: Any, prefix: str) -> keras.Model:
    """A copy in which layers that are made of annotated ones have the prefix."""
    if not prefix:
        return model
    ends = _ends(model, owner)

    def make(layer: Any) -> Any:
        if owner(layer.name) is None or is_marker(_inner(layer)):
            return copy_layer(layer)
        name = f"{prefix}{ends.get(layer.name, layer.name)}"
        if not isinstance(layer, Transformed):
            return copy_layer(layer, change=lambda config: {**config, "name": name})
        inner = copy_layer(layer.transformed_layer, change=lambda config: {**config, "name": name})
        return Transformed(inner, {slot: copy_layer(chain) for slot, chain in layer.chains.items()})

    return map_layers(model, make)


def _ends(model: keras.Model, owner: Any) -> dict[str, str]:
    """Other names for the parts of a layer that ends a model with several outputs: its last part has the layer's name.

    Losses and metrics of such a model are given by the names of its outputs.
    """
    found: dict[str, str] = {}
    names = {layer.name for layer in model.layers}
    ends = {call.layer.name for call in calls(model) if {id(t) for t in call.outputs} & {id(t) for t in model.outputs}}
    for end in ends if len(model.outputs) > 1 else ():
        user = owner(end)
        if user is not None and user != end and user in names - ends and f"{user}_inside" not in names:
            found |= {end: user, user: f"{user}_inside"}
    return found
