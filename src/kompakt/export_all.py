"""``export_all``: one model to every target, each verified by itself, with what each of them costs."""

from __future__ import annotations

import dataclasses
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras

from kompakt.data import sample_rows
from kompakt.deploy import quantized_mode
from kompakt.errors import InputError, VerificationError, first_line
from kompakt.export import export
from kompakt.keras_modes import KERAS_MODES
from kompakt.profiling.pairs import alone
from kompakt.profiling.subject import subject_at
from kompakt.progress import Report, part, shown
from kompakt.records import Deployment
from kompakt.samples import compared_on
from kompakt.sites import check_built
from kompakt.spelling import one_of
from kompakt.targets import TARGETS, find_target
from kompakt.targets.target import Target

log = logging.getLogger("kompakt")

TIMED, ROUNDS = 8, 15
"""Samples that are handed to the runtime that is timed; it takes one batch of them. Readings of its latency."""


class Deployments(tuple[Deployment, ...]):
    """What became of a model at each target, shown as a line each.

    Example:
        >>> Deployments([Deployment(target="tflm", refused="no operator for GELU")])
        tflm: refused: no operator for GELU
    """

    def __repr__(self) -> str:
        return "\n".join(map(_line, self)) or "no target"


def _line(made: Deployment) -> str:
    """Where the file is, what it is, and what it costs; or why there is none."""
    file = made.artifact
    if file is None:
        return f"{made.target}: {'not verified' if made.failed else 'refused'}: {made.refused}"
    said = [f"{made.target}: {file.path}", file.quantization, f"{file.bytes:,} bytes"]
    if file.agreement is not None:
        said.append(f"argmax {file.agreement.argmax:.4f}")
    if made.milliseconds is not None:
        said.append(f"{made.milliseconds:.3g} ms")
    return ", ".join([*said, *([f"{len(file.breaches)} BREACHES"] if file.breaches else [])])


def export_all(
    model: keras.Model,
    folder: str | Path,
    *,
    targets: Sequence[str] = tuple(TARGETS),
    quantization: str | None = None,
    name: str = "model",
    progress: bool | Report = False,
    **options: Any,
) -> Deployments:
    """Write ``model`` for each of ``targets`` into ``folder``, each run and compared as :func:`kompakt.export` does.

    A target that cannot take the model, or whose runtime is not installed, is told in its row; the others go on.

    Args:
        model: as for :func:`kompakt.export`; not changed.
        folder: gets ``name.tflite``, ``name_tflm/`` and so on.
        quantization: a mode; a target that has not got it takes the nearest one that it has.
        name: of the files. options: of :func:`kompakt.export`, for each of the targets.

    Returns:
        One Deployment a target, in the order of ``targets``; printed, a line each.

    Raises:
        InputError: a target or mode that no target has, or samples that can be read only once.

    Example:
        >>> import tempfile, numpy as np
        >>> m = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="d")])
        >>> x = np.random.default_rng(0).random((64, 4), dtype="float32")
        >>> made = export_all(m, tempfile.mkdtemp(), targets=["tflite"], quantization="int8", calibration=x)
        >>> made[0].target, made[0].artifact.quantization, made[0].milliseconds > 0
        ('tflite', 'int8', True)
    """
    check_built(model)
    places = [find_target(target) for target in targets]
    known = dict.fromkeys(mode for each in TARGETS for mode in find_target(each).modes)
    if quantization is not None and quantization not in known:
        raise InputError(f"quantization={quantization!r}: {one_of(quantization, tuple(known))}")
    inputs = _samples(model, options)
    made = []
    with shown(progress) as report:
        for done, place in enumerate(places):
            step = part(report, done / len(places), (done + 1) / len(places))
            path = Path(folder) / (f"{name}{place.suffix}" if place.suffix else f"{name}_{place.name}")
            told = {**options, "progress": lambda what, share, of=place.name, step=step: step(f"{of}: {what}", share)}
            made.append(_deployed(model, path, place, quantization, told, inputs))
    return Deployments(made)


def nearest_mode(model: keras.Model, quantization: str | None, place: Target) -> str | None:
    """The mode to ask ``place`` for: ``quantization`` or what comes nearest to it; None for the model's own.

    Raises:
        InputError: it has none that is near.
    """
    if quantization is None or quantization in place.modes:
        return quantization
    if quantized_mode(model) == quantization:  # export finds what is nearest to it, and says so
        return None
    near = place.nearest.get(quantization, "float" if quantization in KERAS_MODES else None)
    if near is None:
        raise InputError(f"the target {place.name!r} has no {quantization}, nor a mode near it")
    return near


def _deployed(
    model: keras.Model, path: Path, place: Target, quantization: str | None, options: dict[str, Any], inputs: Any
) -> Deployment:
    """What became of ``model`` there: whatever goes wrong at one target is its row, and the others go on."""
    try:
        mode = nearest_mode(model, quantization, place)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # breaches stand in the artifact
            artifact = export(model, path, quantization=mode, target=place.name, **_taken(place, mode, options))
        made = Deployment(target=place.name, artifact=artifact)
        return made if inputs is None else _timed(made, inputs)
    except VerificationError as error:
        return Deployment(target=place.name, refused=str(error), failed=True)
    except InputError as error:
        return Deployment(target=place.name, refused=str(error))
    except Exception as error:
        log.debug("export to %s", place.name, exc_info=True)
        said = f"{type(error).__name__}: {first_line(error)}"
        return Deployment(target=place.name, refused=f"failed inside ({said}); please report it", failed=True)


def _taken(place: Target, mode: str | None, options: dict[str, Any]) -> dict[str, Any]:
    """The options without those that ``place`` has nothing for: the others have it."""
    taken = dict(options)
    if not place.stores_sparse:
        taken.pop("sparse", None)
    if not place.stores_tables:
        taken.pop("compress", None)
    if taken.get("io") not in (None, *place.io.get(mode or "float", ())):
        del taken["io"]
    return taken


def _samples(model: keras.Model, options: dict[str, Any]) -> Any:
    """What the files will be compared on, to time them with; None where there is nothing."""
    for name in ("calibration", "verify"):
        if isinstance(options.get(name), Iterator):
            raise InputError(f"{name}=: a generator is read once, each target reads it; give arrays or a Dataset")
    return compared_on(model, options.get("verify"), options.get("calibration"))[0]


def _timed(made: Deployment, inputs: Any) -> Deployment:
    """``made`` with the time that one run takes."""
    assert made.artifact is not None
    found = alone(subject_at(made.artifact, sample_rows(inputs, TIMED), seed=0), rounds=ROUNDS)
    return dataclasses.replace(made, milliseconds=found.median, spread=found.spread)
