"""``verify_file``: run a file that exists and compare it with the model it is said to come from."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from kompakt.errors import InputError
from kompakt.examine import artifact, digest
from kompakt.graph import undisturbed
from kompakt.layerwise import apart
from kompakt.precision import MIXED
from kompakt.records import Artifact, Census, Encoding, SiteFact
from kompakt.rewrite.fixed_sizes import fixed_sizes
from kompakt.rewrite.full_precision import full_precision
from kompakt.samples import checked
from kompakt.signatures import signature_differs
from kompakt.simulation import simulate
from kompakt.sites import check_built
from kompakt.targets import target_at
from kompakt.targets.notes import read_note
from kompakt.targets.target import Fault, Target
from kompakt.verdicts import apart_from_given, compare_outputs, islands, lost_properties, not_finite

UNPACKED = {
    "weight_only_int8": "dynamic_int8",
    "uint8": "dynamic_int8",
    "uint16": "float16",
    "keras_int8": "dynamic_int8",
}
"""Mode -> the one whose distance to the float model is allowed: its weights have lost as much."""

NARROW = {"w4a8": 4, MIXED: 4, "keras_int4": 4}
"""Mode -> bits of its weights, which may cost accuracy, as was asked."""


@undisturbed()
def verify_file(
    path: str | Path,
    model: keras.Model,
    inputs: Any,
    *,
    least_argmax: float = 0.95,
    target: str | None = None,
    signature: str | None = None,
) -> Artifact:
    """Run a file that exists and compare it with the float model it is said to come from.

    The file must be as it was written (a seal in it has digests of each tensor and operator), agree with itself
    (bias scales, grids), and hold the model's weights; each of its layers must make of its input what the model's
    layer does. Then it is run: no NaN, no float island in a file that says it is int8, the zeros and values a
    channel that the file says it was asked for, the same argmax (or one that the model rates as high) on
    ``least_argmax`` of the samples, and outputs of one value within a part of their spread, which the mode sets.

    Args:
        least_argmax: share of samples. target: of the artifact, by default told from its path.
        signature: of a file with several (:func:`kompakt.join_signatures`) the one to verify. It is verified as the
            file that it was, and has to give the same bits in the one it is in.

    Returns:
        The Artifact; what is amiss is in its ``breaches``.

    Raises:
        InputError: the file is missing or broken, takes other inputs than the model, or its runtime is not installed.

    Example:
        >>> import tempfile, kompakt, numpy as np
        >>> m = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="d")])
        >>> x = np.random.default_rng(0).random((64, 4), dtype="float32")
        >>> path = kompakt.export(m, tempfile.mkdtemp() + "/m.tflite", verify=x).path
        >>> verify_file(path, m, x).breaches
        ()
    """
    if not 0.0 <= least_argmax <= 1.0:
        raise InputError(f"least_argmax={least_argmax}: expected a share from 0 to 1")
    check_built(model)
    place = target_at(path, target)
    place.ready()
    data = place.read(path)
    inputs = checked(model, inputs, "inputs")
    model = fixed_sizes(model, inputs) if place.fixed_sizes else model
    with _named(path):
        part = place.part(data, signature)
        found = _verified(place, part, model, inputs, least_argmax, str(path))
        differs = signature_differs(data, signature, part, inputs) if signature is not None else ""
    return dataclasses.replace(found, breaches=(*found.breaches, differs)) if differs else found


@contextlib.contextmanager
def _named(path: str | Path) -> Iterator[None]:
    """Say of which file it is that an error speaks."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _verified(place: Target, data: bytes, model: keras.Model, inputs: Any, least_argmax: float, path: str) -> Artifact:
    census = place.census(data)
    note = read_note(place.note(data))
    mode = note.get("quantization") or _guess_mode(census)
    asked = _asked(note)
    facts = tuple(place.facts(data, asked))
    known = [*islands(census, mode, note.get("floats", ())), *lost_properties(facts), *_gone(asked, facts)]
    static = [*place.altered(data), *place.unsound(data)]
    agree, seen = None, []
    notes: tuple[str, ...] = ()
    try:
        outputs = place.run(data, inputs)
        expected = simulate(full_precision(model), inputs)
        agree = compare_outputs(expected, outputs, name="float model")
        far = apart_from_given(expected, outputs, least_argmax, name="float model", mode=UNPACKED.get(mode, mode))
        whole = bool(note) and not static  # a note without its seal is a fault among these
        found = apart(place, data, model, inputs, mode, loose=tuple(asked), far=bool(far), sealed=whole)
        if far and mode in NARROW and not (static or found):  # each layer does what its weights say
            far, notes = [], tuple(f"{line}: what weights of {NARROW[mode]} bits cost" for line in far)
        seen = [*outputs.breaches, *not_finite(outputs), *far]
        static += found
    except InputError as error:
        if not (known or static):
            raise
        seen = [str(error)]
    breaches = [*known, *_told(static, known), *seen]
    return artifact(
        place,
        data,
        path=path,
        quantization=mode,
        io=note.get("io") or "as stored",
        census=census,
        agreement=agree,
        sites=facts,
        measurements=() if agree is None else tuple(place.measure(data, inputs)),
        notes=notes,
        breaches=tuple(breaches),
        source_sha256=digest(model),
    )


def _told(faults: Sequence[Fault], known: Sequence[str]) -> list[str]:
    """A line for each fault, but of a place that a line is about already only once."""
    lines: list[str] = []
    for fault in faults:
        if str(fault) not in lines and not any(line.startswith(f"{fault.place}: ") for line in known):
            lines.append(str(fault))
    return lines


def _asked(note: Mapping[str, Any]) -> dict[str, Encoding]:
    """Site -> zeros and values a channel that a file says it was asked for."""
    return {site: Encoding(zeros=zeros, palette=palette) for site, (zeros, palette) in note.get("asked", {}).items()}


def _gone(asked: Mapping[str, Encoding], facts: Sequence[SiteFact]) -> list[str]:
    """One line for each site that was asked something, and that the file has no weight for any more."""
    held = {fact.site for fact in facts}
    return [
        f"{site}: zeros or values had to be kept, the file holds no such weight" for site in asked if site not in held
    ]


def _guess_mode(census: Census) -> str:
    """What a file without kompakt's note is: by the types of its tensors."""
    if "FLOAT16" in census.tensors:
        return "float16"
    if "INT8" not in census.tensors:
        return "float"
    if "INT16" in census.tensors:
        return "int16x8"
    if "INT4" in census.tensors:
        return "w4a8" if not census.float_ops else MIXED
    return "int8" if len(census.float_ops) < sum(census.ops.values()) / 2 else "dynamic_int8"
