"""``kompakt demo``."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from kompakt.commands.shared import OK, progress, seed, show_run

ABOUT = "train a small model and try every recipe on it"


def options(command: ArgumentParser) -> None:
    """What the command takes."""
    command.add_argument("--out", default="build/demo", metavar="DIR", help="folder (default: build/demo)")
    command.add_argument("--quick", action="store_true", help="three recipes only")
    command.add_argument("--seed", type=seed, default=0, metavar="S", help="of all that is random (default: 0)")


def check(options: Namespace) -> None:
    """Nothing is left to tell: its words are checked as they are read."""


def run(options: Namespace) -> int:
    """``kompakt demo``."""
    from kompakt.demo import demo

    with progress(lines=True) as report:
        run = demo(options.out, quick=options.quick, seed=options.seed, report=report)
    show_run(run, options, Path(options.out) / "report.html")
    return OK
