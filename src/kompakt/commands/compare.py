"""``kompakt compare``."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from kompakt.commands.shared import (
    BREACH,
    OK,
    console,
    import_modules,
    judging,
    judging_options,
    progress,
    say,
    say_json,
    show,
)

ABOUT = "put models and files side by side on the same samples"


def options(command: ArgumentParser) -> None:
    """What the command takes."""
    command.add_argument("things", nargs="+", metavar="THING", help="two or more: .keras models, files of any target")
    judging_options(command)
    command.add_argument("--no-latency", action="store_true", help="do not time them")


def check(options: Namespace) -> None:
    """What can be told at once."""
    from kompakt.commands.early import check_data, check_thing

    for thing in options.things:
        check_thing(thing)
    check_data(options.data)


def run(options: Namespace) -> int:
    """``kompakt compare``."""
    from kompakt.contest import compare_models
    from kompakt.data import load_data
    from kompakt.subjects import subject

    import_modules(options)
    judged = [subject(thing, safe=not options.trust) for thing in options.things]
    data = load_data(options.data)
    with progress() as report:
        found = compare_models(
            judged,
            data,
            latency=not options.no_latency,
            progress=report,
            **judging(options),
        )
    if options.json:
        say_json(found)
    else:
        from kompakt.report.comparison import comparison_lines, comparison_table

        show(comparison_table(found, console().width))
        say(*comparison_lines(found))
    amiss = any(row.failed or (row.evaluation and row.evaluation.breaches) for row in found.contenders)
    return BREACH if amiss else OK
