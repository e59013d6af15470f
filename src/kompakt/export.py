"""``export``: convert, run the file in its own runtime, compare, and only then write it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import tree

from kompakt.calibrate import batches, check_method
from kompakt.data import sample_rows
from kompakt.deploy import make_job, quantized_mode, random_inputs, tables_left
from kompakt.errors import InputError, VerificationError
from kompakt.examine import artifact, digest, examine
from kompakt.files import writable_folder, write_atomic
from kompakt.graph import symbolic_inputs
from kompakt.keras_modes import WHY_NOT_TFLITE, refuse_quantized_by_keras
from kompakt.layerwise import apart
from kompakt.precision import GRIDDED, INTEGER, MIXED
from kompakt.progress import Report, shown
from kompakt.records import Artifact, Census, Encoding, SiteFact
from kompakt.rewrite.full_precision import full_precision
from kompakt.simulation import simulate
from kompakt.sites import OUTPUT, check_built, is_graph, nearest
from kompakt.targets import find_target
from kompakt.targets.target import IO, Fault, Request, Target
from kompakt.verdicts import apart_from_given, compare_outputs, islands, lost_properties, not_finite

IO_OF: dict[str, tuple[str, ...]] = {
    "int8": ("int8", "uint8", "float32"),
    "w4a8": ("int8", "uint8", "float32"),
    "int16x8": ("int16", "float32"),
    MIXED: ("float32", "int8", "uint8"),
}
"""Mode -> what the inputs and outputs of its files may be, first the usual; float32 for all others."""

UNPACKED = {"weight_only_int8": "dynamic_int8"}
"""Mode -> the one whose distance to the float model is allowed: its weights have lost as much."""

NARROW = {"w4a8": 4, MIXED: 4}
"""Mode -> bits of its weights, which may cost accuracy, as was asked."""

ON_BREACH = ("raise", "warn")
COMPARED = 256
"""Calibration samples that a file is compared on where no others are given."""

FOR_RANGES = 64
"""Samples that ranges inside an operator are measured on."""

UNSEEN = "compared on random inputs: no verify= and no calibration= samples were given"


def export(
    model: keras.Model,
    path: str | Path,
    *,
    quantization: str | None = None,
    rules: Mapping[str, Any] | None = None,
    calibration: Any = None,
    method: str = "moving_average",
    verify: Any = None,
    io: str | None = None,
    batch: int | None = 1,
    target: str = "tflite",
    sparse: bool = False,
    repairs: Sequence[str] = (),
    on_breach: str = "raise",
    progress: bool | Report = False,
) -> Artifact:
    """Write ``model`` as a file that was run and compared with its simulation first.

    Args:
        model: plain, or from ``prune`` / ``cluster`` / ``quantize``; not changed.
        path: of the file; written by rename, and not at all where verification fails.
        quantization: "float", "float16", "dynamic_int8", "weight_only_int8", "int8", "w4a8" or "int16x8"; by default
            what ``quantize`` was asked for, else "float".
        rules: layers of another precision, as in :func:`kompakt.quantize`.
        calibration: samples for activation ranges; needed for integer modes from a model that has none.
        method: how they become ranges: "minmax", "moving_average", "percentile", "mse" or "entropy", as in
            :func:`kompakt.calibrate`.
        verify: inputs to compare on, or a pair (inputs, labels), which gives a note with the accuracy; by
            default up to 256 calibration samples, failing those random numbers.
        io: type of the inputs and outputs of an integer file: "int8" (default of int8 and w4a8), "uint8", "int16"
            (default of int16x8, alone there) or "float32" (default of a mixed file).
        batch: fixed batch size; None for one that can be resized (float modes).
        sparse: store weights with many zeros sparse, each where that takes fewer bytes; on x86-64
            the file computes the same bits, no faster. Not for "dynamic_int8".
        repairs: of a float model that is quantized here, as in :func:`kompakt.quantize`: any of "batchnorm",
            "equalize", "adaround" and "bias".
        on_breach: "raise", or "warn" to write the file all the same, with the breaches in the Artifact.
        progress: show a bar of calibration and AdaRound where there is a terminal, or a report to call (see
            :mod:`kompakt.progress`).

    Returns:
        The Artifact; ``print(artifact.report)`` shows what was asked and what the file holds.

    Raises:
        InputError: an argument cannot be used.
        VerificationError: NaN, float islands, a grid or property lost, or disagreement: argmax agreement
            under 0.99 or outputs more than 2 LSB (in float modes: a part of their spread) away from the
            simulation, or argmax agreement under 0.95 with ``model``. The text names the layer.

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
    check_method(method)
    place = find_target(target)
    refuse_quantized_by_keras(model, f"target={target!r}", WHY_NOT_TFLITE)
    mode = _mode(model, quantization, place, rules)
    io = _io(io, MIXED if rules else mode)
    _check_batch(batch, mode)
    writable_folder(Path(path).parent)
    inputs = _compared_on(model, verify, calibration)
    with shown(progress) as report:
        job = make_job(model, mode, calibration, rules, method, repairs, report)
        report("converting and verifying", None)
    mode = MIXED if job.mode == MIXED else mode
    short = tuple(f"{site}: {e.shortfall}" for site, e in job.encodings.items() if e.shortfall)
    short += tables_left(job.plain, mode)
    notes = short if inputs is not None else (UNSEEN, *short)
    if inputs is None:
        inputs = random_inputs(job.plain, job.encodings)
    made = place.convert(
        Request(
            model=job.plain,
            encodings=job.encodings,
            quantization=mode,
            io=io,
            batch=batch,
            floats=[f"{layer}/{OUTPUT}" for layer in job.floats],
            samples=sample_rows(inputs, FOR_RANGES),
            sparse=sparse,
        )
    )
    if isinstance(verify, tuple):
        notes += _accuracy(place.run(made.data, inputs).values, verify)
    made = dataclasses.replace(made, notes=(*notes, *made.notes))
    found = examine(place, made, job, inputs, mode=mode, io=io, path=str(path))
    _settle(found, on_breach)
    write_atomic(path, made.data)
    return found


