"""How each file's outputs compare with those of what it was made from."""

from __future__ import annotations

from dataclasses import dataclass

from kompakt.records import Agreement, Run


@dataclass(frozen=True, kw_only=True)
class Agreed:
    """The agreement of one trial's file."""

    recipe: str
    agreement: Agreement


def agreements(run: Run) -> tuple[Agreed, ...]:
    """Those of all files that were compared, in the run's order.

    Example:
        >>> agreements(Run(title="empty", trials=()))
        ()
    """
    return tuple(
        Agreed(recipe=trial.recipe, agreement=trial.artifact.agreement)
        for trial in run.trials
        if trial.artifact is not None and trial.artifact.agreement is not None
    )
