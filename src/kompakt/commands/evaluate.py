"""``kompakt evaluate``."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from kompakt.commands.shared import BREACH, OK, import_modules, judging, judging_options, progress

ABOUT = "say how good a model or a file is, and how sure that is"


def options(command: ArgumentParser) -> None:
    """What the command takes."""
    command.add_argument("thing", metavar="THING", help="a .keras or .h5 model, or a file or folder of any target")
    judging_options(command)


def run(options: Namespace) -> int:
    """``kompakt evaluate``."""
    from kompakt.data import load_data
    from kompakt.evaluate import evaluate
    from kompakt.records import to_json
    from kompakt.subjects import subject

    import_modules(options)
    judged, data = subject(options.thing, safe=not options.trust), load_data(options.data)
    with progress() as report:
        found = evaluate(judged, data, progress=lambda what, done: report(what, done or 0.0), **judging(options))
    print(to_json(found) if options.json else found.report)
    return BREACH if found.breaches else OK
