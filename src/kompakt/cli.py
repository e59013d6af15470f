"""The command line: ``kompakt demo | optimize | export | verify | recipes``. Imports nothing heavy until it works."""

from __future__ import annotations

import argparse
import difflib
import json
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from kompakt.errors import InputError, VerificationError

if TYPE_CHECKING:
    from kompakt.records import Artifact, Run

OK, BREACH, BAD_INPUT, INTERRUPTED, CLOSED = 0, 1, 2, 130, 141


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, as for every other bad input."""
        wrong = re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message)
        close = difflib.get_close_matches(wrong[1], re.findall(r"\w+", wrong[2]), n=1) if wrong else []
        near = f"; nearest: {close[0]!r}" if close else ""
        raise InputError(f"{message}{near}; see {self.prog} --help")


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    top = _Parser(prog="kompakt", description="Make Keras 3 models small and fast, and prove it on the file.")
    top.add_argument("--version", action="store_true", help="print the version")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)
    _demo_options(_command(commands, "demo", _demo, "train a small model and try every recipe on it"))
    _optimize_options(_command(commands, "optimize", _optimize, "carry out a recipe on a model"))
    _export_options(_command(commands, "export", _export, "write a model as a verified file"))
    _verify_options(_command(commands, "verify", _verify, "run a file and compare it with its model"))
    recipes = _command(commands, "recipes", _recipes, "list the recipes, or show one")
    recipes.add_argument("name", nargs="?", metavar="NAME", help="recipe to show as JSON")
    return top


def _command(commands: Any, name: str, run: Callable[..., int], about: str) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = commands.add_parser(name, help=about, description=about)
    made.set_defaults(run=run)
    made.add_argument("--json", action="store_true", help="print the records as JSON, for machines")
    made.add_argument("--debug", action="store_true", help="show tracebacks and what the converters print")
    return made


def _demo_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--out", default="build/demo", metavar="DIR", help="folder (default: build/demo)")
    command.add_argument("--quick", action="store_true", help="three recipes only")
    command.add_argument("--seed", type=_seed, default=0, metavar="S", help="of all that is random (default: 0)")


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**31:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number from 0 to {2**31 - 1}")
    return int(text)


def _optimize_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", metavar="MODEL.keras", help="float model")
    command.add_argument("--recipe", required=True, metavar="NAME|FILE", help="see: kompakt recipes")
    _data_option(command)
    command.add_argument("--epochs", type=int, metavar="N", help="of training in all (default: the recipe's)")
    command.add_argument("--batch-size", type=int, default=32, metavar="N", help="of training (default: 32)")
    command.add_argument("--out", default="build", metavar="DIR", help="folder (default: build)")
    command.add_argument("--seed", type=_seed, default=0, metavar="S", help="of all that is random (default: 0)")
    command.add_argument("--restart", action="store_true", help="do not take up what an earlier run finished")
    _trust_option(command)


def _export_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", metavar="MODEL.keras", help="float model")
    command.add_argument("out", metavar="OUT.tflite", help="file to write")
    command.add_argument(
        "--quantization", metavar="MODE", help="float, float16, dynamic_int8, weight_only_int8, int8, w4a8 or int16x8"
    )
    command.add_argument(
        "--rule",
        action="append",
        default=[],
        metavar="LAYERS=WHAT",
        help="layers of another precision: float, int8, w4a8, int16x8 or 2 to 8 bits for weights, e.g. 'head*=float'",
    )
    command.add_argument("--io", metavar="TYPE", help="of an integer file: int8 (default), uint8, int16 or float32")
    command.add_argument(
        "--sparse", action="store_true", help="store weights with many zeros sparse: smaller, no faster"
    )
    command.add_argument(
        "--method",
        default="moving_average",
        metavar="HOW",
        help="ranges from data: moving_average (default), minmax, percentile, mse or entropy",
    )
    _data_option(command)
    command.add_argument("--on-breach", default="raise", metavar="raise|warn", help="warn: write it all the same")
    _trust_option(command)


def _verify_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("file", metavar="OUT.tflite", help="file to run")
    command.add_argument("--model", required=True, metavar="MODEL.keras", help="float model it came from")
    _data_option(command)
    command.add_argument(
        "--least-argmax", type=float, default=0.95, metavar="SHARE", help="agreement demanded (default: 0.95)"
    )
    _trust_option(command)


def _data_option(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--data",
        required=True,
        metavar="DATA",
        help="an .npz with x_train, y_train, x_test, y_test; a folder of images by class, read as pixels from 0 to "
        "255; or package.module:function",
    )


def _trust_option(command: argparse.ArgumentParser) -> None:
    command.add_argument("--trust", action="store_true", help="let the model file run the code in its Lambda layers")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns 0, 1 (a breach), 2 (bad input), 130 (interrupted) or 141 (reader gone)."""
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        options = parser().parse_args(argv)
        if options.version:
            from kompakt import __version__

            print(f"kompakt {__version__}")
            return OK
        if options.command is None:
            parser().print_help()
            return OK
        with _calm(options.debug):
            code = int(options.run(options))
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # "| head" has read enough; nothing is left to say, nor to flush at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED
    except (Exception, KeyboardInterrupt) as error:
        if _is_interrupt(error):
            return _fail("interrupted; the same command takes up what was finished", INTERRUPTED, argv)
        if isinstance(error, VerificationError):
            return _fail(f"not verified: {error}", BREACH, argv)
        if isinstance(error, InputError):
            return _fail(str(error), BAD_INPUT, argv)
        raise


