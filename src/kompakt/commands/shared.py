"""What several commands share: their options, reading a model, progress, showing records."""

from __future__ import annotations

import argparse
import re
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kompakt.model_paths import check_model_path

if TYPE_CHECKING:
    from kompakt.records import Artifact, Run

OK, BREACH = 0, 1


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
    check_model_path(path)  # told at once: TensorFlow takes seconds to start
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


@contextmanager
def progress(*, lines: bool = False) -> Iterator[Callable[[str, float], None]]:
    """A progress bar on stderr; standard output is for results.

    Args:
        lines: where stderr is a file, a line there for each thing that is begun; else only an error is written there.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
    )
    console = Console(stderr=True)
    # Where stderr is a file, an error is one line there and nothing else.
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("starting", total=1.0)
        begun = ""

        def report(what: str, done: float) -> None:
            nonlocal begun
            bar.update(task, description=what, completed=done)
            thing = re.sub(r", \d+%$", "", what)  # a share moves on without a line of its own
            if lines and not console.is_terminal and thing != begun:
                begun = thing
                console.print(f"{done:4.0%} {thing}", highlight=False, markup=False, soft_wrap=True)

        yield report


def show_run(run: Run, options: Namespace, page: Path) -> None:
    """A run as a table and a sentence, or as JSON."""
    from kompakt.records import to_json

    if options.json:
        print(to_json(run))
        return
    from rich.console import Console

    from kompakt.report import facts, table

    console = Console()
    console.print(table.summary_table(run, console.width))
    console.print(facts.verdict(run), highlight=False, markup=False)
    console.print(f"Files in {page.parent}, report: {page}", highlight=False, markup=False)


def show_artifact(artifact: Artifact, options: Namespace) -> None:
    """What was asked of a file and what it holds, or the record as JSON."""
    from kompakt.records import to_json

    print(to_json(artifact) if options.json else artifact.report)
