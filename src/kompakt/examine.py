"""Run a file, compare it with what it must agree with, and say what is amiss and in which layer."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import re
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from kompakt.compare import LARGEST, agreement, argmax_or_tie, has_classes, relative_error
from kompakt.deploy import Job, not_finite_weights, quantized_mode
from kompakt.errors import InputError
from kompakt.files import gzip_bytes, sha256
from kompakt.graph import as_functional, calls, users
from kompakt.numerics import WIDE
from kompakt.placement import MOVING_OPERATIONS
from kompakt.precision import GRIDDED
from kompakt.records import Agreement, Artifact, Census, Encoding, SiteFact
from kompakt.rewrite.elementwise import Elementwise
from kompakt.rewrite.inline import inline
from kompakt.rewrite.split_activation import fused
from kompakt.simulation import at_sites, simulate
from kompakt.sites import BOTH, OUTPUT, is_graph
from kompakt.targets.target import Converted, Outputs, Target

LEAST_ARGMAX = 0.99
LEAST_TRAINED = 0.95
"""Least argmax agreement with the fake-quantized model, which computes with floats between its grids.

Each layer multiplies a rounding that fell the other way: a correct int8 ResNet-8, bit-exact with its
simulation, has 0.984. A simulation and a file that are wrong in the same way have far less.
"""

LEAST_GIVEN = 0.95
"""Least argmax agreement with the model that was given."""

USUAL_BITS = 8
"""Weights of fewer bits may cost accuracy, as was asked."""

NEAREST = {"float": "float16", "weight_only_int8": "dynamic_int8"}
"""Mode -> the mode whose distance to the model given is allowed: that may compute in half precision."""

NEAR = 0.05
"""Of the spread of an output: a class that the model given rates within it of its first is as good as that.

Without it an autoencoder, whose largest output means nothing, would have 0.72 in int8.
"""

MOST_RELATIVE = {"float": 1e-4, "float16": 1e-2, "weight_only_int8": 1e-4, "dynamic_int8": 0.05, "int8": 0.05}
"""Mode -> largest relative error to the reference.

Measured over the models of tests/parity/test_kinds.py, 256 samples each: at most 5e-7, 1.2e-3 and 5e-3 with
the simulation. One that has no simulation (a layer that is not followed) is compared with its float model,
which dynamic_int8 files are at most 0.02 from. An int8 file is held to steps, and to this where an output has none.
"""

FOUND = {"float": 1e-3, "weight_only_int8": 1e-3, "float16": 0.03, "dynamic_int8": 0.1}
"""Mode -> relative error within which a tensor of the file is a layer's output: looser than the outputs' own."""

LOOKED_AT = 32
"""Samples, the worst, on which the first layer that is off is looked for: every tensor is held in memory."""

MOST_LOST = 0.25
"""Largest relative error of an int8 file's outputs of one value to the model given: in the same models, 0.14."""

MOST_LSB = 2.0
MOST_LSB_TABLES = 8.0
"""The same after a 16-bit softmax, sigmoid or tanh, which LiteRT reads from a table: a 32nd of a step of 8 bits.

Measured: up to 4 steps at the tensor itself, 7 two layers later.
"""

SLACK = 0.01
"""Of a step: what float32 loses when integers are taken off their grid and compared."""


