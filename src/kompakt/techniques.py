"""``prune``, ``cluster`` and ``quantize``: the techniques as a user calls them, each a plan and an ``attach``."""

from __future__ import annotations

import glob
import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

from kompakt.assignment import Assignment, assign, meet
from kompakt.attach import attach, chains_of, finalize, wrapped
from kompakt.calibrate import calibrate, check_method
from kompakt.choose import choose
from kompakt.errors import InputError
from kompakt.graph import Copier, copy_layer, rebuild
from kompakt.keras_modes import is_keras_mode, quantize_in_keras
from kompakt.noise import candidates
from kompakt.placement import activation_grids, fixed_range, grids_per_call, marker
from kompakt.policies import POLICIES
from kompakt.precision import MIXED, PRECISIONS
from kompakt.repairs import before_folding, before_grids, on_grids, prepared
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
from kompakt.schedules import Schedule, is_whole
from kompakt.sites import Site, check_finite, match, nearest, sites
from kompakt.transform import Transform
from kompakt.transforms.cluster import Cluster
from kompakt.transforms.patterns import Pattern, find_pattern
from kompakt.transforms.prune import Prune
from kompakt.transforms.quantize import FakeQuant

log = logging.getLogger("kompakt")

TRAINABLE_MODES = tuple(name for name in PRECISIONS if name != "float")
"""Modes of ``quantize``."""

QUANTIZE_OPTIONS = ("ranges", "momentum", "method", "rules", "repairs")
"""Keyword arguments of ``quantize`` that a recipe may set."""

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

SMALL = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
"""Layers with so few weights a channel that zeros or shared values cost accuracy and save nothing."""


def prune(
    model: keras.Model,
    sparsity: float | None = None,
    *,
    keep: str | None = None,
    schedule: Schedule | None = None,
    pattern: Pattern | str | None = None,
    score: str = "l1",
    scope: str = "layer",
    limits: Sequence[float] | Mapping[str, Sequence[float]] = (0.0, 1.0),
    rewind: int | None = None,
    policy: str | None = None,
    seed: int = 0,
    sites: Sites | Sequence[Sites] = "*",
) -> keras.Model:
    """A trainable copy of ``model`` whose weights are multiplied by a mask of zeros and ones.

    Zeros make a file smaller where it is compressed (a download, a zipped flash image) or stored sparse; they do
    not make it faster. Removed channels do: see :func:`kompakt.shrink`. Biases are never pruned.

    Args:
        model: any built Keras model; not changed.
        sparsity: share of zeros, 0..1; a schedule or "2:4" says it too. keep: "zeros" keeps those that are there
            instead.
        schedule: sparsity a step, e.g. ``schedules.Polynomial``; ``fit`` then needs ``callbacks.Update()``.
            Without one the mask is made now and stays.
        pattern: which weights go together: None (each alone), "2:4", "1x16" (output by input channels) or
            "channels".
        score: which go first: "l1", "l2" (magnitude), "taylor", "movement" (gathered in training, so they need
            a schedule that begins after step 0) or "random".
        scope: "layer" (the share in each tensor) or "global" (all tensors ranked together).
        limits: with "global", least and most share of zeros in a tensor; or glob pattern -> (least, most).
        rewind: training step whose weights are restored each time the mask grows (lottery tickets).
        policy: "xnnpack" prunes what XNNPACK's sparse kernels can run, and refuses a model they cannot help.
        seed: of the score "random".
        sites: glob patterns of weight sites, types of layers, or predicates on a ``Site``. "*" leaves out
            depthwise kernels, and the first and last layer of a model that has three or more with weights.

    Raises:
        InputError: no such site, nothing to prune, both or neither of ``sparsity`` and ``keep``, or options that
            exclude each other.

    Example:
        >>> m = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, name="d")])
        >>> plain, encodings = finalize(prune(m, 0.75))
        >>> encodings["d/kernel"].zeros
        24
        >>> finalize(prune(m, pattern="2:4"))[1]["d/kernel"].zeros
        16
    """
    chosen = find_pattern(pattern)
    asked = next((wanted for wanted in (sparsity, schedule, chosen.natural()) if wanted is not None), None)
    _one_of(keep, "zeros", asked, "sparsity")
    if policy is not None:
        sites = _policy_sites(model, policy, sites)
    if keep is not None:
        return _attach_after(model, sites, lambda _: Prune(), spares_ends=False)
    limits_of = _limits(model, limits)
    counter = itertools.count(seed) if is_whole(seed) else itertools.repeat(seed)  # Prune refuses what is no number

    def make(site: Site) -> Transform:
        return Prune(
            sparsity,
            schedule=schedule,
            pattern=chosen,
            score=score,
            scope=scope,
            limits=limits_of(site.name),
            rewind=rewind,
            seed=next(counter),
        )

    return _attach_after(model, sites, make, spares_ends=Prune.spares_ends)


