"""``quantize``: a model that computes as its integer file will, to train or to export as it is."""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from kompakt.assignment import Assignment, assign, meet, named_layers, weight_bits
from kompakt.attach import attach
from kompakt.calibrate import calibrate, check_method
from kompakt.choose import EVERY, choose
from kompakt.deployable import folded, unfolded, with_weights
from kompakt.errors import InputError
from kompakt.gauges import folding_factors, with_gauges
from kompakt.graph import undisturbed
from kompakt.keras_modes import is_keras_mode, quantize_in_keras
from kompakt.noise import candidates
from kompakt.placement import activation_grids, fixed_range, grids_per_call
from kompakt.planning import UNREACHED, carry, unreached
from kompakt.precision import MIXED, PRECISIONS, Precision
from kompakt.progress import Report, part, shown
from kompakt.repairs import ADAROUND, BATCHNORM, before_folding, before_grids, held, needs_data, on_grids, prepared
from kompakt.sites import attachable_slots, check_built, sites, units
from kompakt.spelling import one_of
from kompakt.transform import Transform
from kompakt.transforms.passing import PassingGrid
from kompakt.transforms.quantize import FakeQuant

log = logging.getLogger("kompakt")

LEARNED = 0.8
"""Share of the work that is done when rounding is learned, where it is: the rest is measuring ranges."""

TRAINABLE_MODES = tuple(name for name in PRECISIONS if name != "float")
"""Modes of ``quantize``."""

QUANTIZE_OPTIONS = ("ranges", "momentum", "method", "rules", "repairs", "batchnorm")
"""Keyword arguments of ``quantize`` that a recipe may set."""

USUAL_METHOD = "moving_average"
"""In int16x8 too: whole ranges gained nothing there, and made a transformer's softmax 20 steps off."""

FROZEN, LIVE = "frozen", "live"
"""Whether the statistics of BatchNormalizations stay, folded, or move in training."""


