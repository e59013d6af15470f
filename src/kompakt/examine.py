"""Run a file, compare it with what it must agree with, and say what is amiss and in which layer."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from kompakt.compare import agreement
from kompakt.culprit import agreement_at, coarsest, first_apart, first_off, lambdas, masked, worst_samples
from kompakt.deploy import Job, not_finite_weights, unquantized
from kompakt.errors import InputError
from kompakt.files import gzip_bytes, sha256
from kompakt.graph import calls, with_weights
from kompakt.integer_functions import is_known_wide
from kompakt.numerics import WIDE
from kompakt.precision import GRIDDED, USUAL_BITS
from kompakt.records import Agreement, Artifact
from kompakt.rewrite.elementwise import Elementwise
from kompakt.rewrite.split_activation import fused
from kompakt.simulation import simulate
from kompakt.sites import sites
from kompakt.targets.target import Converted, Outputs, Target
from kompakt.verdicts import (
    LEAST_GIVEN,
    MOST_LSB,
    accuracies,
    apart_from_given,
    apart_from_trained,
    compare_outputs,
    disagreement,
    few_agree,
    float_ties,
    islands,
    lost_properties,
    moved,
    not_finite,
    unseen_properties,
    with_given,
)

NEAREST = {
    "float": "float16",
    "weight_only_int8": "dynamic_int8",
    "uint8": "dynamic_int8",
    "uint16": "float16",
    "keras_int8": "dynamic_int8",
}
"""Mode -> the mode whose distance to the model given is allowed: that may compute in half precision."""

FOUR_BITS = "keras_int4"
"""The mode of Keras' own whose weights may cost accuracy, as was asked."""

PROGRAMS = ("kompakt", "keras", "tensorflow", "ai-edge-litert", "ai-edge-quantizer", "numpy")
"""What makes and runs a file."""

MOST_LSB_TABLES = 8.0
"""The same after a 16-bit softmax, GELU or root, of which the last bits are not known: a 32nd of a step of 8 bits.

Measured: up to 4 steps at the tensor itself, 7 two layers later.
"""


def examine(
    place: Target,
    made: Converted,
    job: Job,
    inputs: Any,
    *,
    mode: str,
    io: str,
    path: str,
    labels: Any = None,
    notes: Sequence[str] = (),
) -> Artifact:
    """Run the bytes on ``inputs``, compare, and put everything found out into an Artifact.

    Args:
        labels: of ``inputs``, for a note with the accuracy. notes: known before.
    """
    job, off = held_weights(place, made.data, job, mode) if mode in place.rounds else (job, [])
    outputs = _run(place, made.data, job, inputs, mode)
    outputs = dataclasses.replace(outputs, lsb=coarsest(outputs.lsb, job.encodings))
    simulated = simulate(job.reference, inputs)
    agree = compare_outputs(simulated, outputs, name=job.name)
    agree = _at_logits(agree, place, made.data, job, inputs)
    most = most_lsb(job)
    apart = disagreement(agree, mode, most, ties=float_ties(simulated, outputs, mode))
    before, name = unquantized(job)
    unrounded = simulated if before is job.reference else simulate(before, inputs)
    scored = () if labels is None else accuracies(outputs.values, unrounded, labels, name=name)
    lost, said = [], [*notes, *scored, *made.notes]
    if job.trained is not None:
        expected = simulate(job.trained, inputs)
        trained = agreement(expected, outputs.values, outputs.lsb)
        agree = dataclasses.replace(agree, trained_argmax=trained.argmax)
        apart += apart_from_trained(expected, outputs, trained.argmax)
    if job.given is not job.reference:
        agree = with_given(agree, unrounded, outputs, name=name)
        if before is job.given:
            near = NEAREST.get(mode, mode)
            narrow = [e for e in job.encodings.values() if e.bits is not None and e.bits < USUAL_BITS]
            if (
                narrow or mode == FOUR_BITS
            ):  # it may lose accuracy by what was asked; the file must be what the narrow weights make
                wanted = simulate(job.plain, inputs)
                lost = apart_from_given(wanted, outputs, LEAST_GIVEN, name="model with these weights", mode=near)
            else:
                lost = apart_from_given(unrounded, outputs, LEAST_GIVEN, name="model given", mode=near)
        said += [] if lost else few_agree(agree, unrounded, outputs)
    census, facts = place.census(made.data), place.facts(made.data, job.encodings)
    floats = islands(census, mode, job.floats)
    if mode in GRIDDED and (floats or apart or made.breaches):
        floats += [*masked(job.plain), *lambdas(job.plain)]
    if apart:
        few = worst_samples(simulated, outputs.values, inputs)
        first = (
            functools.partial(first_apart, most=most) if mode in GRIDDED else functools.partial(first_off, mode=mode)
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
        measurements=tuple(place.measure(made.data, inputs)),
        notes=(*said, *unseen_properties(facts, job.encodings)),
        breaches=(
            *made.breaches,
            *off,
            *floats,
            *lost_properties(facts),
            *place.regridded(made.data, job.encodings),
            *not_finite_weights(job.plain),
            *outputs.breaches,
            *not_finite(outputs),
            *apart,
            *lost,
        ),
        source_sha256=digest(job.given),
    )


