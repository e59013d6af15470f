"""The table of variants."""

from __future__ import annotations

from kompakt.report.blocks import Cell, Column, Line, Section, Table, Words
from kompakt.report.facts import Facts, Row
from kompakt.report.sections.beside import chance, latency, to_float
from kompakt.report.sections.words import numbers, quality_title
from kompakt.report.table import cells, interval

LEGEND = (
    "● on the Pareto front: no other file is smaller and as good, or as small and better. Differences are in LSB, "
    "steps of the output's integer grid; where the output is float, in its own unit. Distinct values: the most in "
    "any one channel of any weight. Latency: ratio to the float file, measured in turns, with the interval in which it "
    "lies by 95 % or, in older records, ± half the interquartile range; below 1 is faster, unless 1 lies in the "
    "interval. Interval: where the value of very many samples like these lies, by 95 %. – means not measured."
)

BESIDE = (
    " To float: the difference to the float file on the same samples, with its 95 % interval. p: how likely one as "
    "large is by chance, where each sample is right or wrong (McNemar's exact test). *: more than chance explains, "
    "each row by itself."
)


def variants(facts: Facts) -> Section:
    """One line a trial, sortable."""
    if not facts.rows:
        return Section(key="variants", title="Variants", blocks=(Words(text="No recipe was tried."),))
    sure = any(row.low is not None for row in facts.rows)
    beside = any(row.to_float is not None for row in facts.rows)
    columns = (
        Column(title="recipe"),
        *numbers(
            "file",
            *(["95 % interval"] if sure else []),
            *(["to float", "p"] if beside else []),
            "Keras",
            group=quality_title(facts.metric),
        ),
        *numbers("file", "gzip", group="size, bytes"),
        *numbers("ratio to float", group="latency"),
        *numbers("argmax", "largest difference", group="agreement"),
        *numbers("zeros, %", "distinct a channel", group="weights"),
    )
    lines = tuple(_line(row, facts, sure, beside) for row in facts.rows)
    table = Table(label="Variants", columns=columns, lines=lines)
    return Section(
        key="variants", title="Variants", blocks=(table, Words(text=LEGEND + (BESIDE if beside else ""), note=True))
    )


def _line(row: Row, facts: Facts, sure: bool, beside: bool) -> Line:
    text = cells(row, facts.metric)
    first = Cell(
        text=row.recipe,
        value=row.recipe,
        name=True,
        front=row.on_front,
        tag="breach" if row.breaches else "",
    )
    shown = [Cell(text=text.litert, value=row.file)]
    if sure:
        shown.append(Cell(text=interval(row, facts.metric), value=row.low))
    if beside:
        shown += [Cell(text=to_float(row, facts.metric), value=row.to_float), Cell(text=chance(row), value=row.p)]
    shown += [
        Cell(text=text.keras, value=row.keras),
        Cell(text=text.file_bytes, value=row.file_bytes),
        Cell(text=text.gzip_bytes, value=row.gzip_bytes),
        Cell(text=latency(row), value=row.latency_ratio),
        Cell(text=text.argmax, value=row.argmax),
        Cell(text=text.difference, value=row.difference),
        Cell(text=text.zeros, value=row.zeros),
        Cell(text=text.distinct, value=row.distinct),
    ]
    return Line(cells=(first, *shown), strong=row.baseline)
