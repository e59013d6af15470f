"""Layers and what they cost, as a table for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kompakt.printable import printable
from kompakt.report.table import MISSING

if TYPE_CHECKING:
    from rich.table import Table

BARS = " ▁▂▃▄▅▆▇█"


def sparkline(counts: Sequence[int], width: int = 16) -> str:
    """A histogram as ``width`` signs; a bar that is not empty shows.

    Example:
        >>> sparkline([0, 1, 50, 100], width=4)
        ' ▁▄█'
    """
    each = -(-len(counts) // width)
    sums = [sum(counts[i : i + each]) for i in range(0, len(counts), each)]
    most = max(*sums, 1)
    return "".join(BARS[max(int(n > 0), round(n / most * (len(BARS) - 1)))] for n in sums)


def sensitivity_table(rows: Sequence[Any]) -> Table:
    """The layers of :func:`kompakt.sensitivity`, the worst first.

    Args:
        rows: ``LayerSensitivity`` records.
    """
    from rich.table import Table
    from rich.text import Text

    widths = list(dict.fromkeys(error.bits for row in rows for error in row.errors))
    table = Table(box=None, pad_edge=False)
    table.add_column("layer", overflow="fold")
    table.add_column("kind")
    table.add_column("weights", justify="right")
    for bits in widths:
        table.add_column(f"{bits} bits\ndB", justify="right")
        table.add_column("lost\n%", justify="right")
    table.add_column("output\nrange", justify="right")
    table.add_column("its values")
    for row in rows:
        errors = {error.bits: error for error in row.errors}
        cells = [row.layer, row.kind, f"{row.weights:,}" if row.weights else MISSING]
        for bits in widths:
            error = errors.get(bits)
            cells += [MISSING, MISSING] if error is None else [f"{error.sqnr:.1f}", f"{100 * error.drop:+.2f}"]
        seen = row.output
        cells += [MISSING, ""] if seen is None else [f"{seen.low:.3g}..{seen.high:.3g}", sparkline(seen.counts)]
        table.add_row(*(Text(printable(cell)) for cell in cells))
    table.caption = (
        "dB: signal to quantization noise at the output when this layer alone is quantized, its weights to so many "
        "bits and its output to 8. lost: accuracy, in points; where there are no classes, the error over the spread."
    )
    table.caption_justify = "left"
    return table
