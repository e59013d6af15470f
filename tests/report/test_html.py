"""The HTML report: escaped, self-contained, complete, and there whatever is missing."""

from __future__ import annotations

import base64
import dataclasses
import functools
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

from kompakt.records import Measurement, Run, Trial, from_json
from kompakt.records_layers import BitError, Histogram, LayerSensitivity
from kompakt.report import facts, html, table
from kompakt.report.sections import SECTIONS, beside
from kompakt.report.sections.layers import layers

GOLDEN = Path(__file__).parents[1] / "golden"
KEYS = [
    "verdict", "variants", "size", "latency", "layers", "sensitivity", "agreement", "curves", "undone", "provenance",
]  # fmt: skip
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
        if self._open and self._open[-1] not in ("style", "script"):
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


ODD = {
    "markup": "<script>alert(1)</script>",
    "quotes": "\"'><img src=x onerror='alert(1)'>`",
    "entity": "&lt;b&gt; &#60;",
    "right to left": "\u05e9\u05db\u05d1\u05d4/\u0637\u0628\u0642\u0629",
    "override": "a\u202egnp.exe",
    "emoji": "\U0001f9e0 couche n\u00b0 1 \u2014 \u5c42",
    "control": "a\x00b\x1b[31mc\x85",
    "template": "{{ 7 * 7 }}{% raw %}",
    "formula": "$\\frac{1}{2}$ =1+1",
    "long": "block_17_" * 40,
    "css": "</style></script><!-- ]]>",
}


def odd_run(name: str) -> Run:
    """A run in which everything that has a name has this one."""
    golden = from_json(Run, (GOLDEN / "report_run.json").read_text(encoding="utf-8"))
    first = golden.trials[2]
    assert first.artifact is not None
    histogram = Histogram(low=0, high=1, counts=(1, 2))
    sites = tuple(
        dataclasses.replace(site, site=name, tensor=name, dtype=name, histogram=histogram)
        for site in first.artifact.sites
    )
    agreement = first.artifact.agreement
    assert agreement is not None
    said = (name,)
    file = dataclasses.replace(
        first.artifact, path=name, target=name, quantization=name, io=name, sha256=name, source_sha256=name,
        agreement=dataclasses.replace(agreement, reference=name, where=name, given=name), sites=sites, notes=said,
        breaches=said, versions={name: name},
    )  # fmt: skip
    measured = (
        Measurement(name="metric_litert", value=0.5, where=name),
        Measurement(name="latency_ms", value=0.5, where=name),
    )
    trial = Trial(
        recipe=name, artifact=file, measurements=measured, history={name: (1.0, 0.5)}, applied=said, skipped=said
    )
    error = BitError(bits=8, sqnr=1.0, drop=0.0)
    layer = LayerSensitivity(layer=name, of=name, kind=name, weights=1, errors=(error,), output=None, kernel=None)
    return Run(
        title=name, trials=(trial, trial), command=name, machine=name, created=name, data=name, versions={name: name},
        notes=said, sensitivity=(layer,),
    )  # fmt: skip


DRAWN = {"g", "path", "use", "text", "defs", "clippath", "rect", "style", "tspan"}
"""Tags of drawings: a longer label stands elsewhere, with a line to it."""


def tags_of(page: Page) -> list[str]:
    """The tags of a page, without those of drawings and the places where a name may break."""
    return [tag for tag in page.tags if tag not in DRAWN | {"wbr"}]


@functools.cache
def plain_page(count: int) -> Page:
    return Page(html.page(facts.compute([odd_run("plain")] * count)))


@pytest.mark.parametrize(("kind", "count"), [*((kind, 1) for kind in ODD), ("markup", 2), ("quotes", 2)])
def test_a_name_is_text_wherever_it_stands(kind: str, count: int) -> None:
    """The page has the tags of one whose names are plain, and no more; several runs have their labels too."""
    found = Page(html.page(facts.compute([odd_run(ODD[kind])] * count)))
    assert tags_of(found) == tags_of(plain_page(count))
    assert found.tags.count("script") == 1
    assert not [key for key, _ in found.attributes if key.startswith("on")]
    shown = "".join(ODD[kind].split()) if kind != "control" else "[31mc"
    assert shown in "".join(found.text.split())


def test_half_a_surrogate_pair_is_written_all_the_same(tmp_path: Path) -> None:
    html.write(Run(title="a\ud800b", trials=(Trial(recipe="\udfff"),)), tmp_path / "r.html")
    assert "<bdi>a?b</bdi>" in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_names_are_escaped_everywhere(source: str, page: Page) -> None:
    assert page.tags.count("script") == 1
    assert source.lower().count("<script") == 1
    assert "prune_<wbr>&lt;script&gt;$x_<wbr>$" in source
    assert "&lt;script&gt;alert(1)&lt;/<wbr>script&gt;/<wbr>kernel" in source
    assert "prune_<script>$x_$" in page.text


