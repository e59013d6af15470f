"""Training curves: what each training metric was, epoch by epoch."""

from __future__ import annotations

from dataclasses import dataclass

from kompakt.records import Run, Trial

LARGEST = 1e18
"""What is beyond this, infinite or NaN is no value that a plot shows."""

VALIDATION = "val_"
"""How Keras begins the name of a metric on the validation data."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One metric of one trial, an epoch a value.

    Attributes:
        first, last: its ends. lowest, highest: over all epochs, with the first epoch (from 1) that has it.
    """

    name: str
    values: tuple[float, ...]
    first: float
    last: float
    lowest: float
    lowest_at: int
    highest: float
    highest_at: int


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Curves of one trial that belong on one scale: a metric, and the same on the validation data."""

    recipe: str
    name: str
    curves: tuple[Curve, ...]


def panels(run: Run) -> tuple[Panel, ...]:
    """The training curves, in the run's order.

    Example:
        >>> history = {"loss": (2.0, 1.0), "accuracy": (0.5, 0.6), "val_loss": (2.5, 1.5)}
        >>> run = Run(title="demo", trials=(Trial(recipe="a", history=history),))
        >>> [(panel.name, [curve.name for curve in panel.curves]) for panel in panels(run)]
        [('loss', ['loss', 'val_loss']), ('accuracy', ['accuracy'])]
    """
    return tuple(panel for trial in run.trials for panel in _panels(trial))


def _panels(trial: Trial) -> list[Panel]:
    groups: dict[str, list[Curve]] = {}
    for name, values in trial.history.items():
        finite = [value for value in values if abs(value) < LARGEST]
        if finite:
            groups.setdefault(name.removeprefix(VALIDATION), []).append(_curve(name, values, finite))
    return [Panel(recipe=trial.recipe, name=name, curves=tuple(curves)) for name, curves in groups.items()]


def _curve(name: str, values: tuple[float, ...], finite: list[float]) -> Curve:
    low, high = min(finite), max(finite)
    return Curve(
        name=name,
        values=values,
        first=values[0],
        last=values[-1],
        lowest=low,
        lowest_at=values.index(low) + 1,
        highest=high,
        highest_at=values.index(high) + 1,
    )
