"""What a report is made of, whatever it is rendered as: words, tables, pictures, pairs, and blocks that fold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

Draw = Callable[[str, bool], str]
"""``draw(name, narrow)``: an ``<svg>`` element whose ids begin with ``name``, for a phone where ``narrow``."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """Heading of a column.

    ``group`` stands above it and its neighbours of the same group. ``code``: digests and the like. ``drawn``: drawings.
    """

    title: str
    group: str = ""
    numeric: bool = False
    code: bool = False
    drawn: bool = False


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One value as text.

    Attributes:
        value: what it is sorted by where that is not the text; None where there is none, which is sorted last.
        bad: it needs attention. tag: a word behind the text that needs attention.
        front: it is on a Pareto front. share: 0..1, drawn as a bar behind the text.
        svg: a drawing instead of the text, where drawings can be shown. name: it is someone's name, of any script.
    """

    text: str
    value: float | str | None = None
    bad: bool = False
    tag: str = ""
    front: bool = False
    share: float | None = None
    svg: Callable[[], str] | None = None
    name: bool = False


@dataclass(frozen=True, kw_only=True)
class Line:
    """A row of a table; the first cell is its heading."""

    cells: tuple[Cell, ...]
    strong: bool = False


@dataclass(frozen=True, kw_only=True)
class Table:
    """``label`` says what the table is; ``sortable``: by any column, in the reader's hands."""

    kind: ClassVar[str] = "table"
    label: str
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    sortable: bool = True

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Headings above the columns, each with how many columns it is over; none where no column has one."""
        found: list[tuple[str, int]] = []
        for column in self.columns:
            if found and column.group and found[-1][0] == column.group:
                found[-1] = (column.group, found[-1][1] + 1)
            else:
                found.append((column.group, 1))
        return found if any(name for name, _ in found) else []


@dataclass(frozen=True, kw_only=True)
class Words:
    """A paragraph; ``note``: of lesser weight."""

    kind: ClassVar[str] = "words"
    text: str
    note: bool = False


@dataclass(frozen=True, kw_only=True)
class Bullets:
    """Lines of a list."""

    kind: ClassVar[str] = "bullets"
    lines: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A plot: ``draw`` makes it, ``text`` says what it shows, ``caption`` stands below.

    Attributes:
        key: of its ids, no two alike on a page. narrow: there is another one for phones.
    """

    kind: ClassVar[str] = "picture"
    key: str
    title: str
    text: str
    draw: Draw
    caption: str = ""
    narrow: bool = False


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Small plots side by side."""

    kind: ClassVar[str] = "gallery"
    pictures: tuple[Picture, ...]


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Words and what is said of each; (word, text)."""

    kind: ClassVar[str] = "pairs"
    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Fold:
    """Blocks that are shown when ``summary`` is opened; ``bad``: ``note`` needs attention."""

    kind: ClassVar[str] = "fold"
    summary: str
    blocks: Sequence[Block]
    note: str = ""
    bad: bool = False
    opened: bool = False


Block = Table | Words | Bullets | Picture | Gallery | Pairs | Fold


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of a report with a heading; ``key`` is its place in the page (#key)."""

    key: str
    title: str
    blocks: Sequence[Block] = field(default_factory=tuple)
