"""Several runs as one, so that they can be compared: each trial with the name of its run."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from kompakt.errors import InputError
from kompakt.records import Run, Trial
from kompakt.report.facts.metric import metric

SEPARATOR = ": "
"""Between the name of a run and that of its trial."""


def named(runs: Sequence[Run], labels: Sequence[str] = ()) -> tuple[str, ...]:
    """A name for each run, no two alike; "" where there is only one.

    Example:
        >>> named([Run(title="a", trials=()), Run(title="a", trials=()), Run(title="", trials=())])
        ('a', 'a (2)', 'run 3')
    """
    if len(runs) == 1:
        return ("",)
    given = [*labels, *(run.title for run in runs[len(labels) :])]
    taken: list[str] = []
    for place, name in enumerate(given, 1):
        wanted = name or f"run {place}"
        count = 2
        while wanted in taken:
            wanted, count = f"{name} ({count})", count + 1
        taken.append(wanted)
    return tuple(taken)


def combined(runs: Sequence[Run], labels: Sequence[str]) -> Run:
    """All trials in one run; those of several have "LABEL: " before their names.

    Raises:
        InputError: there is no run, or they are judged by different metrics.

    Example:
        >>> a = Run(title="a", trials=(Trial(recipe="float"),))
        >>> [trial.recipe for trial in combined([a, a], ["a", "b"]).trials]
        ['a: float', 'b: float']
    """
    if not runs:
        raise InputError("no run to report: give one records.json at least")
    if len(runs) == 1:
        return runs[0]
    metrics = {metric(run): label for label, run in zip(labels, runs, strict=True) if run.trials}
    if len(metrics) > 1:
        told = ", ".join(f"{label} by {shown.name}" for shown, label in metrics.items())
        raise InputError(f"runs judged by different metrics cannot be compared ({told}); write a report of each")
    return Run(
        title=f"{len(runs)} runs compared",
        created=max(run.created for run in runs),
        trials=tuple(t for label, run in zip(labels, runs, strict=True) for t in _trials(run, label)),
        notes=(
            *_apart(runs),
            *(f"{label}: {note}" for label, run in zip(labels, runs, strict=True) for note in run.notes),
        ),
    )


def _trials(run: Run, label: str) -> tuple[Trial, ...]:
    return tuple(dataclasses.replace(trial, recipe=f"{label}{SEPARATOR}{trial.recipe}") for trial in run.trials)


def _apart(runs: Sequence[Run]) -> list[str]:
    """What a reader must know before numbers of different runs are held against each other."""
    said = []
    for name in ("data", "machine"):
        found = list(dict.fromkeys(getattr(run, name) or "not said" for run in runs))
        if len(found) > 1:
            said.append(f"the runs differ in their {name}: {'; '.join(found)}")
    return said
