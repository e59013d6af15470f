"""``evaluate``: how good a model or a file is, by Keras' metrics, and how sure that is."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np

from kompakt.answers import Answers, Array, Labelled, answers, labelled
from kompakt.errors import InputError
from kompakt.files import sha256
from kompakt.intervals import Interval, NoInterval, mean_interval, rows_interval
from kompakt.progress import Report, shown
from kompakt.records import Measurement
from kompakt.records_evaluation import Evaluation
from kompakt.scores import Scorer, by_output, scorer
from kompakt.subjects import Subject, subject
from kompakt.task import NUMBERS_OF_CLASSES, VALUES, by_form, kind_of

BATCH = 256

MASKED = (
    "the model masks its outputs: Keras leaves padding out of its metrics, here it counts as it does in any file; give "
    "a metric that knows the padding"
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Answered:
    """What an evaluation was computed from, for those that go on with it.

    Attributes:
        outputs, labels: an array an output, (samples, ...). scorers: the metrics, as many as measurements.
        values: of the metrics. each: the metric of each sample, (samples,), or None where it is no mean over them.
    """

    outputs: tuple[Array, ...]
    labels: tuple[Array, ...]
    scorers: tuple[Scorer, ...]
    values: tuple[float, ...]
    each: tuple[Array | None, ...]


def evaluate(
    thing: Any,
    data: Any,
    *,
    metrics: Any = None,
    batch_size: int = BATCH,
    workers: int = 1,
    seed: int = 0,
    confidence: float | None = 0.95,
    progress: bool | Report = False,
) -> Evaluation:
    """How good ``thing`` is on labelled samples, each metric with the interval in which it lies.

    Args:
        thing: a Keras model, plain or in training (attached); or the path of a ``.keras`` or ``.h5`` file or of an
            artifact of any target, which runs in its own runtime.
        data: (x, y) of arrays; batches of such pairs: a list, a generator, a ``tf.data.Dataset``, a
            ``keras.utils.PyDataset``; or what :func:`kompakt.load_data` gives or takes, of which the test samples
            count. Several inputs are a list in the model's order, or a mapping by their names; several outputs too.
        metrics: as for ``compile``: names, classes, instances, losses, functions; of several outputs a list with an
            entry for each, or a mapping by name. By default accuracy where labels are classes, else the mean squared
            and the mean absolute error.
        batch_size: of arrays.
        workers: batches of an artifact that are computed at once, each in a process of its own.
        seed: of the samples that are drawn for the intervals. confidence: of these; None for none.
        progress: a bar on the terminal, or what is told instead.

    Returns:
        An Evaluation. What it was computed from is in its ``answers``, for :func:`kompakt.compare_evaluations`.

    Raises:
        InputError: the thing or the data cannot be used, or a metric does not fit them, or no label has an output.
        VerificationError: an output is NaN or infinite.

    Example:
        >>> import keras
        >>> m = keras.Sequential([keras.Input((2,)), keras.layers.ReLU()])
        >>> x = np.array([[0.0, 1.0], [1.0, 0.0], [0.2, 0.1], [0.3, 0.4]], "float32")
        >>> found = evaluate(m, (x, np.array([1, 0, 0, 0])))
        >>> found.measurements[0].name, found.value("accuracy"), found.samples
        ('accuracy', 0.75, 4)
    """
    checked_options(workers, batch_size, confidence)
    judged, samples = subject(thing), labelled(data, batch_size)
    with shown(progress) as report:
        return judge(judged, samples, metrics, workers=workers, seed=seed, confidence=confidence, report=report)


def checked_options(workers: Any, batch_size: Any, confidence: Any, *, needed: bool = False) -> None:
    """Raise InputError where one of them is out of its range.

    Args:
        needed: whether there must be a confidence.
    """
    for name, value in (("workers", workers), ("batch_size", batch_size)):
        if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
            raise InputError(f"{name}={value!r}: expected a whole number from 1")
    if confidence is not None or needed:
        checked_confidence(confidence, "" if needed else ", or None")


def checked_confidence(confidence: Any, otherwise: str = "") -> None:
    """Raise InputError where it is no share; ``otherwise`` ends the error's text."""
    if isinstance(confidence, bool) or not isinstance(confidence, Real) or not 0.0 < float(confidence) < 1.0:
        raise InputError(f"confidence={confidence!r}: expected a share between 0 and 1, such as 0.95{otherwise}")


