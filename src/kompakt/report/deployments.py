"""The table of one model at several targets."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from kompakt.printable import printable
from kompakt.records import Artifact, Deployment

ARENA = "arena"


def deployments_table(made: Sequence[Deployment]) -> Table:
    """One row a target that took it: what was made, and what it costs."""
    table = Table(box=None, pad_edge=False)
    for name in ("target", "mode"):
        table.add_column(name, no_wrap=True)
    for name in ("bytes", "gzip", "argmax", "largest diff.", "ms", "arena"):
        table.add_column(name, justify="right", no_wrap=True)
    for each in made:
        found = ["-"] * 7 if each.artifact is None else _cells(each, each.artifact)
        table.add_row(*(Text(printable(text)) for text in (each.target, *found)))
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
    time = "-" if made.milliseconds is None else f"{made.milliseconds:.3g} ±{made.spread or 0.0:.1g}"
    return [
        artifact.quantization,
        f"{artifact.bytes:,}",
        f"{artifact.gzip_bytes:,}",
        "-" if agree is None else f"{agree.argmax:.4f}",
        "-" if agree is None else _difference(agree.max_abs, agree.max_lsb),
        time,
        "-" if arena is None else f"{arena.value:,.0f}",
    ]


def _difference(largest: float, steps: float | None) -> str:
    return f"{largest:.1e}" if steps is None else f"{steps:.2f} LSB"
