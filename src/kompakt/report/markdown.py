"""The report as Markdown: the same sections, plots as words."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from kompakt.printable import printable
from kompakt.report.blocks import Block, Bullets, Cell, Column, Fold, Gallery, Pairs, Picture, Section, Table, Words
from kompakt.report.facts import Facts
from kompakt.report.sections import sections


def render(facts: Facts) -> str:
    """The Markdown text (GitHub's, with tables) of a report. Names in it are text, whatever signs they have.

    Example:
        >>> from kompakt.records import Run
        >>> from kompakt.report.facts import compute
        >>> render(compute([Run(title="a *b*", trials=())])).splitlines()[0]
        '# a \\\\*b\\\\*'
    """
    parts = [f"# {escaped(facts.title)}", escaped(facts.created)]
    for verdict in facts.verdicts:
        label = f"**{escaped(verdict.label)}:** " if verdict.label else ""
        parts.append(f"{label}{escaped(verdict.text)}")
    parts += [_section(section) for section in sections(facts)]
    text = "\n\n".join(part for part in parts if part) + "\n"
    return text.encode("utf-8", "replace").decode("utf-8")


def escaped(text: str) -> str:
    """``text`` with what Markdown or HTML would read as a sign of theirs made plain, on one line.

    Example:
        >>> escaped("a|b <i> *c*"), escaped("1. x\\n# y")
        ('a\\\\|b &lt;i> \\\\*c\\\\*', '1\\\\. x \\\\# y')
    """
    line = printable(" ".join(text.split()))
    line = line.replace("&", "&amp;").replace("<", "&lt;")
    line = re.sub(r"([\\`*_\[\]|~#$])", r"\\\1", line)
    line = re.sub(r"(?<=\w)\\_(?=\w)", "_", line)  # inside a word it is plain, and reads better
    return re.sub(r"^(\d{1,9})(?=[.)](\s|$))|^(?=[-+](\s|-|$)|[=>])", r"\1\\", line)


def _section(section: Section) -> str:
    return f"## {escaped(section.title)}\n\n{_blocks(section.blocks)}"


def _blocks(blocks: Sequence[Block]) -> str:
    return "\n\n".join(_RENDER[type(block)](block) for block in blocks)


def _words(block: Words) -> str:
    return escaped(block.text)


def _bullets(block: Bullets) -> str:
    return "\n".join(f"- {escaped(line)}" for line in block.lines)


def _pairs(block: Pairs) -> str:
    return "\n".join(f"- {escaped(word)}: {escaped(text)}" for word, text in block.pairs)


def _picture(block: Picture) -> str:
    return escaped(block.text)


def _gallery(block: Gallery) -> str:
    return "\n".join(f"- {escaped(each.title)}: {escaped(each.text)}" for each in block.pictures)


def _fold(block: Fold) -> str:
    note = f" ({escaped(block.note)})" if block.note else ""
    return f"**{escaped(block.summary)}**{note}\n\n{_blocks(block.blocks)}"


def _table(block: Table) -> str:
    heads = [_heading(column) for column in block.columns]
    rule = ["---:" if column.numeric else "---" for column in block.columns]
    lines = [[_cell(cell) for cell in line.cells] for line in block.lines]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [heads, rule, *lines])


def _heading(column: Column) -> str:
    return escaped(f"{column.group}: {column.title}" if column.group else column.title)


def _cell(cell: Cell) -> str:
    tag = f" ({escaped(cell.tag)})" if cell.tag else ""
    return f"{escaped(cell.text)}{' ●' if cell.front else ''}{tag}"


_RENDER: dict[type, Callable[[Any], str]] = {
    Words: _words,
    Bullets: _bullets,
    Pairs: _pairs,
    Picture: _picture,
    Gallery: _gallery,
    Fold: _fold,
    Table: _table,
}
