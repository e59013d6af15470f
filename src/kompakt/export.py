"""``export``: convert, run the file in its own runtime, compare, and only then write it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from kompakt.calibrate import check_method
from kompakt.data import sample_rows
from kompakt.deploy import Job, end_bits, folded, make_job, quantized_mode, random_inputs, tables_left
from kompakt.errors import InputError, VerificationError
from kompakt.examine import digest, examine, versions
from kompakt.export_options import USUAL, batch_for, change_of_mode, checked_path, io_for, mode_for
from kompakt.files import writable_folder
from kompakt.graph import undisturbed
from kompakt.precision import GRIDDED, MIXED, USUAL_BITS
from kompakt.progress import Report, part, shown
from kompakt.records import Artifact
from kompakt.rewrite.fixed_sizes import fixed_sizes, open_sizes
from kompakt.rewrite.unroll_recurrent import recurrent_steps
from kompakt.samples import compared_on
from kompakt.sites import OUTPUT, check_built
from kompakt.targets import find_target
from kompakt.targets.endpoints import output_names
from kompakt.targets.target import Request, Target

ON_BREACH = ("raise", "warn")
FOR_RANGES = 64
"""Samples that ranges inside an operator are measured on."""

READY, CONVERTED = 0.5, 0.7
"""Shares of an export that are done when the model is ready for the file, and when there is one to be compared."""

UNSEEN = "compared on random inputs: no samples of real input were given"


@undisturbed()
def export(
    model: keras.Model,
    path: str | Path,
    *,
    quantization: str | None = None,
    rules: Mapping[str, Any] | None = None,
    calibration: Any = None,
    method: str | None = None,
    verify: Any = None,
    io: str | None = None,
    batch: int | str | None = USUAL,
    target: str = "tflite",
    sparse: bool = False,
    compress: bool = False,
    provenance: Mapping[str, Any] | None = None,
    repairs: Sequence[str] = (),
    on_breach: str = "raise",
    progress: bool | Report = False,
) -> Artifact:
    """Write ``model`` as a file that was run and compared with its simulation first.

    Args:
        model: plain, or from ``prune`` / ``cluster`` / ``quantize``; not changed.
        path: of the file, or of the folder for a target that writes one; put in its place in one step, and not at
            all where verification fails. A folder that is no artifact of this target is never replaced.
        quantization: "float", "float16", "dynamic_int8", "weight_only_int8", "int8", "w4a8" or "int16x8"; of
            "tfjs" "float", "float16", "uint8" or "uint16"; of "savedmodel" "float", "keras_int8" or "keras_int4". By
            default what ``quantize`` was asked for, or what comes nearest to it in this target, else "float".
        rules: layers of another precision, as in :func:`kompakt.quantize`.
        calibration: samples for activation ranges; needed for integer modes from a model that has none. For any
            other they are only compared on, which a note says of a model from ``quantize``.
        method: how they become ranges: "minmax", "moving_average" (default), "percentile", "mse" or "entropy", as in
            :func:`kompakt.calibrate`.
        verify: inputs to compare on (arrays, or an iterable of batches), or a pair (inputs, labels), which gives a
            note with the accuracy; by default up to 256 calibration samples, failing those random numbers.
        io: type of the inputs and outputs of an integer file: "int8" (default of int8 and w4a8), "uint8", "int16"
            (default of int16x8, alone there) or "float32" (default of a mixed file).
        batch: fixed batch size; None for one that can be resized (float modes). By default 1 in TFLite files, any
            in the others.
        target: "tflite", "tflm", "tfjs", "savedmodel" or "onnx".
        sparse: store weights with many zeros sparse, each where that takes fewer bytes; on x86-64
            the file computes the same bits, no faster. Not for "dynamic_int8".
        repairs: of a float model that is quantized here, as in :func:`kompakt.quantize`: any of "batchnorm",
            "equalize", "adaround" and "bias".
        compress: store weights of few values, of ``cluster``, as a table and short numbers ("tflm" alone).
        provenance: what the file shall say of its origin, JSON values, beside the versions of the programs and the
            digest of the model: {"recipe": "prune_int8"}.
        on_breach: "raise", or "warn" to write the file all the same, with the breaches in the Artifact.
        progress: show a bar where there is a terminal, or a report to call (see :mod:`kompakt.progress`).

    Returns:
        The Artifact; ``print(artifact.report)`` shows what was asked and what the file holds.

    Raises:
        InputError: an argument cannot be used, or what the target needs is not installed.
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
    place = find_target(target)
    mode = mode_for(model, quantization, place, rules)
    io = io_for(io, MIXED if rules else mode, place)
    batch = batch_for(batch, mode, place)
    _check_stored(place, sparse=sparse, compress=compress)
    path = checked_path(path, place)
    place.ready()
    writable_folder(path.parent)
    _check_method(method, model)
    inputs, labels, calibration = compared_on(model, verify, calibration)
    model, sized = _sized(model, inputs) if place.fixed_sizes else (model, ())
    with shown(progress) as report:
        job = make_job(
            model, mode, calibration, rules, method, repairs, part(report, 0.0, READY), twice=place.rounds_twice
        )
        mode = MIXED if job.mode == MIXED else mode
        if mode in place.rounds:
            job = folded(job)
        short = (*sized, *(_unrolled(job) if mode in GRIDDED else ()), *change_of_mode(model, mode, place))
        short += tuple(f"{site}: {e.shortfall}" for site, e in job.encodings.items() if e.shortfall)
        short += tables_left(job.plain, mode)
        _check_io(job, io)
        notes = (*_unused(job, verify, calibration), *short) if inputs is not None else (UNSEEN, *short)
        if inputs is None:
            inputs = random_inputs(job.plain, job.encodings)
        report(f"converting to {place.name}", READY)
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
                compress=compress,
                provenance=_origin(job, provenance),
                output_names=output_names(job.given),
            )
        )
        report("running the file and comparing", CONVERTED)
        found = examine(place, made, job, inputs, mode=mode, io=io, path=str(path), labels=labels, notes=notes)
    _settle(found, on_breach)
    place.write(path, made.data)
    return found


