"""What a run's models are judged by."""

from __future__ import annotations

from dataclasses import dataclass

from kompakt.records import Measurement, Run, Trial

ACCURACY = "accuracy"
POINTS = 0.5
"""Loss of accuracy, in percentage points, that the verdict allows a file."""
RELATIVE = 0.01
"""Loss relative to float that the verdict allows where the metric is no accuracy."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """How good a model is: accuracy (a share, 0..1), or a metric of the user's own.

    Example:
        >>> error = Metric(prefix="metric", name="mean absolute error", lower_is_better=True)
        >>> error.loss(baseline=0.25, value=0.5)
        0.25
    """

    prefix: str = ACCURACY
    name: str = ACCURACY
    lower_is_better: bool = False

    @property
    def is_accuracy(self) -> bool:
        """Whether values are shares 0..1, shown in percent."""
        return self.prefix == ACCURACY

    def loss(self, *, baseline: float, value: float) -> float:
        """How much worse ``value`` is than ``baseline``; negative where it is better."""
        return value - baseline if self.lower_is_better else baseline - value

    def tolerance(self, baseline: float) -> float:
        """The loss that still counts as "as good as float": 0.5 points, or 1 % of another metric."""
        return POINTS / 100 if self.is_accuracy else RELATIVE * abs(baseline)


def metric(run: Run) -> Metric:
    """The metric the run's models are judged by.

    Example:
        >>> metric(Run(title="empty", trials=())).name
        'accuracy'
    """
    measurements = [m for trial in run.trials for m in trial.measurements]
    if any(m.name.startswith("accuracy_") for m in measurements):
        return Metric()
    own = next((m for m in measurements if m.name in ("metric_keras", *(f"metric_{name}" for name in FILE))), None)
    if own is None:
        return Metric()
    return Metric(prefix="metric", name=own.where or "metric", lower_is_better=own.unit == "lower")


FILE = ("file", "litert")
"""What ends the name of the metric of a trial's file, run in its runtime; the latter in older records."""


def quality(trial: Trial, shown: Metric) -> float | None:
    """The metric of a trial's file; None where it was not measured.

    Example:
        >>> quality(Trial(recipe="float"), Metric()) is None
        True
    """
    found = of_file(trial, shown)
    return None if found is None else found.value


def of_file(trial: Trial, shown: Metric) -> Measurement | None:
    """The metric of a trial's file, with its interval; None where it was not measured.

    Example:
        >>> known = Measurement(name="accuracy_file", value=0.9)
        >>> of_file(Trial(recipe="float", measurements=(known,)), Metric()).value
        0.9
    """
    found = (trial.measurement(f"{shown.prefix}_{name}") for name in FILE)
    return next((each for each in found if each is not None), None)


def of_keras(trial: Trial, shown: Metric) -> Measurement | None:
    """The metric of a trial's Keras model, likewise."""
    return trial.measurement(f"{shown.prefix}_keras")
