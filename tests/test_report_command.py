"""``kompakt report``: what it writes and prints, and records that are none."""

import csv
import json
import shutil
from pathlib import Path

import pytest

from kompakt.cli import main

GOLDEN = Path(__file__).parent / "golden" / "report_run.json"


@pytest.fixture
def records(tmp_path):
    folder = tmp_path / "monday"
    folder.mkdir()
    return Path(shutil.copy(GOLDEN, folder / "records.json"))


@pytest.mark.parametrize("named", ["file", "folder"])
def test_without_a_name_it_is_a_page_beside_the_records(records, named, capsys):
    assert main(["report", str(records if named == "file" else records.parent)]) == 0
    page = records.with_name("report.html")
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    out = " ".join(capsys.readouterr().out.split())
    assert "is the smallest file within 0.5 points" in out and out.endswith(f"report: {page}")


@pytest.mark.parametrize(
    ("name", "more", "begins"),
    [
        ("r.HTML", [], "<!doctype html>"),
        ("r.htm", [], "<!doctype html>"),
        ("r.md", [], "# Golden run"),
        ("r.csv", [], "recipe,keras"),
        ("r.txt", ["--format", "md"], "# Golden run"),
    ],
)
def test_the_ending_says_which_form(records, tmp_path, name, more, begins):
    assert main(["report", str(records), "-o", str(tmp_path / name), *more]) == 0
    assert (tmp_path / name).read_text(encoding="utf-8").startswith(begins)


