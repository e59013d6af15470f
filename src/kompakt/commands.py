"""What each command of the command line does. Imports come late, so that ``kompakt --help`` is quick."""

from __future__ import annotations

import dataclasses
import json
import logging
import re
import sys
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kompakt.errors import InputError, VerificationError

if TYPE_CHECKING:
    from kompakt.browser import BrowserCheck
    from kompakt.records import Artifact, Deployment, Run

OK, BREACH = 0, 1

EVERY = "all"
"""Stands for every target, at ``--target``."""


def _loaded(path: str, options: Namespace) -> Any:
    """The model in a file, after the modules that hold its classes are imported."""
    from kompakt.data import import_module, working_directory_importable
    from kompakt.loading import load_model

    with working_directory_importable():
        for name in options.modules:
            import_module(name, f"--import {name}: cannot import it")
    return load_model(path, safe=not options.trust)


def run_demo(options: Namespace) -> int:
    """``kompakt demo``."""
    from kompakt.demo import demo

    with _progress(lines=True) as report:
        run = demo(options.out, quick=options.quick, seed=options.seed, report=report)
    _show(run, options, Path(options.out) / "report.html")
    return OK


def run_optimize(options: Namespace) -> int:
    """``kompakt optimize``."""
    from kompakt.recipe import load_recipe
    from kompakt.report import html
    from kompakt.run import optimize

    recipe = load_recipe(options.recipe)
    model = _loaded(options.model, options)
    with _progress() as report:
        run = optimize(
            model,
            options.data,
            recipe,
            options.out,
            epochs=options.epochs,
            batch_size=options.batch_size,
            teacher=None if options.teacher is None else _loaded(options.teacher, options),
            seed=options.seed,
            resume=not options.restart,
            report=report,
        )
    html.write(run, Path(options.out) / "report.html")
    _show(run, options, Path(options.out) / "report.html")
    return OK


def run_export(options: Namespace) -> int:
    """``kompakt export``."""
    from kompakt.data import CALIBRATION, load_data, sample_rows
    from kompakt.export import export
    from kompakt.export_all import export_all
    from kompakt.precision import INTEGER
    from kompakt.progress import in_words
    from kompakt.task import data_for

    model = _loaded(options.model, options)
    data = None if options.data is None else data_for(model, load_data(options.data))
    needs_data = options.rule or options.repair or options.max_drop is not None or options.quantization in INTEGER
    if data is None and needs_data:
        raise InputError("--data is missing: integer modes, rules, repairs and --max-drop need samples of real input")
    given: dict[str, Any] = {
        "rules": _rules(options.rule),
        "calibration": None if data is None else sample_rows(data.x_train, CALIBRATION),
        "method": options.method,
        "repairs": options.repair,
    }
    why: list[str] = []
    with _progress() as report, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # breaches stand in the report
        given["progress"] = lambda what, share: report(in_words(what, share), 0.5)
        if options.max_drop is not None:
            report("choosing the bits of each layer", 0.25)
            model, why = _chosen(model, data, options, given)
            given = {}
        report("exporting and verifying", 0.5)
        given.update(
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
    if not options.json:
        print("\n".join(why), end="\n" if why else "")
    _show_artifact(artifact, options)
    return BREACH if artifact.breaches else OK


def _target_of(path: str) -> str:
    """The target that a path without ``--target`` means, by its ending."""
    from kompakt.targets import TARGETS, find_target

    suffix = Path(path).suffix
    named = {find_target(name).suffix: name for name in reversed(TARGETS)}
    if suffix and suffix in named:
        return named[suffix]
    raise InputError(f"{path}: say for which device with --target {'|'.join((*TARGETS, EVERY))}, or name it *.tflite")


def _show_all(made: Sequence[Deployment], options: Namespace) -> int:
    if options.json:
        print(json.dumps([dataclasses.asdict(each) for each in made], indent=2))
    else:
        from rich.console import Console

        from kompakt.report.deployments import deployment_lines, deployments_table

        console = Console()
        console.print(deployments_table(made))
        console.print("\n".join(deployment_lines(made)), highlight=False, markup=False, soft_wrap=True)
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


def run_verify(options: Namespace) -> int:
    """``kompakt verify``."""
    from kompakt.data import load_data
    from kompakt.targets import target_at
    from kompakt.task import data_for
    from kompakt.verify import verify_file

    target_at(options.file)
    model = _loaded(options.model, options)
    data = data_for(model, load_data(options.data))
    with _progress() as report:
        report("running the file", 0.5)
        artifact = verify_file(options.file, model, data.x_test, least_argmax=options.least_argmax)
        seen = _in_browser(options.file, data.x_test) if options.browser else None
    _show_artifact(artifact, options)
    if seen is not None:
        print(f"  browser    {seen.text}", file=sys.stderr if options.json else sys.stdout)
        if not seen.agrees:
            raise VerificationError(f"{options.file}: other outputs in the browser, {seen.relative:.3g} of the spread")
    if artifact.breaches and Path(options.data).is_dir():
        print("kompakt: images of a folder have pixels from 0 to 255: is that what the model takes?", file=sys.stderr)
    return BREACH if artifact.breaches else OK


def _in_browser(path: str, inputs: Any) -> BrowserCheck:
    from kompakt.browser import check_in_browser

    return check_in_browser(path, inputs)


def run_sensitivity(options: Namespace) -> int:
    """``kompakt sensitivity``."""
    from kompakt.data import CALIBRATION, load_data, sample_rows
    from kompakt.sensitivity import sensitivity
    from kompakt.task import data_for

    model = _loaded(options.model, options)
    data = data_for(model, load_data(options.data))
    with _progress() as report:
        report("quantizing one layer at a time", 0.5)
        samples = sample_rows(data.x_train, CALIBRATION)
        rows = sensitivity(model, (data.x_test, data.y_test), bits=options.bits, calibration=samples)
    if options.json:
        print(json.dumps([dataclasses.asdict(row) for row in rows], indent=2))
        return OK
    from rich.console import Console

    from kompakt.report.layers import sensitivity_table

    Console().print(sensitivity_table(rows))
    return OK


def list_recipes(options: Namespace) -> int:
    """``kompakt recipes``."""
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
def _progress(*, lines: bool = False) -> Iterator[Callable[[str, float], None]]:
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
        TextColumn("{task.description}"),
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


def _show(run: Run, options: Namespace, page: Path) -> None:
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


def _show_artifact(artifact: Artifact, options: Namespace) -> None:
    from kompakt.records import to_json

    print(to_json(artifact) if options.json else artifact.report)