def verify_file(
    path: str | Path,
    model: keras.Model,
    inputs: Any,
    *,
    least_argmax: float = 0.95,
    target: str = "tflite",
) -> Artifact:
    """Run a file that exists and compare it with the float model it is said to come from.

    The file must be as it was written (a seal in it has digests of each tensor and operator), agree with itself
    (bias scales, grids), and hold the model's weights; each of its layers must make of its input what the model's
    layer does. Then it is run: no NaN, no float island in a file that says it is int8, the zeros and values a
    channel that the file says it was asked for, the same argmax (or one that the model rates as high) on
    ``least_argmax`` of the samples, and outputs of one value within a part of their spread, which the mode sets.

    Returns:
        The Artifact; what is amiss is in its ``breaches``.

    Raises:
        InputError: the file is missing or broken, or takes other inputs than the model.

    Example:
        >>> import tempfile, numpy as np
        >>> m = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="d")])
        >>> x = np.random.default_rng(0).random((64, 4), dtype="float32")
        >>> path = export(m, tempfile.mkdtemp() + "/m.tflite", verify=x).path
        >>> verify_file(path, m, x).breaches
        ()
    """
    if not 0.0 <= least_argmax <= 1.0:
        raise InputError(f"least_argmax={least_argmax}: expected a share from 0 to 1")
    check_built(model)
    place = find_target(target)
    data = read_file(path)
    inputs = _checked(model, inputs, "inputs")
    with _named(path):
        return _verified(place, data, model, inputs, least_argmax, str(path))


@contextlib.contextmanager
def _named(path: str | Path) -> Iterator[None]:
    """Say of which file it is that an error speaks."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _verified(place: Target, data: bytes, model: keras.Model, inputs: Any, least_argmax: float, path: str) -> Artifact:
    census = place.census(data)
    note = _note(place.note(data))
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
        found = apart(place, data, model, inputs, mode, loose=tuple(asked), far=bool(far))
        if far and mode in NARROW and not (static or found):  # each layer does what its weights say
            far, notes = [], tuple(f"{line}: what weights of {NARROW[mode]} bits cost" for line in far)
        seen = [*not_finite(outputs), *far]
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


def read_file(path: str | Path) -> bytes:
    """Bytes of ``path``; a missing or unreadable file is an InputError."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; give the path of a .tflite file") from None


def _mode(model: keras.Model, asked: str | None, place: Target, rules: Any) -> str:
    quantized = quantized_mode(model)
    mode = asked or quantized or ("int8" if rules else "float")
    if mode not in place.modes:
        raise InputError(f"quantization={mode!r}: expected one of {', '.join(place.modes)}{nearest(mode, place.modes)}")
    if quantized is not None and mode != quantized:
        raise InputError(
            f"quantization={mode!r}, but the model was quantized as {quantized!r}: export it as that, or "
            "export the model it was made from"
        )
    if rules and quantized is not None:
        raise InputError("rules=: the model is quantized already; give them to quantize()")
    if rules and mode not in INTEGER:
        raise InputError(f"rules= with quantization={mode!r}: expected one of {', '.join(INTEGER)}")
    if mode == MIXED and quantized is None:
        raise InputError("quantization='mixed': say which layers are what, rules={'head': 'float', 'block1_*': 4}")
    return mode


def _io(io: str | None, mode: str) -> str:
    allowed = IO_OF.get(mode, ("float32",))
    if io is not None and io not in IO:
        raise InputError(f"io={io!r}: expected one of {', '.join(IO)}")
    if io is not None and io not in allowed:
        raise InputError(f"io={io!r}: inputs and outputs of {mode} files are {' or '.join(allowed)}")
    return io or allowed[0]


def _check_batch(batch: int | None, mode: str) -> None:
    if batch is None and mode in GRIDDED:
        raise InputError(f"batch=None: an {mode} file has a fixed batch size; give a number, 1 is usual")
    if batch is not None and (not isinstance(batch, int) or batch < 1):
        raise InputError(f"batch={batch!r}: expected a whole number from 1, or None for one that can be resized")


