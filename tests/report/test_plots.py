"""The plots: labels that stay apart, colours of the page, names that are text."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

from kompakt.records import Run, Trial, from_json
from kompakt.records_layers import Histogram
from kompakt.report import facts
from kompakt.report.plots.curves import panel_figure, panel_svg
from kompakt.report.plots.histogram import histogram_svg, histogram_text
from kompakt.report.plots.labels import Box, place_labels
from kompakt.report.plots.scatter import NARROW, plane_figure, plane_svg
from kompakt.report.plots.svg import VARIABLES

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module")
def golden_run() -> Run:
    return from_json(Run, (GOLDEN / "report_run.json").read_text(encoding="utf-8"))


def size_svg(run: Run, narrow: bool = False) -> str:
    return plane_svg(facts.size_plane(run), "size", "Size", "words", narrow=narrow)


@pytest.mark.parametrize("narrow", [False, True])
def test_names_in_the_plot_are_escaped_and_are_no_formulas(golden_run: Run, narrow: bool) -> None:
    trials = (*golden_run.trials[:6], dataclasses.replace(golden_run.trials[2], recipe="float: <script>$x_$"))
    svg = size_svg(dataclasses.replace(golden_run, trials=trials), narrow)
    assert "<script" not in svg
    assert ">float: &lt;script&gt;$x_$</text>" in svg


def test_plots_follow_the_theme(golden_run: Run) -> None:
    (first, *_) = facts.compute([golden_run]).curves
    for svg in (size_svg(golden_run), panel_svg(first, "curve", "t", "w")):
        colors = set(re.findall(r"(?:fill|stroke): ([^;\"]+)", svg)) - {"none"}
        assert colors <= {f"var({name})" for name in VARIABLES.values()} and len(colors) >= 3


def test_a_file_that_breaks_a_limit_stands_out(golden_run: Run) -> None:
    assert size_svg(golden_run).count("fill: var(--bad)") == 1


def test_a_curve_that_does_not_move_has_its_one_value_at_its_axis() -> None:
    """Of an accuracy of 1 the axis is not one up to 1.05."""
    run = Run(title="t", trials=(Trial(recipe="a", history={"accuracy": (1.0, 1.0, 1.0)}),))
    (panel,) = facts.compute([run]).curves
    assert [tick.get_text() for tick in panel_figure(panel).axes[0].get_yticklabels()] == ["1"]


def test_no_label_covers_a_marker_without_one() -> None:
    around = [(60.0, 50.0), (75.0, 50.0), (50.0, 62.0)]
    (box,) = place_labels([(50.0, 50.0)], [(30.0, 10.0)], Box(0, 0, 200, 100), (), around)
    assert not [place for place in around if box.overlaps(Box(place[0] - 3, place[1] - 3, place[0] + 3, place[1] + 3))]


def test_the_plot_for_a_phone_names_the_front_and_float_alone(golden_run: Run) -> None:
    svg = size_svg(golden_run, narrow=True)
    assert f'viewBox="0 0 {NARROW[0]} {NARROW[1]}"' in svg
    named = set(re.findall(r">([a-z_0-9]+)</text>", svg)) - set(re.findall(r">(\d+)</text>", svg))
    assert named == {"float", "ptq_dynamic_int8", "qat_int8"}


def test_what_no_font_has_is_no_warning(golden_run: Run, recwarn: pytest.WarningsRecorder) -> None:
    odd = dataclasses.replace(golden_run.trials[2], recipe="\U0001f9e0 \u5c42 \u05e9\u05db\u05d1\u05d4 a\x00b")
    svg = size_svg(dataclasses.replace(golden_run, trials=(odd,)))
    assert "\U0001f9e0 \u5c42" in svg and "\x00" not in svg
    assert not [w for w in recwarn if "Glyph" in str(w.message)]


def test_the_users_matplotlib_settings_stay_out_and_stay_put(golden_run: Run) -> None:
    import matplotlib as mpl

    expected = size_svg(golden_run)
    with mpl.rc_context({"text.usetex": True, "font.size": 40}):
        assert size_svg(golden_run) == expected
        assert mpl.rcParams["font.size"] == 40


def test_spreads_of_latency_are_drawn(golden_run: Run) -> None:
    plane = facts.latency_plane(golden_run)
    bars = plane_figure(plane).axes[0].containers
    assert len(bars) == sum(bool(point.spread) for point in plane.points) > 3


def test_a_wide_range_of_sizes_gets_a_logarithmic_axis(golden_run: Run) -> None:
    first = golden_run.trials[0]
    assert first.artifact is not None
    huge = dataclasses.replace(first, recipe="huge", artifact=dataclasses.replace(first.artifact, bytes=2_000_000))
    svg = size_svg(dataclasses.replace(golden_run, trials=(*golden_run.trials, huge)))
    assert {"20", "50", "100", "2,000"} <= set(re.findall(r">([\d,]+)</text>", svg))


def test_labels_stay_apart() -> None:
    frame = Box(0, 0, 600, 300)
    anchors = [(300.0 + 9 * (index % 3), 150.0 + 9 * (index // 3)) for index in range(12)]
    boxes = place_labels(anchors, [(80.0, 14.0)] * 12, frame)
    for index, box in enumerate(boxes):
        assert box.inside(frame)
        assert not any(box.overlaps(other) for other in boxes[index + 1 :])
        assert not any(box.left < x < box.right and box.bottom < y < box.top for x, y in anchors)


def test_labels_stay_off_the_line_of_the_front() -> None:
    frame, line = Box(0, 0, 400, 200), Box(100, 99, 400, 101)
    (on,) = place_labels([(100.0, 100.0)], [(80.0, 14.0)], frame)
    (off,) = place_labels([(100.0, 100.0)], [(80.0, 14.0)], frame, [line])
    assert on.overlaps(line) and not off.overlaps(line) and off.inside(frame)


def test_a_label_does_not_cover_the_numbers_of_the_scale() -> None:
    """The smallest file is near the left edge, the least accurate near a number: as the demo's shrunk models are."""
    rows = [("float", 162_456, 0.9867), ("qat_int8", 48_808, 0.9956), ("shrink_ptq_int8", 27_032, 0.9844)]
    points = [facts.Point(index=i, label=name, cost=size, value=value) for i, (name, size, value) in enumerate(rows)]
    points.append(facts.Point(index=3, label="shrink_qat_int8", cost=27_032, value=0.9844))
    plane = facts.Plane(cost="file size", unit="bytes", metric=facts.Metric(), points=tuple(points))
    figure = plane_figure(dataclasses.replace(plane, front=facts.pareto(points)))
    figure.draw_without_rendering()
    (axes,) = figure.axes
    numbers = [tick.get_window_extent() for tick in axes.get_yticklabels() if tick.get_text()]
    labels = [text for text in axes.texts if "int8" in text.get_text() or text.get_text() == "float"]
    assert len(numbers) > 3 and len(labels) == 3
    for label in labels:
        assert not any(label.get_window_extent().overlaps(number) for number in numbers), label.get_text()


def test_a_histogram_has_a_bar_for_each_part_that_is_not_empty() -> None:
    histogram = Histogram(low=-128, high=127, counts=(0, 10_000, 1, 0), integers=True)
    svg = histogram_svg(histogram)
    assert svg.count("M") == 2 and "M1 24V0h1V24" in svg and "M2 24V23.2h1V24" in svg
    assert histogram_text(histogram) == (
        "10,001 integers from −128 to 127 in 4 parts: most in −64 to −1 (10,000), half of all from −64 to −1, "
        "2 parts empty"
    )


def test_a_histogram_of_nothing_is_drawn_all_the_same() -> None:
    assert "path" in histogram_svg(Histogram(low=0, high=0, counts=(0,)))
    assert histogram_text(Histogram(low=0, high=0, counts=(0, 0))) == "0 values from 0 to 0"