def examine(place: Target, made: Converted, job: Job, inputs: Any, *, mode: str, io: str, path: str) -> Artifact:
    """Run the bytes on ``inputs``, compare, and put everything found out into an Artifact."""
    outputs = place.run(made.data, inputs)
    outputs = dataclasses.replace(outputs, lsb=coarsest(outputs.lsb, job.encodings))
    simulated = simulate(job.reference, inputs)
    agree = compare_outputs(simulated, outputs, name=job.name)
    agree = _at_logits(agree, place, made.data, job, inputs)
    most = most_lsb(job)
    apart = disagreement(agree, mode, most, ties=_float_ties(simulated, outputs, mode))
    lost, notes = [], list(made.notes)
    if job.trained is not None:
        expected = simulate(job.trained, inputs)
        trained = agreement(expected, outputs.values, outputs.lsb)
        agree = dataclasses.replace(agree, trained_argmax=trained.argmax)
        apart += _apart_from_trained(expected, outputs, trained.argmax)
    if job.given is not job.reference:
        expected = simulate(job.given, inputs)
        agree = _with_given(agree, expected, outputs)
        if quantized_mode(job.given) is None:  # else it is the fake-quantized model, and compared as that
            near = NEAREST.get(mode, mode)
            narrow = [e for e in job.encodings.values() if e.bits is not None and e.bits < USUAL_BITS]
            if narrow:  # it may lose accuracy by what was asked; the file must be what the narrow weights make
                wanted = simulate(job.plain, inputs)
                lost = apart_from_given(wanted, outputs, LEAST_GIVEN, name="model with these weights", mode=near)
            else:
                lost = apart_from_given(expected, outputs, LEAST_GIVEN, name="model given", mode=near)
        notes += [] if lost else _few_agree(agree, expected, outputs)
    census, facts = place.census(made.data), place.facts(made.data, job.encodings)
    floats = islands(census, mode, job.floats)
    if mode in GRIDDED and (floats or apart):
        floats += masked(job.plain)
    if apart:
        few = _worst(simulated, outputs.values, inputs)
        first = (
            functools.partial(_first_apart, most=most) if mode in GRIDDED else functools.partial(_first_off, mode=mode)
        )
        apart += first(place, made.data, job, few)
    return artifact(
        place,
        made.data,
        path=path,
        quantization=mode,
        io=io,
        census=census,
        agreement=agree,
        sites=tuple(facts),
        notes=(*notes, *unseen_properties(facts, job.encodings)),
        breaches=(
            *made.breaches,
            *floats,
            *lost_properties(facts),
            *place.regridded(made.data, job.encodings),
            *not_finite_weights(job.plain),
            *not_finite(outputs),
            *apart,
            *lost,
        ),
        source_sha256=digest(job.given),
    )


def coarsest(lsb: Sequence[float | None], encodings: Mapping[str, Encoding]) -> tuple[float | None, ...]:
    """Steps to count by: of a 16-bit tensor in a file that has 8-bit ones too, those of 8 bits over the same reach.

    One step of an 8-bit tensor is up to 256 of a 16-bit one that is made from it.

    Example:
        >>> wide = Encoding(bits=16, scale=(0.5,), zero_point=(0,))
        >>> coarsest([0.5, None], {"a/output": wide, "b/output": Encoding(bits=8, scale=(1.0,), zero_point=(3,))})
        (128.0, None)
    """
    grids = {site: e for site, e in encodings.items() if site.rsplit("/", 1)[-1] in (OUTPUT, BOTH) and e.scale}
    wide = [e.scale[0] for e in grids.values() if e.bits == WIDE]
    if len(wide) == len(grids):
        return tuple(lsb)
    return tuple(step * 256.0 if step and np.isclose(step, wide, rtol=1e-4).any() else step for step in lsb)


def compare_outputs(expected: Sequence[np.ndarray], outputs: Outputs, *, name: str) -> Agreement:
    """How what a file computed agrees with what a model does, called ``name``.

    Raises:
        InputError: it has another number of outputs.
    """
    if len(expected) != len(outputs.values):
        raise InputError(f"the file has {len(outputs.values)} outputs, the model {len(expected)}")
    for wanted, found in zip(expected, outputs.values, strict=True):
        if wanted.shape != found.shape:
            raise InputError(
                f"the file's output has the shape {found.shape[1:]} a sample, the model's {wanted.shape[1:]}: give "
                "the model that the file was made from"
            )
    return agreement(expected, outputs.values, outputs.lsb, name=name)


def _apart_from_trained(expected: Sequence[np.ndarray], outputs: Outputs, argmax: float) -> list[str]:
    """A line where the file is not the model that was trained; what two steps decide counts as a tie.

    A tie of the model's: a file whose outputs are all the same, saturated, has the model's largest among its own.
    """
    ties = [MOST_LSB * (1.0 + SLACK) * (lsb or 0.0) for lsb in outputs.lsb]
    near = min(_near(*each) for each in zip(expected, outputs.values, ties, strict=True))
    if max(argmax, near) >= LEAST_TRAINED:
        return []
    return [
        f"argmax agreement with the fake-quantized model {argmax:.4f} ({near:.4f} with ties), "
        f"expected at least {LEAST_TRAINED}"
    ]


def _with_given(agree: Agreement, expected: Sequence[np.ndarray], outputs: Outputs) -> Agreement:
    given = agreement(expected, outputs.values, outputs.lsb)
    return dataclasses.replace(agree, given_argmax=given.argmax, given_abs=given.max_abs, given_relative=given.relative)


