"""``kompakt report``."""

from __future__ import annotations

import dataclasses
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from kompakt.commands.shared import OK, say, say_json
from kompakt.errors import InputError

if TYPE_CHECKING:
    from kompakt.report.facts import Facts

ABOUT = "make a page, Markdown or CSV of records.json"


def options(command: ArgumentParser) -> None:
    """What the command takes."""
    command.add_argument(
        "records",
        nargs="+",
        metavar="RECORDS",
        help="a records.json that kompakt wrote, or the folder it is in; several are compared in one report",
    )
    command.add_argument(
        "-o",
        "--out",
        metavar="FILE",
        help="report.html, .md or .csv (default: report.html beside the records; comparison.html of several)",
    )
    command.add_argument("--format", choices=("html", "md", "csv"), help="in place of what the ending of FILE says")
    command.add_argument(
        "--sensitivity", metavar="JSON", help="what kompakt sensitivity --json printed of the model of these records"
    )


def check(options: Namespace) -> None:
    """Nothing: the work itself takes no time."""


def run(options: Namespace) -> int:
    """``kompakt report``."""
    from kompakt.files import write_atomic
    from kompakt.report.formats import FORMATS, format_for
    from kompakt.report.reading import records_at

    paths = [records_at(path) for path in options.records]
    out = Path(
        options.out or paths[0].with_name(f"{'report' if len(paths) == 1 else 'comparison'}.{options.format or 'html'}")
    )
    form = format_for(out, options.format)
    if any(out.resolve() == path.resolve() for path in paths):
        raise InputError(f"{out}: the report would take the place of the records; give another name with --out")
    facts = _facts(paths, options.sensitivity)
    write_atomic(out, FORMATS[form](facts))
    if options.json:
        say_json(facts)
        return OK
    said = [f"{verdict.label}: {verdict.text}" if verdict.label else verdict.text for verdict in facts.verdicts]
    say(*said, f"report: {out}")
    return OK


def _facts(paths: list[Path], sensitivity: str | None) -> Facts:
    from kompakt.report.facts import compute
    from kompakt.report.reading import labels, read_run, read_sensitivity

    runs = [read_run(path) for path in paths]
    if sensitivity is not None:
        if len(runs) > 1:
            raise InputError("--sensitivity: it is of one model; give one records.json with it")
        runs = [dataclasses.replace(runs[0], sensitivity=read_sensitivity(Path(sensitivity)))]
    return compute(runs, labels(paths))
