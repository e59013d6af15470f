"""Lines that fit into a terminal."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from kompakt.records import Agreement, Artifact, Census, Measurement
from kompakt.records_evaluation import Evaluation
from kompakt.report.terminal import left_out, lines, wrapped

AGREEMENT = Agreement(samples=450, argmax=0.9778, max_abs=0.00912, exact=0.593, lsb=0.1, max_lsb=15.06,
                      given_argmax=0.9778, given_abs=0.009, given_relative=0.0126)  # fmt: skip
ARTIFACT = Artifact(
    path="e8.tflite", target="tflite", quantization="int8", io="int8", bytes=49_576, gzip_bytes=43_688, sha256="",
    source_sha256="", census=Census(ops={f"OPERATOR_{i}": i for i in range(9)}, tensors={"INT8": 3}),
    agreement=AGREEMENT, measurements=(Measurement(name="arena_uncompressed", value=7040.0, unit="bytes"),),
    notes=("accuracy 0.0867 on the 450 labels given; 0.0867 of the model given, that is a note of some length",),
)  # fmt: skip
NAMES = ("accuracy", "sparse_top_k_categorical_accuracy", "first_output_sparse_top_k_categorical_accuracy")
EVALUATION = Evaluation(
    thing="e8.tflite", kind="tflite", samples=450, confidence=0.95,
    measurements=tuple(Measurement(name=n, value=0.9, low=0.85, high=0.95, interval="BCa bootstrap") for n in NAMES),
)  # fmt: skip


@pytest.mark.parametrize("width", [60, 80])
@pytest.mark.parametrize("record", [ARTIFACT, EVALUATION], ids=["artifact", "evaluation"])
def test_reports_fit_and_lose_no_word(record, width):
    made = [part for line in record.report.splitlines() for part in wrapped(line, width)]
    assert max(map(len, made)) <= width
    assert " ".join(made).split() == record.report.split()


def test_what_follows_hangs_under_the_text():
    label, note = "  note       ", "every word of it is under the first one"
    made = wrapped(label + note, 30)
    assert len(made) == 3 and made[0].startswith(label + "every")
    assert all(len(line) - len(line.lstrip()) == len(label) for line in made[1:])


def test_a_line_without_a_label_hangs_by_two_columns():
    assert wrapped("    one two", 8) == ["    one", "      two"]
    assert wrapped("one two  three", 7) == ["one two", "  three"]


def test_a_label_that_leaves_no_room_has_a_line_of_its_own():
    line = f"  {NAMES[1]}  0.9 of it and more than fits beside that name"
    assert wrapped(line, 60)[:2] == [f"  {NAMES[1]}", "      0.9 of it and more than fits beside that name"]


def test_a_word_that_is_too_long_stays_whole():
    path = "/a/path/" * 12
    assert wrapped(f"report: {path} is there", 80) == ["report:", f"  {path}", "  is there"]


def test_wide_signs_are_counted_as_wide():
    assert wrapped("名前 名前", 8) == ["名前", "  名前"]


@given(st.lists(st.text("ab ", max_size=12)).map("".join), st.integers(20, 60))
def test_any_line_keeps_its_words(line, width):
    made = wrapped(line, width)
    assert " ".join(made).split() == line.split()
    assert all(len(part) <= width or len(part.split()) == 1 for part in made)


def test_printed_lines_are_wrapped_as_wide_as_the_console():
    console = Console(file=io.StringIO(), width=20)
    console.print(lines(["  note  a path " + "/x" * 20]), crop=False)
    assert console.file.getvalue().splitlines() == ["  note  a path", "        " + "/x" * 20]


def test_columns_go_in_their_order_and_no_more_than_must():
    needed = {"name": 20, "bytes": 10, "gzip": 10}
    assert left_out(needed, 40, ("gzip", "bytes")) == ()
    assert left_out(needed, None, ("gzip", "bytes")) == ()
    assert left_out(needed, 1, ("gzip", "bytes")) == ("gzip", "bytes")
