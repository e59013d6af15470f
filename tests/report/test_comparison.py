"""Models and files side by side, for the terminal."""

import dataclasses
import io

from rich.console import Console

from kompakt.records import Measurement
from kompakt.records_evaluation import Comparison, Contender, Difference, Evaluation
from kompakt.report.comparison import comparison_lines, comparison_table


def contender(name, **known):
    measured = Measurement(name="accuracy", value=0.9756, low=0.96, high=0.9867)
    judged = Evaluation(thing=name, kind="tflite", samples=450, measurements=(measured,), notes=known.pop("notes", ()))
    return Contender(thing=name, kind="tflite", bytes=49_664, gzip_bytes=42_801, evaluation=judged, **known)


APART = Difference(
    first="a.tflite", second="b.tflite", metric="accuracy", value=-0.0222, low=-0.0378, high=-0.0089, samples=450,
    confidence=0.95, p=0.0063, only_first=11, only_second=1, agreed=0.9711, told_apart=True, verdict="b is worse",
)  # fmt: skip
MADE = Comparison(
    metric="accuracy", samples=450, timed="a.tflite",
    contenders=(
        contender("a.tflite", latency_ratio=1.0, milliseconds=0.02),
        contender("b[red].tflite\x1b[2J", difference=APART, latency_ratio=0.46, latency_spread=0.04, milliseconds=0.009,
                  notes=("a note",)),
        Contender(thing="c.tflite", kind="tflite", failed="c.tflite: NaN"),
    ),
)  # fmt: skip


def printed(made, width):
    console = Console(file=io.StringIO(), width=width)
    console.print(comparison_table(made, width))
    return [line.rstrip() for line in console.file.getvalue().splitlines() if line.strip()]


def test_a_row_and_its_intervals():
    lines = printed(MADE, 140)
    row = next(i for i, line in enumerate(lines) if "b[red]" in line)
    assert lines[row].split() == [
        r"b[red].tflite\x1b[2J", "tflite", "49,664", "42,801", "97.56", "-2.22", "0.0063*", "0.9711", "0.46", "0.009",
    ]  # fmt: skip
    assert lines[row + 1].split() == ["96.00..98.67", "-3.78..-0.89", "±0.04"]
    assert lines[row + 2].split() == ["c.tflite", "tflite", "–", "–", "failed", *["–"] * 5]


def test_a_narrow_terminal_has_what_matters_and_says_what_is_left_out():
    text = "\n".join(printed(MADE, 80))
    assert max(map(len, text.splitlines())) <= 80
    assert "97.56" in text and "0.0063*" in text
    assert "Left out in this narrow terminal: runs in" in " ".join(text.split())


def test_faster_is_said_only_where_the_interval_leaves_out_1():
    rows = [
        contender("a.tflite", latency_ratio=1.0, milliseconds=0.02),
        contender("b.tflite", latency_ratio=0.5, latency_low=0.49, latency_high=0.51, milliseconds=0.01),
        contender("c.tflite", latency_ratio=0.9, latency_low=0.8, latency_high=1.01, milliseconds=0.02),
    ]
    made = Comparison(metric="accuracy", samples=450, timed="a.tflite", contenders=tuple(rows))
    lines = comparison_lines(made)
    assert lines == [
        "b.tflite is 2 times faster than a.tflite",
        "c.tflite and a.tflite: neither is told to be faster",
    ]
    assert "0.49..0.51" in "\n".join(printed(made, 140))


def test_an_error_is_no_percentage():
    made = Comparison(metric="mean_squared_error", contenders=(contender("a.tflite"),))
    assert "0.9756" in "\n".join(printed(made, 140))


def test_what_is_said_below():
    assert comparison_lines(MADE) == ["b is worse", r"note b[red].tflite\x1b[2J: a note", "FAILED c.tflite: NaN"]


def test_what_was_not_timed_has_no_columns():
    made = dataclasses.replace(MADE, timed="", contenders=(contender("a.tflite"), contender("b.tflite")))
    text = "\n".join(printed(made, 140))
    assert "latency" not in text and " ms" not in text and "narrow" not in text