def judge(
    judged: Subject,
    samples: Labelled,
    metrics: Any,
    *,
    workers: int,
    seed: int,
    confidence: float | None,
    report: Report,
) -> Evaluation:
    """:func:`evaluate` of what is made ready already."""
    start = time.perf_counter()
    found = answers(judged, samples, workers=workers, report=report)
    seconds = time.perf_counter() - start
    whole, notes = _scored(judged, found, metrics)
    measured = []
    for i, one in enumerate(whole.scorers):
        report(f"how sure {one.name} is", i / len(whole.scorers))
        measured.append(_measured(whole, i, judged.kind, seed=seed, confidence=confidence))
    return Evaluation(
        thing=judged.name,
        kind=judged.kind,
        samples=len(found.labels[0]),
        measurements=tuple(measured),
        labels_sha256=sha256(b"".join(np.ascontiguousarray(y).tobytes() for y in found.labels)),
        confidence=confidence,
        seed=seed,
        seconds=seconds,
        notes=tuple(dict.fromkeys(notes)),
        breaches=found.breaches,
        answers=whole,
    )


def _scored(judged: Subject, found: Answers, metrics: Any) -> tuple[Answered, list[str]]:
    """(the answers with their metrics, notes)."""
    names = judged.outputs if judged.outputs and len(judged.outputs) == len(found.outputs) else _numbered(found.outputs)
    notes = [MASKED] if judged.masked else []
    for name, label, output in zip(names, found.labels, found.outputs, strict=True):
        notes += checked_labels(label, output, f"labels of {name!r}" if len(names) > 1 else "labels")
    given = by_output(metrics, names, lambda i: _usual(found.labels[i], found.outputs[i]))
    for i, of_output in enumerate(given):
        for place, metric in enumerate(of_output):
            of_output[place], note = by_form(metric, found.labels[i], found.outputs[i], judged.probabilities)
            notes += note
    scorers = _scorers(given, names, found.labels, found.outputs)
    measured = [s.measured(found.labels[s.output], found.outputs[s.output]) for s in scorers]
    values, each = zip(*measured, strict=True)
    return Answered(outputs=found.outputs, labels=found.labels, scorers=tuple(scorers), values=values, each=each), notes


def checked_labels(labels: Array, outputs: Array, what: str) -> list[str]:
    """What is to be said of labels, (samples, ...), that no output can have.

    Raises:
        InputError: they are no numbers, some are NaN or infinite, or they are class numbers and none has an output.

    Example:
        >>> checked_labels(np.array([0, 1, 3, 3]), np.zeros((4, 3)), "labels")
        ['labels: 2 of 4 are no class from 0 to 2 (such as 3): by an accuracy they are wrong whatever the outputs are']
    """
    if labels.dtype.kind in "OSUmM":
        raise InputError(f"{what}: received {labels.dtype}, expected numbers: of classes 0, 1, ...")
    if labels.dtype.kind in "fc" and not np.isfinite(labels).all():
        bad = ~np.isfinite(labels.reshape(len(labels), -1)).all(-1)
        raise InputError(
            f"{what}: those of {bad.sum():,} of {len(labels):,} samples are NaN or infinite, first of sample "
            f"{bad.argmax()}; leave these samples out"
        )
    classes = outputs.shape[-1]
    outside = (labels < 0) | (labels >= classes)
    if kind_of(labels, (None, *outputs.shape[1:])) != NUMBERS_OF_CLASSES or not outside.any():
        return []
    none = f"no class from 0 to {classes - 1}"
    if outside.all():
        raise InputError(
            f"{what}: all are {none} ({labels.min():g} to {labels.max():g}), as many as there are outputs; number the "
            "classes from 0 in their order"
        )
    some = f"{outside.sum():,} of {labels.size:,} are {none} (such as {labels[outside][0]:g})"
    return [f"{what}: {some}: by an accuracy they are wrong whatever the outputs are"]