def test_nothing_is_loaded_from_elsewhere(source: str, page: Page) -> None:
    assert not re.search(r"\b(?:src|href|xlink:href|action|data)\s*=\s*[\"']?\s*(?:https?:)?//", source)
    assert not re.search(r"url\((?!#)", source)
    assert "@import" not in source
    assert not {"link", "img", "iframe", "object", "embed", "form"} & set(page.tags)
    assert all(value.startswith("#") for value in page.values("href") + page.values("xlink:href"))


def test_the_policy_lets_in_our_own_script_alone(source: str, page: Page) -> None:
    (policy,) = [value for value in page.values("content") if "default-src" in value]
    (script,) = re.findall(r"<script>(.*?)</script>", source, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy == html.POLICY.format(digest=digest)
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-")


def test_sections_are_there_in_order(page: Page) -> None:
    assert [value for value in page.values("id") if value in KEYS] == KEYS
    assert len(KEYS) == len(SECTIONS) + 1


def test_ids_are_unique_and_references_lead_somewhere(page: Page) -> None:
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    assert {name for value in page.values("aria-labelledby") for name in value.split()} <= set(ids)
    assert {value[1:] for value in page.values("href") + page.values("xlink:href")} <= set(ids)
    clips = re.findall(r"url\(#([^)]+)\)", " ".join(value for _, value in page.attributes))
    assert clips and set(clips) <= set(ids)


def test_every_row_is_in_the_page(golden_run: Run, page: Page) -> None:
    metric = facts.metric(golden_run)
    assert facts.verdict(golden_run) in page.text
    for row in facts.rows(golden_run):
        for value in table.cells(row, metric)._replace(latency=beside.latency(row)):
            assert value in page.text
        assert beside.to_float(row, metric) in page.text and beside.chance(row) in page.text


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


def test_each_file_says_what_it_holds_in_all_and_asks_nothing_in_vain(golden_run: Run) -> None:
    section = layers(facts.compute([golden_run]))
    folds = {block.summary: block for block in section.blocks if block.kind == "fold"}
    heads = {
        name: [column.title for column in table.columns]
        for name, fold in folds.items()
        for table in [next((block for block in fold.blocks if block.kind == "table"), None)]
        if table is not None
    }
    assert folds["float"].note.startswith("FLOAT32 · ") and "requests" not in folds["float"].note
    assert "requests held" in folds["pqat_int8"].note and " % zeros" in folds["pqat_int8"].note
    assert {"held", "asked ≥", "asked ≤"} <= set(heads["pqat_int8"])
    assert not {"held", "asked ≥", "asked ≤"} & set(heads["float"])


def test_the_only_file_is_open(golden_run: Run) -> None:
    one = dataclasses.replace(golden_run, trials=golden_run.trials[:1])
    opened = [block.opened for block in layers(facts.compute([one])).blocks if block.kind == "fold"]
    assert opened == [True]


def test_plots_have_text_alternatives_with_their_numbers(page: Page) -> None:
    assert {"desc", "title"} <= set(page.tags)
    assert "qat_int8: 17,448 bytes, 98.06 %" in page.text
    assert "prune_<script>$x_$: 15,200 bytes, 94.44 %, breach" in page.text
    assert "qat_int8: 0.42 ± 0.02 times float's latency, 98.06 %" in page.text
    assert "loss: 0.41 at first, 0.2 at the end of 4 epochs; lowest 0.19 in epoch 3" in page.text
    assert any("320 integers from −128 to 127 in 64 parts: most in" in value for value in page.values("aria-label"))
    assert page.text.count("The numbers of this plot") == 2
    assert page.text.count("The numbers of these histograms") == 2


def luminance(color: str) -> float:
    """Relative luminance of #rrggbb, after WCAG 2.2."""
    shares = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_has_contrast_aa_in_both_themes() -> None:
    style = html._read(html.STYLE)
    light, dark, chosen = (dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", part)) for part in style.split("--paper")[1:4])
    papers = re.findall(r"--paper: (#[0-9a-f]{6})", style)
    assert dark == chosen and papers[1] == papers[2]
    for theme, paper in ((light, papers[0]), (dark, papers[1])):
        for ground in (luminance(paper), luminance(theme["bar"]), luminance(theme["wash"])):
            for role in ("ink", "muted", "accent", "bad"):
                text = luminance(theme[role])
                if role == "ink" or ground == luminance(paper):  # numbers alone stand on bars
                    assert (max(text, ground) + 0.05) / (min(text, ground) + 0.05) >= 4.5, role


def test_the_same_run_gives_the_same_bytes(golden_run: Run, source: str) -> None:
    assert html.render(golden_run) == source


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
    assert [value for value in found.values("id") if value in KEYS] == KEYS
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
    assert "error in $m^2 (lower is better)" in found.text


def test_write_replaces_the_file(tmp_path: Path, golden_run: Run, source: str) -> None:
    path = tmp_path / "report.html"
    path.write_text("old", encoding="utf-8")
    html.write(golden_run, path)
    assert path.read_text(encoding="utf-8") == source
    assert list(tmp_path.iterdir()) == [path]
