"""The planes of a report and the Pareto front."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kompakt.records import Artifact, Census, Measurement, Run, Trial
from kompakt.report import facts

FEW = st.sampled_from([0.0, 1.0, 2.0, 3.0])
"""So few numbers that ties are common."""


def point(index: int, size: float, value: float, breached: bool = False) -> facts.Point:
    return facts.Point(index=index, label=str(index), cost=size, value=value, breached=breached)


@pytest.mark.parametrize(
    ("candidates", "kept"),
    [
        ([], []),
        ([point(0, 5, 0.9)], [0]),
        ([point(0, 5, 0.9), point(1, 5, 0.95)], [1]),
        ([point(0, 9, 0.9), point(1, 5, 0.9)], [1]),
        ([point(0, 5, 0.9), point(1, 5, 0.9)], [0, 1]),
        ([point(0, 9, 0.95), point(1, 5, 0.9), point(2, 7, 0.89)], [1, 0]),
        ([point(0, 9, 0.95), point(1, 5, 0.99, breached=True)], [0]),
        ([point(0, 9, 0.95), point(1, 5, float("nan"))], [0]),
    ],
)
def test_pareto_keeps_no_dominated_point(candidates: list[facts.Point], kept: list[int]) -> None:
    assert [p.index for p in facts.pareto(candidates)] == kept


def test_pareto_of_a_metric_where_lower_is_better() -> None:
    candidates = [point(0, 5, 0.2), point(1, 9, 0.1), point(2, 10, 0.15), point(3, 5, 0.1)]
    assert [p.index for p in facts.pareto(candidates, lower_is_better=True)] == [3]


@st.composite
def clouds(draw: st.DrawFn) -> list[facts.Point]:
    rows = draw(st.lists(st.tuples(FEW, FEW | st.just(math.nan), st.booleans()), max_size=12))
    return [point(i, cost, value, breached) for i, (cost, value, breached) in enumerate(rows)]


@given(cloud=clouds(), lower=st.booleans())
def test_the_front_is_what_nothing_dominates_ties_included(cloud: list[facts.Point], lower: bool) -> None:
    """By the definition, pair by pair: p dominates q where it is no worse in both and better in one."""

    def dominates(p: facts.Point, q: facts.Point) -> bool:
        gain = q.value - p.value if lower else p.value - q.value
        return p.cost <= q.cost and gain >= 0 and (p.cost < q.cost or gain > 0)

    sound = [p for p in cloud if not p.breached and math.isfinite(p.value)]
    expected = {p.index for p in sound if not any(dominates(q, p) for q in sound)}
    front = facts.pareto(cloud, lower_is_better=lower)
    assert {p.index for p in front} == expected
    assert [p.cost for p in front] == sorted(p.cost for p in front)


def trial(recipe: str, size: int, accuracy: float, **latency: float) -> Trial:
    file = Artifact(
        path="m", target="tflite", quantization="int8", io="int8", bytes=size, gzip_bytes=size, sha256="",
        source_sha256="", census=Census(ops={}, tensors={}),
    )  # fmt: skip
    measured = {"accuracy_litert": accuracy, **latency}
    values = tuple(Measurement(name=name, value=value, where="LiteRT") for name, value in measured.items())
    return Trial(recipe=recipe, artifact=file, measurements=values)


def test_latency_is_a_ratio_where_there_is_one_with_its_spread() -> None:
    timed = trial("qat", 10, 0.9, latency_ms=2.0, latency_ratio=0.5, latency_ratio_spread=0.1)
    plane = facts.latency_plane(Run(title="t", trials=(timed, trial("untimed", 5, 0.9))))
    assert (plane.unit, plane.where) == ("of float", "LiteRT")
    assert [(p.label, p.cost, p.spread) for p in plane.points] == [("qat", 0.5, 0.1)]


def test_latency_is_in_milliseconds_where_no_ratio_was_measured() -> None:
    plane = facts.latency_plane(Run(title="t", trials=(trial("qat", 10, 0.9, latency_ms=2.0),)))
    assert (plane.unit, [p.cost for p in plane.points]) == ("ms", [2.0])


@pytest.mark.parametrize("bad", [math.inf, math.nan, -1.0, 1e300])
def test_a_latency_that_is_none_is_no_point(bad: float) -> None:
    assert facts.latency_plane(Run(title="t", trials=(trial("qat", 10, 0.9, latency_ms=bad),))).points == ()


def test_a_size_that_no_float_holds_is_no_point() -> None:
    assert facts.size_plane(Run(title="t", trials=(trial("qat", 10**400, 0.9),))).points == ()


def test_files_of_several_runtimes_are_compared_in_milliseconds() -> None:
    """The ratio of "float" to itself hid the latency of every file of another target."""
    ratio = Measurement(name="latency_ratio", value=1.0)
    here = (Measurement(name="accuracy_file", value=0.98), Measurement(name="latency_ms", value=0.01, unit="ms"))
    there = (Measurement(name="accuracy_file", value=0.97), Measurement(name="latency_ms", value=0.3, unit="ms"))
    trials = (
        Trial(recipe="float", artifact=_file("tflite"), measurements=(*here, ratio)),
        Trial(recipe="ptq_int8_tfjs", artifact=_file("tfjs"), measurements=there),
    )
    plane = facts.latency_plane(Run(title="two", trials=trials))
    assert plane.unit == "ms"
    assert [(point.label, point.cost) for point in plane.points] == [("float", 0.01), ("ptq_int8_tfjs", 0.3)]


def _file(target: str) -> Artifact:
    digests = {"sha256": "", "source_sha256": "", "census": Census(ops={}, tensors={})}
    kind = {"target": target, "quantization": "float", "io": "float32"}
    return Artifact(path="m", bytes=9, gzip_bytes=9, **kind, **digests)  # type: ignore[arg-type]
