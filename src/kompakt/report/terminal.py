"""Tables for the terminal that fit into 80 columns, with text of files, which may hold anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kompakt.printable import printable

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

MISSING = "–"

NAME = 16
"""Columns that names have at least, where there are names as long."""


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


def lines(texts: Sequence[str]) -> Text:
    """Lines of text, each of at most 400 characters."""
    from rich.text import Text

    return Text("\n".join(shortened(text, 400) for text in texts), overflow="fold")