def _run(place: Target, data: bytes, job: Job, inputs: Any, mode: str) -> Outputs:
    """What the file gives; where its runtime refuses it, with the layers that go by a mask, which is why."""
    try:
        return place.run(data, inputs)
    except InputError as error:
        causes = masked(job.plain) if mode in GRIDDED else []
        rules = "rules={'LAYER': 'float'} for the layers there, or " if mode in GRIDDED else ""
        remedy = f"no file is written; {rules}another quantization may go round that"
        said = str(error).removesuffix("; make it again")
        raise InputError("; ".join([*causes, said, remedy])) from error


def held_weights(place: Target, data: bytes, job: Job, mode: str) -> tuple[Job, list[str]]:
    """(``job`` with a reference that has the weights in the file, a line for each that is not the model's, rounded)."""
    lines: list[str] = []
    weights = {}
    for site in sites(job.plain):
        if site.variable is not None:
            before = np.asarray(keras.ops.convert_to_numpy(site.variable))
            held = place.weight(data, site.name, before)
            lines += moved(site.name, before, held, mode)
            if held is not None and held.shape == before.shape:
                weights[site.name] = held
    model = with_weights(job.plain, weights)
    return dataclasses.replace(job, reference=model, name="model with the file's weights"), lines


def _at_logits(agree: Agreement, place: Target, data: bytes, job: Job, inputs: Any) -> Agreement:
    """``agree`` with its steps counted on the logits, where the model ends in a softmax or sigmoid."""
    if job.logits is None or not place.has(data, job.logits):
        return agree
    (logits,) = agreement_at(place, data, job, inputs, [job.logits])
    return dataclasses.replace(agree, lsb=logits.lsb, max_lsb=logits.max_lsb, where=job.logits)


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
    """Whether a layer is a function that is not piecewise linear, and not simulated to the last bit in 16 bits."""
    kinds = (keras.layers.Activation, keras.layers.Softmax)
    if isinstance(layer, Elementwise):
        return layer.function in ("gelu_tanh", "rsqrt")
    return isinstance(layer, kinds) and not fused(layer) and not is_known_wide(layer)


def artifact(place: Target, data: bytes, **known: Any) -> Artifact:
    """The record of a file; ``known`` are the fields that its bytes do not say."""
    shipped = place.shipped(data).values()
    return Artifact(
        target=place.name,
        bytes=sum(map(len, shipped)),
        gzip_bytes=sum(map(gzip_bytes, shipped)),
        sha256=sha256(data),
        versions=versions(),
        **known,
    )


def versions() -> dict[str, str]:
    """Versions of what makes and runs a file."""
    found = {}
    for name in PROGRAMS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def digest(model: keras.Model) -> str:
    """SHA-256 over the weights of a model, in order."""
    return sha256(b"".join(np.ascontiguousarray(w).tobytes() for w in model.get_weights()))
