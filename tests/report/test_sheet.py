"""The variants as CSV."""

from __future__ import annotations

import csv
import dataclasses
import io
from pathlib import Path

import pytest
from tests.report.test_html import ODD, odd_run

from kompakt.records import Run, Trial, from_json
from kompakt.report import facts, sheet

GOLDEN = Path(__file__).parents[1] / "golden"


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_numbers_are_as_they_were_measured() -> None:
    run = from_json(Run, (GOLDEN / "report_run.json").read_text(encoding="utf-8"))
    found = facts.compute([run])
    lines = read(sheet.render(found))
    assert len(lines) == len(run.trials)
    for line, row in zip(lines, found.rows, strict=True):
        for field in dataclasses.fields(row):
            value = getattr(row, field.name)
            if isinstance(value, bool):
                assert line[field.name] == str(value).lower()
            elif isinstance(value, int | float):
                assert float(line[field.name]) == value
            else:
                assert line[field.name] == (value or "")


@pytest.mark.parametrize("kind", ODD)
def test_names_are_one_cell(kind: str) -> None:
    lines = read(sheet.render(facts.compute([odd_run(ODD[kind])])))
    assert [line["recipe"] for line in lines] == [ODD[kind]] * 2


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@sum", "\tx", "\rx"])
def test_no_name_becomes_a_formula(name: str) -> None:
    run = Run(title="t", trials=(Trial(recipe=name),))
    assert read(sheet.render(facts.compute([run])))[0]["recipe"] == f"'{name}"
