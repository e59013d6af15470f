"""Which layer of a flat model gets which precision, and where two of them meet."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
from keras import layers

from kompakt.copies import copy_layer
from kompakt.errors import InputError
from kompakt.graph import Call, Copier, Names, calls, readers_beyond, rebuild, users
from kompakt.placement import FUSES, follows, is_marker, joins, marker, sole_reader
from kompakt.precision import FLOAT, Precision, of_rule
from kompakt.rewrite.split_activation import fused
from kompakt.sites import sites
from kompakt.spelling import nearest

NO_INT4 = (layers.DepthwiseConv1D, layers.DepthwiseConv2D, layers.Embedding)
"""Layers that no runtime computes with 4-bit weights: "w4a8" leaves them 8, a rule with a number does not."""


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """The precision of each layer of a flat model, by name; ``bits`` of single weight sites come first."""

    layers: Mapping[str, Precision]
    bits: Mapping[str, int] = field(default_factory=dict)

    def weight_bits(self, site: Any) -> int | None:
        """Bits of the weight at ``site``, None for float."""
        if site.name in self.bits:
            return self.bits[site.name]
        return self.layers[site.unit.split("/")[0]].weights

    @property
    def uniform(self) -> bool:
        """Whether all layers have the same activations."""
        return len({each.activations for each in self.layers.values()}) == 1


def weight_bits(model: keras.Model, assignment: Assignment) -> dict[str, int | None]:
    """Weight site of the flat ``model`` -> bits, None for float."""
    return {site.name: assignment.weight_bits(site) for site in sites(model) if site.variable is not None}


def assign(
    model: keras.Model, base: Precision, rules: Mapping[str, Any] | None, known: Sequence[str] = ()
) -> Assignment:
    """The precision of every layer of the flat functional ``model``.

    Args:
        base: where no rule says otherwise.
        rules: glob pattern of layers (``"block1_*"``) or of weight sites (``"head/kernel"``) -> a precision (see
            :func:`kompakt.precision.of_rule`). The last that matches counts. A layer made from one of the user's
            (``dense_softmax``) goes with it.
        known: names of the user's own layers.

    Raises:
        InputError: a rule that matches nothing, or that says what no precision is.
    """
    if rules is not None and not isinstance(rules, Mapping):
        raise InputError(f"rules={rules!r}: expected a mapping such as {{'head*': 'float', 'conv1/kernel': 4}}")
    names, weights = _names(model)
    named: dict[str, Precision] = {}
    bits: dict[str, int] = {}
    for pattern, value in (rules or {}).items():
        precision = of_rule(value)
        found, held = _meant(str(pattern), names, weights, known)
        if not found and not held:
            raise InputError(f"rules: {pattern!r} matches no layer and no weight{nearest(str(pattern), names)}")
        if isinstance(value, str):
            found += [name.split("/")[0] for name in held]
            named.update(dict.fromkeys(found, precision))
            bits = {name: each for name, each in bits.items() if name.split("/")[0] not in found}
        else:
            held += [name for name in weights if name.split("/")[0] in found]
            bits.update(dict.fromkeys(held, int(value)))
            for name in {*found, *(each.split("/")[0] for each in held)}:
                if named.get(name) == FLOAT:  # a number asks for integers again
                    del named[name]
    return Assignment(layers=_spread(model, base, named), bits=bits)


def named_layers(model: keras.Model, patterns: Iterable[str], known: Sequence[str] = ()) -> set[str]:
    """The layers of the flat ``model`` that rules with these patterns are about, as :func:`assign` reads them."""
    names, weights = _names(model)
    meant = [_meant(str(pattern), names, weights, known) for pattern in patterns]
    return {name.split("/")[0] for found, held in meant for name in (*found, *held)}


def _names(model: keras.Model) -> tuple[list[str], list[str]]:
    """(layers, weight sites) that rules can be about."""
    names = [each.name for each in model.layers if not (isinstance(each, layers.InputLayer) or is_marker(each))]
    return names, [site.name for site in sites(model) if site.variable is not None]


def _meant(
    pattern: str, names: Sequence[str], weights: Sequence[str], known: Sequence[str]
) -> tuple[list[str], list[str]]:
    """(layers, weight sites) that a pattern matches."""
    found = [name for name in names if _matches(name, pattern, known)]
    return found, [name for name in weights if fnmatch.fnmatchcase(name, pattern)]


def origin(name: str, known: Sequence[str]) -> str | None:
    """Which of the ``known`` layers of the user's the layer ``name`` was made from; None for no layer of theirs.

    Example:
        >>> origin("lstm_1_kept", ["lstm", "lstm_1"]), origin("lstm", ["lstm"]), origin("input", ["lstm"])
        ('lstm_1', 'lstm', None)
    """
    if name in known:
        return name
    return max((user for user in known if name.startswith(f"{user}_")), key=len, default=None)


def _matches(name: str, pattern: str, known: Sequence[str]) -> bool:
    """Whether a layer, or the user's own that it was made from, is meant."""
    user = origin(name, known)
    return fnmatch.fnmatchcase(name, pattern) or (user is not None and fnmatch.fnmatchcase(user, pattern))


