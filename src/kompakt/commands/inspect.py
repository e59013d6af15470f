"""``kompakt inspect``."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

from kompakt.commands.shared import OK, say, say_json, show
from kompakt.errors import InputError

ABOUT = "say what is in a file: operators, tensors, grids"


def options(command: ArgumentParser) -> None:
    """What the command takes."""
    command.add_argument("file", metavar="FILE", help="file or folder of any target, whoever made it")
    command.add_argument("--target", metavar="NAME", help="of the artifact, and of OTHER (default: told from its path)")
    command.add_argument("--ops", action="store_true", help="every operator, with its options")
    command.add_argument("--tensors", action="store_true", help="every tensor, with its grid")
    command.add_argument("--against", metavar="OTHER", help="how OTHER differs from FILE")
    command.add_argument("--analyzer", action="store_true", help="what TensorFlow's own analyzer says of a TFLite file")
    command.add_argument("--gpu", action="store_true", help="with --analyzer: what the GPU delegate cannot take, too")


def run(options: Namespace) -> int:
    """``kompakt inspect``."""
    if options.analyzer:
        return _analyzer(options)
    if options.against is not None:
        from kompakt.difference import difference
        from kompakt.report.differences import difference_tables

        found = difference(options.file, options.against, target=options.target)
        return _show(found, difference_tables(found), options)
    from kompakt.inspect import inspect
    from kompakt.report import contents as report

    seen = inspect(options.file, target=options.target)
    made = [*report.operators_tables(seen)] if options.ops else []
    made += [*report.tensors_tables(seen)] if options.tensors else []
    return _show(seen, made or report.summary(seen), options)


def check(options: Namespace) -> None:
    """What can be told at once: options that do not go together, files that are not there."""
    from kompakt.commands.early import check_artifact, check_target

    given = [name for name in ("--ops", "--tensors", "--against", "--analyzer") if getattr(options, name[2:])]
    alone = [name for name in ("--against", "--analyzer") if name in given]
    if alone and len(given) > 1:
        raise InputError(f"{alone[0]} shows something else than {next(n for n in given if n != alone[0])}: give one")
    if options.gpu and not options.analyzer:
        raise InputError("--gpu goes with --analyzer")
    check_target(options.target)
    check_artifact(options.file)
    if options.against is not None:
        check_artifact(options.against)


def _analyzer(options: Namespace) -> int:
    from kompakt.inspect import analyzer

    text = analyzer(options.file, gpu=options.gpu, target=options.target)
    if options.json:
        say_json({"analyzer": text})
        return OK
    say(*text.splitlines())
    return OK


def _show(record: Any, tables: Any, options: Namespace) -> int:
    if options.json:
        say_json(record)
        return OK
    show(*tables)
    return OK
