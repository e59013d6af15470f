"""The HTML report: escaped, self-contained, complete, and there whatever is missing."""

from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

from kompakt.records import Measurement, Run, Trial, from_json
from kompakt.report import facts, html, plot, table

GOLDEN = Path(__file__).parents[1] / "golden"
SECTIONS = ["verdict", "variants", "plot", "asked", "undone", "provenance"]
VOID = {"meta", "br", "wbr", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """Tags, attributes and text of a page; raises where a tag isn't closed in order."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(source)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.text += data

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.attributes if key == name]


@pytest.fixture(scope="module")
def golden_run() -> Run:
    return from_json(Run, (GOLDEN / "report_run.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def source(golden_run: Run) -> str:
    return html.render(golden_run)


@pytest.fixture(scope="module")
def page(source: str) -> Page:
    return Page(source)


def test_names_are_escaped_everywhere(source: str, page: Page) -> None:
    assert "script" not in page.tags
    assert "<script" not in source.lower()
    assert "prune_&lt;script&gt;$x_$" in source
    assert "&lt;script&gt;alert(1)&lt;/script&gt;/kernel" in source
    assert "prune_<script>$x_$" in page.text


def test_every_text_of_a_record_is_escaped() -> None:
    evil = '"><img src=x onerror=alert(1)>'
    trial = Trial(recipe=evil, applied=(evil,), skipped=(evil,))
    run = Run(title=evil, trials=(trial,), command=evil, machine=evil, created=evil, data=evil, notes=(evil,))
    run = dataclasses.replace(run, versions={evil: evil})
    assert "img" not in Page(html.render(run)).tags


def test_names_in_the_plot_are_escaped_and_are_no_formulas(golden_run: Run) -> None:
    svg = plot.size_against_metric(golden_run)
    assert "<script" not in svg
    assert ">prune_&lt;script&gt;$x_$</text>" in svg


def test_nothing_is_loaded_from_elsewhere(source: str, page: Page) -> None:
    assert not re.search(r"\b(?:src|href|xlink:href|action|data)\s*=\s*[\"']?\s*(?:https?:)?//", source)
    assert not re.search(r"url\((?!#)", source)
    assert "@import" not in source
    assert not {"script", "link", "img", "iframe", "object", "embed"} & set(page.tags)
    assert all(value.startswith("#") for value in page.values("href") + page.values("xlink:href"))
    assert any("default-src 'none'" in value for value in page.values("content"))


def test_sections_are_there_in_order(page: Page) -> None:
    assert [value for value in page.values("id") if value in SECTIONS] == SECTIONS


def test_ids_are_unique_and_references_lead_somewhere(page: Page) -> None:
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    assert {name for value in page.values("aria-labelledby") for name in value.split()} <= set(ids)
    assert {value[1:] for value in page.values("xlink:href")} <= set(ids)


def test_every_row_is_in_the_page(golden_run: Run, page: Page) -> None:
    metric = facts.metric(golden_run)
    assert facts.verdict(golden_run) in page.text
    for row in facts.rows(golden_run):
        for value in table.cells(row, metric):
            assert value in page.text


def test_provenance_is_there(golden_run: Run, page: Page) -> None:
    facts_of_the_run = [golden_run.command, golden_run.machine, golden_run.data, "seed7", "2.21.0, 2.20.0"]
    digests = [trial.artifact.sha256 for trial in golden_run.trials if trial.artifact is not None]
    text = page.text.replace("\n", "")
    for expected in [*facts_of_the_run, *digests]:
        assert expected in text


def test_what_was_not_done_is_there(golden_run: Run, page: Page) -> None:
    for item in facts.undone(golden_run):
        assert item.text in page.text
    assert "1 of 2 requests not held" in page.text


def test_the_plot_has_a_text_alternative(golden_run: Run, page: Page) -> None:
    assert {"desc", "title"} <= set(page.tags)
    assert "qat_int8: 17,448 bytes, 98.06 %" in page.text
    assert "prune_<script>$x_$: 15,200 bytes, 94.44 %, breach" in page.text


def test_the_plot_follows_the_theme(golden_run: Run) -> None:
    svg = plot.size_against_metric(golden_run)
    colors = set(re.findall(r"(?:fill|stroke): ([^;\"]+)", svg)) - {"none"}
    assert colors == {f"var({name})" for name in plot.VARIABLES.values()}


def luminance(color: str) -> float:
    """Relative luminance of #rrggbb, after WCAG 2.2."""
    shares = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_has_contrast_aa_in_both_themes(source: str) -> None:
    themes = [dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", block)) for block in source.split(":root {")[1:3]]
    for theme in themes:
        paper = luminance(theme.pop("paper"))
        for role in ("ink", "muted", "accent", "bad"):
            text = luminance(theme[role])
            assert (max(text, paper) + 0.05) / (min(text, paper) + 0.05) >= 4.5, role


def test_the_same_run_gives_the_same_bytes(golden_run: Run, source: str) -> None:
    assert html.render(golden_run) == source


def test_the_users_matplotlib_settings_stay_out_and_stay_put(golden_run: Run) -> None:
    import matplotlib as mpl

    expected = plot.size_against_metric(golden_run)
    with mpl.rc_context({"text.usetex": True, "font.size": 40}):
        assert plot.size_against_metric(golden_run) == expected
        assert mpl.rcParams["font.size"] == 40


@pytest.mark.parametrize(
    "trials",
    [
        (),
        (Trial(recipe="float"),),
        (Trial(recipe="float"), Trial(recipe="qat", measurements=(Measurement(name="latency_ms", value=1),))),
    ],
)
def test_missing_records_leave_a_whole_page(trials: tuple[Trial, ...]) -> None:
    run = Run(title="little", trials=trials)
    found = Page(html.render(run))
    assert [value for value in found.values("id") if value in SECTIONS] == SECTIONS
    assert facts.verdict(run) in found.text
    assert "No file has both a size and a measured accuracy." in found.text


def test_files_without_measurements_still_make_rows(golden_run: Run) -> None:
    bare = tuple(
        dataclasses.replace(
            trial,
            measurements=(),
            artifact=trial.artifact and dataclasses.replace(trial.artifact, agreement=None, sites=()),
        )
        for trial in golden_run.trials
    )
    found = Page(html.render(dataclasses.replace(golden_run, trials=bare)))
    assert found.text.count("The weights of this file were not read.") == 7
    assert "17,448" in found.text


def test_a_metric_that_is_no_accuracy_is_named(golden_run: Run) -> None:
    def measured(value: float) -> tuple[Measurement, ...]:
        return (Measurement(name="metric_litert", value=value, unit="lower", where="error in $m^2"),)

    trials = tuple(
        dataclasses.replace(trial, measurements=measured(0.1 + 0.01 * index))
        for index, trial in enumerate(golden_run.trials)
    )
    found = Page(html.render(dataclasses.replace(golden_run, trials=trials)))
    assert "Size against error in $m^2" in found.text
    assert "error in $m^2 in LiteRT (lower is better)" in found.text


def test_a_wide_range_of_sizes_gets_a_logarithmic_axis(golden_run: Run) -> None:
    first = golden_run.trials[0]
    assert first.artifact is not None
    huge = dataclasses.replace(first, recipe="huge", artifact=dataclasses.replace(first.artifact, bytes=2_000_000))
    svg = plot.size_against_metric(dataclasses.replace(golden_run, trials=(*golden_run.trials, huge)))
    assert {"20", "50", "100", "2,000"} <= set(re.findall(r">([\d,]+)</text>", svg))


def test_labels_stay_apart() -> None:
    frame = plot.Box(0, 0, 600, 300)
    anchors = [(300.0 + 9 * (index % 3), 150.0 + 9 * (index // 3)) for index in range(12)]
    boxes = plot.place_labels(anchors, [(80.0, 14.0)] * 12, frame)
    for index, box in enumerate(boxes):
        assert box.inside(frame)
        assert not any(box.overlaps(other) for other in boxes[index + 1 :])
        assert not any(box.left < x < box.right and box.bottom < y < box.top for x, y in anchors)


def test_write_replaces_the_file(tmp_path: Path, golden_run: Run, source: str) -> None:
    path = tmp_path / "report.html"
    path.write_text("old", encoding="utf-8")
    html.write(golden_run, path)
    assert path.read_text(encoding="utf-8") == source
    assert list(tmp_path.iterdir()) == [path]


def test_labels_stay_off_the_line_of_the_front() -> None:
    frame, line = plot.Box(0, 0, 400, 200), plot.Box(100, 99, 400, 101)
    (on,) = plot.place_labels([(100.0, 100.0)], [(80.0, 14.0)], frame)
    (off,) = plot.place_labels([(100.0, 100.0)], [(80.0, 14.0)], frame, [line])
    assert on.overlaps(line) and not off.overlaps(line) and off.inside(frame)


def test_a_label_does_not_cover_the_numbers_of_the_scale() -> None:
    """The smallest file is near the left edge, the least accurate near a number: as the demo's shrunk models are."""
    rows = [("float", 162_456, 0.9867), ("qat_int8", 48_808, 0.9956), ("shrink_ptq_int8", 27_032, 0.9844)]
    points = [facts.Point(index=i, label=name, size=size, value=value) for i, (name, size, value) in enumerate(rows)]
    points.append(facts.Point(index=3, label="shrink_qat_int8", size=27_032, value=0.9844))
    figure = plot._figure(points, facts.Metric())
    figure.draw_without_rendering()
    (axes,) = figure.axes
    numbers = [tick.get_window_extent() for tick in axes.get_yticklabels() if tick.get_text()]
    labels = [text for text in axes.texts if "int8" in text.get_text() or text.get_text() == "float"]
    assert len(numbers) > 3 and len(labels) == 3
    for label in labels:
        assert not any(label.get_window_extent().overlaps(number) for number in numbers), label.get_text()
