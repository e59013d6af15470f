"""What several commands share: their options, reading a model, progress, showing records."""

from __future__ import annotations

import argparse
import os
import sys
from argparse import ArgumentParser, Namespace
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kompakt.printable import printable

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from kompakt.progress import Report
    from kompakt.records import Artifact, Run

OK, BREACH = 0, 1

PIPED = 80
"""Columns of what is printed to a file or another program, where COLUMNS does not say another number."""


def data_option(command: ArgumentParser, *, required: bool = True, why: str = "") -> None:
    """``--data``."""
    command.add_argument(
        "--data",
        required=required,
        metavar="DATA",
        help="an .npz with x_train, y_train, x_test, y_test; a folder of images by class, read as pixels from 0 to "
        f"255; or package.module:function{why}",
    )


def trust_option(command: ArgumentParser) -> None:
    """What lets a model file run code: ``--trust`` and ``--import``."""
    command.add_argument("--trust", action="store_true", help="let the model file run the code in its Lambda layers")
    command.add_argument(
        "--import",
        action="append",
        default=[],
        dest="modules",
        metavar="MODULE",
        help="Python module with registered layers of your own, found from this folder; may be given more than once",
    )


def seed(text: str) -> int:
    """A seed, as argparse reads it."""
    if not text.isdecimal() or int(text) >= 2**31:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number from 0 to {2**31 - 1}")
    return int(text)


def loaded(path: str, options: Namespace) -> Any:
    """The model in a file, after the modules that hold its classes are imported."""
    from kompakt.loading import load_model

    import_modules(options)
    return load_model(path, safe=not options.trust)


def import_modules(options: Namespace) -> None:
    """The modules of ``--import``, which register the classes of models."""
    from kompakt.data import import_module, working_directory_importable

    with working_directory_importable():
        for name in options.modules:
            import_module(name, f"--import {name}: cannot import it")


def judging_options(command: ArgumentParser) -> None:
    """What ``evaluate`` and ``compare`` take: data, metrics, threads, intervals."""
    data_option(command, why="; the test samples are what counts")
    command.add_argument(
        "--metric",
        action="append",
        metavar="NAME",
        help="of Keras, such as accuracy, AUC or mse; may be given more than once (default: accuracy for classes, else "
        "mean_squared_error and mean_absolute_error)",
    )
    command.add_argument("--batch-size", type=int, default=256, metavar="N", help="samples at once (default: 256)")
    command.add_argument(
        "--threads", type=int, default=1, metavar="N", help="batches of a file that are computed at once (default: 1)"
    )
    command.add_argument(
        "--confidence", type=float, default=0.95, metavar="SHARE", help="of the intervals and the test (default: 0.95)"
    )
    command.add_argument("--seed", type=seed, default=0, metavar="S", help="of the intervals (default: 0)")
    trust_option(command)


def judging(options: Namespace) -> dict[str, Any]:
    """The options of :func:`judging_options`, as the functions take them."""
    names = ("batch_size", "threads", "confidence", "seed")
    return {"metrics": options.metric, **{name: getattr(options, name) for name in names}}


def progress(*, lines: bool = False) -> AbstractContextManager[Report]:
    """A bar on stderr; standard output is for results. Where stderr is a file, nothing but an error is written there.

    Args:
        lines: where stderr is a file, a line there for each thing that is begun.
    """
    from kompakt.progress import shown

    return shown(True, lines=lines)


def show_run(run: Run, options: Namespace, page: Path) -> None:
    """A run as a table and a sentence, or as JSON."""
    if options.json:
        say_json(run)
        return
    from kompakt.report import facts, table

    show(table.summary_table(run, console().width))
    say(facts.verdict(run), f"Files in {page.parent}, report: {page}")


def show_artifact(artifact: Artifact, options: Namespace) -> None:
    """What was asked of a file and what it holds, or the record as JSON."""
    if options.json:
        say_json(artifact)
    else:
        say(*artifact.report.splitlines())


def console(*, stderr: bool = False) -> Console:
    """Standard output or error as rich knows it: as wide as the terminal; else as COLUMNS says, or 80."""
    from rich.console import Console

    made = Console(stderr=stderr, highlight=False)
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made.width = PIPED  # rich would take the width of any terminal, of standard input for one
    return made


def show(*parts: RenderableType) -> None:
    """Print tables and the like to standard output; a word that is longer than a line stays whole."""
    shown = console()
    for part in parts:
        shown.print(part, crop=False)


def say(*lines: str, stderr: bool = False) -> None:
    """Print lines, wrapped at words: what they have of a model or a file does not drive the terminal."""
    from kompakt.report.terminal import wrapped

    width = console(stderr=stderr).width
    for line in lines:
        print("\n".join(wrapped(printable(line), width)), file=sys.stderr if stderr else sys.stdout)


def say_json(value: Any) -> None:
    """Print a record, or a list or mapping of them, as JSON that is valid whatever the encoding of the output is."""
    from kompakt.records import to_json

    print(to_json(value, only_ascii=True), flush=True)
