"""A table that goes without columns where the terminal has no room for them, rather than cut numbers off."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Column, Table
from rich.text import Text

from kompakt.printable import printable
from kompakt.report.terminal import left_out, told

FOLDED = 8
"""Columns that a text which may be folded has at least."""


NAME = 16
"""Columns that names have at least, where there are names as long."""


class FittingTable(Table):
    """A table that leaves columns out as it is printed, and says which.

    Attributes:
        least_first: headings of columns that can be left out, the least important first.

    Example:
        >>> table = FittingTable("name", "bytes", "gzip", box=None)
        >>> table.least_first = ("gzip",)
        >>> table.add_row("conv", "12", "10")
        >>> Console(width=14).print(table)
         name  bytes
         conv  12
        Left out in...
    """

    least_first: tuple[str, ...] = ()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The columns for which there is room."""
        heads, needed = [_heading(column) for column in self.columns], [self._needed(column) for column in self.columns]
        order = [i for name in self.least_first for i, head in enumerate(heads) if head == name]
        gone = left_out(dict(enumerate(needed)), options.max_width, order)
        shown = copy.copy(self)
        kept = [column for i, column in enumerate(self.columns) if i not in gone]
        shown.columns = [dataclasses.replace(column, _index=place) for place, column in enumerate(kept)]
        if sum(max(self._needed(column), column.min_width or 0) for column in shown.columns) > options.max_width:
            for column in shown.columns:
                column.min_width = None
        if gone:
            said = self.caption.plain if isinstance(self.caption, Text) else str(self.caption or "")
            shown.caption = Text(f"{said}{told([heads[i] for i in gone])}".lstrip())
        yield from super(FittingTable, shown).__rich_console__(console, options)

    def _needed(self, column: Column) -> int:
        texts = [cell.plain if isinstance(cell, Text) else str(cell) for cell in (column.header, *column.cells)]
        widest = max(cell_len(line) for text in texts for line in text.split("\n"))
        return (widest if column.no_wrap else min(widest, FOLDED)) + self.padding[1] + self.padding[3]


def _heading(column: Column) -> str:
    return column.header.plain if isinstance(column.header, Text) else str(column.header)


def folded_table(title: str, columns: Mapping[str, str], names: Sequence[str] = ()) -> FittingTable:
    """A table whose left columns are folded where they are too wide, and whose numbers are not.

    Args:
        columns: heading -> "left" or "right". names: what stands in the column "name", which gets room for them.
    """
    table = FittingTable(
        title=Text(printable(title), style="bold"),
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    least = min(NAME, max((len(printable(name)) for name in names), default=0)) or None
    for heading, justify in columns.items():
        side: Any = justify
        named = heading == "name"
        table.add_column(
            heading,
            justify=side,
            overflow="fold",
            no_wrap=justify == "right",
            min_width=least if named else None,
        )
    return table
