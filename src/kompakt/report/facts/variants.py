"""The table of variants: a row for each trial."""

from __future__ import annotations

from dataclasses import dataclass

from kompakt.records import Agreement, Run, Trial
from kompakt.report.facts.front import pareto, points
from kompakt.report.facts.metric import Metric, metric, of_file, of_keras
from kompakt.report.facts.speed import speed

BASELINE = "float"
"""The trial that others are compared with; of several runs in one report each has its own, "RUN: float"."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One variant: a line of the summary table. None stands for "not measured".

    Attributes:
        recipe: the recipe's name.
        keras: the metric of the Keras model (accuracy: 0..1).
        file: the metric of the file, run in its runtime.
        low, high: of the interval in which that lies by 95 %, where it was measured.
        keras_low, keras_high: the same of ``keras``.
        to_float: the metric of the file minus that of the float file, on the same samples; to_float_low,
            to_float_high: of its interval. p: of McNemar's test. told_apart: whether chance is an unlikely reason.
        argmax: share of samples with the same largest output as the reference.
        difference: largest difference of an output, in ``difference_unit``.
        difference_unit: "LSB" for an integer output; "" (the output's own unit) for a float one.
        file_bytes: size of the file.
        gzip_bytes: size of the file, gzipped.
        zeros: share of exact zeros among the weights, 0..1.
        distinct: the most distinct values in any one channel.
        latency_ratio: latency of this file over that of the float file.
        latency_spread: half the interquartile range of ``latency_ratio``. latency_low, latency_high: where it lies
            by 95 %. speed: "faster" or "slower" (see facts.speed), "not told apart" where neither; "" unmeasured.
        breaches: how many limits the file breaks.
        on_front: no other file is smaller and as good, or as small and better.
        baseline: it is the float file that others are compared with.
        target, quantization: of the file. latency_ms: of one run of it, milliseconds.
    """

    recipe: str
    keras: float | None = None
    file: float | None = None
    low: float | None = None
    high: float | None = None
    argmax: float | None = None
    difference: float | None = None
    difference_unit: str = ""
    file_bytes: int | None = None
    gzip_bytes: int | None = None
    zeros: float | None = None
    distinct: int | None = None
    latency_ratio: float | None = None
    latency_spread: float | None = None
    breaches: int = 0
    on_front: bool = False
    baseline: bool = False
    target: str = ""
    quantization: str = ""
    latency_ms: float | None = None
    keras_low: float | None = None
    keras_high: float | None = None
    to_float: float | None = None
    to_float_low: float | None = None
    to_float_high: float | None = None
    p: float | None = None
    told_apart: bool | None = None
    latency_low: float | None = None
    latency_high: float | None = None
    speed: str = ""


def rows(run: Run) -> tuple[Row, ...]:
    """One Row a trial, in the run's order.

    Example:
        >>> rows(Run(title="demo", trials=(Trial(recipe="float"),)))[0].file_bytes is None
        True
    """
    shown = metric(run)
    front = {point.index for point in pareto(points(run), lower_is_better=shown.lower_is_better)}
    return tuple(_row(trial, shown, index in front) for index, trial in enumerate(run.trials))


def is_baseline(recipe: str) -> bool:
    """Whether a trial of this name is what others are compared with.

    Example:
        >>> is_baseline("float"), is_baseline("monday: float"), is_baseline("ptq_float16")
        (True, True, False)
    """
    return recipe == BASELINE or recipe.endswith(f": {BASELINE}")


def _row(trial: Trial, shown: Metric, on_front: bool) -> Row:
    artifact = trial.artifact
    agreement = artifact.agreement if artifact is not None else None
    difference, unit = _difference(agreement)
    by_keras, by_file, beside = of_keras(trial, shown), of_file(trial, shown), trial.difference
    ratio = trial.measurement("latency_ratio")
    return Row(
        recipe=trial.recipe,
        keras=None if by_keras is None else by_keras.value,
        file=None if by_file is None else by_file.value,
        low=None if by_file is None else by_file.low,
        high=None if by_file is None else by_file.high,
        argmax=agreement.argmax if agreement is not None else None,
        difference=difference,
        difference_unit=unit,
        file_bytes=artifact.bytes if artifact is not None else None,
        gzip_bytes=artifact.gzip_bytes if artifact is not None else None,
        # A file whose weights were not read has no share of zeros; 0 % would be a claim.
        zeros=artifact.zeros if artifact is not None and artifact.sites else None,
        distinct=artifact.distinct if artifact is not None and artifact.sites else None,
        latency_ratio=None if ratio is None else ratio.value,
        latency_spread=trial.value("latency_ratio_spread"),
        breaches=len(artifact.breaches) if artifact is not None else 0,
        on_front=on_front,
        baseline=is_baseline(trial.recipe),
        target=artifact.target if artifact is not None else "",
        quantization=artifact.quantization if artifact is not None else "",
        latency_ms=trial.value("latency_ms"),
        keras_low=None if by_keras is None else by_keras.low,
        keras_high=None if by_keras is None else by_keras.high,
        to_float=None if beside is None else beside.value,
        to_float_low=None if beside is None else beside.low,
        to_float_high=None if beside is None else beside.high,
        p=None if beside is None else beside.p,
        told_apart=None if beside is None else beside.told_apart,
        latency_low=None if ratio is None else ratio.low,
        latency_high=None if ratio is None else ratio.high,
        speed=speed(trial),
    )


def _difference(agreement: Agreement | None) -> tuple[float | None, str]:
    if agreement is None:
        return None, ""
    if agreement.max_lsb is not None:
        return agreement.max_lsb, "LSB"
    return agreement.max_abs, ""
