"""Which form a report takes, by the ending of its file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kompakt.errors import InputError
from kompakt.report import html, markdown, sheet
from kompakt.report.facts import Facts

FORMATS: dict[str, Callable[[Facts], str]] = {"html": html.page, "md": markdown.render, "csv": sheet.render}
"""Name, which is also the ending -> what renders it."""

ENDINGS = {"htm": "html", "markdown": "md"}
"""Other endings of the same."""


def format_for(path: str | Path, asked: str | None = None) -> str:
    """The format that was asked for, else that of a file's ending.

    Raises:
        InputError: there is no such ending.

    Example:
        >>> format_for("report.md"), format_for("report", "csv")
        ('md', 'csv')
    """
    if asked is not None:
        return asked
    ending = Path(path).suffix.lower().removeprefix(".")
    found = ENDINGS.get(ending, ending)
    if found not in FORMATS:
        known = ", ".join(f".{name}" for name in FORMATS)
        raise InputError(f"{path}: expected a name that ends in {known}, or --format {' | '.join(FORMATS)}")
    return found