def test_json_is_the_facts(records, tmp_path, capsys):
    assert main(["report", str(records), "--json", "--format", "csv"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((GOLDEN.parent / "report_facts.json").read_text())
    assert records.with_name("report.csv").exists()


def test_several_runs_are_compared_by_the_names_of_their_folders(records, tmp_path, capsys):
    other = tmp_path / "tuesday"
    shutil.copytree(records.parent, other)
    assert main(["report", str(records), str(other), "-o", str(tmp_path / "both.csv")]) == 0
    with (tmp_path / "both.csv").open(encoding="utf-8", newline="") as file:
        names = [line["recipe"] for line in csv.DictReader(file)]
    assert len(names) == 16 and names[0] == "monday: float" and names[8] == "tuesday: float"
    assert capsys.readouterr().out.startswith("monday: ")


def test_records_from_before_there_were_histograms_are_read(records, tmp_path):
    old = json.loads(records.read_text())
    del old["sensitivity"]
    for trial in old["trials"]:
        for site in (trial["artifact"] or {"sites": []})["sites"]:
            site.pop("histogram", None)
    records.write_text(json.dumps({"title": old["title"], "trials": old["trials"]}))
    assert main(["report", str(records)]) == 0
    page = records.with_name("report.html").read_text(encoding="utf-8")
    assert "Not measured in this run" in page and 'class="bars"' not in page


def test_sensitivity_comes_from_its_own_command(records, tmp_path):
    run = json.loads(records.read_text())
    layers = tmp_path / "layers.json"
    layers.write_text(json.dumps(run.pop("sensitivity")))
    records.write_text(json.dumps(run))
    assert main(["report", str(records), "--sensitivity", str(layers), "--format", "md"]) == 0
    assert "GlobalAveragePooling2D" in records.with_name("report.md").read_text(encoding="utf-8")


BAD = {
    "missing": (None, "cannot read it (No such file or directory); give the records.json"),
    "binary": (b"\xff\xfe\x00", "not a text of UTF-8; give the records.json that kompakt optimize or demo wrote"),
    "no JSON": (b"hello", "not JSON (Expecting value"),
    "a list": (b"[1]", "Run: expected an object, received list"),
    "empty": (b"", "not JSON (Expecting value"),
    "foreign": (b'{"name": "package"}', "Run: lacks 'title' and 'trials'; give the records.json that kompakt optimize"),
    "a half": (b'{"title": "t"}', "Run: lacks 'trials'; give the records.json"),
    "later": (
        b'{"title": "t", "trials": [], "colour": 1}',
        "Run: unknown key 'colour'; known: title, trials, seed, command, machine, created, data, versions, notes, "
        "sensitivity; was it written by another version of kompakt?",
    ),
    "half a character": (b'{"title": "\\ud800", "trials": []}', "Run.title: holds half of a character ('\\ud800')"),
    "a huge number": (b'{"title": "t", "trials": [], "seed": 1%s}' % (b"0" * 400), "Run.seed: received a whole number"),
    "a text for a number": (b'{"title": "t", "trials": [], "seed": "NaN"}', "Run.seed: expected int, received str"),
    "trials of nothing": (b'{"title": "t", "trials": [null]}', "Run.trials[0]: expected an object, received NoneType"),
    "NaN": (b'{"title": "t", "trials": [], "seed": NaN}', "Run: holds NaN"),
    "deep": (b"[" * 200_000, "not JSON"),
    "a type": (b'{"title": "t", "trials": [{"recipe": 5}]}', "Run.trials[0].recipe: expected str, received int"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_record_is_one_clear_error(tmp_path, kind, capsys):
    content, said = BAD[kind]
    path = tmp_path / "records.json"
    if content is not None:
        path.write_bytes(content)
    assert main(["report", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"kompakt: {path}: {said}") and err.count("\n") == 1 and len(err) < 500
    assert not (tmp_path / "report.html").exists()


def test_other_bad_input_is_one_clear_error(records, tmp_path, capsys):
    for arguments, said in (
        (["-o", "r.pdf"], "r.pdf: expected a name that ends in .html, .md, .csv, or --format html | md | csv"),
        (["-o", "noending"], "noending: expected a name that ends in .html"),
        (["--format", "pdf"], "invalid choice: 'pdf'"),
        (["-o", str(records), "--format", "md"], "the report would take the place of the records"),
        ([str(records), "--sensitivity", str(records)], "--sensitivity: it is of one model"),
        (["--sensitivity", str(records)], "expected a list, received dict; give what kompakt sensitivity --json"),
    ):
        assert main(["report", str(records), *arguments]) == 2
        err = capsys.readouterr().err
        assert said in err and err.count("\n") == 1
    assert records.read_bytes() == GOLDEN.read_bytes()


def test_a_run_that_is_odd_but_a_run_makes_every_form(tmp_path):
    """Numbers that hardly any measurement gives are shown as they are, or not at all; nothing is a traceback."""
    site = {"site": "a", "tensor": "a", "dtype": "INT8", "size": 0, "zeros": 0, "distinct": 0}
    empty = {"low": 0.0, "high": 0.0, "counts": [], "integers": True}
    artifact = {
        "path": "", "target": "", "quantization": "", "io": "", "bytes": 0, "gzip_bytes": 0, "sha256": "",
        "source_sha256": "", "census": {"ops": {}, "tensors": {}}, "sites": [site, {**site, "histogram": empty}],
    }  # fmt: skip
    measured = [{"name": name, "value": 1e308} for name in ("metric_litert", "latency_ratio", "latency_ratio_spread")]
    trial = {"recipe": "", "artifact": artifact, "measurements": measured, "history": {"": [], "a": [1e308, -1e308]}}
    huge = {**trial, "artifact": {**artifact, "bytes": 2**63 - 1}}
    path = tmp_path / "records.json"
    path.write_text(json.dumps({"title": "", "trials": [trial, huge, {**trial, "artifact": None}]}))
    for form in ("html", "md", "csv"):
        assert main(["report", str(path), "--format", form]) == 0
        assert main(["report", str(path), "--format", form, "--json"]) == 0
    path.write_text(path.read_text().replace("1e+308", "1e999"))  # infinity, by the back door
    assert main(["report", str(path)]) == 2