def _limits(model: keras.Model, limits: Any) -> Callable[[str], Any]:
    """The limits of a site by its name: of the first pattern that matches it."""
    if not isinstance(limits, Mapping):
        return lambda _: limits
    names = [site.name for site in sites(model) if site.variable is not None]
    found: dict[str, Any] = {}
    for pattern, pair in limits.items():
        for name in match(str(pattern), names):
            found.setdefault(name, pair)
    return lambda name: found.get(name, (0.0, 1.0))


def _policy_sites(model: keras.Model, policy: str, patterns: Any) -> list[Sites]:
    if not isinstance(policy, str) or policy not in POLICIES:
        raise InputError(f"policy {policy!r}: expected one of {', '.join(POLICIES)}{nearest(str(policy), POLICIES)}")
    if patterns != "*":
        raise InputError("policy= chooses the sites itself: leave sites= out")
    return [glob.escape(name) for name in POLICIES[policy](carry(model)[0])]


def cluster(
    model: keras.Model,
    clusters: int | None = None,
    *,
    keep: str | None = None,
    start: str = "kmeans++",
    per_channel: bool = False,
    pin_zero: bool | None = None,
    gradient: str = "mean",
    soft: float | None = None,
    seed: int = 0,
    sites: Sites | Sequence[Sites] = "*",
) -> keras.Model:
    """A trainable copy of ``model`` whose weight tensors hold at most ``clusters`` distinct values each.

    Args:
        model: any built Keras model; not changed. Zeros of a pruned tensor stay zeros.
        clusters: values a tensor (a channel with ``per_channel``). keep: "clusters" keeps those that are there.
        start: "kmeans++", "linear", "density" or "random". seed: for "kmeans++" and "random".
        pin_zero: one of the values is 0; None where the tensor has zeros already.
        gradient: of a shared value: "mean" of its members' or their "sum".
        soft: temperature of a differentiable assignment in training, such as 0.1 (see
            :class:`kompakt.transforms.Cluster`).
        sites: glob patterns of weight sites, types of layers, or predicates on a ``Site``. "*" leaves out depthwise
            kernels.

    Raises:
        InputError: no such site, nothing to cluster, or both or neither of ``clusters`` and ``keep``.

    Example:
        >>> import numpy as np
        >>> m = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, name="d")])
        >>> plain, _ = finalize(cluster(m, 4))
        >>> len(np.unique(plain.get_weights()[0]))
        4
    """
    _one_of(keep, "clusters", clusters, "clusters")

    def make(_: Site) -> Transform:
        return Cluster(
            clusters,
            start=start,
            per_channel=per_channel,
            pin_zero=pin_zero,
            gradient=gradient,
            soft=soft,
            seed=seed,
        )

    return _attach_after(model, sites, make)