def apart_from_given(
    expected: Sequence[np.ndarray], outputs: Outputs, least: float, *, name: str, mode: str
) -> list[str]:
    """A line for each way in which a file is not the model it was made from.

    Where outputs have classes, the largest has to be the same on ``least`` of the samples, or one that the model
    rates as high (:data:`NEAR`). Where they have one value, they may differ by a part of their spread.
    """
    lines = []
    pairs = list(zip(expected, outputs.values, strict=True))
    classes = [(e, f) for e, f in pairs if has_classes(e)]
    if classes:
        argmax = agreement([e for e, _ in classes], [f for _, f in classes], [None] * len(classes)).argmax
        near = min(_near(e, f, NEAR * float(e.std())) for e, f in classes)
        if max(argmax, near) < least:
            ties = f" ({near:.4f} with ties)" if near > argmax else ""
            lines.append(f"argmax agreement with the {name} {argmax:.4f}{ties}, expected at least {least}")
    error = max((relative_error(e, f) for e, f in pairs if not has_classes(e)), default=0.0)
    most = MOST_LOST if mode in GRIDDED else MOST_RELATIVE.get(mode, MOST_LOST)
    if error > most:
        lines.append(f"outputs differ from the {name} by {error:.3g} of their spread, expected at most {most:g}")
    return lines


def _near(expected: np.ndarray, found: np.ndarray, tie: float) -> float:
    """Share of samples whose largest value in ``found`` is at most ``tie`` under the largest in ``expected``."""
    if expected.shape != found.shape or not np.isfinite(found).all():
        return 0.0
    return argmax_or_tie([found], [expected], [tie])


def _few_agree(agree: Agreement, expected: Sequence[np.ndarray], outputs: Outputs) -> list[str]:
    """A line where the argmax is not the given model's though that is no breach."""
    if agree.given_argmax is None or agree.given_argmax >= LEAST_GIVEN:
        return []
    near = min(
        _near(e, f, NEAR * float(e.std())) for e, f in zip(expected, outputs.values, strict=True) if has_classes(e)
    )
    return [
        f"argmax {agree.given_argmax:.4f} with the model given, {near:.4f} with those that it rates within "
        f"{NEAR:.0%} of the spread of its first"
    ]


def _at_logits(agree: Agreement, place: Target, data: bytes, job: Job, inputs: Any) -> Agreement:
    """``agree`` with its steps counted on the logits, where the model ends in a softmax or sigmoid."""
    if job.logits is None or not place.has(data, job.logits):
        return agree
    (logits,) = _at_sites(place, data, job, inputs, [job.logits])
    return dataclasses.replace(agree, lsb=logits.lsb, max_lsb=logits.max_lsb, where=job.logits)


def _at_sites(place: Target, data: bytes, job: Job, inputs: Any, sites: Sequence[str]) -> list[Agreement]:
    """How the tensor at each site agrees: one run of the file, one of the model."""
    found = place.run(data, inputs, at=sites)
    expected = simulate(at_sites(job.reference, sites), inputs)
    return [
        agreement([e.reshape(f.shape)], [f], [step])
        for e, f, step in zip(expected, found.values, coarsest(found.lsb, job.encodings), strict=True)
    ]


def most_lsb(job: Job) -> float:
    """Steps that a file of ``job`` may be away: more where 16-bit numbers are read from a table on the way."""
    wide = {site.rsplit("/", 1)[0] for site, e in job.encodings.items() if e.bits == WIDE}
    if not wide:
        return MOST_LSB
    last = {
        call.layer.name for call in calls(job.plain) if {id(t) for t in call.outputs} & set(map(id, job.plain.outputs))
    }
    return MOST_LSB_TABLES if any(_is_function(job.plain.get_layer(name)) for name in wide - last) else MOST_LSB


def _is_function(layer: Any) -> bool:
    """Whether a layer is a function that is not piecewise linear."""
    kinds = (keras.layers.Activation, keras.layers.Softmax)
    if isinstance(layer, Elementwise):
        return layer.function == "gelu_tanh"
    return isinstance(layer, kinds) and not fused(layer)


def _first_apart(place: Target, data: bytes, job: Job, inputs: Any, *, most: float) -> list[str]:
    """The first site, in the order of the graph, that is more than ``most`` steps away.

    Where none is, the first that is away at all, and the operations that have no grid to compare.
    """
    order = {layer.name: i for i, layer in enumerate(job.reference.layers)}
    held = set(place.activations(data))
    found = [site for site in job.encodings if site.rsplit("/", 1)[-1] in (OUTPUT, BOTH) and site in held]
    found = sorted(found, key=lambda site: order[site.rsplit("/", 1)[0]])
    agrees = _at_sites(place, data, job, inputs, found) if found else []
    for least in (most, 0.0):
        for site, agree in zip(found, agrees, strict=True):
            if agree.max_lsb is not None and agree.max_lsb > least + SLACK:
                layers = ", ".join(job.owners.get(site, ())) or site.rsplit("/", 1)[0]
                off = f"the first tensor that is off is {site} (layers: {layers}), by {agree.max_lsb:.1f} LSB"
                return [off] if least else [_all_near(found, most), off, *gridless(job.plain)]
    return [_all_near(found, most), *gridless(job.plain)]


