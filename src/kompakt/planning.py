"""Which weights a technique goes on, and what earlier techniques left there."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import keras
from keras import layers

from kompakt.attach import attach, chains_of, finalize, transforms_of, wrapped
from kompakt.errors import InputError
from kompakt.keras_modes import WHY_NOT_AGAIN, refuse_quantized_by_keras
from kompakt.sites import Site, check_finite, is_depthwise, match, sites
from kompakt.transform import Transform

log = logging.getLogger("kompakt")

LEFT_OUT = "%s: left as it is (%s; name it in sites= to include it)"
"""What is said of weights that "*" does not include, and why."""

UNREACHED = "%s: left as it is (sites knows no weight tensors of its layer)"
"""What is said of tensors that no technique reaches."""

FEW_VALUES = "depthwise kernels have few values a channel"
NO_INPUTS = "the pattern groups weights along input channels, and a depthwise kernel has one input channel each"
ENDS = "the first and the last layer cost most accuracy"
FEWEST_LAYERS = 3
"""Layers with weights, depthwise ones aside, that a model must have for its first and last to be spared."""

Sites = str | type | Callable[[Site], bool]
"""Glob pattern of site names, a type of layer, or a predicate on a site."""


@dataclass(frozen=True, kw_only=True)
class Planned:
    """Transforms to put on a model: site -> transforms. ``left``: site -> why "*" does not include it."""

    transforms: dict[str, list[Transform]]
    left: dict[str, str]


def attach_after(
    model: keras.Model,
    patterns: Sites | Sequence[Sites],
    make: Callable[[Site], Transform],
    *,
    spares_ends: bool = False,
) -> keras.Model:
    """Attach to the plain model, behind what preserves the techniques that were there before."""
    plain, keeps = carry(model)
    wanted = {name: list(kept) for name, kept in keeps.items()}
    planned = plan(plain, patterns, make, spares_ends=spares_ends)
    for name, made in planned.transforms.items():
        wanted.setdefault(name, []).extend(made)
    for name, why in planned.left.items():
        log.warning(LEFT_OUT, name, why)
    for path in unreached(plain):
        log.warning(UNREACHED, path)
    return attach(plain, wanted)


def plan(
    model: keras.Model,
    patterns: Sites | Sequence[Sites],
    make: Callable[[Site], Transform],
    *,
    spares_ends: bool = False,
) -> Planned:
    """``make(site)`` for each weight site that is selected.

    Args:
        spares_ends: "*" leaves out the first and the last layer too.

    Raises:
        InputError: something selects no weight site, or a site named cannot have the transform.
    """
    known = {site.name: site for site in sites(model) if site.variable is not None}
    if not known:
        raise InputError(
            f"the model {model.name!r} has no weights to work on: expected at least one Dense, convolution, "
            "embedding or recurrent layer"
        )
    given = list(patterns) if isinstance(patterns, Sequence) and not isinstance(patterns, str) else [patterns]
    named = {name for choice in given if choice != "*" for name in _select(choice, known)}
    left = _spared(known, spares_ends=spares_ends) if "*" in given else {}
    left = {name: why for name, why in left.items() if name not in named}
    chosen: dict[str, list[Transform]] = {}
    for name, site in known.items():
        if name in left or not (name in named or "*" in given):
            continue
        check_finite(site)
        transform = make(site)
        reason = _unfit(transform, site)
        if reason is None:
            chosen[name] = [transform]
        elif name in named:
            raise InputError(f"{name}, of shape {tuple(site.variable.shape)}: {reason}")
        else:
            left[name] = reason
    if not chosen:
        why = "; ".join(f"{name}: {reason}" for name, reason in left.items()) or f"sites={patterns!r} names none"
        raise InputError(f"nothing left to work on: {why}")
    return Planned(transforms=chosen, left=left)


def _unfit(transform: Transform, site: Site) -> str | None:
    """Why the weight of ``site`` cannot have ``transform``, or None."""
    if transform.along_inputs and is_depthwise(site.layer, site.slot):
        return NO_INPUTS
    return transform.unfit(site.variable.shape, site.axis)


def _select(choice: Sites, known: Mapping[str, Site]) -> list[str]:
    """The names of the ``known`` sites that one choice takes."""
    if isinstance(choice, str):
        return match(choice, known)
    if isinstance(choice, type):
        found = [name for name, site in known.items() if isinstance(site.layer, choice)]
        what = f"layer of type {choice.__name__}"
    elif isinstance(choice, layers.Layer) or not callable(choice):
        what = f"the layer {choice.name!r}" if isinstance(choice, layers.Layer) else repr(choice)
        raise InputError(
            f"sites= has {what}: expected glob patterns such as 'name/kernel', types of layers or predicates on a Site"
        )
    else:
        found = [name for name, site in known.items() if choice(site)]
        what = "site that the predicate takes"
    if not found:
        raise InputError(f"sites=: no {what}; the model has {', '.join(known)}")
    return found


def unreached(model: keras.Model) -> list[str]:
    """Paths of the trainable tensors of rank 2 and more that are at no site: no technique reaches them.

    Biases (of attention they have two axes) and what transforms themselves learn are no weights to work on.

    Example:
        >>> unreached(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]))
        []
    """
    reached = {id(site.variable) for site in sites(model) if site.variable is not None}
    reached |= {id(variable) for _, transform in transforms_of(model) for variable in transform.variables}
    tensors = (v for v in model.trainable_variables if len(v.shape) > 1 and id(v) not in reached)
    plain = (v for v in tensors if v.path.rsplit("/", 1)[-1] != "bias")
    return list(dict.fromkeys(str(v.path).removeprefix(f"{model.name}/") for v in plain))


def _spared(known: Mapping[str, Site], *, spares_ends: bool) -> dict[str, str]:
    """Site -> why "*" does not include it."""
    left = {name: FEW_VALUES for name, site in known.items() if is_depthwise(site.layer, site.slot)}
    owners = list({id(site.layer): site.layer for name, site in known.items() if name not in left}.values())
    if spares_ends and len(owners) >= FEWEST_LAYERS:
        ends = (owners[0], owners[-1])
        left.update({name: ENDS for name, site in known.items() if any(site.layer is end for end in ends)})
    return left


def carry(model: keras.Model) -> tuple[keras.Model, dict[str, list[Transform]]]:
    """(the plain model, {site: transforms that keep what earlier techniques did there}).

    Raises:
        InputError: what an earlier technique did cannot be kept, or Keras itself quantized the model.
    """
    held = wrapped(model)
    refuse_quantized_by_keras(model, f"the model {model.name!r}", WHY_NOT_AGAIN)
    if not held:
        return model, {}
    keeps: dict[str, list[Transform]] = {}
    for name, chain, _ in chains_of(model):
        for transform in chain:
            if transform.passing:
                continue
            kept = transform.keep()
            if kept is None:
                raise InputError(
                    f"the model {model.name!r} is quantized already ({name}): prune, cluster or quantize the model "
                    "that it was made from, quantize last; kompakt.calibrate measures its ranges anew"
                )
            keeps.setdefault(name, []).append(kept)
    return finalize(model)[0], keeps