def quantize(
    model: keras.Model,
    mode: Any = "int8",
    *,
    rules: Mapping[str, Any] | None = None,
    calibration: Any = None,
    ranges: str = "moving_average",
    momentum: float = 0.99,
    method: str = "moving_average",
    repairs: Sequence[str] = (),
    max_drop: float | None = None,
    evaluate: Callable[[keras.Model], float] | None = None,
) -> keras.Model:
    """A trainable copy of ``model`` that computes as its quantized file will: quantization-aware training.

    The copy is flat and functional: nested models are entered, each BatchNormalization is folded into the layer
    before it, activations that the runtime does not fuse get a layer of their own. Zeros of ``prune`` and
    values of ``cluster`` are kept, each layer's by itself.

    Args:
        model: a float model or one from ``prune`` / ``cluster``; not changed.
        mode: "int8" (weights a scale a channel, activations a scale a tensor), "w4a8" (4-bit weights), "int16x8"
            (16-bit activations), "dynamic_int8" (int8 weights, inputs rounded at run time) or "weight_only_int8"
            (int8 weights, unpacked at run time). Or one of Keras' own for servers, which give a plain copy and cannot
            go into a TFLite file: "keras_int8", "keras_int4", or a configuration of ``keras.quantizers``, such as
            GPTQConfig or AWQConfig (see :mod:`kompakt.keras_modes`); these take no other argument.
        rules: mixed precision: glob pattern of layers or weight sites -> "float", "int8", "w4a8", "int16x8" or 2..8
            bits for the weights, e.g. ``{"head": "float", "block2_*": 4}``; the last that matches counts. For
            modes with integer activations.
        calibration: samples (or an iterable of batches) that activation ranges start from. Without them they
            start from the first training batch.
        ranges: "moving_average" follows training batches with ``momentum``; "minmax" stays as calibrated; "lsq"
            learns the steps of weights and activations (see :class:`kompakt.transforms.FakeQuant`).
        method: how calibration batches are put together: "minmax", "moving_average", "percentile", "mse" or
            "entropy", as in :func:`kompakt.calibrate`.
        repairs: any of "batchnorm", "equalize", "adaround" and "bias" (see :mod:`kompakt.repairs`), done in that
            order whatever order they are given in. All but "equalize" need calibration.
        max_drop: choose the precision of each layer (4, 8 or 16 bits, float), so that the score falls by at most this
            against the float model's, at the fewest bytes; what was chosen and why is logged (see
            :func:`kompakt.choose.choose`). ``rules`` are what it starts from.
        evaluate: model -> its score, higher is better (an accuracy, as a share); for ``max_drop``.

    Raises:
        InputError: unknown mode or repair, no layer to quantize, bad calibration data.

    Example:
        >>> import numpy as np
        >>> m = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="d")])
        >>> q = quantize(m, "int8", calibration=np.random.rand(32, 4).astype("float32"))
        >>> plain, encodings = finalize(q)
        >>> encodings["d/kernel"].bits, len(encodings["d/kernel"].scale)
        (8, 2)
    """
    if is_keras_mode(mode):
        if rules or repairs or calibration is not None or max_drop is not None:
            raise InputError(f"quantize(mode={mode!r}): Keras' own modes take no other argument; leave them out")
        return quantize_in_keras(model, mode)
    if mode not in TRAINABLE_MODES:
        raise InputError(
            f"quantize(mode={mode!r}): expected one of {', '.join(TRAINABLE_MODES)}; "
            "float16 needs no training: kompakt.export(model, path, quantization='float16')"
        )
    check_method(method)
    base = PRECISIONS[mode]
    if rules and not base.integer:
        raise InputError(f"rules= with mode={mode!r}: expected int8, w4a8 or int16x8, whose layers can be mixed")
    if ranges == "lsq" and base.integer and calibration is None:
        raise InputError(
            "ranges='lsq' learns from where calibration starts it: give calibration=, some hundred samples"
        )
    if max_drop is not None or evaluate is not None:
        options = {"ranges": ranges, "momentum": momentum, "method": method, "repairs": repairs}
        return _chosen(model, mode, rules, calibration, options, max_drop, evaluate)
    repairs, calibration = prepared(model, repairs, calibration)
    flat, keeps = _deployable(before_folding(model, repairs, calibration))
    flat = before_grids(flat, repairs, keeps)
    known = [layer.name for layer in model._flatten_layers()]
    if base.integer:
        flat = grids_per_call(flat)
        flat, assignment = meet(flat, assign(flat, base, rules, known))
    else:
        assignment = assign(flat, base, rules, known)
    name = MIXED if rules else mode
    for path in unreached(flat):
        log.warning(UNREACHED, path)
    wanted = _weight_grids(flat, assignment, keeps, name, ranges)
    wanted |= _activation_grids(flat, assignment, name, ranges=ranges, momentum=momentum) if base.integer else {}
    attached = attach(flat, {site: chain for site, chain in wanted.items() if chain})
    attached = on_grids(attached, repairs, calibration, flat)
    if calibration is not None:
        calibrate(attached, calibration, method=method)
    return attached


def _chosen(
    model: keras.Model,
    mode: str,
    rules: Mapping[str, Any] | None,
    calibration: Any,
    options: Mapping[str, Any],
    max_drop: float | None,
    evaluate: Callable[[keras.Model], float] | None,
) -> keras.Model:
    """``quantize`` with the precisions that hold ``max_drop`` at the fewest bytes."""
    if max_drop is None or evaluate is None or not max_drop >= 0.0:
        raise InputError(
            f"max_drop={max_drop}, evaluate={evaluate}: give both, a drop of 0 or more and a function of a model that "
            "returns its score, higher is better"
        )
    if calibration is None or mode != "int8":
        raise InputError("max_drop= needs mode='int8', which it starts from, and calibration= samples")
    samples = calibration if hasattr(calibration, "shape") or isinstance(calibration, (dict, list)) else [*calibration]
    floor = float(evaluate(carry(model)[0])) - max_drop

    def made(more: Mapping[str, Any]) -> keras.Model:
        return quantize(model, mode, rules={**(rules or {}), **more}, calibration=samples, **options)

    start = quantize(model, mode, rules=rules, calibration=samples, ranges="minmax")
    choice = choose(candidates(start, samples), lambda more: float(evaluate(made(more))), floor)
    for line in choice.why:
        log.warning("max_drop: %s", line)
    if choice.score < floor:
        raise InputError(
            f"max_drop={max_drop}: no assignment scores {floor:.4f}; the best found scores {choice.score:.4f}"
        )
    return made(choice.rules)


