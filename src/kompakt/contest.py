"""Several models and files on the same samples: how good, how large and how fast each is, beside the first."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from typing import Any

from kompakt.answers import Labelled, labelled
from kompakt.errors import InputError, VerificationError
from kompakt.evaluate import BATCH, checked_options, judge
from kompakt.profiling.pairs import alone, in_pairs
from kompakt.profiling.profiled import profiled_at
from kompakt.progress import Report, shown
from kompakt.records_evaluation import Comparison, Contender, Evaluation
from kompakt.subjects import Subject, in_order, single, subject
from kompakt.versus import compare_evaluations

ROUNDS = 15
"""Readings of a latency beside the first file's: of two small files about 1.5 seconds."""


def compare_models(
    things: Sequence[Any],
    data: Any,
    *,
    metrics: Any = None,
    batch_size: int = BATCH,
    workers: int = 1,
    seed: int = 0,
    confidence: float = 0.95,
    latency: bool = True,
    progress: bool | Report = False,
) -> Comparison:
    """Evaluate each of ``things`` on the same samples, and put each beside the first.

    One that has outputs that are NaN is told in its row; of the first one that is an error.

    Args:
        things: two or more of what :func:`kompakt.evaluate` takes. data, metrics, batch_size, workers, seed: as there.
            A generator can be read only once, and is refused.
        latency: time a run of each artifact, on one thread, in turn with the first artifact, each in a process of its
            own, begun three times: 1.5 seconds for a small TFLite file, and as many starts for other runtimes. A Keras
            model has no file, and is not timed.

    Raises:
        InputError: fewer than two things, or what :func:`kompakt.evaluate` refuses.
        VerificationError: an output of the first is NaN or infinite.

    Example:
        >>> import keras, numpy as np
        >>> a, b = (keras.Sequential([keras.Input((2,)), keras.layers.Rescaling(s)], name=n)
        ...         for s, n in ((1, "a"), (2, "b")))
        >>> found = compare_models([a, b], (np.eye(2, dtype="float32"), np.array([0, 1])))
        >>> [(each.thing, each.evaluation.value("accuracy")) for each in found.contenders]
        [('a', 1.0), ('b', 1.0)]
    """
    checked_options(workers, batch_size, confidence, needed=True)
    if isinstance(things, str) or len(things) < 2:
        raise InputError(f"received {1 if isinstance(things, str) else len(things)} to compare, expected two or more")
    samples = labelled(data, batch_size)
    if not samples.again:
        raise InputError(
            "data: a generator is read once, each of those that are compared reads it; give arrays or a list"
        )
    with shown(progress) as report:
        judged = [subject(thing) for thing in things]
        rows = [
            _row(each, samples, metrics, report, workers=workers, seed=seed, confidence=confidence) for each in judged
        ]
        first = rows[0].evaluation
        if first is None:
            raise VerificationError(rows[0].failed, (rows[0].failed,))
        rows[1:] = [_beside(first, row, confidence=confidence, seed=seed) for row in rows[1:]]
        timed = ""
        if latency:
            report("timing", None)
            rows, timed = _timed(judged, rows, samples, seed)
    return Comparison(
        metric=first.measurements[0].name,
        contenders=tuple(rows),
        samples=first.samples,
        confidence=confidence,
        seed=seed,
        timed=timed,
        data=samples.source,
    )


def _row(judged: Subject, samples: Labelled, metrics: Any, report: Report, **options: Any) -> Contender:
    row = Contender(thing=judged.name, kind=judged.kind, bytes=judged.bytes, gzip_bytes=judged.gzip_bytes)
    try:
        return dataclasses.replace(row, evaluation=judge(judged, samples, metrics, report=report, **options))
    except VerificationError as error:
        return dataclasses.replace(row, failed=str(error))


def _beside(first: Evaluation, row: Contender, **options: Any) -> Contender:
    if row.evaluation is None:
        return row
    return dataclasses.replace(row, difference=compare_evaluations(first, row.evaluation, **options))


def _timed(
    judged: Sequence[Subject], rows: Sequence[Contender], samples: Labelled, seed: int
) -> tuple[list[Contender], str]:
    """(the rows with latencies, the name of the one that they are in relation to)."""
    inputs = next(iter(samples.pairs()))[0]
    sides = {
        i: profiled_at(each.path, single(in_order(inputs, each.inputs, "data")), seed)
        for i, each in enumerate(judged)
        if each.path is not None and rows[i].evaluation is not None
    }
    made = list(rows)
    if len(sides) < 2:
        for i, side in sides.items():
            made[i] = dataclasses.replace(made[i], milliseconds=alone(side, rounds=ROUNDS).median)
        return made, ""
    base = min(sides)
    found = {i: in_pairs(side, sides[base], rounds=ROUNDS) for i, side in sides.items() if i != base}
    for i, each in found.items():
        made[i] = dataclasses.replace(
            made[i],
            latency_ratio=each.ratio,
            latency_spread=each.spread,
            latency_low=each.low,
            latency_high=each.high,
            milliseconds=each.milliseconds,
        )
    usual = statistics.median(each.other_milliseconds for each in found.values())
    made[base] = dataclasses.replace(made[base], latency_ratio=1.0, milliseconds=usual)
    return made, rows[base].thing
