"""``export``: convert, run the file in its own runtime, compare, and only then write it."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import tree

from kompakt.attach import finalize, wrapped
from kompakt.compare import agreement
from kompakt.errors import InputError, VerificationError
from kompakt.files import gzip_bytes, sha256, writable_folder, write_atomic
from kompakt.records import Agreement, Artifact, Census, Encoding, SiteFact
from kompakt.placement import last_logits
from kompakt.simulation import simulate, simulation, up_to
from kompakt.sites import check_built, nearest
from kompakt.targets import find_target
from kompakt.targets.target import Converted, Outputs, Request, Target
from kompakt.techniques import TRAINABLE_MODES, quantize

log = logging.getLogger("kompakt")

LEAST_ARGMAX = 0.99
MOST_LSB = 2.0
ON_BREACH = ("raise", "warn")


@dataclass(frozen=True, kw_only=True)
class _Job:
    """A model made ready: what the file must hold, and the model it must agree with."""

    plain: keras.Model
    encodings: Mapping[str, Encoding]
    reference: keras.Model
    reference_name: str
    logits: str | None = None


def export(
    model: keras.Model,
    path: str | Path,
    *,
    quantization: str | None = None,
    calibration: Any = None,
    verify: Any = None,
    io: str | None = None,
    batch: int | None = 1,
    target: str = "tflite",
    on_breach: str = "raise",
) -> Artifact:
    """Write ``model`` as a file that was run and compared with its simulation first.

    Args:
        model: plain, or from ``prune`` / ``cluster`` / ``quantize``; not changed.
        path: of the file; written by rename, and not at all where verification fails.
        quantization: "float", "float16", "dynamic_int8" or "int8"; by default what ``quantize`` was asked
            for, else "float".
        calibration: samples for activation ranges; needed for "int8" from a model that has none.
        verify: inputs to compare on, or a pair (inputs, labels); by default up to 256 calibration samples.
        io: type of the inputs and outputs of an int8 file, "int8" (default), "uint8" or "float32".
        batch: fixed batch size; None for one that can be resized (float modes).
        on_breach: "raise", or "warn" to write the file all the same, with the breaches in the Artifact.

    Returns:
        The Artifact; ``print(artifact.report)`` shows what was asked and what the file holds.

    Raises:
        InputError: an argument cannot be used.
        VerificationError: NaN, float islands, a grid or property lost, or disagreement: argmax agreement under
            0.99 or outputs more than 2 LSB away from the simulation. The text names the layer.

    Example:
        >>> import tempfile, numpy as np
        >>> m = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="d")])
        >>> x = np.random.default_rng(0).random((64, 4), dtype="float32")
        >>> export(m, tempfile.mkdtemp() + "/m.tflite", quantization="int8", calibration=x).io
        'int8'
    """
    if on_breach not in ON_BREACH:
        raise InputError(f"on_breach={on_breach!r}: expected one of {', '.join(ON_BREACH)}")
    check_built(model)
    place = find_target(target)
    mode = _mode(model, quantization, place)
    io = _io(io, mode)
    writable_folder(Path(path).parent)
    job = _job(model, mode, calibration)
    inputs = _verify_inputs(verify, calibration)
    made = place.convert(
        Request(
            model=job.plain,
            encodings=job.encodings,
            quantization=mode,
            io=io,
            batch=batch,
            samples=None if inputs is None else tree.map_structure(lambda a: a[:2], inputs),
        )
    )
    artifact = _examine(place, made, job, inputs, mode=mode, io=io, path=str(path))
    _settle(artifact, on_breach)
    write_atomic(path, made.data)
    return artifact


def verify_file(
    path: str | Path,
    model: keras.Model,
    inputs: Any,
    *,
    least_argmax: float = 0.95,
    target: str = "tflite",
) -> Artifact:
    """Run a file that exists and compare it with the float model it is said to come from.

    The simulation is not at hand, so the demand is weaker than ``export``'s: no NaN, no float island in a file
    that says it is int8, and the same argmax on ``least_argmax`` of the samples.

    Raises:
        InputError: the file is missing or broken.

    Example: ``kompakt verify m.tflite --model m.keras --data digits.npz``
    """
    place = find_target(target)
    data = read_file(path)
    note = _note(data)
    census = place.census(data)
    mode = note.get("quantization") or _guess_mode(census)
    outputs = place.run(data, inputs)
    agree = _agreement(model, "float model", inputs, outputs)
    breaches = [*_island_breaches(census, mode), *_nan_breaches(outputs)]
    if agree.argmax < least_argmax:
        breaches.append(
            f"argmax agreement with the float model {agree.argmax:.4f}, expected at least {least_argmax}"
        )
    return _artifact(
        path=str(path),
        data=data,
        place=place,
        mode=mode,
        io=note.get("io") or "as stored",
        census=census,
        agree=agree,
        facts=place.facts(data, {}),
        breaches=breaches,
        source=_digest(model),
    )


def read_file(path: str | Path) -> bytes:
    """Bytes of ``path``; a missing or unreadable file is an InputError."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; give the path of a .tflite file") from None


