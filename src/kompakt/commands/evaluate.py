"""``kompakt evaluate``."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from kompakt.commands.shared import BREACH, OK, import_modules, judging, judging_options, progress, say, say_json

ABOUT = "say how good a model or a file is, and how sure that is"


def options(command: ArgumentParser) -> None:
    """What the command takes."""
    command.add_argument("thing", metavar="THING", help="a .keras model, or a file or folder of any target")
    judging_options(command)


def check(options: Namespace) -> None:
    """What can be told at once."""
    from kompakt.commands.early import check_data, check_thing

    check_thing(options.thing)
    check_data(options.data)


def run(options: Namespace) -> int:
    """``kompakt evaluate``."""
    from kompakt.data import load_data
    from kompakt.evaluate import evaluate
    from kompakt.subjects import subject

    import_modules(options)
    judged, data = subject(options.thing, safe=not options.trust), load_data(options.data)
    with progress() as report:
        found = evaluate(judged, data, progress=report, **judging(options))
    if options.json:
        say_json(found)
    else:
        say(*found.report.splitlines())
    return BREACH if found.breaches else OK
