"""The facts of a report: what is computed, apart from how it is shown."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kompakt.records import Agreement, Artifact, Census, Measurement, Run, SiteFact, Trial, from_json, to_json
from kompakt.records_difference import EvaluationDifference
from kompakt.report import facts
from kompakt.report.facts.layers import files

GOLDEN = Path(__file__).parents[1] / "golden"


def artifact(
    size: int = 1000,
    gzip: int | None = None,
    breaches: tuple[str, ...] = (),
    sites: tuple[SiteFact, ...] = (),
) -> Artifact:
    return Artifact(
        path="m.tflite",
        target="tflite",
        quantization="int8",
        io="int8",
        bytes=size,
        gzip_bytes=size if gzip is None else gzip,
        sha256="ab" * 32,
        source_sha256="cd" * 32,
        census=Census(ops={}, tensors={}),
        breaches=breaches,
        sites=sites,
    )


def trial(recipe: str, size: int, accuracy: float | None, gzip: int | None = None, breached: bool = False) -> Trial:
    measured = () if accuracy is None else (Measurement(name="accuracy_file", value=accuracy),)
    file = artifact(size, gzip, breaches=("NaN in the output",) if breached else ())
    return Trial(recipe=recipe, artifact=file, measurements=measured)


def run(*trials: Trial) -> Run:
    return Run(title="test", trials=trials)


FLOAT = trial("float", 4000, 0.98)


def test_verdict_names_the_smallest_file_within_half_a_point() -> None:
    found = facts.verdict(run(FLOAT, trial("tiny", 500, 0.974), trial("small", 1000, 0.975)))
    assert found == (
        "small is the smallest file within 0.5 points of float accuracy: 4.0 times smaller than float "
        "(1,000 bytes instead of 4,000), 0.50 points lost."
    )


def test_verdict_prefers_accuracy_among_equal_sizes_and_names_the_smallest_gzip() -> None:
    found = facts.verdict(run(FLOAT, trial("plain", 1000, 0.977, 900), trial("qat", 1000, 0.982, 950)))
    assert found.startswith("qat is the smallest file")
    assert (
        "0.20 points gained; plain is as small; gzipped, it is plain: 4.4 times smaller than float, 0.30 points lost."
        in found
    )


@pytest.mark.parametrize(
    ("trials", "text"),
    [
        ((), "No recipe was tried, so there is nothing to compare."),
        ((FLOAT,), "No recipe was tried, so there is nothing to compare."),
        ((FLOAT, Trial(recipe="qat")), "No recipe made a file, so there is nothing to compare."),
        (
            (FLOAT, trial("qat", 1000, 0.98, breached=True)),
            "Every file breaks a limit, so none is recommended; 1 file with a breach was left out.",
        ),
        (
            (FLOAT, trial("qat", 2000, 0.98), trial("bad", 10, 0.99, breached=True)),
            (
                "qat is the smallest file within 0.5 points of float accuracy: 2.0 times smaller than float "
                "(2,000 bytes instead of 4,000), no accuracy lost; 1 file with a breach was left out."
            ),
        ),
        (
            (FLOAT, trial("qat", 1000, 0.9)),
            (
                "No file is within 0.5 points of float accuracy; the closest is qat, 4.0 times smaller than "
                "float, 8.00 points lost."
            ),
        ),
        (
            (FLOAT, trial("qat", 1000, None)),
            ("The accuracy of the files was not measured; the smallest file is qat, 4.0 times smaller than float."),
        ),
        (
            (trial("qat", 1000, 0.98),),
            "There is no float file to compare with; the smallest file is qat (1,000 bytes).",
        ),
        (
            (FLOAT, trial("qat", 5000, 0.98)),
            (
                "qat is the smallest file within 0.5 points of float accuracy: 1.25 times larger than float "
                "(5,000 bytes instead of 4,000), no accuracy lost."
            ),
        ),
    ],
)
def test_verdict_says_what_it_cannot_say(trials: tuple[Trial, ...], text: str) -> None:
    assert facts.verdict(run(*trials)) == text


def beside(made: Trial, value: float, p: float | None, told_apart: bool, ratio: tuple[float, float, float]) -> Trial:
    """A trial with its difference to float, and its latency."""
    found = EvaluationDifference(
        first="float", second=made.recipe, metric="accuracy", value=value, samples=450, confidence=0.95,
        low=value - 0.01, high=value + 0.01, p=p, told_apart=told_apart,
    )  # fmt: skip
    latency = Measurement(name="latency_ratio", value=ratio[1], low=ratio[0], high=ratio[2])
    return dataclasses.replace(made, difference=found, measurements=(*made.measurements, latency))


def test_verdict_says_whether_a_loss_is_chance_and_what_is_faster() -> None:
    good = beside(trial("good", 1000, 0.977), -0.003, 1.0, False, (0.4, 0.5, 0.6))
    bad = beside(trial("bad", 900, 0.9), -0.08, 1e-7, True, (0.9, 1.0, 1.1))
    assert facts.verdict(run(FLOAT, good, bad)) == (
        "good is the smallest file within 0.5 points of float accuracy: 4.0 times smaller than float (1,000 bytes "
        "instead of 4,000), 2 times faster, 0.30 points lost (1 of 450 test samples), which may be chance (McNemar's "
        "exact test: p = 1). Worse than float by more than chance explains: bad."
    )
    assert [(row.speed, row.told_apart, row.p) for row in facts.rows(run(FLOAT, good, bad))[1:]] == [
        ("faster", False, 1.0),
        ("not told apart", True, 1e-7),
    ]


def test_verdict_of_another_metric_goes_by_the_interval() -> None:
    only = beside(trial("only", 900, 0.9), -0.08, None, True, (1.1, 1.2, 1.3))
    assert facts.verdict(run(FLOAT, only)) == (
        "No file is within 0.5 points of float accuracy; the closest is only, 4.4 times smaller than float, 1.2 times "
        "slower, 8.00 points lost, which is more than chance explains (95 % interval of the difference -0.09 to "
        "-0.07). Worse than float by more than chance explains: only."
    )


def test_verdict_ignores_an_accuracy_that_is_no_number() -> None:
    found = facts.verdict(run(FLOAT, trial("nan", 500, float("nan")), trial("qat", 1000, 0.98)))
    assert found.startswith("qat is the smallest file")


def test_a_metric_of_the_users_own() -> None:
    def measured(recipe: str, size: int, error: float) -> Trial:
        values = (Measurement(name="metric_file", value=error, unit="lower", where="mean absolute error"),)
        return Trial(recipe=recipe, artifact=artifact(size), measurements=values)

    found = run(measured("float", 4000, 0.2), measured("qat", 1000, 0.2015), measured("ptq", 900, 0.25))
    assert facts.metric(found) == facts.Metric(prefix="metric", name="mean absolute error", lower_is_better=True)
    assert [row.file for row in facts.rows(found)] == [0.2, 0.2015, 0.25]
    assert [row.on_front for row in facts.rows(found)] == [True, True, True]
    assert facts.verdict(found) == (
        "qat is the smallest file within 1 % of float mean absolute error: 4.0 times smaller than float "
        "(1,000 bytes instead of 4,000), mean absolute error 0.0015 worse."
    )


def test_a_row_says_nothing_that_was_not_measured() -> None:
    (row,) = facts.rows(run(Trial(recipe="failed")))
    assert row == facts.Row(recipe="failed")
    (unread,) = facts.rows(run(Trial(recipe="unread", artifact=artifact())))
    assert (unread.zeros, unread.distinct, unread.file_bytes) == (None, None, 1000)


def test_difference_is_in_lsb_only_where_the_output_has_a_grid() -> None:
    def compared(max_lsb: float | None) -> facts.Row:
        agreement = Agreement(samples=9, argmax=1.0, max_abs=0.4, exact=1.0, lsb=0.2, max_lsb=max_lsb)
        file = dataclasses.replace(artifact(), agreement=agreement)
        return facts.rows(run(Trial(recipe="a", artifact=file)))[0]

    assert (compared(2.0).difference, compared(2.0).difference_unit) == (2.0, "LSB")
    assert (compared(None).difference, compared(None).difference_unit) == (0.4, "")


def site(name: str, zeros: int, distinct: int, asked_zeros: int | None, palette: int | None) -> SiteFact:
    return SiteFact(
        site=name,
        tensor="t",
        dtype="INT8",
        size=100,
        zeros=zeros,
        distinct=distinct,
        asked_zeros=asked_zeros,
        asked_palette=palette,
    )


SITES = (
    site("a/kernel", 75, 16, 75, 16),
    site("b/kernel", 74, 17, 75, 16),
    site("c/kernel", 0, 99, None, None),
)


def test_sites_are_held_against_what_was_asked() -> None:
    (file,) = files(run(Trial(recipe="pcqat", artifact=artifact(sites=SITES))))
    assert [row.held for row in file.rows] == [True, False, None]
    assert (file.held, file.asked) == (1, 2)


def test_sizes_of_layers_are_values_times_bits_and_shares_of_the_file() -> None:
    kinds = (("a", "INT4", 33), ("b", "float32", 8), ("c", "INT8", 51), ("d", "STRING", 5))
    sites = tuple(
        dataclasses.replace(site(name, 0, 1, None, None), dtype=dtype, size=size) for name, dtype, size in kinds
    )
    (file,) = files(run(Trial(recipe="x", artifact=artifact(sites=sites))))
    assert [(row.bits, row.bytes) for row in file.rows] == [(4, 17), (32, 32), (8, 51), (None, None)]
    assert [row.share for row in file.rows] == [0.17, 0.32, 0.51, None]


def test_a_layer_whose_name_ends_as_that_of_a_breach_is_told_by_itself() -> None:
    short = (site("dense/kernel", 1, 1, 5, None), site("block_dense/kernel", 3, 1, 5, None))
    file = artifact(sites=short, breaches=("block_dense/kernel: holds 3 zeros of 5",))
    texts = [each.text for each in facts.undone(run(Trial(recipe="a", artifact=file)))]
    assert texts == [
        "block_dense/kernel: holds 3 zeros of 5",
        "dense/kernel: 1 zeros where at least 5 were asked for",
    ]


def test_undone_lists_everything_worst_first_and_joins_recipes_that_say_the_same() -> None:
    file = artifact(sites=SITES, breaches=("argmax 0.9",))
    found = facts.undone(
        Run(
            title="t",
            trials=(
                Trial(recipe="a", artifact=artifact(), skipped=("dense: no rule",)),
                Trial(recipe="b", artifact=file, skipped=("dense: no rule",)),
                Trial(recipe="c"),
            ),
            notes=("busy machine",),
        )
    )
    assert [(item.kind, item.recipes) for item in found] == [
        ("breach", ("b",)),
        ("not held", ("b",)),
        ("no file", ("c",)),
        ("skipped", ("a", "b")),
        ("note", ()),
    ]
    assert found[1].text == (
        "b/kernel: 74 zeros where at least 75 were asked for, 17 distinct values a channel where 16 were asked for"
    )


def test_a_shortfall_that_a_breach_names_is_listed_once() -> None:
    file = artifact(sites=SITES, breaches=("b/kernel lost 1 zero",))
    assert [item.kind for item in facts.undone(run(Trial(recipe="b", artifact=file)))] == ["breach"]


def test_versions_show_where_files_differ() -> None:
    file = dataclasses.replace(artifact(), versions={"tensorflow": "2.20.0"})
    found = Run(title="t", trials=(Trial(recipe="a", artifact=file),), versions={"tensorflow": "2.21.0"})
    assert facts.versions(found) == (("tensorflow", "2.21.0, 2.20.0"),)


def test_facts_of_the_golden_run() -> None:
    """UPDATE_GOLDEN=1 writes the file anew; read the difference before you commit it."""
    golden_run = from_json(Run, (GOLDEN / "report_run.json").read_text(encoding="utf-8"))
    text = to_json(facts.compute([golden_run])) + "\n"
    pinned = GOLDEN / "report_facts.json"
    if os.environ.get("UPDATE_GOLDEN"):
        pinned.write_text(text, encoding="utf-8")
    assert text == pinned.read_text(encoding="utf-8")


def test_importing_the_report_loads_no_renderer() -> None:
    code = (
        "import sys, kompakt.report.facts, kompakt.report.table, kompakt.report.formats, kompakt.report.plots.scatter;"
        "print([m for m in ('matplotlib', 'jinja2', 'rich', 'tensorflow', 'keras') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
