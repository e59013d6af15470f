"""Several runs in one report."""

from __future__ import annotations

from pathlib import Path

import pytest

from kompakt.errors import InputError
from kompakt.records import Measurement, Run, Trial, from_json
from kompakt.report import facts
from kompakt.report.facts.combine import named

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module")
def golden_run() -> Run:
    return from_json(Run, (GOLDEN / "report_run.json").read_text(encoding="utf-8"))


def test_each_run_keeps_its_name_its_verdict_and_its_float(golden_run: Run) -> None:
    other = Run(title="other", trials=golden_run.trials[:2], data="other digits", machine=golden_run.machine)
    found = facts.compute([golden_run, other], ["monday", "tuesday"])
    assert found.title == "2 runs compared"
    assert [verdict.label for verdict in found.verdicts] == ["monday", "tuesday"]
    assert [verdict.text for verdict in found.verdicts] == [facts.verdict(golden_run), facts.verdict(other)]
    assert [row.recipe for row in found.rows if row.baseline] == ["monday: float", "tuesday: float"]
    assert len(found.rows) == len(golden_run.trials) + 2
    assert [source.label for source in found.sources] == ["monday", "tuesday"]
    assert [each.label for each in found.sensitivity] == ["monday"]
    notes = [item.text for item in found.undone if item.kind == "note"]
    assert f"the runs differ in their data: {golden_run.data}; other digits" in notes
    assert not [note for note in notes if "differ in their machine" in note]


def test_names_are_never_the_same() -> None:
    run = Run(title="a", trials=())
    assert named([run] * 3, ["x", "x (2)", "x"]) == ("x", "x (2)", "x (3)")


def test_runs_of_different_metrics_are_not_compared() -> None:
    def judged(name: str) -> Run:
        return Run(title=name, trials=(Trial(recipe="float", measurements=(Measurement(name=name, value=0.5),)),))

    with pytest.raises(InputError, match=r"different metrics cannot be compared \(a by accuracy, b by metric\)"):
        facts.compute([judged("accuracy_litert"), judged("metric_litert")], ["a", "b"])


def test_no_run_is_an_error() -> None:
    with pytest.raises(InputError, match="no run to report"):
        facts.compute([])
