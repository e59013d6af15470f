"""``optimize``: a recipe from the float model to a verified file, with what was measured on the way."""

from __future__ import annotations

import datetime
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from kompakt.data import load_data
from kompakt.errors import InputError
from kompakt.event_file import log_folder
from kompakt.examine import versions
from kompakt.files import writable_folder, write_atomic
from kompakt.recipe import Recipe, load_recipe
from kompakt.records import Run, Trial, to_json
from kompakt.run_checks import check_layers, check_numbers, check_targets, check_teacher, for_target
from kompakt.run_job import Job
from kompakt.run_measure import BASELINE
from kompakt.run_progress import Report, part, silent
from kompakt.run_setting import Setting
from kompakt.sites import check_built
from kompakt.task import data_for, one_output, task_for

AnyRecipe = str | Path | Mapping[str, Any] | Recipe
"""A recipe by name or file, as a mapping, or as what those become."""


def optimize(
    model: keras.Model,
    data: Any,
    recipe: AnyRecipe | Sequence[AnyRecipe] = "ptq_int8",
    out: str | Path = "build",
    *,
    epochs: int | None = None,
    batch_size: int = 32,
    loss: Any = None,
    teacher: keras.Model | None = None,
    seed: int = 0,
    resume: bool = True,
    target: str | None = None,
    tensorboard: str | Path | None = None,
    report: Report = silent,
) -> Run:
    """Carry out ``recipe`` on ``model`` and write a verified file, beside the float file it is compared with.

    Args:
        model: built float model; not changed.
        data: what :func:`kompakt.data.load_data` takes: arrays by name, an ``.npz``, a folder, a function.
        recipe: name, JSON file, mapping or Recipe, or a list of those. out: folder for the files and ``records.json``.
        epochs: of training in all, shared among the stages; by default the recipe's.
        batch_size: of training. loss: Keras loss; by default the compiled one, else by the labels.
        teacher: built model that a recipe with ``distill`` needs; not changed.
        seed: of shuffling, starts and noise. resume: take up finished trials and stages found in ``out``.
        target: to export to in place of the recipe's, in the mode there that comes nearest.
        tensorboard: folder where training is written for TensorBoard, a run a stage (``callbacks.TensorBoard``).
        report: told what goes on.

    Returns:
        A Run whose first trial is "float" and whose last is the last recipe's, as its ``artifact`` is; between them are
        those of earlier runs on the same model and data whose files are still in ``out``.

    Raises:
        InputError: something given cannot be used. VerificationError: the file is not what was asked.

    Example: ``kompakt.optimize(model, "digits.npz", recipe="pcqat_int8", out="build/").artifact.report``
    """
    baseline = load_recipe(BASELINE)
    names = [baseline]
    several: Sequence[Any] = recipe if isinstance(recipe, (list, tuple)) else [recipe]
    for each in several:
        chosen = load_recipe(each)
        if chosen.name == BASELINE and chosen != baseline:
            what = "the name of the file that others are compared with"
            raise InputError(f"recipe {BASELINE!r}: {what}; give it another")
        chosen = chosen if target is None else for_target(chosen, target)
        if chosen not in names:
            names.append(chosen)
    return optimize_all(
        model,
        data,
        names,
        out,
        epochs=epochs,
        batch_size=batch_size,
        loss=loss,
        teacher=teacher,
        seed=seed,
        resume=resume,
        tensorboard=tensorboard,
        report=report,
    )


def optimize_all(
    model: keras.Model,
    data: Any,
    recipes: Sequence[Recipe],
    out: str | Path,
    *,
    epochs: int | None = None,
    batch_size: int = 32,
    loss: Any = None,
    teacher: keras.Model | None = None,
    seed: int = 0,
    resume: bool = True,
    tensorboard: str | Path | None = None,
    report: Report = silent,
    title: str = "",
) -> Run:
    """:func:`optimize` with several recipes on one model; the first should be "float"."""
    check_built(model)
    check_numbers(epochs, batch_size, seed)
    loaded = data_for(model, load_data(data), one_output(model).shape[-1])
    check_layers(model, recipes)
    check_teacher(teacher, recipes)
    check_targets(recipes)
    folder = writable_folder(out)
    task = task_for(model, loaded, loss)
    setting = Setting(
        model=model,
        data=loaded,
        task=task,
        teacher=teacher,
        folder=folder,
        epochs=epochs,
        batch_size=batch_size,
        seed=seed,
        resume=resume,
        tensorboard=None if tensorboard is None else log_folder(tensorboard),
    )
    job = Job(setting=setting)
    trials: list[Trial] = []
    for i, recipe in enumerate(recipes):
        trials.append(job.trial(recipe, trials, part(report, i, len(recipes))))
    at = min(1, len(trials) - 1)  # after "float", before what was asked for now
    before = job.earlier({trial.recipe for trial in trials})
    trials[at:at] = before
    run = Run(
        title=title or f"{model.name}: {', '.join(r.name for r in recipes if r.name != BASELINE)}",
        trials=tuple(trials),
        seed=seed,
        command=" ".join(sys.argv),
        machine=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        data=loaded.source,
        versions=versions(),
        notes=tuple(map(_of_before, before)),
    )
    write_atomic(folder / "records.json", to_json(run))
    return run


def _of_before(trial: Trial) -> str:
    """That a trial is not of this run, and what it was carried out with."""
    how = [f"seed {trial.seed}"] if trial.seed is not None else []
    how += [f"command: {trial.command}"] if trial.command else []
    return f"{trial.recipe} is of an earlier run on the same model and data" + (f" ({'; '.join(how)})" if how else "")