def _mode(model: keras.Model, asked: str | None, place: Target) -> str:
    quantized = _quantized_mode(model)
    mode = asked or quantized or "float"
    if mode not in place.modes:
        raise InputError(
            f"quantization={mode!r}: expected one of {', '.join(place.modes)}{nearest(mode, place.modes)}"
        )
    if quantized is not None and mode != quantized:
        raise InputError(
            f"quantization={mode!r}, but the model was quantized as {quantized!r}: export it as that, or "
            "export the model it was made from"
        )
    return mode


def _quantized_mode(model: keras.Model) -> str | None:
    """The mode of ``quantize`` that an attached model is in, or None."""
    bits = {
        (name.rsplit("/", 1)[-1] in ("output", "io"))
        for name, chain in _chains(model)
        for transform in chain
        if getattr(transform, "bits", None)
    }
    if not bits:
        return None
    return "int8" if True in bits else "dynamic_int8"


def _chains(model: keras.Model) -> list[tuple[str, Any]]:
    return [
        (f"{unit}/{slot}", chain)
        for unit, layer in wrapped(model).items()
        for slot, chain in layer.chains.items()
    ]


def _io(io: str | None, mode: str) -> str:
    if mode != "int8":
        if io not in (None, "float32"):
            raise InputError(f"io={io!r}: a {mode} file has float32 inputs and outputs; integer I/O needs int8")
        return "float32"
    if io not in (None, "int8", "uint8", "float32"):
        raise InputError(f"io={io!r}: expected one of int8, uint8, float32")
    return io or "int8"


def _job(model: keras.Model, mode: str, calibration: Any) -> _Job:
    if mode in TRAINABLE_MODES and _quantized_mode(model) is None:
        if mode == "int8" and calibration is None:
            raise InputError(
                "quantization='int8' of a float model needs calibration=: some hundred samples of real input"
            )
        model = quantize(model, mode, calibration=calibration, ranges="minmax")
    if wrapped(model):
        plain, encodings = finalize(model)
        if mode not in TRAINABLE_MODES:
            return _Job(plain=plain, encodings=encodings, reference=plain, reference_name="simulation")
        return _Job(
            plain=plain,
            encodings=encodings,
            reference=simulation(model, plain, encodings),
            reference_name="simulation",
            logits=last_logits(model) if mode == "int8" else None,
        )
    return _Job(plain=model, encodings={}, reference=model, reference_name="float model")


def _verify_inputs(verify: Any, calibration: Any) -> Any:
    if verify is not None:
        inputs = verify[0] if isinstance(verify, tuple) else verify
        if not len(tree.flatten(inputs)[0]):
            raise InputError("verify= is empty: expected at least one sample")
        return inputs
    if calibration is not None and all(hasattr(leaf, "shape") for leaf in tree.flatten(calibration)):
        return tree.map_structure(lambda a: a[:256], calibration)
    return None


def _examine(
    place: Target, made: Converted, job: _Job, inputs: Any, *, mode: str, io: str, path: str
) -> Artifact:
    """Run the bytes, compare, and put everything found out into an Artifact."""
    census = place.census(made.data)
    facts = place.facts(made.data, job.encodings)
    breaches = [*made.breaches, *_island_breaches(census, mode), *_property_breaches(facts)]
    breaches += place.regridded(made.data, job.encodings)
    notes = list(made.notes)
    agree = None
    if inputs is None:
        notes.append("not compared: no verify= and no calibration= samples were given")
    else:
        outputs = place.run(made.data, inputs)
        agree = _at_logits(_agreement(job.reference, job.reference_name, inputs, outputs), place, made, job, inputs)
        breaches += [*_nan_breaches(outputs), *_disagreement(agree, mode)]
    return _artifact(
        path=path,
        data=made.data,
        place=place,
        mode=mode,
        io=io,
        census=census,
        agree=agree,
        facts=facts,
        breaches=breaches,
        notes=notes,
        source=_digest(job.plain),
    )


