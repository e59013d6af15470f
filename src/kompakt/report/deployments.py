"""The table of one model at several targets."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from kompakt.printable import printable
from kompakt.records import Artifact, Deployment
from kompakt.report.terminal import left_out, told
from kompakt.report.units import milliseconds, plus_minus

ARENA = "arena"


HEADS = {
    "target": "target",
    "mode": "mode",
    "bytes": "bytes",
    "gzip": "gzip",
    "argmax": "argmax",
    "difference": "largest\ndiff.",
    "ms": "ms",
    "arena": "arena",
}

LEAST_FIRST = ("arena", "gzip", "difference", "argmax")
"""Columns in the order in which a narrow terminal goes without them."""


def deployments_table(made: Sequence[Deployment], width: int | None = None) -> Table:
    """One row a target that took it: what was made, and what it costs.

    Args:
        width: columns of the terminal, as of :func:`kompakt.report.table.summary_table`.
    """
    rows = [[each.target, *(["-"] * 7 if each.artifact is None else _cells(each, each.artifact))] for each in made]
    columns = dict(zip(HEADS, zip(*rows, strict=True) if rows else [()] * len(HEADS), strict=True))
    needed = {
        name: 2 + max(len(text) for text in (*HEADS[name].split("\n"), *map(printable, columns[name])))
        for name in HEADS
    }
    gone = left_out(needed, width, LEAST_FIRST)
    table = Table(box=None, pad_edge=False, caption_justify="left")
    table.caption = told([HEADS[name] for name in gone]).strip() or None
    for name in HEADS:
        if name not in gone:
            table.add_column(HEADS[name], justify="left" if name in ("target", "mode") else "right", no_wrap=True)
    for row in rows:
        shown = [text for name, text in zip(HEADS, row, strict=True) if name not in gone]
        table.add_row(*(Text(printable(text)) for text in shown))
    return table


def deployment_lines(made: Sequence[Deployment]) -> list[str]:
    """Where each artifact is and what is worth knowing of it, or why there is none.

    Example:
        >>> deployment_lines([Deployment(target="tflm", refused="no operator for GELU")])
        ['tflm: refused: no operator for GELU']
    """
    lines = []
    for each in made:
        if each.artifact is None:
            lines.append(f"{each.target}: {'not verified' if each.failed else 'refused'}: {each.refused}")
            continue
        lines.append(f"{each.target}: {each.artifact.path}")
        lines += [f"  {note}" for note in each.artifact.notes]
        lines += [f"  BREACH {breach}" for breach in each.artifact.breaches]
    return [printable(line) for line in lines]


def _cells(made: Deployment, artifact: Artifact) -> list[str]:
    agree = artifact.agreement
    arena = next((m for m in artifact.measurements if m.name == ARENA), None)
    time = "-" if made.milliseconds is None else milliseconds(made.milliseconds)
    spread = "" if made.milliseconds is None else f" ±{plus_minus(made.spread or 0.0, time)}"
    return [
        artifact.quantization,
        f"{artifact.bytes:,}",
        f"{artifact.gzip_bytes:,}",
        "-" if agree is None else f"{agree.argmax:.4f}",
        "-" if agree is None else _difference(agree.max_abs, agree.max_lsb),
        time + spread,
        "-" if arena is None else f"{arena.value:,.0f}",
    ]


def _difference(largest: float, steps: float | None) -> str:
    return f"{largest:.1e}" if steps is None else f"{steps:.2f} LSB"
