"""Tables for the terminal that fit into 80 columns, with text of files, which may hold anything."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kompakt.printable import printable

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table
    from rich.text import Text

MISSING = "–"

NAME = 16
"""Columns that names have at least, where there are names as long."""


def wrapped(line: str, width: int) -> list[str]:
    r"""``line`` in lines of at most ``width`` columns; a word that is longer stays whole.

    What follows hangs under the text where the line has a label (``"  size       9 bytes"``: indented, then two
    spaces or more), else two columns further in than the line itself.

    Example:
        >>> wrapped("  note       names are kept", 20)
        ['  note       names', '             are', '             kept']
        >>> wrapped("as small as it gets", 12)
        ['as small as', '  it gets']
    """
    from rich.cells import cell_len

    if cell_len(line) <= width:
        return [line]
    label, text = _label(line)
    named = bool(label.strip())
    hang = cell_len(label) if named else len(label) + 2
    made: list[str] = []
    if named and hang > width // 2:  # the label has a line of its own
        made, label, hang = [label.rstrip()], " " * LABEL_INDENT, LABEL_INDENT
    row = ""
    for word in text.split():
        if row and cell_len(label) + cell_len(row) + 1 + cell_len(word) > width:
            made.append(label + row)
            label, row = " " * hang, ""
        row += f" {word}" if row else word
    return [*made, label + row]


LABEL_INDENT = 6
"""Columns before the text that stands below a label which is too long to stand beside it."""


def _label(line: str) -> tuple[str, str]:
    """(indent and label with the spaces behind it, the rest)."""
    found = re.match(r" {2,}\S+(?: \S+)*? {2,}(?=\S)| *", line)
    end = 0 if found is None else found.end()
    return line[:end], line[end:]


def shortened(text: str, most: int = 60) -> str:
    """``text``, printable, with "..." for what goes beyond ``most`` characters.

    Example:
        >>> shortened("serving_default", 10)
        'serving...'
    """
    plain = printable(text)
    return plain if len(plain) <= most else f"{plain[: most - 3]}..."


def folded_table(title: str, columns: Mapping[str, str], names: Sequence[str] = ()) -> Table:
    """A table whose left columns are folded where they are too wide, and whose numbers are not.

    Args:
        columns: heading -> "left" or "right". names: what stands in the column "name", which gets room for them.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
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


def cells(texts: Sequence[str | Sequence[str]]) -> list[Text]:
    """Cells that are no markup and drive no terminal; what is not one text is one of several lines."""
    from rich.text import Text

    return [
        Text(printable(text) if isinstance(text, str) else "\n".join(printable(line) for line in text))
        for text in texts
    ]


def left_out(needed: Mapping[str, int], width: int | None, order: Sequence[str]) -> tuple[str, ...]:
    """The columns to go without, so that the rest fits into ``width``; none where that is None.

    Args:
        needed: width of each column. order: those that can be left out, the least important first.

    Example:
        >>> left_out({"name": 20, "bytes": 8, "gzip": 8}, 30, ["gzip", "bytes"])
        ('gzip',)
    """
    gone: list[str] = []
    for name in order:
        if width is None or sum(needed.values()) - sum(needed[each] for each in gone) <= width:
            break
        gone.append(name)
    return tuple(gone)


def told(gone: Sequence[str], has_them: str = "--json has them") -> str:
    r"""The sentence about columns that are left out, by their headings; none where none is.

    Example:
        >>> told(["gzip\nbytes"])
        ' Left out in this narrow terminal: gzip bytes; --json has them.'
    """
    names = ", ".join(" ".join(heading.split()) for heading in gone)
    return f" Left out in this narrow terminal: {names}; {has_them}." if gone else ""


@dataclass(frozen=True)
class Lines:
    """Lines for rich that are wrapped as :func:`wrapped` does. Print them with ``crop=False``: paths stay whole."""

    texts: tuple[str, ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The lines, as wide as there is room."""
        from rich.text import Text

        for text in self.texts:
            for part in wrapped(text, options.max_width):
                yield Text(part, no_wrap=True, overflow="ignore")


def lines(texts: Sequence[str]) -> Lines:
    """Lines of text, each of at most 400 characters."""
    return Lines(tuple(shortened(text, 400) for text in texts))