@undisturbed()
def quantize(
    model: keras.Model,
    mode: Any = "int8",
    *,
    rules: Mapping[str, Any] | None = None,
    calibration: Any = None,
    ranges: str = "moving_average",
    momentum: float = 0.99,
    method: str | None = None,
    repairs: Sequence[str] = (),
    batchnorm: str = FROZEN,
    max_drop: float | None = None,
    evaluate: Callable[[keras.Model], float] | None = None,
    progress: bool | Report = False,
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
        calibration: samples (or an iterable of batches) that activation ranges start from, or a tuple (samples,
            labels). Without them they start from the first training batch. For modes with integer activations, and
            for repairs.
        ranges: "moving_average" follows training batches with ``momentum``; "minmax" stays as calibrated;
            "all_values" widens to hold every training batch; "lsq" learns the steps of weights and activations (see
            :class:`kompakt.transforms.FakeQuant`).
        method: how calibration batches are put together: "minmax", "moving_average" (default), "percentile", "mse" or
            "entropy", as in :func:`kompakt.calibrate`.
        repairs: any of "batchnorm", "equalize", "adaround" and "bias" (see :mod:`kompakt.repairs`), done in that
            order whatever order they are given in. All but "equalize" need calibration.
        batchnorm: "frozen" folds each BatchNormalization from the start, with the statistics that it has. "live" is
            for a schedule: only weights go on their grids and the statistics go on moving; train it for a while,
            then give it to ``quantize`` again, which folds it. Activations have no ranges before that: calibration
            is for the second.
        max_drop: choose the precision of each layer (4, 8 or 16 bits, float), so that the score falls by at most this
            against the float model's, at the fewest bytes; what was chosen and why is logged (see
            :func:`kompakt.choose.choose`). Layers that ``rules`` name stay as they say; a bare "*" is only what it
            starts from. ``repairs`` are carried out anew for each assignment that is tried (some tens of them).
        evaluate: model -> its score, higher is better (an accuracy, as a share); for ``max_drop``.
        progress: show a bar of calibration and AdaRound where there is a terminal, or a report to call (see
            :mod:`kompakt.progress`).

    Raises:
        InputError: unknown mode or repair, no layer to quantize, bad calibration data, a score that is no finite
            number.

    Example:
        >>> import kompakt
        >>> import numpy as np
        >>> m = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="d")])
        >>> q = quantize(m, "int8", calibration=np.random.rand(32, 4).astype("float32"))
        >>> plain, encodings = kompakt.finalize(q)
        >>> encodings["d/kernel"].bits, len(encodings["d/kernel"].scale)
        (8, 2)
    """
    if is_keras_mode(mode):
        given = {"rules": rules, "calibration": calibration, "max_drop": max_drop, "evaluate": evaluate}
        _refuse_others(mode, given, ranges=ranges, momentum=momentum, method=method, repairs=repairs)
        return quantize_in_keras(model, mode)
    check_built(model)
    base = _precision(mode, rules, ranges, momentum, calibrated=calibration is not None)
    if not base.integer:
        _refuse_unused(mode, calibration, method, repairs)
    method = method or USUAL_METHOD
    check_method(method)
    if batchnorm != FROZEN:
        return _live(model, base, rules, batchnorm, repairs=repairs or None, max_drop=max_drop)
    if max_drop is not None or evaluate is not None:
        options: dict[str, Any] = {"ranges": ranges, "momentum": momentum, "method": method, "repairs": repairs}
        options["progress"] = progress
        return _chosen(model, mode, rules, calibration, options, max_drop, evaluate)
    repairs, calibration = prepared(model, repairs, calibration)
    known = [layer.name for layer in model._flatten_layers()]
    open_form, keeps = unfolded(model)
    flat, before = folded(open_form), []
    if BATCHNORM in repairs:
        bits = weight_bits(open_form, assign(flat, base, rules, known))
        flat, before = folded(before_folding(open_form, bits, calibration)), [flat]
    flat, *before = before_grids(flat, repairs, keeps, *before)
    if base.integer:
        flat = grids_per_call(flat)
        flat, assignment = meet(flat, assign(flat, base, rules, known))
    else:
        assignment = assign(flat, base, rules, known)
    name = MIXED if rules else mode
    for path in unreached(flat):
        if path not in keeps:
            log.warning(UNREACHED, path)
    wanted = _weight_grids(flat, assignment, keeps, name, ranges)
    wanted |= _activation_grids(flat, assignment, name, ranges=ranges, momentum=momentum) if base.integer else {}
    attached = attach(flat, {site: chain for site, chain in wanted.items() if chain})
    original = with_weights(flat, *before) if before else flat
    with shown(progress) as report:
        learned = LEARNED if ADAROUND in repairs else 0.0
        attached = on_grids(attached, repairs, calibration, original, part(report, 0.0, learned))
        if calibration is not None:
            calibrate(attached, calibration, method=method, report=part(report, learned, 1.0))
    return with_gauges(attached, folding_factors(open_form, flat))


def _live(model: keras.Model, base: Precision, rules: Any, batchnorm: str, **others: Any) -> keras.Model:
    """A model whose weights are on their grids and whose BatchNormalizations train."""
    if batchnorm != LIVE:
        raise InputError(f"batchnorm={batchnorm!r}: expected {FROZEN!r} or {LIVE!r}")
    given = [name for name, value in others.items() if value is not None]
    if given:
        raise InputError(f"batchnorm='live' with {', '.join(given)}: give them to the quantize after it, which folds")
    open_form, keeps = unfolded(model)
    if not any(isinstance(layer, keras.layers.BatchNormalization) for layer in open_form.layers):
        raise InputError(f"batchnorm='live': the model {model.name!r} has no BatchNormalization; leave it out")
    known = [layer.name for layer in model._flatten_layers()]
    widths = weight_bits(open_form, assign(folded(open_form), base, rules, known))
    chains = {
        name: [*keeps.get(name, []), *([PassingGrid(width, symmetric=True)] if width else [])]
        for name, width in widths.items()
    }
    return attach(open_form, {site: chain for site, chain in chains.items() if chain})


def _refuse_others(mode: Any, given: Mapping[str, Any], **options: Any) -> None:
    """Raise for what is given beside one of Keras' own modes: it would be dropped without a word."""
    usual = inspect.signature(quantize).parameters
    named = [name for name, value in given.items() if value is not None]
    named += [name for name, value in options.items() if value != usual[name].default]
    if named:
        raise InputError(
            f"quantize(mode={mode!r}) with {', '.join(named)}: Keras' own modes take no other argument; leave them out"
        )


def _refuse_unused(mode: str, calibration: Any, method: str | None, repairs: Sequence[str]) -> None:
    """Raise for what has no meaning where activations have no ranges."""
    named = ["calibration"] if calibration is not None and not needs_data(repairs) else []
    named += ["method"] if method is not None else []
    if named:
        raise InputError(
            f"quantize(mode={mode!r}) with {', '.join(named)}: its activations have no ranges in the file; leave out "
            "what is for ranges, or use 'int8', 'w4a8' or 'int16x8'"
        )


