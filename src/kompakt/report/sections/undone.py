"""What was asked and not done."""

from __future__ import annotations

from kompakt.report.blocks import Cell, Column, Line, Section, Table, Words
from kompakt.report.facts import Facts

BAD = ("breach", "not held", "no file")


def undone(facts: Facts) -> Section:
    """One line for what was not done, the worst first."""
    title = "What was asked and not done"
    if not facts.undone:
        none = Words(text="Nothing: no request was skipped, and no file breaks a limit.")
        return Section(key="undone", title=title, blocks=(none,))
    columns = (Column(title="kind"), Column(title="what"), Column(title="recipes"))
    lines = tuple(
        Line(
            cells=(
                Cell(text=item.kind, bad=item.kind in BAD),
                Cell(text=item.text, name=True),
                Cell(text=", ".join(item.recipes) or "the whole run", name=True),
            )
        )
        for item in facts.undone
    )
    return Section(key="undone", title=title, blocks=(Table(label=title, columns=columns, lines=lines),))