def _agreement(reference: keras.Model, name: str, inputs: Any, outputs: Outputs) -> Agreement:
    expected = simulate(reference, inputs)
    if len(expected) != len(outputs.values):
        raise InputError(f"the file has {len(outputs.values)} outputs, the model {len(expected)}")
    return agreement(expected, outputs.values, outputs.lsb, name=name)


def _at_logits(agree: Agreement, place: Target, made: Converted, job: _Job, inputs: Any) -> Agreement:
    """``agree`` with its steps counted on the logits, where the model ends in a softmax or sigmoid."""
    if job.logits is None or not place.has(made.data, job.logits):
        return agree
    found = place.run(made.data, inputs, at=job.logits)
    expected = simulate(up_to(job.reference, job.logits), inputs)
    logits = agreement([expected[0].reshape(found.values[0].shape)], found.values, found.lsb)
    return dataclasses.replace(agree, lsb=logits.lsb, max_lsb=logits.max_lsb, where=job.logits)


def _island_breaches(census: Census, mode: str) -> list[str]:
    if mode != "int8":
        return []
    return [f"float operator in an int8 file: {op}" for op in census.float_ops] + (
        [f"float tensors in an int8 file: {', '.join(census.float_tensors[:5])}"] if census.float_tensors else []
    )


def _property_breaches(facts: Sequence[SiteFact]) -> list[str]:
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


def _nan_breaches(outputs: Outputs) -> list[str]:
    return [
        f"output {i}: {int((~np.isfinite(values)).sum())} values are NaN or infinite"
        for i, values in enumerate(outputs.values)
        if not np.isfinite(values).all()
    ]


def _disagreement(agree: Agreement, mode: str) -> list[str]:
    lines = []
    if agree.argmax < LEAST_ARGMAX:
        lines.append(
            f"argmax agreement with the {agree.reference} {agree.argmax:.4f}, expected at least {LEAST_ARGMAX}"
        )
    if mode == "int8" and agree.max_lsb is not None and agree.max_lsb > MOST_LSB + 0.01:
        lines.append(
            f"outputs differ from the {agree.reference} by up to {agree.max_lsb:.1f} LSB, "
            f"expected at most {MOST_LSB:.0f}"
        )
    return lines


def _settle(artifact: Artifact, on_breach: str) -> None:
    if not artifact.breaches:
        return
    text = f"{artifact.path}: " + "; ".join(artifact.breaches)
    if on_breach == "raise":
        raise VerificationError(text, artifact.breaches)
    warnings.warn(text, stacklevel=3)


def _artifact(
    *,
    path: str,
    data: bytes,
    place: Target,
    mode: str,
    io: str,
    census: Census,
    agree: Agreement | None,
    facts: Sequence[SiteFact],
    breaches: Sequence[str],
    source: str,
    notes: Sequence[str] = (),
) -> Artifact:
    return Artifact(
        path=path,
        target=place.name,
        quantization=mode,
        io=io,
        bytes=len(data),
        gzip_bytes=gzip_bytes(data),
        sha256=sha256(data),
        source_sha256=source,
        census=census,
        agreement=agree,
        sites=tuple(facts),
        notes=tuple(notes),
        breaches=tuple(breaches),
        versions=versions(),
    )


def versions() -> dict[str, str]:
    """Versions of what makes and runs a file."""
    names = ("kompakt", "keras", "tensorflow", "ai-edge-litert", "ai-edge-quantizer", "numpy")
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _digest(model: keras.Model) -> str:
    """SHA-256 over the weights of a model, in order."""
    return sha256(b"".join(np.ascontiguousarray(w).tobytes() for w in model.get_weights()))


def _note(data: bytes) -> dict[str, str]:
    from kompakt.targets.tflite_file import TFLiteFile

    text = TFLiteFile(data).metadata("kompakt")
    return json.loads(text) if text else {}


def _guess_mode(census: Census) -> str:
    """What a file without kompakt's note is: by the types of its tensors."""
    if "FLOAT16" in census.tensors:
        return "float16"
    if "INT8" not in census.tensors:
        return "float"
    return "int8" if len(census.float_ops) < sum(census.ops.values()) / 2 else "dynamic_int8"
