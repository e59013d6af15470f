"""The table of variants."""

from __future__ import annotations

from kompakt.report.blocks import Cell, Column, Line, Section, Table, Words
from kompakt.report.facts import Facts, Row
from kompakt.report.sections.words import numbers, quality_title
from kompakt.report.table import cells, interval

LEGEND = (
    "● on the Pareto front: no other file is smaller and as good, or as small and better. Differences are in LSB, "
    "steps of the output's integer grid; where the output is float, in its own unit. Distinct values: the most in "
    "any one channel of any weight. Latency: ratio to the float file, measured in turns, ± half the interquartile "
    "range; below 1 is faster. Interval: where the value of very many samples like these lies, by 95 %. – means not "
    "measured."
)


def variants(facts: Facts) -> Section:
    """One line a trial, sortable."""
    if not facts.rows:
        return Section(key="variants", title="Variants", blocks=(Words(text="No recipe was tried."),))
    sure = any(row.low is not None for row in facts.rows)
    columns = (
        Column(title="recipe"),
        *numbers("Keras", "file", *(["95 % interval"] if sure else []), group=quality_title(facts.metric)),
        *numbers("argmax", "largest difference", group="agreement"),
        *numbers("file", "gzip", group="size, bytes"),
        *numbers("zeros, %", "distinct a channel", group="weights"),
        *numbers("ratio to float", group="latency"),
    )
    lines = tuple(_line(row, facts, sure) for row in facts.rows)
    table = Table(label="Variants", columns=columns, lines=lines)
    return Section(key="variants", title="Variants", blocks=(table, Words(text=LEGEND, note=True)))


def _line(row: Row, facts: Facts, sure: bool) -> Line:
    text = cells(row, facts.metric)
    first = Cell(
        text=row.recipe,
        value=row.recipe,
        name=True,
        front=row.on_front,
        tag="breach" if row.breaches else "",
    )
    values = (
        row.keras, row.litert, row.argmax, row.difference, row.file_bytes,
        row.gzip_bytes, row.zeros, row.distinct, row.latency_ratio,
    )  # fmt: skip
    shown = [Cell(text=t, value=value) for t, value in zip(text[1:], values, strict=True)]
    if sure:
        shown.insert(2, Cell(text=interval(row, facts.metric), value=row.low))
    return Line(cells=(first, *shown), strong=row.baseline)