def _spread(model: keras.Model, base: Precision, named: Mapping[str, Precision]) -> dict[str, Precision]:
    """Every layer's: what only moves numbers follows what comes in, a fused ReLU the layer it is fused into."""
    source: dict[int, Precision] = {}
    found: dict[str, Precision] = {}
    readers = users(model)
    fused_into = {id(t): call for call in calls(model) if isinstance(call.layer, FUSES) for t in call.outputs}
    for call in calls(model):
        layer = call.layer
        before = next((source[id(t)] for t in call.inputs if id(t) in source), base)
        producer = next((fused_into[id(t)] for t in call.inputs if id(t) in fused_into), None)
        if is_marker(layer):
            precision = base
        elif follows(layer) or (producer is not None and fused(layer) and sole_reader(producer, readers)):
            precision = before
        else:
            precision = _held(layer, named.get(layer.name, base))
        found[layer.name] = precision
        source.update({id(t): precision for t in call.outputs})
    return _inputs_first(model, found)


def _held(layer: Any, precision: Precision) -> Precision:
    """``precision``, or what of it a runtime has: 8 bits for 4, floats for a table beside float activations."""
    if isinstance(layer, layers.Embedding):  # a table is looked up: its values are activations, and nothing unpacks
        return Precision(weights=precision.activations, activations=precision.activations)
    if precision.weights == 4 and isinstance(layer, NO_INT4):
        return Precision(weights=8, activations=precision.activations)
    return precision


def _inputs_first(model: keras.Model, found: dict[str, Precision]) -> dict[str, Precision]:
    """``found``, the model's input grids as fine as their readers have it; none where one of those is float.

    A float reader gets the input as it is: what rounds it for the others is theirs, as the file has it.
    """
    readers = users(model)
    for call in calls(model):
        if not is_marker(call.layer):
            continue
        between, after = readers_beyond(call.outputs, readers, follows)
        widths = [found[each.layer.name].activations for each in after if each is not None]
        if widths:
            precision = FLOAT if None in widths else Precision(weights=None, activations=max(filter(None, widths)))
            found.update({each.layer.name: precision for each in (call, *between)})
    return found


def meet(model: keras.Model, assignment: Assignment) -> tuple[keras.Model, Assignment]:
    """A copy of the flat ``model`` with a grid between two layers whose activations have other widths.

    An Identity in front of the reader carries it: in the file it is a QUANTIZE operator. A float reader gets
    what is before it as it is. A layer that puts what comes in on its own grid gets an Identity without one, so
    that what makes it has a grid too.

    Example:
        >>> i = keras.Input((4,))
        >>> m = keras.Model(i, layers.Dense(2, name="b")(layers.Dense(4, name="a")(i)))
        >>> given = assign(m, of_rule("int8"), {"a": "float"})
        >>> [layer.name for layer in meet(m, given)[0].layers[1:]]
        ['a', 'a_int8_grid', 'b']
    """
    if assignment.uniform:
        return model, assignment
    known, names, copier = dict(assignment.layers), Names(model), Copier(copy_layer)
    owner: dict[int, str] = {}
    made: dict[tuple[int, int | None], Any] = {}

    def visit(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        wanted = known[call.layer.name].activations
        own = joins(call.layer)

        def enter(tensor: Any) -> Any:
            source = owner.get(id(tensor))
            if source is None or known[source].activations == wanted or (wanted is None and not own):
                return tensor
            key = (id(tensor), 0 if own else wanted)
            if key not in made:
                name = names.free(marker(f"{source}_int{wanted or known[source].activations}"))
                known[name] = FLOAT if own else Precision(weights=None, activations=wanted)
                made[key] = layers.Identity(name=name)(tensor)
                owner[id(made[key])] = name
            return made[key]

        if not follows(call.layer):
            args, kwargs = keras.tree.map_structure(
                lambda leaf: enter(leaf) if isinstance(leaf, keras.KerasTensor) else leaf, (args, kwargs)
            )
        outputs = copier(call.layer)(*args, **kwargs)
        owner.update({id(t): call.layer.name for t in keras.tree.flatten(outputs)})
        return outputs

    met = rebuild(model, visit)
    return met, Assignment(layers=known, bits=assignment.bits)