def _numbered(outputs: Sequence[Array]) -> tuple[str, ...]:
    return tuple(f"output_{i}" for i in range(len(outputs)))


def _usual(labels: Array, outputs: Array) -> list[Any]:
    """The metrics where none are given."""
    values = kind_of(labels, (None, *outputs.shape[1:])) == VALUES
    return ["mean_squared_error", "mean_absolute_error"] if values else ["accuracy"]


def _scorers(
    metrics: Sequence[Sequence[Any]], names: Sequence[str], labels: Sequence[Array], outputs: Sequence[Array]
) -> list[Scorer]:
    made = [
        scorer(metric, labels[i], outputs[i], output=i, prefix=f"{names[i]}_" if len(names) > 1 else "")
        for i, of_output in enumerate(metrics)
        for metric in of_output
    ]
    if not made:
        raise InputError(f"metrics={metrics!r}: there is none; give a name such as 'accuracy', or leave it out")
    twice = sorted({one.name for one in made if [other.name for other in made].count(one.name) > 1})
    if twice:
        raise InputError(f"metrics: {twice[0]!r} is there more than once; give instances with names of their own")
    return made


def _measured(whole: Answered, place: int, kind: str, *, seed: int, confidence: float | None) -> Measurement:
    """The metric number ``place`` with its interval."""
    one, each = whole.scorers[place], whole.each[place]
    labels, outputs = whole.labels[one.output], whole.outputs[one.output]
    value = whole.values[place]
    if not np.isfinite(value):
        raise InputError(f"metric {one.name!r}: is {value} on these samples; expected a number: give another metric")
    if confidence is None:
        return Measurement(name=one.name, value=value, where=kind)
    found = _interval(one, each, labels, outputs, confidence=confidence, seed=seed)
    if isinstance(found, NoInterval):
        return Measurement(name=one.name, value=value, where=kind, interval=f"none: {found.why}")
    return Measurement(name=one.name, value=value, where=kind, low=found.low, high=found.high, interval=found.how)


def _interval(
    one: Scorer, each: Array | None, labels: Array, outputs: Array, *, confidence: float, seed: int
) -> Interval | NoInterval:
    if each is not None:
        return mean_interval(each, confidence=confidence, seed=seed, share=one.right_or_wrong)
    return rows_interval(
        lambda rows: one.value(labels[rows], outputs[rows]),
        len(labels),
        held=classes_held(labels, outputs),
        confidence=confidence,
        seed=seed,
    )


def classes_held(labels: Array, outputs: Array) -> Array | None:
    """Which samples have which class, (samples, classes) of bool; None where labels are values.

    Args:
        labels: class numbers, (samples, ...), of which a sample may have several; or rows of 0 and 1, (samples, k),
            of which each place is a class of its own, and its absence another.

    Example:
        >>> classes_held(np.array([2, 0, 2]), np.zeros((3, 4))).tolist()
        [[False, True], [True, False], [False, True]]
        >>> classes_held(np.array([0.5, 1.5]), np.zeros((2, 1)))
    """
    rows = labels.reshape(len(labels), -1)
    if labels.shape == outputs.shape and rows.shape[-1] > 1 and ((labels == 0) | (labels == 1)).all():
        held = np.concatenate([rows == 1, rows == 0], axis=1)
        return held[:, held.any(0)]
    if kind_of(labels, (None, *outputs.shape[1:])) == VALUES:
        return None
    return np.stack([(rows == each).any(1) for each in np.unique(rows)], axis=1)