def _all_near(found: Sequence[str], most: float) -> str:
    return f"every tensor of the {len(found)} with a grid of its own is within {most:.0f} LSB"


def gridless(model: keras.Model) -> list[str]:
    """A line for each operation of a flat ``model`` that computes and has no site, and so no grid of its own.

    Example:
        >>> i = keras.Input((4,))
        >>> gridless(keras.Model(i, keras.ops.cumsum(i, axis=1)))
        ['cumsum (Cumsum): no layer stands for it, its range was measured at export']
    """
    return [
        f"{each.name} ({type(each).__name__}): no layer stands for it, its range was measured at export"
        for each in model.operations
        if not isinstance(each, keras.layers.Layer) and type(each).__name__ not in MOVING_OPERATIONS
    ]


def masked(model: keras.Model) -> list[str]:
    """A line for each layer of a flat ``model`` that computes with a mask: an integer file has no operators for it."""
    found = {
        call.layer.name: type(call.layer).__name__
        for call in calls(model)
        if getattr(call.layer, "_call_has_mask_arg", False)
        and any(getattr(tensor, "_keras_mask", None) is not None for tensor in call.inputs)
    }
    return [
        f"{name} ({kind}) takes the mask of an Embedding(mask_zero=True) or a Masking, which is computed with in "
        "floats: build the model without it, or export it as 'dynamic_int8'"
        for name, kind in found.items()
    ]


def _first_off(place: Target, data: bytes, job: Job, inputs: Any, mode: str) -> list[str]:
    """The first layer of a float model whose output the file does not hold; [] where none is found.

    A tensor that the file never makes (before a ReLU that was taken in) is no difference: a layer is off where
    neither its output is in the file nor what its readers make of it.
    """
    flat = _flat(job.reference)
    if flat is None:
        return []
    made = [call for call in calls(flat) if len(call.outputs) == 1]
    expected = simulate(keras.Model(flat.inputs, [call.outputs[0] for call in made]), inputs)
    for call, values in zip(made, expected, strict=True):
        if not np.isfinite(values).all():
            return [f"the first layer whose output is NaN or infinite is {call.layer.name}"]
    found = [*place.run(data, inputs, at=place.activations(data)).values, *keras.tree.flatten(inputs)]
    near = FOUND.get(mode, FOUND["dynamic_int8"])
    same = {
        id(call.outputs[0]): any(e.size == f.size and relative_error(e.ravel(), f.ravel()) <= near for f in found)
        for call, e in zip(made, expected, strict=True)
    }
    readers = users(flat)
    for call in reversed(made):
        tensor = call.outputs[0]
        after = [same.get(id(t), True) for c in readers[id(tensor)] if c is not None for t in c.outputs]
        if not same[id(tensor)] and None not in readers[id(tensor)]:
            same[id(tensor)] = bool(after) and all(after)
    off = next((call.layer.name for call in made if not same[id(call.outputs[0])]), None)
    return [] if off is None else [f"the first layer that is off is {off}"]


def _flat(model: keras.Model) -> keras.Model | None:
    """``model`` as one graph of layers, or None where it cannot be followed."""
    if is_graph(model) and not any(map(is_graph, model.layers)):
        return as_functional(model)
    try:
        return inline(model)[0]
    except InputError:
        return None


def _worst(expected: Sequence[np.ndarray], found: Sequence[np.ndarray], inputs: Any) -> Any:
    """The samples of ``inputs`` whose outputs differ most."""
    apart = np.zeros(len(found[0]))
    for e, f in zip(expected, found, strict=True):
        if e.shape == f.shape and e.size:
            apart += np.nan_to_num(np.abs(e - f).astype("float64"), nan=1e300).reshape(len(e), -1).max(-1)
    rows = np.sort(np.argsort(-apart, kind="stable")[:LOOKED_AT])
    return keras.tree.map_structure(lambda a: np.asarray(a)[rows], inputs)


def islands(census: Census, mode: str, floats: Sequence[str] = ()) -> list[str]:
    """One line for each operator that computes with floats in an integer file, and that no rule left float.

    Args:
        floats: the layers that a mixed file may compute in floats.
    """
    if mode not in GRIDDED:
        return []
    lines = [f"float operator in an {mode} file: {op}" for op in census.float_ops if _layer_of(op) not in floats]
    if census.float_tensors and not floats:
        lines.append(f"float tensors in an {mode} file: {', '.join(census.float_tensors[:5])}")
    return lines