def _is_interrupt(error: BaseException) -> bool:
    """Whether it is Ctrl-C, which C++ code of the frameworks hands on as another error that has its name."""
    return isinstance(error, KeyboardInterrupt) or "KeyboardInterrupt: " in str(error)


def _fail(text: str, code: int, argv: Sequence[str]) -> int:
    if "--debug" in argv:
        import traceback

        traceback.print_exc()
    print(f"kompakt: {' '.join(text.split())}", file=sys.stderr)
    return code


@contextmanager
def _calm(debug: bool) -> Iterator[None]:
    """Keep the frameworks from talking, and our own log: must come before they are imported."""
    if debug:
        os.environ["KOMPAKT_DEBUG"] = "1"
    else:
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # whatever stands there: --debug is how to see it
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    from kompakt.targets.quiet import quiet

    with quiet():
        import keras  # noqa: F401
    loggers = [logging.getLogger(name) for name in ("tensorflow", "kompakt")]  # what ours says stands in the records
    before = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _demo(options: argparse.Namespace) -> int:
    from kompakt.demo import demo

    with _progress() as report:
        run = demo(options.out, quick=options.quick, seed=options.seed, report=report)
    _show(run, options, Path(options.out) / "report.html")
    return OK


def _optimize(options: argparse.Namespace) -> int:
    from kompakt.loading import load_model
    from kompakt.recipe import load_recipe
    from kompakt.report import html
    from kompakt.run import optimize

    recipe = load_recipe(options.recipe)
    model = load_model(options.model, safe=not options.trust)
    with _progress() as report:
        run = optimize(
            model,
            options.data,
            recipe,
            options.out,
            epochs=options.epochs,
            batch_size=options.batch_size,
            seed=options.seed,
            resume=not options.restart,
            report=report,
        )
    html.write(run, Path(options.out) / "report.html")
    _show(run, options, Path(options.out) / "report.html")
    return OK


def _export(options: argparse.Namespace) -> int:
    from kompakt.data import CALIBRATION, load_data, sample_rows
    from kompakt.export import export
    from kompakt.loading import load_model
    from kompakt.progress import in_words
    from kompakt.task import data_for

    model = load_model(options.model, safe=not options.trust)
    data = data_for(model, load_data(options.data))
    with _progress() as report, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # breaches stand in the report
        report("exporting and verifying", 0.5)
        artifact = export(
            model,
            options.out,
            quantization=options.quantization,
            rules=_rules(options.rule),
            io=options.io,
            calibration=sample_rows(data.x_train, CALIBRATION),
            method=options.method,
            verify=data.x_test,
            sparse=options.sparse,
            on_breach=options.on_breach,
            progress=lambda what, share: report(in_words(what, share), 0.5),
        )
    _show_artifact(artifact, options)
    return BREACH if artifact.breaches else OK


def _rules(given: Sequence[str]) -> dict[str, str | int] | None:
    """``["head*=float", "conv1=4"]`` as :func:`kompakt.export` takes it."""
    rules: dict[str, str | int] = {}
    for text in given:
        pattern, _, value = text.rpartition("=")
        if not pattern:
            raise InputError(f"--rule {text!r}: expected LAYERS=WHAT, such as 'head*=float' or 'conv1=4'")
        rules[pattern] = int(value) if value.isdecimal() else value
    return rules or None


def _verify(options: argparse.Namespace) -> int:
    from kompakt.data import load_data
    from kompakt.export import read_file, verify_file
    from kompakt.loading import load_model
    from kompakt.task import data_for

    read_file(options.file)
    model = load_model(options.model, safe=not options.trust)
    data = data_for(model, load_data(options.data))
    with _progress() as report:
        report("running the file", 0.5)
        artifact = verify_file(options.file, model, data.x_test, least_argmax=options.least_argmax)
    _show_artifact(artifact, options)
    if artifact.breaches and Path(options.data).is_dir():
        print("kompakt: images of a folder have pixels from 0 to 255: is that what the model takes?", file=sys.stderr)
    return BREACH if artifact.breaches else OK


def _recipes(options: argparse.Namespace) -> int:
    from kompakt.recipe import load_recipe, recipe_names, to_dict

    if options.name:
        print(json.dumps(to_dict(load_recipe(options.name)), indent=2))
        return OK
    recipes = [load_recipe(name) for name in recipe_names()]
    if options.json:
        print(json.dumps([to_dict(recipe) for recipe in recipes], indent=2))
        return OK
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("recipe")
    table.add_column("what it does")
    for recipe in recipes:
        table.add_row(recipe.name, recipe.about)
    Console().print(table)
    return OK


@contextmanager
def _progress() -> Iterator[Callable[[str, float], None]]:
    """A progress bar on stderr; standard output is for results."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    console = Console(stderr=True)
    # Where stderr is a file, an error is one line there and nothing else.
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("starting", total=1.0)

        def report(what: str, done: float) -> None:
            bar.update(task, description=what, completed=done)

        yield report


def _show(run: Run, options: argparse.Namespace, page: Path) -> None:
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


def _show_artifact(artifact: Artifact, options: argparse.Namespace) -> None:
    from kompakt.records import to_json

    print(to_json(artifact) if options.json else artifact.report)


if __name__ == "__main__":
    sys.exit(main())
