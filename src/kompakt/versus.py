"""Two evaluations on the same samples: how much better one is, and whether that may be chance."""

from __future__ import annotations

import dataclasses
from typing import Any

from kompakt.compare import has_classes
from kompakt.errors import InputError
from kompakt.evaluate import Answered, checked_confidence, classes_held
from kompakt.intervals import Array, Interval, NoInterval, is_share, mcnemar, paired_interval, rows_interval
from kompakt.records_evaluation import Evaluation, EvaluationDifference


def compare_evaluations(
    first: Evaluation, second: Evaluation, *, metric: str | None = None, confidence: float = 0.95, seed: int = 0
) -> EvaluationDifference:
    """How much better or worse ``second`` is, with the interval of the difference, and whether chance explains it.

    Both answered the same samples, so that those on which both are right or wrong say nothing. Where the metric is
    right or wrong of each sample, McNemar's exact test decides; else whether 0 lies in the interval of the difference:
    of a mean over samples Student's t of their differences, of others by drawing samples with both answers. ``seed`` is
    of what is drawn.

    Args:
        first, second: what :func:`kompakt.evaluate` gave for the same samples. metric: its name, by default the first.

    Raises:
        InputError: a confidence that is no share, other samples, no such metric in both, or evaluations read from JSON,
            which has no answers.

    Example:
        >>> import keras, numpy as np
        >>> from kompakt.evaluate import evaluate, classes_held
        >>> keep, swap = (keras.Sequential([keras.Input((2,)), keras.layers.Rescaling(s)], name=n)
        ...               for s, n in ((1.0, "keep"), (-1.0, "swap")))
        >>> x, y = np.eye(2, dtype="float32")[[0, 1] * 10], np.array([0, 1] * 10)
        >>> print(compare_evaluations(evaluate(keep, (x, y)), evaluate(swap, (x, y))).verdict)
        swap is 100 points less accurate than keep, which is more than chance explains (McNemar's exact test: p =
        1.9e-06; of the samples that only one has right, keep has 20, swap 0)
    """
    checked_confidence(confidence)
    a, b = _answers(first), _answers(second)
    if first.samples != second.samples or first.labels_sha256 != second.labels_sha256:
        raise InputError(
            f"{first.thing} was evaluated on {first.samples} samples, {second.thing} on {second.samples}, with other "
            "labels; expected the same samples in the same order"
        )
    name = metric or first.measurements[0].name
    i, j = _place(first, name), _place(second, name)
    found, value = _interval(a, i, b, j, confidence=confidence, seed=seed)
    made = EvaluationDifference(
        first=first.thing,
        second=second.thing,
        metric=name,
        value=value,
        samples=first.samples,
        confidence=confidence,
        **_ends(found),
        agreed=_agreed(a, b, a.scorers[i].output),
        **_tested(_right(a, i), _right(b, j), found, confidence),
    )
    return dataclasses.replace(made, verdict=sentence(made))


def _answers(evaluation: Evaluation) -> Answered:
    if not isinstance(evaluation.answers, Answered):
        raise InputError(f"{evaluation.thing}: the evaluation has no answers, as one from JSON; evaluate it again")
    return evaluation.answers


def _place(evaluation: Evaluation, name: str) -> int:
    names = [m.name for m in evaluation.measurements]
    if name not in names:
        raise InputError(f"metric {name!r}: {evaluation.thing} was evaluated by {', '.join(map(repr, names))}")
    return names.index(name)


def _interval(
    a: Answered, i: int, b: Answered, j: int, *, confidence: float, seed: int
) -> tuple[Interval | NoInterval, float]:
    """(the interval of the difference of a metric, the difference)."""
    one, other = a.scorers[i], b.scorers[j]
    y, p, q = a.labels[one.output], a.outputs[one.output], b.outputs[other.output]
    value = b.values[j] - a.values[i]
    mine, others = a.each[i], b.each[j]
    if mine is not None and others is not None:
        return paired_interval(mine, others, confidence=confidence, share=one.right_or_wrong), value

    def difference(rows: Array) -> float:
        return other.value(y[rows], q[rows]) - one.value(y[rows], p[rows])

    return rows_interval(difference, len(y), held=classes_held(y, p), confidence=confidence, seed=seed), value


def _ends(found: Interval | NoInterval) -> dict[str, Any]:
    """The fields of the interval."""
    if isinstance(found, NoInterval):
        return {"interval": f"none: {found.why}"}
    return {"low": found.low, "high": found.high, "interval": found.how}


def _right(answered: Answered, place: int) -> Array | None:
    """Whether each sample is right; None of a metric that does not say so."""
    return answered.each[place] if answered.scorers[place].right_or_wrong else None


def _tested(
    mine: Array | None, others: Array | None, found: Interval | NoInterval, confidence: float
) -> dict[str, Any]:
    """The fields of the test: McNemar's where each sample is right or wrong, else whether 0 lies in the interval."""
    if mine is None or others is None or not (is_share(mine) and is_share(others)):
        return {"told_apart": isinstance(found, Interval) and not found.low <= 0.0 <= found.high}
    only_first, only_second, p = mcnemar(mine, others)
    return {"p": p, "only_first": only_first, "only_second": only_second, "told_apart": p < 1 - confidence}


def _agreed(a: Answered, b: Answered, output: int) -> float | None:
    """Share of samples with the same largest output; of outputs with several axes of all their places."""
    p, q = a.outputs[output], b.outputs[output]
    if not has_classes(p) or p.shape != q.shape:
        return None
    return float((p.argmax(-1) == q.argmax(-1)).mean())


def sentence(made: EvaluationDifference) -> str:
    """What a difference means, for people.

    Example:
        >>> known = {"first": "a", "second": "b", "metric": "mse", "samples": 90, "confidence": 0.95}
        >>> sentence(EvaluationDifference(**known, value=0.5, low=-0.1, high=1.1))
        'b has 0.5 more mse than a, which may be chance (95 % interval of the difference -0.1 to 1.1)'
    """
    if made.p is not None and not made.only_first and not made.only_second:
        return f"{_how_much(made)}: both are right on the same samples"
    if made.p is None and made.value == 0 and made.low == made.high == 0:
        return f"{_how_much(made)}: it is the same at every sample"
    if made.p is None and made.low is None:
        why = made.interval.removeprefix("none").removeprefix(": ")
        return f"{_how_much(made)}; how sure that is cannot be said of these samples" + (f": {why}" if why else "")
    judged = "is more than chance explains" if made.told_apart else "may be chance"
    return f"{_how_much(made)}, which {judged} ({_ground(made)})"


def _how_much(made: EvaluationDifference) -> str:
    if made.metric.endswith("accuracy"):
        if made.value == 0:
            return f"{made.second} is as accurate as {made.first}"
        word = "more" if made.value > 0 else "less"
        return f"{made.second} is {100 * abs(made.value):.3g} points {word} accurate than {made.first}"
    if made.value == 0:
        return f"{made.second} has the same {made.metric} as {made.first}"
    word = "more" if made.value > 0 else "less"
    return f"{made.second} has {abs(made.value):.3g} {word} {made.metric} than {made.first}"


def _ground(made: EvaluationDifference) -> str:
    """What the judgement rests on."""
    if made.p is None:
        return f"{100 * made.confidence:g} % interval of the difference {made.low:.3g} to {made.high:.3g}"
    return (
        f"McNemar's exact test: p = {made.p:.2g}; of the samples that only one has right, {made.first} has "
        f"{made.only_first}, {made.second} {made.only_second}"
    )
