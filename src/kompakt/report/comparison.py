"""Several models and files side by side, as a table and sentences for the terminal. Nothing here computes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kompakt.printable import printable
from kompakt.records import Measurement
from kompakt.records_evaluation import Comparison, Contender
from kompakt.report.facts.speed import in_words
from kompakt.report.terminal import MISSING, left_out, told

if TYPE_CHECKING:
    from rich.table import Table

LEAST_FIRST = ("kind", "milliseconds", "gzip_bytes", "agreed", "file_bytes", "latency")
"""Columns in the order in which a narrow terminal goes without them."""


class ContenderCells(NamedTuple):
    """A contender as text, one field a column; of some the interval is on a second line."""

    thing: str
    kind: str
    file_bytes: str
    gzip_bytes: str
    metric: str
    difference: str
    p: str
    agreed: str
    latency: str
    milliseconds: str


def headings(made: Comparison) -> ContenderCells:
    """Two-line column headings.

    Example:
        >>> headings(Comparison(metric="accuracy", contenders=())).metric
        'accuracy\\n%'
    """
    percent = is_percent(made)
    return ContenderCells(
        thing="model or file",
        kind="runs in",
        file_bytes="bytes",
        gzip_bytes="gzip\nbytes",
        metric=f"{made.metric}\n%" if percent else made.metric,
        difference="difference\npoints" if percent else "difference",
        p="p",
        agreed="argmax\nagreed",
        latency="latency\nratio",
        milliseconds="ms",
    )


def is_percent(made: Comparison) -> bool:
    """Whether the metric is a share of right answers.

    Example:
        >>> is_percent(Comparison(metric="mse", contenders=()))
        False
    """
    return made.metric.endswith("accuracy")


def contender_cells(row: Contender, made: Comparison) -> ContenderCells:
    """The row's values as text; "–" where nothing was measured.

    Example:
        >>> file = Contender(thing="m.tflite", kind="tflite", bytes=4096)
        >>> contender_cells(file, Comparison(metric="mse", contenders=(file,)))[:3]
        ('m.tflite', 'tflite', '4,096')
    """
    pattern, factor = ("{:.2f}", 100.0) if is_percent(made) else ("{:.4g}", 1.0)
    measured = None if row.evaluation is None else row.evaluation.measurements[0]
    apart = row.difference
    difference = None
    if apart is not None:
        difference = Measurement(name=apart.metric, value=apart.value, low=apart.low, high=apart.high)
    return ContenderCells(
        thing=printable(row.thing),
        kind=row.kind,
        file_bytes=MISSING if row.bytes is None else f"{row.bytes:,}",
        gzip_bytes=MISSING if row.gzip_bytes is None else f"{row.gzip_bytes:,}",
        metric="failed" if row.failed else _with_interval(measured, pattern, factor),
        difference=_with_interval(difference, pattern.replace("{:", "{:+"), factor),
        p=MISSING if apart is None or apart.p is None else f"{apart.p:.2g}" + ("*" if apart.told_apart else ""),
        agreed=MISSING if apart is None or apart.agreed is None else f"{apart.agreed:.4f}",
        latency=_latency(row),
        milliseconds=MISSING if row.milliseconds is None else f"{row.milliseconds:.3g}",
    )


def _with_interval(measured: Measurement | None, pattern: str, factor: float) -> str:
    if measured is None:
        return MISSING
    text = pattern.format(factor * measured.value)
    if measured.low is None or measured.high is None:
        return text
    return f"{text}\n{pattern.format(factor * measured.low)}..{pattern.format(factor * measured.high)}"


def _latency(row: Contender) -> str:
    if row.latency_ratio is None:
        return MISSING
    text = f"{row.latency_ratio:.2f}"
    if row.latency_low is None or row.latency_high is None:
        return text if row.latency_spread is None else f"{text}\n±{row.latency_spread:.2f}"
    return f"{text}\n{row.latency_low:.2f}..{row.latency_high:.2f}"


def comparison_table(made: Comparison, width: int | None = None) -> Table:
    """One row a contender, the first one first; under a value its interval.

    Args:
        width: columns of the terminal. Where it is too narrow the least important columns are left out, and the
            legend says so; None leaves none out.

    Example:
        >>> comparison_table(Comparison(metric="accuracy", contenders=())).row_count
        0
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    texts, needed = [contender_cells(row, made) for row in made.contenders], _needed(made)
    gone = left_out(needed, width, [name for name in LEAST_FIRST if name in needed])
    table = Table(
        caption=Text(printable(_legend(made) + told([getattr(headings(made), name) for name in gone]))),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        collapse_padding=True,
        pad_edge=False,
    )
    shown = [name for name in needed if name not in gone]
    for name in shown:
        heading = Text(printable(getattr(headings(made), name), keep="\n"))
        first = name == "thing"
        table.add_column(heading, justify="left" if first else "right", overflow="fold", no_wrap=not first)
    for text, row in zip(texts, made.contenders, strict=True):
        style = "red" if row.failed or (row.evaluation and row.evaluation.breaches) else ""
        table.add_row(*(Text(printable(getattr(text, name), keep="\n")) for name in shown), style=style)
    return table


LONGEST = 28
"""Columns that a name has at least where others are left out for it."""


TIMES = ("latency", "milliseconds")
"""Columns that are not there where nothing was timed."""


def _needed(made: Comparison) -> dict[str, int]:
    """The columns that there are, each with how wide it is."""
    rows = [contender_cells(row, made) for row in made.contenders]
    needed = {
        name: 2 + max(len(line) for text in (headings(made), *rows) for line in getattr(text, name).split("\n"))
        for name in ContenderCells._fields
        if name not in TIMES or any(getattr(row, name) != MISSING for row in rows)
    }
    return needed | {"thing": min(needed["thing"], LONGEST)}


def _legend(made: Comparison) -> str:
    sure = f"{100 * made.confidence:g} %"
    text = (
        f"{made.samples:,} samples; a..b: {sure} interval. difference, p (McNemar, exact), agreed: against the first. "
    )
    text += f"*: not by chance at {sure}, each row by itself. "
    if made.timed:
        text += f"latency: one run on one thread, in turn with {made.timed}, with its interval."
    return text.rstrip()


def comparison_lines(made: Comparison) -> list[str]:
    """What the differences mean, a sentence each, and what is worth knowing.

    Example:
        >>> bad = Contender(thing="a", kind="tflite", failed="a: NaN")
        >>> comparison_lines(Comparison(metric="mse", contenders=(bad,)))
        ['FAILED a: NaN']
    """
    lines = [each.difference.verdict for each in made.contenders if each.difference is not None]
    lines += [_speed(each, made.timed) for each in made.contenders if each.latency_low is not None]
    for each in made.contenders:
        if each.failed:
            lines.append(f"FAILED {each.failed}")
        if each.evaluation is not None:
            lines += [f"note {each.thing}: {note}" for note in each.evaluation.notes]
            lines += [f"BREACH {each.thing}: {breach}" for breach in each.evaluation.breaches]
    return [printable(line) for line in lines]


def _speed(row: Contender, timed: str) -> str:
    """Faster or slower by the rule of ``facts.speed``."""
    assert row.latency_ratio is not None
    words = in_words(row.latency_ratio, row.latency_low, row.latency_high)
    return f"{row.thing} is {words} than {timed}" if words else f"{row.thing} and {timed}: neither is told to be faster"