def _compared_on(model: keras.Model, verify: Any, calibration: Any) -> Any:
    """The samples that the file is compared on, or None where there are none."""
    if verify is not None:
        if isinstance(verify, tuple) and len(verify) != 2:
            raise InputError(f"verify=: received {len(verify)} things, expected inputs, or a pair (inputs, labels)")
        inputs = _checked(model, verify[0] if isinstance(verify, tuple) else verify, "verify=")
        if isinstance(verify, tuple):
            _check_labels(np.asarray(verify[1]), len(tree.flatten(inputs)[0]))
        return inputs
    leaves = tree.flatten(calibration)
    list_of_batches = isinstance(calibration, list) and len(tree.flatten(symbolic_inputs(model))) == 1
    if calibration is not None and leaves and not list_of_batches and all(hasattr(leaf, "shape") for leaf in leaves):
        return sample_rows(_checked(model, calibration, "calibration="), COMPARED)
    return _first_rows(model, calibration)


def _first_rows(model: keras.Model, calibration: Any) -> Any:
    """Up to ``COMPARED`` rows of batches that can be gone through twice, or None."""
    if calibration is None or isinstance(calibration, Iterator) or not is_graph(model):
        return None
    found: list[Any] = []
    count = 0
    for batch in batches(calibration, shapes=[tuple(t.shape) for t in model.inputs]):
        found.append(batch)
        count += len(tree.flatten(batch)[0])
        if count >= COMPARED:
            break
    return sample_rows(tree.map_structure(lambda *rows: np.concatenate(rows), *found), COMPARED)


def _check_labels(labels: np.ndarray, samples: int) -> None:
    if not labels.ndim or labels.dtype.kind not in "biuf" or len(labels) != samples:
        raise InputError(
            f"verify=: the second of the pair has shape {labels.shape} and type {labels.dtype}, expected a label for "
            f"each of the {samples} samples; several inputs go into a list"
        )


def _accuracy(outputs: Sequence[np.ndarray], verify: tuple[Any, Any]) -> tuple[str, ...]:
    """The accuracy of a file with one output of several classes, where the labels are class numbers or one-hot."""
    found, labels = outputs[0], np.asarray(verify[1])
    if len(outputs) > 1 or found.ndim != 2 or found.shape[1] < 2:
        return ()
    classes = labels.argmax(-1) if labels.shape == found.shape else labels.ravel()
    if classes.shape != found.shape[:1]:
        return ()
    return (f"accuracy {float((found.argmax(-1) == classes).mean()):.4f} on the {len(classes)} labels of verify=",)


def _checked(model: keras.Model, inputs: Any, name: str) -> Any:
    """``inputs`` as arrays, finite and in the shapes that ``model`` takes.

    Raises:
        InputError: they are not.
    """
    arrays = tree.map_structure(np.asarray, inputs)
    leaves, wanted = tree.flatten(arrays), tree.flatten(symbolic_inputs(model))
    if len(leaves) != len(wanted):
        raise InputError(f"{name}: received {len(leaves)} arrays, the model takes {len(wanted)}")
    for leaf, tensor in zip(leaves, wanted, strict=True):
        if not len(leaf):
            raise InputError(f"{name} is empty: expected at least one sample")
        if len(leaf.shape) != len(tensor.shape) or not all(
            n in (None, m) for n, m in zip(tensor.shape[1:], leaf.shape[1:], strict=True)
        ):
            raise InputError(f"{name}: received an array of shape {leaf.shape}, the model takes {tuple(tensor.shape)}")
        if leaf.dtype.kind == "f" and not np.isfinite(leaf).all():
            raise InputError(f"{name}: {int((~np.isfinite(leaf)).sum())} values are NaN or infinite; clean the data")
    return arrays


def _settle(found: Artifact, on_breach: str) -> None:
    if not found.breaches:
        return
    text = f"{found.path}: " + "; ".join(found.breaches)
    if on_breach == "raise":
        raise VerificationError(text, found.breaches)
    warnings.warn(text, stacklevel=3)


def _note(text: str | None) -> dict[str, Any]:
    """What kompakt wrote into a file about itself; {} where another program made it.

    Raises:
        InputError: it is not what kompakt writes.
    """
    try:
        note = json.loads(text or "{}")
    except ValueError as error:
        raise InputError(f"broken TFLite file: kompakt's note in it is no JSON ({error}); make it again") from None
    if not isinstance(note, dict) or not all(isinstance(note.get(k, ""), str) for k in ("quantization", "io")):
        raise InputError(f"broken TFLite file: kompakt's note in it is {text!r:.80}; make it again")
    return note


def _asked(note: Mapping[str, Any]) -> dict[str, Encoding]:
    """Site -> zeros and values a channel that a file says it was asked for."""
    try:
        return {
            site: Encoding(zeros=zeros, palette=palette) for site, (zeros, palette) in note.get("asked", {}).items()
        }
    except (AttributeError, TypeError, ValueError):
        raise InputError("kompakt's note in the file: 'asked' is not site -> [zeros, values]; make it again") from None


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