def _precision(mode: Any, rules: Any, ranges: str, momentum: float, *, calibrated: bool) -> Precision:
    """The precision of ``mode``, for which the other arguments make sense."""
    if mode not in TRAINABLE_MODES:
        raise InputError(
            f"quantize(mode={mode!r}): {one_of(mode, TRAINABLE_MODES)}; "
            "float16 needs no training: kompakt.export(model, path, quantization='float16')"
        )
    FakeQuant(ranges=ranges, momentum=momentum)  # raises for what it does not take, in modes without activations too
    base = PRECISIONS[mode]
    if rules and not base.integer:
        raise InputError(f"rules= with mode={mode!r}: expected int8, w4a8 or int16x8, whose layers can be mixed")
    if ranges == "lsq" and base.integer and not calibrated:
        raise InputError(
            "ranges='lsq' learns from where calibration starts it: give calibration=, some hundred samples"
        )
    return base


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
    if max_drop is None or not callable(evaluate) or not max_drop >= 0.0:
        raise InputError(
            f"max_drop={max_drop}, evaluate={evaluate!r}: give both, a drop of 0 or more and a function of a model "
            "that returns its score, higher is better"
        )
    if calibration is None or mode != "int8":
        raise InputError("max_drop= needs mode='int8', which it starts from, and calibration= samples")
    samples = held(model, calibration)
    whole = _score(evaluate, carry(model)[0], "the float model")
    floor = whole - max_drop
    general, own = _split_rules(rules or {})

    def made(more: Mapping[str, Any]) -> keras.Model:
        return quantize(model, mode, rules={**general, **more, **own}, calibration=samples, **options)

    start = quantize(model, mode, rules=rules, calibration=samples, ranges="minmax")
    settled = named_layers(start, own, [layer.name for layer in model._flatten_layers()])
    free = [each for each in candidates(start, samples) if each.layer not in settled]
    choice = choose(free, lambda more: _score(evaluate, made(more), f"rules={more}"), floor)
    reached = f"the score is {choice.score:.4f}, the float model's {whole:.4f}"
    bytes_apart = f"{abs(choice.saved)} bytes {'less' if choice.saved >= 0 else 'more'} than all in int8"
    for line in (*choice.why, f"{reached}; {bytes_apart}"):
        log.warning("max_drop: %s", line)
    if choice.score < floor:
        raise InputError(
            f"max_drop={max_drop}: no assignment scores {floor:.4f}; the best found scores {choice.score:.4f}"
        )
    return made(choice.rules)


def _split_rules(rules: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Rules up to a bare "*", which the choice may go against, and those after it, which name layers: they hold."""
    last = [*rules].index(EVERY) + 1 if EVERY in rules else 0
    given = [*rules.items()]
    return dict(given[:last]), dict(given[last:])


def _score(evaluate: Callable[[keras.Model], Any], model: keras.Model, what: str) -> float:
    """What ``evaluate`` returns, a finite number."""
    found = evaluate(model)
    try:
        score = float(found)
    except (TypeError, ValueError):
        score = math.nan
    if not math.isfinite(score):
        raise InputError(
            f"evaluate returned {found!r} for {what}: expected a finite number, higher is better, such as an accuracy"
        )
    return score


def _weight_grids(
    model: keras.Model, assignment: Assignment, keeps: Mapping[str, list[Transform]], mode: str, ranges: str
) -> dict[str, list[Transform]]:
    """Weight site -> what was kept there, and its grid."""
    if not any(site.variable is not None for site in sites(model)):
        raise InputError(
            f"the model {model.name!r} has no layer to quantize: expected at least one Dense, convolution, "
            "embedding or recurrent layer"
        )
    own = "lsq" if ranges == "lsq" else "minmax"
    widths = weight_bits(model, assignment)
    reached = {f"{unit}/{slot}" for unit, layer in units(model).items() for slot in attachable_slots(layer)}
    beside = {name: kept for name, kept in keeps.items() if name not in widths}
    lost = [name for name in beside if name not in reached]
    if lost:
        raise InputError(
            f"{', '.join(lost)}: no weight of the model as it is deployed, so that what prune or cluster did there "
            f"would be lost (it has {', '.join(widths)}); give sites= without it to prune or cluster"
        )
    return beside | {
        name: [*keeps.get(name, []), *([FakeQuant(width, symmetric=True, mode=mode, ranges=own)] if width else [])]
        for name, width in widths.items()
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
