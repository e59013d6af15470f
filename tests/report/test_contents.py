"""Tables of a file and of how two differ: golden texts, 80 columns, and names that would drive a terminal."""

from __future__ import annotations

import dataclasses
import io
import os
from pathlib import Path

import pytest
from rich.console import Console

from kompakt.changes import ArtifactDifference
from kompakt.contents import Contents
from kompakt.printable import printable
from kompakt.records import from_json
from kompakt.report import contents as report
from kompakt.report.differences import difference_tables
from kompakt.report.terminal import shortened

GOLDEN = Path(__file__).parents[1] / "golden"
WEIRD = "conv\x1b[2J\x1b]0;mine\x07[bold]<script>\u202e\x9b31m\n\ud800"


def shown(parts, width=80) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=False, highlight=False)
    for part in parts:
        console.print(part)
    return "".join(line.rstrip() + "\n" for line in console.file.getvalue().splitlines())


@pytest.fixture
def contents() -> Contents:
    return from_json(Contents, (GOLDEN / "contents.json").read_text(encoding="utf-8"))


@pytest.fixture
def found() -> ArtifactDifference:
    return from_json(ArtifactDifference, (GOLDEN / "difference.json").read_text(encoding="utf-8"))


def tables(name, contents, found):
    return {
        "contents_summary": lambda: report.summary(contents),
        "contents_operators": lambda: report.operators_tables(contents),
        "contents_tensors": lambda: report.tensors_tables(contents),
        "difference": lambda: difference_tables(found),
    }[name]()


NAMES = ("contents_summary", "contents_operators", "contents_tensors", "difference")


@pytest.mark.parametrize("name", NAMES)
def test_the_golden_text(name, contents, found):
    """UPDATE_GOLDEN=1 writes the files anew; read the difference before you commit it."""
    text, pinned = shown(tables(name, contents, found)), GOLDEN / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        pinned.write_text(text, encoding="utf-8")
    assert text == pinned.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_80_columns_are_enough(name, contents, found):
    assert max(len(line) for line in shown(tables(name, contents, found)).splitlines()) <= 80


def test_no_number_is_lost_in_80_columns(contents):
    text = shown(report.tensors_tables(contents))
    for tensor in contents.subgraphs[0].tensors:
        assert tensor.bytes is None or f"{tensor.bytes:,}" in text
        assert tensor.text_shape in text and tensor.dtype in text


def with_name(contents: Contents, name: str) -> Contents:
    """``contents`` with every text that comes from the file replaced."""
    part = contents.subgraphs[0]
    tensors = tuple(dataclasses.replace(t, name=name, dtype=name) for t in part.tensors)
    operators = tuple(dataclasses.replace(o, name=name, activation=name, options={name: name}) for o in part.operators)
    part = dataclasses.replace(part, name=name, tensors=tensors, operators=operators)
    calls = tuple(dataclasses.replace(s, name=name, inputs={name: name}) for s in contents.signatures)
    told = {"quantization": name, "versions": name, f"{name}: io": name}
    return dataclasses.replace(
        contents,
        path=name,
        note=told,
        subgraphs=(part, part),
        signatures=calls,
        float_operators=(name,),
        notes=(name,),
        faults=(name,),
    )


@pytest.mark.parametrize("make", [report.summary, report.operators_tables, report.tensors_tables])
def test_names_are_escaped_and_no_markup(make, contents):
    text = shown(make(with_name(contents, WEIRD)))
    assert all(c.isprintable() or c == "\n" for c in text)
    assert r"\x1b" in text and "[bold]" in text


def test_names_in_a_difference_are_escaped(found):
    tensors = tuple(dataclasses.replace(each, name=WEIRD, subgraph=WEIRD) for each in found.tensors)
    changes = tuple(dataclasses.replace(each, name=WEIRD, before=WEIRD, after=WEIRD) for each in found.metadata)
    made = dataclasses.replace(found, before=WEIRD, after=WEIRD, tensors=tensors, ends=changes, metadata=changes)
    text = shown(difference_tables(made))
    assert all(c.isprintable() or c == "\n" for c in text) and r"\x1b" in text


def test_what_is_escaped():
    assert printable(WEIRD) == r"conv\x1b[2J\x1b]0;mine\x07[bold]<script>\u202e\x9b31m\n\ud800"
    assert printable("größe 重み/核") == "größe 重み/核"
    assert shortened("x" * 100, 10) == "xxxxxxx..."


def test_no_difference_is_one_line():
    text = shown(difference_tables(ArtifactDifference(before="a", after="b", bytes=(1, 1))))
    assert "no difference in operators" in text
