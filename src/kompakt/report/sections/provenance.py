"""Where the numbers come from."""

from __future__ import annotations

from kompakt.report.blocks import Block, Cell, Column, Line, Pairs, Section, Table, Words
from kompakt.report.facts import Facts, FileSource, Source
from kompakt.report.sections.words import name, numeric, plain_time
from kompakt.report.table import MISSING


def provenance(facts: Facts) -> Section:
    """Command, seed, data, machine and versions of each run; the digests of its files."""
    blocks: list[Block] = []
    for source in facts.sources:
        if source.label:
            blocks.append(Words(text=source.label))
        blocks.append(_pairs(source))
    if facts.files:
        blocks.append(_table(facts.files))
    return Section(key="provenance", title="Provenance", blocks=blocks)


def _pairs(source: Source) -> Pairs:
    versions = ", ".join(f"{package} {version}" for package, version in source.versions)
    told = (
        ("command", source.command),
        ("seed", "" if source.seed is None else str(source.seed)),
        ("data", source.data),
        ("machine", source.machine),
        ("created", plain_time(source.created)),
        ("versions", versions),
    )
    return Pairs(pairs=tuple((word, text or MISSING) for word, text in told))


def _table(files: tuple[FileSource, ...]) -> Table:
    columns = (
        Column(title="recipe"),
        Column(title="file", code=True),
        Column(title="kind"),
        Column(title="seconds", numeric=True),
        Column(title="SHA-256 of the file", code=True),
        Column(title="of the weights it was made from", code=True),
    )
    lines = tuple(
        Line(
            cells=(
                name(file.recipe),
                name(file.path),
                Cell(text=file.kind),
                numeric(file.seconds, "{:.1f}"),
                Cell(text=file.sha256 or MISSING),
                Cell(text=file.source_sha256 or MISSING),
            )
        )
        for file in files
    )
    return Table(label="Files and digests", columns=columns, lines=lines)
