"""Rows as text, and as a table for the terminal. Nothing here computes: see ``facts``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from kompakt.printable import printable
from kompakt.records import Run
from kompakt.report import facts
from kompakt.report.terminal import MISSING as MISSING
from kompakt.report.terminal import left_out, told

if TYPE_CHECKING:
    from rich.table import Table

LEGEND = (
    "diff.: the largest, in LSB (steps of the output's integer grid) or in the unit of a float output. "
    "values / ch.: the most distinct ones in any channel. "
    "latency: ratio to the float file ± half the interquartile range, or milliseconds in another runtime. "
    "*: on the Pareto front of file size and {metric}. !: breaks a limit."
)


class Cells(NamedTuple):
    """A Row as text, one field a column."""

    recipe: str
    keras: str
    litert: str
    argmax: str
    difference: str
    file_bytes: str
    gzip_bytes: str
    zeros: str
    distinct: str
    latency: str


def headings(metric: facts.Metric) -> Cells:
    """Two-line column headings.

    Example:
        >>> headings(facts.Metric()).file_bytes
        'file\\nbytes'
    """
    name = "acc. %" if metric.is_accuracy else "metric"
    return Cells(
        recipe="recipe",
        keras=f"{name}\nKeras",
        litert=f"{name}\nfile",
        argmax="argmax\nagreed",
        difference="largest\ndiff.",
        file_bytes="file\nbytes",
        gzip_bytes="gzip\nbytes",
        zeros="zeros\n%",
        distinct="values\n/ ch.",
        latency="latency\n/ float",
    )


def cells(row: facts.Row, metric: facts.Metric) -> Cells:
    """The row's values as text; "–" where nothing was measured, "NaN" where the value is none.

    Example:
        >>> cells(facts.Row(recipe="float", keras=0.975), facts.Metric())[:3]
        ('float', '97.50', '–')
    """
    pattern, factor = ("{:.2f}", 100) if metric.is_accuracy else ("{:.4g}", 1)
    return Cells(
        recipe=row.recipe,
        keras=_number(row.keras, pattern, factor),
        litert=_number(row.file, pattern, factor),
        argmax=_number(row.argmax, "{:.4f}"),
        difference=_number(row.difference, "{:.2f} LSB" if row.difference_unit else "{:.1e}"),
        file_bytes=_number(row.file_bytes, "{:,}"),
        gzip_bytes=_number(row.gzip_bytes, "{:,}"),
        zeros=_number(row.zeros, "{:.1f}", 100),
        distinct=_number(row.distinct, "{:,}"),
        latency=_latency(row),
    )


def interval(row: facts.Row, metric: facts.Metric) -> str:
    """The interval of the file's metric as text; "–" where none was measured.

    Example:
        >>> interval(facts.Row(recipe="float", low=0.9, high=0.95), facts.Metric())
        '90.00..95.00'
    """
    if row.low is None or row.high is None:
        return MISSING
    pattern, factor = ("{:.2f}", 100) if metric.is_accuracy else ("{:.4g}", 1)
    return f"{pattern.format(factor * row.low)}..{pattern.format(factor * row.high)}"


LEAST_FIRST = ("keras", "distinct", "interval", "argmax", "zeros", "gzip_bytes", "latency", "difference")
"""Columns in the order in which a narrow terminal goes without them."""


def summary_table(run: Run, width: int | None = None) -> Table:
    """The run's variants as a rich table; all columns fit into about 115.

    Args:
        width: columns of the terminal. Where it is too narrow the least important columns are left out, and the
            legend says so; None leaves none out.

    Example:
        >>> summary_table(Run(title="demo", trials=())).row_count
        0
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    metric = facts.metric(run)
    heads, rows = _with_interval(headings(metric), INTERVAL), facts.rows(run)
    texts = [_with_interval(cells(row, metric), interval(row, metric)) for row in rows]
    needed = _needed([heads, *texts])
    if all(text["interval"] == MISSING for text in texts):
        del needed["interval"]
    gone = left_out(needed, width, [name for name in LEAST_FIRST if name in needed])
    named = [name for name in needed if name not in gone]
    table = Table(
        title=Text(printable(run.title), style="bold"),
        caption=Text(
            printable(_legend(metric) + told([heads[name] for name in gone], "the report and --json have them"))
        ),
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        collapse_padding=True,
        pad_edge=False,
    )
    for name in named:
        recipe = name == "recipe"
        table.add_column(
            Text(printable(heads[name], keep="\n")),
            justify="left" if recipe else "right",
            overflow="fold",
            no_wrap=not recipe or bool(gone),
        )
    for row, text in zip(rows, texts, strict=True):
        style = "bold" if row.recipe == facts.BASELINE else "red" if row.breaches else ""
        recipe_text = printable(text["recipe"]) + marks(row)
        shown = [text[name] for name in named if name != "recipe"]
        table.add_row(Text(recipe_text), *(Text(printable(value)) for value in shown), style=style)
    return table


INTERVAL = "95 %\ninterval"


def _with_interval(texts: Cells, interval: str) -> dict[str, str]:
    """The columns of the table: those of Cells, and the interval behind the metric of the file that it is of."""
    names = list(Cells._fields)
    names.insert(names.index("litert") + 1, "interval")
    return {name: interval if name == "interval" else getattr(texts, name) for name in names}


def _needed(texts: Sequence[Mapping[str, str]]) -> dict[str, int]:
    """How wide each column is; the recipe's has room for its marks."""
    wide = {name: 2 + max(len(line) for text in texts for line in text[name].split("\n")) for name in texts[0]}
    return wide | {"recipe": wide["recipe"] + 2}


def marks(row: facts.Row) -> str:
    """What is set behind a recipe's name: " *" on the Pareto front, " !" where the file breaks a limit.

    Example:
        >>> marks(facts.Row(recipe="pqat_int8", on_front=True))
        ' *'
    """
    return (" *" if row.on_front else "") + (" !" if row.breaches else "")


def _number(value: float | None, pattern: str, factor: float = 1) -> str:
    if value is None:
        return MISSING
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else str(value)
    return pattern.format(value * factor)


def _legend(metric: facts.Metric) -> str:
    legend = LEGEND.format(metric=metric.name)
    return legend if metric.is_accuracy else f"metric: {metric.name}. {legend}"


def _latency(row: facts.Row) -> str:
    if row.latency_ratio is None and row.latency_ms is not None:
        return f"{row.latency_ms:.3g} ms"  # of another target than float's
    ratio = _number(row.latency_ratio, "{:.2f}")
    return ratio if row.latency_spread is None else f"{ratio} ±{_number(row.latency_spread, '{:.2f}')}"