def _weight_grids(
    model: keras.Model, assignment: Assignment, keeps: Mapping[str, list[Transform]], mode: str, ranges: str
) -> dict[str, list[Transform]]:
    """Weight site -> what was kept there, and its grid."""
    weights = [site for site in sites(model) if site.variable is not None]
    if not weights:
        raise InputError(
            f"the model {model.name!r} has no layer to quantize: expected at least one Dense, convolution, "
            "embedding or recurrent layer"
        )
    bits = {site.name: assignment.weight_bits(site) for site in weights}
    own = "lsq" if ranges == "lsq" else "minmax"
    return {
        name: [*keeps.get(name, []), *([FakeQuant(width, symmetric=True, mode=mode, ranges=own)] if width else [])]
        for name, width in bits.items()
    }


def _activation_grids(
    model: keras.Model, assignment: Assignment, mode: str, *, ranges: str, momentum: float
) -> dict[str, list[Transform]]:
    """Activation site -> its grid, where the layer that makes it is integer."""
    wanted: dict[str, list[Transform]] = {}
    for grid in activation_grids(model):
        bits = assignment.layers[grid.site.rsplit("/", 1)[0]].activations
        if bits is not None:
            low, high = fixed_range(grid, bits)
            options: dict[str, Any] = {"ranges": ranges, "momentum": momentum, "low": low, "high": high, "mode": mode}
            wanted[grid.site] = [FakeQuant(bits, symmetric=False, **options)]
    return wanted


@dataclass(frozen=True, kw_only=True)
class Planned:
    """Transforms to put on a model: site -> transforms. ``left``: site -> why "*" does not include it."""

    transforms: dict[str, list[Transform]]
    left: dict[str, str]


def _attach_after(
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
    if transform.along_inputs and _is_depthwise(site):
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


def _is_depthwise(site: Site) -> bool:
    return isinstance(site.layer, SMALL) or site.slot.endswith("depthwise_kernel")


def unreached(model: keras.Model) -> list[str]:
    """Paths of the trainable tensors of rank 2 and more that are at no site: no technique reaches them.

    Example:
        >>> unreached(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]))
        []
    """
    reached = {id(site.variable) for site in sites(model) if site.variable is not None}
    plain = (v for v in model.trainable_variables if len(v.shape) > 1 and id(v) not in reached)
    return list(dict.fromkeys(str(v.path).removeprefix(f"{model.name}/") for v in plain))


def _spared(known: Mapping[str, Site], *, spares_ends: bool) -> dict[str, str]:
    """Site -> why "*" does not include it."""
    left = {name: FEW_VALUES for name, site in known.items() if _is_depthwise(site)}
    owners = list({id(site.layer): site.layer for name, site in known.items() if name not in left}.values())
    if spares_ends and len(owners) >= FEWEST_LAYERS:
        ends = (owners[0], owners[-1])
        left.update({name: ENDS for name, site in known.items() if any(site.layer is end for end in ends)})
    return left


def carry(model: keras.Model) -> tuple[keras.Model, dict[str, list[Transform]]]:
    """(the plain model, {site: transforms that keep what earlier techniques did there})."""
    if not wrapped(model):
        return model, {}
    keeps: dict[str, list[Transform]] = {}
    for name, chain, _ in chains_of(model):
        for transform in chain:
            kept = transform.keep()
            if kept is None:
                raise InputError(
                    f"{name} has a {type(transform).__name__} that no later technique can keep: prune and cluster "
                    "first, quantize last"
                )
            keeps.setdefault(name, []).append(kept)
    return finalize(model)[0], keeps


def _deployable(model: keras.Model) -> tuple[keras.Model, dict[str, list[Transform]]]:
    """(a flat float model in the form the file will have, {its site: what earlier techniques left there})."""
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
    flat, _ = fold_batchnorm(split_activation(flat))
    flat = _mark_inputs(plain_operators(affine_to_depthwise(merge_twins(flat))))
    return flat, {moved.get(renamed[name], renamed[name]): kept for name, kept in keeps.items()}


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


def _one_of(keep: str | None, word: str, value: Any, name: str) -> None:
    if keep is not None and keep != word:
        raise InputError(f"keep={keep!r}: expected {word!r}{nearest(str(keep), [word])}")
    if (keep is None) == (value is None):
        raise InputError(f"give {name} or keep={word!r}, one of the two")