def _check_stored(place: Target, *, sparse: bool, compress: bool) -> None:
    """Raise where a form of storage is asked for that ``place`` has not."""
    if sparse and not place.stores_sparse:
        raise InputError(f"sparse=True: the target {place.name!r} has no sparse storage; leave it out, or use 'tflite'")
    if compress and not place.stores_tables:
        raise InputError(
            f"compress=True: the target {place.name!r} has no tables of values; leave it out, or use 'tflm'"
        )


def _origin(job: Job, given: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a file says of where it comes from."""
    try:
        json.dumps(given or {}, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"provenance=: {error}; expected what JSON can hold") from None
    return {**(given or {}), "source_sha256": digest(job.given), "versions": versions()}


def _check_method(method: str | None, model: keras.Model) -> None:
    if method is None:
        return
    check_method(method)
    if quantized_mode(model) is not None:
        raise InputError(f"method={method!r}: the model is quantized already and has its ranges; give it to quantize()")


def _sized(model: keras.Model, inputs: Any) -> tuple[keras.Model, tuple[str, ...]]:
    """(``model`` with the sizes of ``inputs`` where it leaves some open, a line about each)."""
    found = open_sizes(model)
    if not found:
        return model, ()
    if inputs is None:
        raise InputError(
            f"{'; '.join(found)}: a file has fixed sizes; give verify= or calibration= samples as large as it will get"
        )
    fixed = fixed_sizes(model, inputs)
    sizes = [tuple(t.shape[1:]) for t in fixed.inputs]
    return fixed, (f"{'; '.join(found)} left open: the file takes {', '.join(map(str, sizes))}, as the samples are",)


def _unrolled(job: Job) -> tuple[str, ...]:
    """A line for each recurrent layer whose steps stand one by one in an integer file."""
    steps = recurrent_steps(job.given)
    return tuple(f"{name}: its {count} steps are unrolled, some ten operators each" for name, count in steps.items())


def _unused(job: Job, verify: Any, calibration: Any) -> tuple[str, ...]:
    """A line where calibration samples were given for a model that has its ranges."""
    if calibration is None or quantized_mode(job.given) is None:
        return ()
    use = "not used" if verify is not None else "only used as samples to compare on"
    return (f"calibration= was {use}: the model is quantized already; kompakt.calibrate measures ranges anew",)


def _check_io(job: Job, io: str) -> None:
    """Raise where an input or output of a mixed file has a width that ``io`` is not."""
    if job.mode != MIXED or io == "float32":
        return
    for layer, bits in end_bits(job).items():
        if bits != USUAL_BITS:
            width = "floats" if bits is None else f"{bits}-bit integers"
            raise InputError(
                f"io={io!r}: {layer!r} has {width} at an end of the model; give io='float32', or rules that leave the "
                "first and the last layer int8"
            )


def _settle(found: Artifact, on_breach: str) -> None:
    if not found.breaches:
        return
    text = f"{found.path}: " + "; ".join(found.breaches)
    if on_breach == "raise":
        raise VerificationError(text, found.breaches)
    warnings.warn(text, stacklevel=4)  # the caller of export, which is wrapped
