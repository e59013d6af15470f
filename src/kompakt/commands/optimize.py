"""``kompakt optimize``."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from kompakt.commands.shared import OK, data_option, loaded, progress, seed, show_run, trust_option

ABOUT = "carry out a recipe on a model"


def options(command: ArgumentParser) -> None:
    """What the command takes."""
    command.add_argument("model", metavar="MODEL.keras", help="float model, .keras or .h5")
    command.add_argument(
        "--recipe",
        required=True,
        action="append",
        metavar="NAME|FILE",
        help="see: kompakt recipes; given more than once, each is carried out, and all are in one report",
    )
    data_option(command)
    command.add_argument(
        "--teacher", metavar="TEACHER.keras", help="model to learn from, for recipes that distil: distill..."
    )
    command.add_argument(
        "--target", metavar="NAME", help="tflite, tflm, tfjs, savedmodel or onnx, in place of the recipe's"
    )
    command.add_argument("--epochs", type=int, metavar="N", help="of training in all (default: the recipe's)")
    command.add_argument("--batch-size", type=int, default=32, metavar="N", help="of training (default: 32)")
    command.add_argument("--out", default="build", metavar="DIR", help="folder (default: build)")
    command.add_argument("--seed", type=seed, default=0, metavar="S", help="of all that is random (default: 0)")
    command.add_argument("--tensorboard", metavar="DIR", help="write what training does there, for TensorBoard")
    command.add_argument("--restart", action="store_true", help="do not take up what an earlier run finished")
    trust_option(command)


def check(options: Namespace) -> None:
    """What can be told at once."""
    from kompakt.commands.early import check_data, check_model, check_target
    from kompakt.recipe_files import read_recipe

    for name in options.recipe:
        read_recipe(name)
    check_target(options.target)
    check_model(options.model)
    check_model(options.teacher)
    check_data(options.data)


def run(options: Namespace) -> int:
    """``kompakt optimize``."""
    from kompakt.recipe import load_recipe
    from kompakt.report import html
    from kompakt.run import optimize

    recipes = list(map(load_recipe, options.recipe))
    model = loaded(options.model, options)
    with progress() as report:
        run = optimize(
            model,
            options.data,
            recipes,
            options.out,
            epochs=options.epochs,
            batch_size=options.batch_size,
            teacher=None if options.teacher is None else loaded(options.teacher, options),
            seed=options.seed,
            target=options.target,
            resume=not options.restart,
            tensorboard=options.tensorboard,
            report=report,
        )
    html.write(run, Path(options.out) / "report.html")
    show_run(run, options, Path(options.out) / "report.html")
    return OK
