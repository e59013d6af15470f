"""What each file holds, layer by layer, beside what was asked."""

from __future__ import annotations

import functools

from kompakt.report.blocks import Block, Bullets, Cell, Column, Fold, Line, Section, Table, Words
from kompakt.report.facts import Facts, FileLayers, LayerRow
from kompakt.report.layers import sparkline
from kompakt.report.sections.words import name, numbers, numeric
from kompakt.report.table import MISSING

LEGEND = (
    "Bytes: values times bits, without tables and scales; what is stored sparse takes another number. Zeros are exact, "
    "distinct values the most in any one channel. Histograms: stored integers over the whole range of their type, "
    "floats from the least to the largest. Asked: zeros at least (≥), values at most (≤)."
)


def layers(facts: Facts) -> Section:
    """A fold for each file."""
    title = "Layers: what was asked and what each file holds"
    if not facts.layers:
        return Section(key="layers", title=title, blocks=(Words(text="No file was made."),))
    folds = tuple(_fold(file, opened=len(facts.layers) == 1) for file in facts.layers)
    return Section(key="layers", title=title, blocks=(Words(text=LEGEND, note=True), *folds))


def _fold(file: FileLayers, opened: bool) -> Fold:
    missed = file.asked - file.held
    blocks: list[Block] = [Bullets(lines=file.applied)] if file.applied else []
    if file.rows:
        blocks.append(_table(file))
        if any(row.histogram for row in file.rows):
            blocks.append(Fold(summary="The numbers of these histograms", blocks=(_counts(file),)))
    else:
        blocks.append(Words(text="The weights of this file were not read.", note=True))
    return Fold(
        summary=file.recipe, note=_note(file, missed), bad=missed > 0, opened=opened or missed > 0, blocks=blocks
    )


def _note(file: FileLayers, missed: int) -> str:
    """What a file holds in all, and whether that is what was asked."""
    sizes = [row.bytes for row in file.rows if row.bytes is not None]
    values = sum(row.values for row in file.rows)
    told = [", ".join(dict.fromkeys(row.dtype for row in file.rows)), f"{sum(sizes):,} bytes" if sizes else ""]
    told += [f"{sum(row.zeros for row in file.rows) / values:.1%} zeros".replace("%", " %") if values else ""]
    if file.asked:
        many = "the request" if file.asked == 1 else f"all {file.asked} requests"
        told.append(f"{missed} of {file.asked} requests not held" if missed else f"{many} held")
    return " · ".join(each for each in told if each)


def _table(file: FileLayers) -> Table:
    drawn = any(row.histogram for row in file.rows)
    columns = (
        Column(title="weight"),
        Column(title="type"),
        *numbers("bits", "values", "bytes"),
        *numbers("count", "%", *(["asked ≥"] if file.asked else []), group="zeros"),
        *numbers("a channel", *(["asked ≤"] if file.asked else []), group="distinct"),
        *([Column(title="held")] if file.asked else []),
        *([Column(title="histogram", drawn=True)] if drawn else []),
    )
    lines = tuple(Line(cells=_cells(row, drawn, file.asked > 0)) for row in file.rows)
    return Table(label=f"Weights of {file.recipe}", columns=columns, lines=lines)


def _cells(row: LayerRow, drawn: bool, asked: bool) -> tuple[Cell, ...]:
    size = numeric(row.bytes)
    held = Cell(text=MISSING if row.held is None else "yes" if row.held else "no", bad=row.held is False)
    return (
        name(row.site),
        Cell(text=f"{row.dtype}{', sparse' if row.sparse else ''}"),
        numeric(row.bits),
        numeric(row.values),
        Cell(text=size.text, value=size.value, share=row.share),
        numeric(row.zeros),
        numeric(row.zero_share, "{:.1f}", 100),
        *([numeric(row.asked_zeros)] if asked else []),
        numeric(row.distinct),
        *([numeric(row.asked_palette), held] if asked else []),
        *([_histogram(row)] if drawn else []),
    )


def _histogram(row: LayerRow) -> Cell:
    if row.histogram is None:
        return Cell(text=MISSING)
    from kompakt.report.plots.histogram import histogram_svg

    return Cell(text=sparkline(row.histogram.counts), svg=functools.partial(histogram_svg, row.histogram))


def _counts(file: FileLayers) -> Table:
    from kompakt.report.plots.histogram import histogram_text

    lines = tuple(
        Line(
            cells=(
                name(row.site),
                Cell(text=histogram_text(row.histogram)),
                Cell(text=" ".join(map(str, row.histogram.counts))),
            )
        )
        for row in file.rows
        if row.histogram
    )
    columns = (Column(title="weight"), Column(title="in words"), Column(title="values in each part", code=True))
    return Table(label=f"Histograms of {file.recipe}", columns=columns, lines=lines, sortable=False)
