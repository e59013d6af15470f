"""``kompakt export``."""

from __future__ import annotations

import logging
import warnings
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kompakt.commands.shared import (
    BREACH,
    OK,
    console,
    data_option,
    loaded,
    progress,
    say,
    say_json,
    show,
    show_artifact,
    trust_option,
)
from kompakt.errors import InputError
from kompakt.spelling import one_of

if TYPE_CHECKING:
    from kompakt.records import Deployment


ABOUT = "write a model as a verified file"


CHOSEN = 0.7
"""Share of the work that is done when the bits of each layer are chosen, where --max-drop asks for that."""

EVERY = "all"
"""Stands for every target, at ``--target``."""


def options(command: ArgumentParser) -> None:
    """What the command takes."""
    command.add_argument("model", metavar="MODEL.keras", help="float model, .keras or .h5")
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
    data_option(
        command, required=False, why="; integer modes need it, the others are compared on random inputs without"
    )
    command.add_argument("--on-breach", default="raise", metavar="raise|warn", help="warn: write it all the same")
    trust_option(command)


def run(options: Namespace) -> int:
    """``kompakt export``."""
    from kompakt.data import CALIBRATION, load_data, sample_rows
    from kompakt.export import export
    from kompakt.export_all import export_all
    from kompakt.progress import part
    from kompakt.task import data_for

    model = loaded(options.model, options)
    data = None if options.data is None else data_for(model, load_data(options.data))
    given: dict[str, Any] = {
        "rules": _rules(options.rule),
        "calibration": None if data is None else sample_rows(data.x_train, CALIBRATION),
        "method": options.method,
        "repairs": options.repair,
    }
    why: list[str] = []
    with progress() as report, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # breaches stand in the report
        if options.max_drop is not None:
            report("choosing the bits of each layer", 0.0)
            model, why = _chosen(model, data, options, {**given, "progress": part(report, 0.0, CHOSEN)})
            given = {}
        given.update(
            progress=report if options.max_drop is None else part(report, CHOSEN, 1.0),
            quantization=None if why else options.quantization,
            io=options.io,
            verify=None if data is None else _with_labels(data),
            sparse=options.sparse,
            compress=options.compress,
            on_breach=options.on_breach,
        )
        if options.target == EVERY:
            return _show_all(export_all(model, options.out, **given), options)
        artifact = export(model, options.out, target=options.target or _target_of(options.out), **given)
    if why and not options.json:
        say(*why)
    show_artifact(artifact, options)
    return BREACH if artifact.breaches else OK


def check(options: Namespace) -> None:
    """What can be told at once."""
    from kompakt.commands.early import check_data, check_model, check_target
    from kompakt.precision import INTEGER
    from kompakt.targets.words import KERAS, MODES, WORDS, check_ending

    check_target(options.target, (EVERY,))
    mode, target = options.quantization, options.target or _target_of(options.out)
    check_ending(options.out, target)
    modes = WORDS if target == EVERY else MODES[target]
    if mode is not None and mode not in (*modes, *KERAS):  # why not those of Keras is for the work to say
        raise InputError(f"quantization={mode!r}: {one_of(mode, modes)}")
    needs_data = _rules(options.rule) or options.repair or options.max_drop is not None or mode in INTEGER
    if options.data is None and needs_data:
        raise InputError("--data is missing: integer modes, rules, repairs and --max-drop need samples of real input")
    check_model(options.model)
    check_data(options.data)


def _target_of(path: str) -> str:
    """The target that a path without ``--target`` means, by its ending."""
    from kompakt.targets.words import MODES, SUFFIXES

    named = {suffix: name for name, suffix in SUFFIXES.items()}
    if Path(path).suffix in named:
        return named[Path(path).suffix]
    raise InputError(
        f"{path}: say for which device with --target {'|'.join((*MODES, EVERY))}, or name it *.tflite or *.onnx"
    )


def _show_all(made: Sequence[Deployment], options: Namespace) -> int:
    if options.json:
        say_json(made)
    else:
        from kompakt.report.deployments import deployment_lines, deployments_table

        show(deployments_table(made, console().width))
        say(*deployment_lines(made))
    if any(each.failed or (each.artifact is not None and each.artifact.breaches) for each in made):
        return BREACH
    if all(each.artifact is None for each in made):
        raise InputError("no target took the model: " + "; ".join(f"{each.target}: {each.refused}" for each in made))
    return OK


def _with_labels(data: Any) -> Any:
    """The test samples, with their labels where they are of one output."""
    return (data.x_test, data.y_test) if hasattr(data.y_test, "shape") else data.x_test


def _chosen(model: Any, data: Any, options: Namespace, given: Mapping[str, Any]) -> tuple[Any, list[str]]:
    """(the model with the precisions that hold --max-drop, what was chosen and why)."""
    from kompakt.inference import outputs_of
    from kompakt.quantization import quantize
    from kompakt.task import task_for

    task = task_for(model, data)
    inputs, labels = (data.x_test, data.y_test) if data.x_val is None else (data.x_val, data.y_val)
    sign = 1.0 if task.metric == "accuracy" else -1.0
    log, said = logging.getLogger("kompakt"), _Said()
    level = log.level
    log.addHandler(said)
    log.setLevel(logging.WARNING)
    try:
        made = quantize(
            model,
            options.quantization or "int8",
            max_drop=options.max_drop,
            evaluate=lambda each: sign * task.score(outputs_of(each, inputs), labels),
            **given,
        )
    finally:
        log.removeHandler(said)
        log.setLevel(level)
    return made, said.lines


class _Said(logging.Handler):
    """Keeps what the library says of its choice."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage().startswith("max_drop: "):
            self.lines.append(record.getMessage().removeprefix("max_drop: "))


def _rules(given: Sequence[str]) -> dict[str, str | int] | None:
    """``["head*=float", "conv1=4"]`` as :func:`kompakt.export` takes it."""
    rules: dict[str, str | int] = {}
    for text in given:
        pattern, _, value = text.rpartition("=")
        if not pattern:
            raise InputError(f"--rule {text!r}: expected LAYERS=WHAT, such as 'head*=float' or 'conv1=4'")
        rules[pattern] = int(value) if value.isdecimal() else value
    return rules or None
