"""Run a file, compare it with what it must agree with, and say what is amiss and in which layer."""

from __future__ import annotations

import dataclasses
import importlib.metadata
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from kompakt.compare import agreement, argmax_or_tie
from kompakt.deploy import Job
from kompakt.errors import InputError
from kompakt.files import gzip_bytes, sha256
from kompakt.records import Agreement, Artifact, Census, SiteFact
from kompakt.simulation import simulate, up_to
from kompakt.sites import BOTH, OUTPUT
from kompakt.targets.target import Converted, Outputs, Target

LEAST_ARGMAX = 0.99
LEAST_TRAINED = 0.95
"""Least argmax agreement with the model as trained, which computes with floats between its grids.

Each layer multiplies a rounding that fell the other way: a correct int8 ResNet-8, bit-exact with its
simulation, has 0.984. A simulation and a file that are wrong in the same way have far less.
"""

MOST_LSB = 2.0
SLACK = 0.01
"""Of a step: what float32 loses when integers are taken off their grid and compared."""


def examine(place: Target, made: Converted, job: Job, inputs: Any, *, mode: str, io: str, path: str) -> Artifact:
    """Run the bytes on ``inputs``, compare, and put everything found out into an Artifact."""
    outputs = place.run(made.data, inputs)
    agree = compare_outputs(job.reference, inputs, outputs, name=job.name)
    agree = _at_logits(agree, place, made.data, job, inputs)
    apart: list[str] = []
    if job.trained is not None:
        expected = simulate(job.trained, inputs)
        trained = agreement(expected, outputs.values, outputs.lsb)
        agree = dataclasses.replace(agree, trained_argmax=trained.argmax)
        apart = _apart_from_trained(expected, outputs, trained.argmax)
    census, facts = place.census(made.data), place.facts(made.data, job.encodings)
    apart = [*disagreement(agree, mode), *apart]
    if apart and mode == "int8":
        apart = [*apart, _first_apart(place, made.data, job, inputs)]
    return artifact(
        place,
        made.data,
        path=path,
        quantization=mode,
        io=io,
        census=census,
        agreement=agree,
        sites=tuple(facts),
        notes=made.notes,
        breaches=(
            *made.breaches,
            *islands(census, mode),
            *lost_properties(facts),
            *place.regridded(made.data, job.encodings),
            *not_finite(outputs),
            *apart,
        ),
        source_sha256=digest(job.plain),
    )


def compare_outputs(reference: keras.Model, inputs: Any, outputs: Outputs, *, name: str) -> Agreement:
    """How what a file computed agrees with what ``reference`` does.

    Raises:
        InputError: it has another number of outputs.
    """
    expected = simulate(reference, inputs)
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
    """A line where the file is not the model that was trained; what two steps decide counts as a tie."""
    ties = [MOST_LSB * (1.0 + SLACK) * (lsb or 0.0) for lsb in outputs.lsb]
    near = argmax_or_tie(expected, outputs.values, ties)
    if max(argmax, near) >= LEAST_TRAINED:
        return []
    return [
        f"argmax agreement with the model as trained {argmax:.4f} ({near:.4f} with ties), "
        f"expected at least {LEAST_TRAINED}"
    ]


def _at_logits(agree: Agreement, place: Target, data: bytes, job: Job, inputs: Any) -> Agreement:
    """``agree`` with its steps counted on the logits, where the model ends in a softmax or sigmoid."""
    if job.logits is None or not place.has(data, job.logits):
        return agree
    logits = _at_site(place, data, job, inputs, job.logits)
    return dataclasses.replace(agree, lsb=logits.lsb, max_lsb=logits.max_lsb, where=job.logits)


def _at_site(place: Target, data: bytes, job: Job, inputs: Any, site: str) -> Agreement:
    """How the tensor at one site agrees."""
    found = place.run(data, inputs, at=site)
    expected = simulate(up_to(job.reference, site), inputs)
    return agreement([expected[0].reshape(found.values[0].shape)], found.values, found.lsb)


def _first_apart(place: Target, data: bytes, job: Job, inputs: Any) -> str:
    """The first site, in the order of the graph, that is more than two steps away; it costs a run a site."""
    order = {layer.name: i for i, layer in enumerate(job.reference.layers)}
    found = [site for site in job.encodings if site.rsplit("/", 1)[-1] in (OUTPUT, BOTH) and place.has(data, site)]
    for site in sorted(found, key=lambda site: order[site.rsplit("/", 1)[0]]):
        away = _at_site(place, data, job, inputs, site).max_lsb
        if away is not None and away > MOST_LSB + SLACK:
            layers = ", ".join(job.owners.get(site, ())) or site.rsplit("/", 1)[0]
            return f"the first tensor that is off is {site} (layers: {layers}), by {away:.1f} LSB"
    return f"every tensor of the {len(found)} with a grid of its own is within {MOST_LSB:.0f} LSB"


def islands(census: Census, mode: str) -> list[str]:
    """One line for each operator that computes with floats in an int8 file."""
    if mode != "int8":
        return []
    lines = [f"float operator in an int8 file: {op}" for op in census.float_ops]
    if census.float_tensors:
        lines.append(f"float tensors in an int8 file: {', '.join(census.float_tensors[:5])}")
    return lines


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


def not_finite(outputs: Outputs) -> list[str]:
    """One line for each output with a NaN or infinity."""
    return [
        f"output {i}: {int((~np.isfinite(values)).sum())} values are NaN or infinite"
        for i, values in enumerate(outputs.values)
        if not np.isfinite(values).all()
    ]


def disagreement(agree: Agreement, mode: str) -> list[str]:
    """One line for each way in which an agreement falls short."""
    lines = []
    if agree.argmax < LEAST_ARGMAX:
        lines.append(
            f"argmax agreement with the {agree.reference} {agree.argmax:.4f}, expected at least {LEAST_ARGMAX}"
        )
    if mode == "int8" and agree.max_lsb is not None and agree.max_lsb > MOST_LSB + SLACK:
        lines.append(
            f"outputs differ from the {agree.reference} by up to {agree.max_lsb:.1f} LSB, "
            f"expected at most {MOST_LSB:.0f}"
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
