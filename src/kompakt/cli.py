"""The command line: ``kompakt demo``, ``optimize``, ``export`` and so on. Imports nothing heavy until it works."""

from __future__ import annotations

import argparse
import difflib
import importlib
import io
import logging
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from kompakt.commands import COMMANDS, WITHOUT_KERAS
from kompakt.commands.shared import BREACH, OK, say
from kompakt.errors import InputError, VerificationError

BAD_INPUT, INTERRUPTED, CLOSED = 2, 130, 141
"""Exit codes beside those of the commands."""


TAKEN_UP = dict.fromkeys(("demo", "optimize"), "; the same command takes up what was finished")
"""What is said of an interrupt of these commands."""


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
    for name in COMMANDS:
        _add(commands, name)
    return top


def _add(commands: Any, name: str) -> None:
    module = importlib.import_module(f"kompakt.commands.{name}")
    made: argparse.ArgumentParser = commands.add_parser(name, help=module.ABOUT, description=module.ABOUT)
    made.set_defaults(check=module.check, run=module.run)
    made.add_argument("--json", action="store_true", help="print the records as JSON, for machines")
    made.add_argument("--debug", action="store_true", help="show tracebacks and what the converters print")
    module.options(made)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns 0, 1 (a breach), 2 (bad input), 130 (interrupted) or 141 (reader gone)."""
    argv = list(sys.argv[1:] if argv is None else argv)
    with _any_encoding():
        return _main(argv)


@contextmanager
def _any_encoding() -> Iterator[None]:
    """Write what the encoding of the output has no sign for as its escape: no terminal is too simple."""
    streams = [each for each in (sys.stdout, sys.stderr) if isinstance(each, io.TextIOWrapper)]
    before = [each.errors for each in streams]
    try:
        for each in streams:
            each.reconfigure(errors="backslashreplace")
        yield
    finally:
        for each, errors in zip(streams, before, strict=True):
            each.reconfigure(errors=errors)


def _main(argv: Sequence[str]) -> int:
    try:
        options = parser().parse_args(argv)
        if options.version:
            from kompakt import __version__

            print(f"kompakt {__version__}")
            return OK
        if options.command is None:
            parser().print_help()
            return OK
        options.check(options)
        with _calm(options.debug, keras=options.command not in WITHOUT_KERAS):
            code = int(options.run(options))
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # "| head" has read enough; nothing is left to say, nor to flush at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED
    except (Exception, KeyboardInterrupt) as error:
        if _is_interrupt(error):
            return _fail(f"interrupted{TAKEN_UP.get(argv[0], '') if argv else ''}", INTERRUPTED, argv)
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
    from kompakt.printable import printable

    line = f"kompakt: {printable(' '.join(text.split()))}"
    if sys.stderr.isatty():
        say(line, stderr=True)
    else:  # in a file an error is one line
        print(line, file=sys.stderr)
    return code


@contextmanager
def _calm(debug: bool, *, keras: bool = True) -> Iterator[None]:
    """Keep the frameworks from talking, and our own log: must come before they are imported; import ``keras`` so."""
    if debug:
        os.environ["KOMPAKT_DEBUG"] = "1"
    else:
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # whatever stands there: --debug is how to see it
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if keras:
        from kompakt.targets.quiet import quiet

        with quiet():
            importlib.import_module("keras")
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
