"""The terminal table: every value where it belongs, readable at 100 columns."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

pytest.importorskip("rich")

from rich.console import Console

from kompakt.records import Measurement, Run, Trial, from_json
from kompakt.report import facts, table

GOLDEN = Path(__file__).parents[1] / "golden"


def shown(run: Run, width: int = 100, color: bool = False) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=color, legacy_windows=False)
    console.print(table.summary_table(run))
    file = console.file
    assert isinstance(file, io.StringIO)
    return "".join(line.rstrip() + "\n" for line in file.getvalue().splitlines())


@pytest.fixture
def golden_run() -> Run:
    return from_json(Run, (GOLDEN / "report_run.json").read_text(encoding="utf-8"))


def test_table_of_the_golden_run(golden_run: Run) -> None:
    """UPDATE_GOLDEN=1 writes the file anew; read the difference before you commit it."""
    text, pinned = shown(golden_run), GOLDEN / "report_table.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        pinned.write_text(text, encoding="utf-8")
    assert text == pinned.read_text(encoding="utf-8")


@pytest.mark.parametrize("width", [100, 120])
def test_no_value_is_cut(golden_run: Run, width: int) -> None:
    text = shown(golden_run, width)
    metric = facts.metric(golden_run)
    for row in facts.rows(golden_run):
        for value in table.cells(row, metric):
            assert value in text
    assert max(map(len, text.splitlines())) <= width


def test_cells_of_a_full_row() -> None:
    row = facts.Row(
        recipe="pqat_int8",
        keras=0.9778,
        file=0.975,
        argmax=0.9972,
        difference=1.0,
        difference_unit="LSB",
        file_bytes=17448,
        gzip_bytes=6588,
        zeros=0.7412,
        distinct=201,
        latency_ratio=0.414,
        latency_spread=0.021,
    )
    assert table.cells(row, facts.Metric()) == (
        "pqat_int8",
        "97.78",
        "97.50",
        "0.9972",
        "1.00 LSB",
        "17,448",
        "6,588",
        "74.1",
        "201",
        "0.41 ±0.02",
    )


def test_what_was_not_measured_is_a_dash_and_nan_is_nan() -> None:
    missing = table.cells(facts.Row(recipe="failed"), facts.Metric())
    assert missing[1:] == (table.MISSING,) * 9
    assert table.cells(facts.Row(recipe="bad", file=float("nan")), facts.Metric()).litert == "NaN"
    assert table.cells(facts.Row(recipe="bad", difference=float("inf")), facts.Metric()).difference == "inf"


def test_a_float_difference_has_no_unit() -> None:
    assert table.cells(facts.Row(recipe="float", difference=1.94e-6), facts.Metric()).difference == "1.9e-06"


def test_another_metric_is_named_and_not_in_percent() -> None:
    measured = (Measurement(name="metric_litert", value=0.01234, unit="lower", where="mean absolute error"),)
    text = shown(Run(title="t", trials=(Trial(recipe="float", measurements=measured),)))
    assert "metric: mean absolute error" in text
    assert "0.01234" in text
    assert "acc." not in text


def test_names_are_neither_markup_nor_terminal_commands() -> None:
    trial = Trial(recipe="[red]a[/red]\x1b[31mb")
    text = shown(Run(title="\x1b]0;title\x07[bold]t", trials=(trial,)))
    assert r"[red]a[/red]\x1b[31mb" in text
    assert "[bold]t" in text
    assert not {"\x1b", "\x07"} & set(text)


def test_a_breach_and_the_front_are_marked(golden_run: Run) -> None:
    text = shown(golden_run)
    assert "qat_int8 *" in text
    assert "prune_<script>$x_$ !" in text


def test_an_empty_run_has_a_heading_and_no_rows() -> None:
    assert table.summary_table(Run(title="empty", trials=())).row_count == 0
    assert "recipe" in shown(Run(title="empty", trials=()))


def test_a_narrow_terminal_goes_without_columns_and_names_them_as_they_are_headed(golden_run: Run) -> None:
    console = Console(width=80, file=io.StringIO())
    console.print(table.summary_table(golden_run, 80))
    text = " ".join(console.file.getvalue().split())
    assert "Left out in this narrow terminal: acc. % Keras, values / ch." in text
    assert "zeros" in text.split("diff.:")[0]


def test_the_interval_is_shown_where_there_is_one_and_room(golden_run: Run) -> None:
    trial = Trial(
        recipe="float",
        measurements=(Measurement(name="accuracy_litert", value=0.975, low=0.955, high=0.988),),
    )
    known = Run(title="t", trials=(trial,))
    assert "95.50..98.80" in shown(known, 120)
    assert "interval" not in shown(golden_run, 120)
    narrow = [str(column.header) for column in table.summary_table(known, 70).columns]
    assert "95 %\ninterval" not in narrow and "argmax\nagreed" in narrow


def test_every_width_is_kept(golden_run: Run) -> None:
    for width in (60, 80, 100):
        console = Console(width=width, file=io.StringIO())
        console.print(table.summary_table(golden_run, width), crop=False)
        assert max(map(len, console.file.getvalue().splitlines())) <= width
