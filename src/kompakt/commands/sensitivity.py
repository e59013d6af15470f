"""``kompakt sensitivity``."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from kompakt.commands.shared import OK, data_option, loaded, progress, say_json, show, trust_option

ABOUT = "say which layer hurts in 8 and 4 bits"


def options(command: ArgumentParser) -> None:
    """What the command takes."""
    command.add_argument("model", metavar="MODEL.keras", help="float model")
    data_option(command)
    command.add_argument(
        "--bits", type=int, nargs="+", default=[8, 4], metavar="N", help="of a layer's weights, 2 to 8 (default: 8 4)"
    )
    trust_option(command)


def check(options: Namespace) -> None:
    """What can be told at once."""
    from kompakt.commands.early import check_data, check_model

    check_model(options.model)
    check_data(options.data)


def run(options: Namespace) -> int:
    """``kompakt sensitivity``."""
    from kompakt.data import CALIBRATION, load_data, sample_rows
    from kompakt.sensitivity import sensitivity
    from kompakt.task import data_for

    model = loaded(options.model, options)
    data = data_for(model, load_data(options.data))
    with progress() as report:
        report("quantizing one layer at a time", 0.5)
        samples = sample_rows(data.x_train, CALIBRATION)
        rows = sensitivity(model, (data.x_test, data.y_test), bits=options.bits, calibration=samples)
    if options.json:
        say_json(rows)
        return OK
    from kompakt.report.layers import sensitivity_table

    show(sensitivity_table(rows))
    return OK
