"""Which layer hurts when it alone is quantized."""

from __future__ import annotations

import functools

from kompakt.records_layers import BitError, Histogram, LayerSensitivity, Spread
from kompakt.report.blocks import Block, Cell, Column, Line, Section, Table, Words
from kompakt.report.facts import Facts, Sensitive
from kompakt.report.layers import sparkline
from kompakt.report.sections.words import between, name, numbers, numeric
from kompakt.report.table import MISSING

LEGEND = (
    "The float model with one layer quantized, its weights to so many bits and its output to 8. dB: signal to "
    "quantization noise at the model's output; the lowest hurts most. Lost: accuracy, in points; where there are no "
    "classes, the error over the spread, in percent."
)


def sensitivity(facts: Facts) -> Section:
    """A table for each run that has it."""
    title = "Sensitivity of layers"
    if not facts.sensitivity:
        none = "Not measured in this run; the command kompakt sensitivity does."
        return Section(key="sensitivity", title=title, blocks=(Words(text=none),))
    blocks: list[Block] = []
    for each in facts.sensitivity:
        if each.label:
            blocks.append(Words(text=each.label))
        blocks.append(_table(each))
    return Section(key="sensitivity", title=title, blocks=(*blocks, Words(text=LEGEND, note=True)))


def _table(sensitive: Sensitive) -> Table:
    widths = list(dict.fromkeys(error.bits for row in sensitive.rows for error in row.errors))
    columns = (
        Column(title="layer"),
        Column(title="kind"),
        *numbers("weights"),
        *(column for bits in widths for column in numbers("dB", "lost", group=f"{bits} bits")),
        Column(title="output range", numeric=True),
        Column(title="output values", drawn=True),
    )
    lines = tuple(Line(cells=_cells(row, widths)) for row in sensitive.rows)
    label = f"Sensitivity of the layers{' of ' + sensitive.label if sensitive.label else ''}"
    return Table(label=label, columns=columns, lines=lines)


def _cells(row: LayerSensitivity, widths: list[int]) -> tuple[Cell, ...]:
    errors = {error.bits: error for error in row.errors}
    told = [cell for bits in widths for cell in _errors(errors.get(bits))]
    return (name(row.layer), Cell(text=row.kind), numeric(row.weights or None), *told, *_output(row.output))


def _errors(error: BitError | None) -> tuple[Cell, Cell]:
    if error is None:
        return Cell(text=MISSING), Cell(text=MISSING)
    return numeric(error.sqnr, "{:.1f}"), numeric(error.drop, "{:+.2f}" if _shows(error.drop) else "{:.2f}", 100)


def _shows(drop: float | None) -> bool:
    """Whether a sign says something: not of what is 0.00."""
    return drop is not None and abs(100 * drop) >= 0.005


def _output(seen: Spread | None) -> tuple[Cell, Cell]:
    if seen is None or not seen.counts:
        return Cell(text=MISSING), Cell(text=MISSING)
    from kompakt.report.plots.histogram import histogram_svg

    histogram = Histogram(low=seen.low, high=seen.high, counts=seen.counts)
    drawing = Cell(text=sparkline(seen.counts), svg=functools.partial(histogram_svg, histogram))
    return Cell(text=between(seen.low, seen.high), value=seen.high), drawing
