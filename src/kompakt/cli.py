"""The command line: ``kompakt demo``, ``optimize``, ``export`` and so on. Imports nothing heavy until it works."""

from __future__ import annotations

import argparse
import difflib
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from kompakt import commands as do
from kompakt.errors import InputError, VerificationError

BAD_INPUT, INTERRUPTED, CLOSED = 2, 130, 141
"""Exit codes beside those of the commands."""


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
    _demo_options(_command(commands, "demo", do.run_demo, "train a small model and try every recipe on it"))
    _optimize_options(_command(commands, "optimize", do.run_optimize, "carry out a recipe on a model"))
    _export_options(_command(commands, "export", do.run_export, "write a model as a verified file"))
    _verify_options(_command(commands, "verify", do.run_verify, "run a file and compare it with its model"))
    _sensitivity_options(_command(commands, "sensitivity", do.run_sensitivity, "say which layer hurts in 8 and 4 bits"))
    recipes = _command(commands, "recipes", do.list_recipes, "list the recipes, or show one")
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
    command.add_argument(
        "--teacher", metavar="TEACHER.keras", help="model to learn from, for recipes that distil: distill..."
    )
    command.add_argument("--epochs", type=int, metavar="N", help="of training in all (default: the recipe's)")
    command.add_argument("--batch-size", type=int, default=32, metavar="N", help="of training (default: 32)")
    command.add_argument("--out", default="build", metavar="DIR", help="folder (default: build)")
    command.add_argument("--seed", type=_seed, default=0, metavar="S", help="of all that is random (default: 0)")
    command.add_argument("--restart", action="store_true", help="do not take up what an earlier run finished")
    _trust_option(command)


def _export_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", metavar="MODEL.keras", help="float model")
    command.add_argument("out", metavar="OUT", help="file (*.tflite, *.onnx) or folder to write")
    command.add_argument(
        "--target",
        metavar="NAME",
        help="tflite (phones), tflm (microcontrollers), tfjs (browsers), savedmodel (servers), onnx, or all of them "
        "with one table (default: by the ending of OUT)",
    )
    command.add_argument(
        "--quantization",
        metavar="MODE",
        help="float, float16, dynamic_int8, weight_only_int8, int8, w4a8 or int16x8; tfjs has float16, uint8 and "
        "uint16, savedmodel keras_int8 and keras_int4",
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
        "--compress", action="store_true", help="tflm: store clustered weights as tables of values and short numbers"
    )
    command.add_argument(
        "--method",
        metavar="HOW",
        help="ranges from data: moving_average (default), minmax, percentile, mse or entropy",
    )
    command.add_argument(
        "--repair",
        action="append",
        default=[],
        metavar="WORD",
        help="get back what rounding costs: batchnorm, equalize, adaround or bias; may be given more than once",
    )
    command.add_argument(
        "--max-drop",
        type=float,
        metavar="SHARE",
        help="choose the bits of each layer, so that at most this is lost of the accuracy (0.01: a point) on the "
        "validation samples, or on those of the test where there are none",
    )
    _data_option(
        command, required=False, why="; integer modes need it, the others are compared on random inputs without"
    )
    command.add_argument("--on-breach", default="raise", metavar="raise|warn", help="warn: write it all the same")
    _trust_option(command)


def _verify_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("file", metavar="OUT", help="file or folder to run, of any target")
    command.add_argument("--model", required=True, metavar="MODEL.keras", help="float model it came from")
    _data_option(command)
    command.add_argument(
        "--browser", action="store_true", help="run it in a headless Chromium too: tfjs, or a .tflite with float I/O"
    )
    command.add_argument(
        "--least-argmax", type=float, default=0.95, metavar="SHARE", help="agreement demanded (default: 0.95)"
    )
    _trust_option(command)


def _sensitivity_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", metavar="MODEL.keras", help="float model")
    _data_option(command)
    command.add_argument(
        "--bits", type=int, nargs="+", default=[8, 4], metavar="N", help="of a layer's weights, 2 to 8 (default: 8 4)"
    )
    _trust_option(command)


def _data_option(command: argparse.ArgumentParser, *, required: bool = True, why: str = "") -> None:
    command.add_argument(
        "--data",
        required=required,
        metavar="DATA",
        help="an .npz with x_train, y_train, x_test, y_test; a folder of images by class, read as pixels from 0 to "
        f"255; or package.module:function{why}",
    )


def _trust_option(command: argparse.ArgumentParser) -> None:
    command.add_argument("--trust", action="store_true", help="let the model file run the code in its Lambda layers")
    command.add_argument(
        "--import",
        action="append",
        default=[],
        dest="modules",
        metavar="MODULE",
        help="Python module with registered layers of your own, found from this folder; may be given more than once",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns 0, 1 (a breach), 2 (bad input), 130 (interrupted) or 141 (reader gone)."""
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        options = parser().parse_args(argv)
        if options.version:
            from kompakt import __version__

            print(f"kompakt {__version__}")
            return do.OK
        if options.command is None:
            parser().print_help()
            return do.OK
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
            return _fail(f"not verified: {error}", do.BREACH, argv)
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


if __name__ == "__main__":
    sys.exit(main())
