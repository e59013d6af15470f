"""The report as Markdown: read by a parser of it, names are text and tables are whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.report.test_html import ODD, odd_run

from kompakt.records import Artifact, Census, Run, SiteFact, Trial, from_json
from kompakt.report import facts, markdown
from kompakt.report.sections import sections

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module")
def golden_run() -> Run:
    return from_json(Run, (GOLDEN / "report_run.json").read_text(encoding="utf-8"))


def tables(text: str) -> list[list[str]]:
    """Lines of each table."""
    blocks = [block.splitlines() for block in text.split("\n\n")]
    return [lines for lines in blocks if lines[0].startswith("|")]


def cells(line: str) -> int:
    """How many cells a line has: signs that are escaped divide none."""
    return line.replace("\\\\", "").replace("\\|", "").count("|") - 1


def test_every_section_is_there_with_every_number(golden_run: Run) -> None:
    text = markdown.render(facts.compute([golden_run]))
    headings = [line[3:] for line in text.splitlines() if line.startswith("## ")]
    assert headings == [section.title for section in sections(facts.compute([golden_run]))]
    for expected in ("98.06", "17,448", "qat_int8 ●", "▁", golden_run.command, "2.21.0, 2.20.0", "(breach)"):
        assert expected in text
    assert "qat_int8: 17,448 bytes, 98.06 %" in text


@pytest.mark.parametrize("kind", ODD)
def test_names_break_no_table_and_are_no_markup(kind: str) -> None:
    text = markdown.render(facts.compute([odd_run(ODD[kind])]))
    found = tables(text)
    assert len(found) == len(tables(markdown.render(facts.compute([odd_run("plain")]))))
    for lines in found:
        assert len({cells(line) for line in lines}) == 1
    assert "<" not in text.replace("\\<", "") or kind not in ("markup", "quotes", "css")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("- item", "\\- item"),
        ("12) item", "12\\) item"),
        ("1.5", "1.5"),
        ("-0.22", "-0.22"),
        ("---", "\\---"),
        ("> quote", "\\> quote"),
        ("snake_case_", "snake_case\\_"),
        ("[a](b) ![c]", "\\[a\\](b) !\\[c\\]"),
        ("a\\|b", "a\\\\\\|b"),
        ("line\nbreak\x1b[1m", r"line break\\x1b\[1m"),
        ("&lt;", "&amp;lt;"),
    ],
)
def test_signs_of_markdown_are_made_plain(name: str, text: str) -> None:
    assert markdown.escaped(name) == text


def test_it_loads_no_plotting_library() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from kompakt.records import Run, from_json; from kompakt.report import facts, markdown;"
        f"run = from_json(Run, open({str(GOLDEN / 'report_run.json')!r}, encoding='utf-8').read());"
        "markdown.render(facts.compute([run]));"
        "print([m for m in ('matplotlib', 'jinja2', 'tensorflow', 'keras') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_run_of_nothing_has_all_sections() -> None:
    text = markdown.render(facts.compute([Run(title="", trials=(Trial(recipe="float"),))]))
    assert text.count("\n## ") == len(sections(facts.compute([Run(title="", trials=())])))


def test_a_recipe_that_removes_channels_is_not_said_to_have_asked_for_nothing() -> None:
    """It said "nothing asked of its weights" above the line about the channels that were removed."""
    known = {"path": "m.tflite", "target": "tflite", "quantization": "int8", "io": "int8", "bytes": 9, "gzip_bytes": 8}
    site = SiteFact(site="d/kernel", tensor="d", dtype="INT8", size=4, zeros=0, distinct=3)
    made = Artifact(**known, sha256="", source_sha256="", census=Census(ops={}, tensors={}), sites=(site,))
    done = "shrink to 0.5 of the macs (reached 0.498): conv 16 to 8 channels"
    text = markdown.render(
        facts.compute([Run(title="", trials=(Trial(recipe="shrink", artifact=made, applied=(done,)),))])
    )
    assert "conv 16 to 8 channels" in text
    assert "nothing asked" not in text
