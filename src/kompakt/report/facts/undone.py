"""What was asked and not done."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kompakt.records import Run, SiteFact, Trial
from kompakt.report.facts.layers import is_held


@dataclass(frozen=True, kw_only=True)
class Undone:
    """Something asked and not done: ``kind`` is "breach", "not held", "no file", "skipped" or "note".

    ``recipes`` are those that say so in the same words; empty for the whole run.
    """

    recipes: tuple[str, ...]
    kind: str
    text: str


def undone(run: Run) -> tuple[Undone, ...]:
    """Everything asked and not done, breaches first, then in the run's order.

    Example:
        >>> undone(Run(title="demo", trials=(Trial(recipe="pqat_int8"),)))[0].kind
        'no file'
    """
    found: dict[tuple[str, str], list[str]] = {}
    for trial in run.trials:
        for said in _undone_of(trial):
            found.setdefault(said, []).append(trial.recipe)
    items = [Undone(recipes=tuple(recipes), kind=kind, text=text) for (kind, text), recipes in found.items()]
    items += [Undone(recipes=(), kind="note", text=note) for note in run.notes]
    order = ("breach", "not held", "no file", "skipped", "note")
    return tuple(sorted(items, key=lambda item: order.index(item.kind)))


def _undone_of(trial: Trial) -> list[tuple[str, str]]:
    """Kind and text of what this trial left undone."""
    found = [("skipped", text) for text in trial.skipped]
    if trial.artifact is None:
        return [*found, ("no file", "the recipe made no file")]
    found += [("breach", text) for text in trial.artifact.breaches]
    found += [("note", text) for text in trial.artifact.notes]
    named = " ".join(trial.artifact.breaches)
    missed = [site for site in trial.artifact.sites if not is_held(site) and not _names(named, site.site)]
    return found + [("not held", _shortfall(site)) for site in missed]


def _names(text: str, site: str) -> bool:
    """Whether ``text`` names the site, and not one whose name ends or begins like it."""
    return re.search(rf"(?<![\w/]){re.escape(site)}(?![\w/])", text) is not None


def _shortfall(site: SiteFact) -> str:
    parts = []
    if site.asked_zeros is not None and site.zeros < site.asked_zeros:
        parts.append(f"{site.zeros:,} zeros where at least {site.asked_zeros:,} were asked for")
    if site.asked_palette is not None and site.distinct > site.asked_palette:
        parts.append(f"{site.distinct:,} distinct values a channel where {site.asked_palette:,} were asked for")
    return f"{site.site}: {', '.join(parts)}"