def _layer_of(op: str) -> str:
    """The layer of ``CONV_2D (conv1/output)`` or ``CONV_2D (conv1:t12)``."""
    return re.split("[/:]", op.split(" (", 1)[-1].rstrip(")"))[0]


def lost_properties(facts: Sequence[SiteFact]) -> list[str]:
    """One line for each tensor of the file that lost zeros or holds too many values."""
    lines = []
    for fact in facts:
        if fact.asked_zeros is not None and fact.zeros < fact.asked_zeros:
            lines.append(f"{fact.site}: {fact.asked_zeros} zeros had to be kept, the file holds {fact.zeros}")
        if fact.asked_palette is not None and fact.distinct > fact.asked_palette:
            lines.append(
                f"{fact.site}: at most {fact.asked_palette} values a channel were asked for, "
                f"the file holds {fact.distinct}"
            )
    return lines


def unseen_properties(facts: Sequence[SiteFact], encodings: Mapping[str, Encoding]) -> list[str]:
    """One line for each site with zeros or few values that no tensor of the file could be told to be."""
    held = {fact.site for fact in facts}
    lines = []
    for site, encoding in encodings.items():
        asked = [f"{encoding.zeros} zeros"] if encoding.zeros else []
        asked += [f"at most {encoding.palette} values a channel"] if encoding.palette else []
        if asked and site not in held and encoding.bits is None:  # with bits it is a breach already
            lines.append(f"{site}: asked for {' and '.join(asked)}, but no tensor of the file has its numbers")
    return lines


def not_finite(outputs: Outputs) -> list[str]:
    """One line for each output with a NaN or infinity."""
    return [
        f"output {i}: {int((~np.isfinite(values)).sum())} values are NaN or infinite"
        for i, values in enumerate(outputs.values)
        if not np.isfinite(values).all()
    ]


def _float_ties(expected: Sequence[np.ndarray], outputs: Outputs, mode: str) -> float:
    """Argmax agreement of a float file, where values as far apart as it may be off count as equal; 0 for integers.

    An autoencoder's largest output means nothing: of two that are nearly the same half precision picks either.
    """
    if mode in GRIDDED or mode not in MOST_RELATIVE:
        return 0.0
    pairs = zip(expected, outputs.values, strict=True)
    return min(_near(e, f, MOST_RELATIVE[mode] * float(e.std())) for e, f in pairs)


def disagreement(agree: Agreement, mode: str, most_steps: float = MOST_LSB, *, ties: float = 0.0) -> list[str]:
    """One line for each way in which an agreement falls short.

    Args:
        most_steps: that an output may be away. ties: argmax agreement in which values that are as good as equal count.
    """
    lines = []
    if max(agree.argmax, ties) < LEAST_ARGMAX:
        lines.append(
            f"argmax agreement with the {agree.reference} {agree.argmax:.4f}, expected at least {LEAST_ARGMAX}"
        )
    error, most = agree.relative, MOST_RELATIVE.get("int8" if mode in GRIDDED else mode)
    stepless = mode not in GRIDDED or agree.max_lsb is None
    if error is not None and most is not None and stepless and most < error < LARGEST:
        lines.append(
            f"outputs differ from the {agree.reference} by {error:.3g} of their spread (up to {agree.max_abs:.3g}), "
            f"expected at most {most:g}"
        )
    if mode in GRIDDED and agree.max_lsb is not None and agree.max_lsb > most_steps + SLACK:
        lines.append(
            f"outputs differ from the {agree.reference} by up to {agree.max_lsb:.1f} LSB, "
            f"expected at most {most_steps:.0f}"
        )
    return lines


def artifact(place: Target, data: bytes, **known: Any) -> Artifact:
    """The record of a file; ``known`` are the fields that its bytes do not say."""
    return Artifact(
        target=place.name,
        bytes=len(data),
        gzip_bytes=gzip_bytes(data),
        sha256=sha256(data),
        versions=versions(),
        **known,
    )


def versions() -> dict[str, str]:
    """Versions of what makes and runs a file."""
    found = {}
    for name in ("kompakt", "keras", "tensorflow", "ai-edge-litert", "ai-edge-quantizer", "numpy"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def digest(model: keras.Model) -> str:
    """SHA-256 over the weights of a model, in order."""
    return sha256(b"".join(np.ascontiguousarray(w).tobytes() for w in model.get_weights()))
