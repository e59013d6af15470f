"""``optimize``: a recipe from the float model to a verified file, with what was measured on the way."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import inspect
import json
import math
import platform
import re
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kompakt.callbacks import TensorBoard, Update
from kompakt.data import CALIBRATION, Data, load_data, sample_rows
from kompakt.deploy import make_job, quantized_mode
from kompakt.distill import distill
from kompakt.distillation.model import Distillation
from kompakt.errors import InputError
from kompakt.event_file import log_folder
from kompakt.examine import versions
from kompakt.export import export
from kompakt.export_options import io_for
from kompakt.files import sha256, writable_folder, write_atomic
from kompakt.graph import reseed
from kompakt.intervals import mean_interval
from kompakt.loading import save_model
from kompakt.measure import latency, latency_ratio
from kompakt.progress import in_words
from kompakt.recipe import Recipe, load_recipe, to_dict
from kompakt.records import Artifact, Measurement, Run, Trial, from_json, to_json
from kompakt.simulation import simulate
from kompakt.sites import check_built, sites
from kompakt.stages import Stage, Started, in_training, start_stage
from kompakt.targets import find_target
from kompakt.task import Task, data_for, one_output, task_for

Report = Callable[[str, float], None]
"""``report(what, done)``: what is being done, and the share of the recipe done so far, 0..1."""


def silent(_what: str, _done: float) -> None:
    """A report that nobody reads."""


BASELINE = "float"

WATCHED = 64
"""Samples that go through the model at the end of an epoch where TensorBoard is asked for."""


def optimize(
    model: keras.Model,
    data: Any,
    recipe: str | Path | Mapping[str, Any] | Recipe = "ptq_int8",
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
        recipe: name, JSON file, mapping or Recipe. out: folder for the files and ``records.json``.
        epochs: of training in all, shared among the stages; by default the recipe's.
        batch_size: of training. loss: Keras loss; by default the compiled one, else by the labels.
        teacher: built model that a recipe with ``distill`` needs; not changed.
        seed: of shuffling, starts and noise. resume: take up finished trials and stages found in ``out``.
        target: to export to in place of the recipe's, in the mode there that comes nearest.
        tensorboard: folder where training is written for TensorBoard, a run a stage (``callbacks.TensorBoard``).
        report: told what goes on.

    Returns:
        A Run whose first trial is "float" and whose last is the recipe's, as its ``artifact`` is; between them are
        those of earlier runs on the same model and data whose files are still in ``out``.

    Raises:
        InputError: something given cannot be used. VerificationError: the file is not what was asked.

    Example: ``kompakt.optimize(model, "digits.npz", recipe="pcqat_int8", out="build/").artifact.report``
    """
    chosen, baseline = load_recipe(recipe), load_recipe(BASELINE)
    if chosen.name == BASELINE and chosen != baseline:
        raise InputError(f"recipe {BASELINE!r}: the name of the file that others are compared with; give it another")
    if target is not None:
        chosen = for_target(chosen, target)
    names = [baseline, *([chosen] if chosen != baseline else [])]
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
    _check_numbers(epochs, batch_size, seed)
    loaded = data_for(model, load_data(data), one_output(model).shape[-1])
    _check_layers(model, recipes)
    _check_teacher(teacher, recipes)
    _check_targets(recipes)
    folder = writable_folder(out)
    task = task_for(model, loaded, loss)
    job = _Job(
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
    trials: list[Trial] = []
    for i, recipe in enumerate(recipes):
        trials.append(job.trial(recipe, trials, functools.partial(_part, report, i, len(recipes))))
    at = min(1, len(trials) - 1)  # after "float", before what was asked for now
    trials[at:at] = job.earlier({trial.recipe for trial in trials})
    run = Run(
        title=title or f"{model.name}: {', '.join(r.name for r in recipes if r.name != BASELINE)}",
        trials=tuple(trials),
        seed=seed,
        command=" ".join(sys.argv),
        machine=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        data=loaded.source,
        versions=versions(),
    )
    write_atomic(folder / "records.json", to_json(run))
    return run


def _check_layers(model: keras.Model, recipes: Sequence[Recipe]) -> None:
    """Raise, before anything is written, where a recipe needs weights and ``model`` has none."""
    stages = [stage for recipe in recipes for stage in recipe.stages if stage.rules or stage.quantize]
    if stages and all(site.variable is None for site in sites(model)):
        what = "weights to work on" if stages[0].rules else "layer to quantize"
        raise InputError(
            f"the model {model.name!r} has no {what}: expected at least one Dense, convolution, embedding or "
            "recurrent layer"
        )


def for_target(recipe: Recipe, target: str) -> Recipe:
    """``recipe`` with another target, and the mode there that comes nearest to its own.

    Raises:
        InputError: there is no such target.

    Example:
        >>> made = for_target(load_recipe("qat_int8"), "tfjs")
        >>> made.name, made.quantization, made.io
        ('qat_int8_tfjs', 'uint8', None)
    """
    place = find_target(target)
    mode = recipe.quantization
    mode = mode if mode in place.modes else place.nearest.get(mode, "float")
    io = recipe.io if recipe.io in place.io.get(mode, ()) else None
    name = recipe.name if target == recipe.target else f"{recipe.name}_{target}"
    return dataclasses.replace(recipe, name=name, target=target, quantization=mode, io=io)


def _check_targets(recipes: Sequence[Recipe]) -> None:
    """Raise, before anything is trained, where a recipe ends in what its target has not, or that cannot be run."""
    for recipe in recipes:
        place = find_target(recipe.target)
        where = f"recipe {recipe.name!r}: quantization={recipe.quantization!r}, target={recipe.target!r}"
        if recipe.quantization not in place.modes:
            raise InputError(f"{where}: expected one of {', '.join(place.modes)}")
        if recipe.sparse and not place.stores_sparse:
            raise InputError(f"{where}: it has no sparse storage; leave 'sparse' out")
        io_for(recipe.io, recipe.quantization, place)
        place.ready()


def _check_teacher(teacher: keras.Model | None, recipes: Sequence[Recipe]) -> None:
    """Raise where a recipe needs a teacher and there is none, or there is one that none asks."""
    asking = [recipe.name for recipe in recipes if any(stage.distill is not None for stage in recipe.stages)]
    if asking and teacher is None:
        raise InputError(f"recipe {asking[0]!r}: it distils, and needs a teacher: teacher= or --teacher TEACHER.keras")
    if teacher is not None and not asking:
        raise InputError(
            f"teacher: none of the recipes {', '.join(r.name for r in recipes)} distils; choose one that does, such as "
            "'distill_qat_int8'"
        )


def split_epochs(total: int, shares: Sequence[float]) -> list[int]:
    """``total`` epochs divided by ``shares``; each stage that trains gets one at least, where there are any.

    Example:
        >>> split_epochs(5, [0.5, 0.0, 0.5, 0.5]), split_epochs(1, [0.5, 0.5]), split_epochs(3, [0.0])
        ([2, 0, 2, 1], [1, 1], [0])
    """
    given = [1 if share and total else 0 for share in shares]
    for _ in range(total - sum(given) if any(given) else 0):
        wanted = [total * share / sum(shares) - n for share, n in zip(shares, given, strict=True)]
        given[wanted.index(max(wanted))] += 1
    return given


def _check_numbers(epochs: int | None, batch_size: int, seed: int) -> None:
    if epochs is not None and epochs < 0:
        raise InputError(f"epochs={epochs}: expected 0 or more")
    if batch_size < 1:
        raise InputError(f"batch_size={batch_size}: expected 1 or more")
    if not 0 <= seed < 2**31:
        raise InputError(f"seed={seed}: expected a whole number from 0 to {2**31 - 1}")


@dataclass(frozen=True, kw_only=True)
class _Job:
    """One model, its data and where the files go; carries out recipes one by one."""

    model: keras.Model
    data: Data
    task: Task
    teacher: keras.Model | None
    folder: Path
    epochs: int | None
    batch_size: int
    seed: int
    resume: bool
    tensorboard: Path | None

    def trial(self, recipe: Recipe, before: Sequence[Trial], report: Report) -> Trial:
        """The trial of ``recipe``: taken up from the folder where it is finished there, else carried out."""
        path = self.folder / f"{recipe.name}{find_target(recipe.target).suffix}"
        record = self.folder / "trials" / f"{recipe.name}.json"
        key = self._key(recipe)
        found = _finished(record, {"key": key}, self.folder) if self.resume else None
        if found is not None:
            report(f"{recipe.name}: taken up, finished before", 1.0)
            return found
        trial = self._carry_out(recipe, path, key, before, report)
        write_atomic(record, f'{{"key": "{key}", "subject": "{self._subject}", "trial": {to_json(trial)}}}')
        for stage in self._stage_files(recipe):
            stage.unlink()
        return trial

    def earlier(self, done: Collection[str]) -> list[Trial]:
        """Trials of earlier runs on the same model and data whose file is still there, but those of ``done``."""
        records = sorted((self.folder / "trials").glob("*.json"), key=lambda path: path.stat().st_mtime)
        found = [
            _finished(record, {"subject": self._subject}, self.folder) for record in records if record.stem not in done
        ]
        return [trial for trial in found if trial is not None]

    def _carry_out(self, recipe: Recipe, path: Path, key: str, before: Sequence[Trial], report: Report) -> Trial:
        start = time.perf_counter()
        model = self.model
        history: dict[str, tuple[float, ...]] = {}
        applied: list[str] = []
        skipped: list[str] = []
        total = recipe.epochs if self.epochs is None else self.epochs
        split = split_epochs(total, [stage.train for stage in recipe.stages])
        if sum(split) > total:
            skipped.append(f"trained for {sum(split)} epochs, not {total}: each stage that trains takes one at least")
        done = 0.0
        for i, stage in enumerate(recipe.stages):
            epochs = split[i]
            part = 0.9 / len(recipe.stages)
            doing = functools.partial(_doing, report, recipe, i, done, part)
            started, model, curves = self._stage(
                model,
                stage,
                epochs,
                f"{recipe.name}-{key}-{i}",
                doing,
                f"{recipe.name}/stage_{i + 1}",
                seed=self.seed + i,
            )
            done += part
            applied += started.applied
            skipped += started.skipped
            if stage.train and not epochs:
                skipped.append(f"stage {i + 1}: not trained, there are 0 epochs")
            for name, values in curves.items():
                history[name] = (*history.get(name, ()), *values)
        report(f"{recipe.name}: exporting and verifying", 0.9)
        artifact = export(
            model,
            path,
            quantization=recipe.quantization,
            io=recipe.io,
            target=recipe.target,
            sparse=recipe.sparse,
            provenance={"recipe": recipe.name, "seed": self.seed},
            calibration=None if quantized_mode(model) else self._calibration(),
            verify=self.data.x_test,
            progress=lambda what, share: report(f"{recipe.name}: {in_words(what, share)}", 0.9),
        )
        report(f"{recipe.name}: measuring", 0.95)
        measurements = self._measure(model, artifact, before)
        return Trial(
            recipe=recipe.name,
            artifact=artifact,
            measurements=measurements,
            history=history,
            applied=tuple(applied),
            skipped=(*dict.fromkeys(skipped), *artifact.notes),
            seconds=time.perf_counter() - start,
        )

    def _stage(
        self,
        model: keras.Model,
        stage: Stage,
        epochs: int,
        key: str,
        report: Callable[..., None],
        place: str,
        *,
        seed: int,
    ) -> tuple[Started, keras.Model, dict[str, tuple[float, ...]]]:
        """A stage as it started, the model after it, and the training curves."""
        steps = epochs * math.ceil(len(self.data.y_train) / self.batch_size)
        report(0.0)
        keras.utils.set_random_seed(seed)  # a stage that is taken up goes on as if never stopped
        started = start_stage(
            model,
            stage,
            steps=max(1, steps),
            calibration=self._calibration(),
            seed=self.seed,
            progress=lambda what, share: report(0.0, in_words(what, share)),
        )
        attached = started.model
        file = self.folder / "trials" / f"{key}.keras"
        known = file.with_suffix(".json")
        if epochs == 0:
            return started, attached, {}
        reseed(attached, seed)
        trained = attached
        if stage.distill is not None:
            trained = distill(attached, self.teacher, **in_training(stage.distill, steps))
            started = dataclasses.replace(started, applied=(*started.applied, *self._taught(trained)))
            attached = trained.student
        held = _held(file, known) if self.resume else None
        if held is not None:
            return started, *held
        # Falling to 0: a step of Adam at the end, where gradients are next to none, flips 4-bit weights.
        rate = keras.optimizers.schedules.CosineDecay(stage.learning_rate, max(steps, 1))
        trained.compile(keras.optimizers.Adam(rate), self.task.loss)
        progress = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, _: report((epoch + 1) / epochs))
        history = trained.fit(
            self.data.x_train,
            self.data.y_train,
            epochs=epochs,
            batch_size=self.batch_size,
            verbose=0,
            validation_data=None if self.data.x_val is None else (self.data.x_val, self.data.y_val),
            callbacks=[Update(), progress, *self._watch(place)],
        ).history
        curves = {name: tuple(map(float, values)) for name, values in history.items()}
        write_atomic(known, json.dumps(curves))  # before the model: where that is, the stage is finished
        save_model(attached, file)
        return started, attached, curves

    def _watch(self, place: str) -> list[TensorBoard]:
        """What shows the training of a stage, where that is wanted: at ``place``, a run of its own in TensorBoard."""
        samples = sample_rows(self.data.x_train, WATCHED)
        return [] if self.tensorboard is None else [TensorBoard(self.tensorboard / place, data=samples)]

    def _taught(self, trained: Distillation) -> tuple[str, ...]:
        """What a distillation learns from, a line each."""
        teacher = trained.teacher
        terms = ", ".join(trained.term_names)
        first = f"distill {terms} from {teacher.name} ({teacher.count_params():,} parameters, {self.task.metric} "
        return (f"{first}{self._teacher_score:.4f})", *trained.found)

    @functools.cached_property
    def _teacher_score(self) -> float:
        """The metric of the float teacher."""
        return self.task.score(simulate(self.teacher, self.data.x_test), self.data.y_test)

    def _measure(self, model: keras.Model, artifact: Artifact, before: Sequence[Trial]) -> tuple[Measurement, ...]:
        place = find_target(artifact.target)
        data = place.read(artifact.path)
        inputs, labels = self.data.x_test, self.data.y_test
        name = "accuracy" if self.task.metric == "accuracy" else "metric"
        unit = "" if name == "accuracy" else "lower"
        if artifact.quantization == "dynamic_int8":  # its inputs are rounded at run time: as the file does it
            model = make_job(model, "dynamic_int8", None).reference
        keras_score = self.task.score(simulate(model, inputs), labels)
        each = self.task.each(place.run(data, inputs).values, labels)
        sure = mean_interval(each, seed=self.seed)
        span: dict[str, Any] = {} if sure is None else {"low": sure.low, "high": sure.high, "interval": sure.how}
        measured = [
            Measurement(name=f"{name}_keras", value=keras_score, unit=unit, where=self.task.metric),
            Measurement(name=f"{name}_litert", value=float(each.mean()), unit=unit, where=self.task.metric, **span),
        ]
        other = next((t.artifact for t in before if t.recipe == BASELINE and t.artifact), artifact)
        if other.target != artifact.target:
            where = f"{place.name}, 1 thread"
            return (
                *measured,
                Measurement(
                    name="latency_ms", value=latency(place.timer(data, inputs)).milliseconds, unit="ms", where=where
                ),
            )
        where = "LiteRT, 1 thread, alternated with the float file"
        found = latency_ratio(place.timer(data, inputs), place.timer(place.read(other.path), inputs))
        if other is artifact:  # against itself it would differ by noise alone
            found = dataclasses.replace(found, ratio=1.0, spread=0.0)
        return (
            *measured,
            Measurement(name="latency_ms", value=found.milliseconds, unit="ms", where=where),
            Measurement(name="latency_ratio", value=found.ratio, where=where),
            Measurement(name="latency_ratio_spread", value=found.spread, where=where),
        )

    def _calibration(self) -> Any:
        return sample_rows(self.data.x_train, CALIBRATION)

    def _stage_files(self, recipe: Recipe) -> list[Path]:
        """Stages of ``recipe``, of this key and of those before it."""
        name = re.compile(re.escape(recipe.name) + r"-[0-9a-f]{16}-\d+\.(keras|json)")
        return [path for path in (self.folder / "trials").iterdir() if name.fullmatch(path.name)]

    @functools.cached_property
    def _subject(self) -> str:
        """Digest of the model and the data."""
        splits = ("x_train", "y_train", "x_test", "y_test", "x_val", "y_val")
        arrays = keras.tree.flatten([getattr(self.data, split) for split in splits])
        parts = [
            self._digest(self.model).encode(),
            *(np.ascontiguousarray(a).tobytes() for a in arrays if a is not None),
        ]
        return sha256(b"".join(sha256(part).encode() for part in parts))[:16]

    @staticmethod
    def _digest(model: keras.Model) -> str:
        """Of a model's config, code and weights."""
        weights = [np.ascontiguousarray(w).tobytes() for w in model.get_weights()]
        parts = [model.to_json().encode(), _source(type(model)).encode(), *weights]
        return sha256(b"".join(sha256(part).encode() for part in parts))

    def _key(self, recipe: Recipe) -> str:
        """Digest of everything that decides the result."""
        loss = keras.saving.serialize_keras_object(self.task.loss)
        taught = any(stage.distill is not None for stage in recipe.stages)
        teacher = self._digest(self.teacher) if taught and self.teacher is not None else ""
        settings = (to_dict(recipe), teacher, self.epochs, self.batch_size, self.seed, str(loss), versions())
        return sha256(f"{self._subject} {settings!r}".encode())[:16]


def _held(file: Path, curves: Path) -> tuple[keras.Model, dict[str, tuple[float, ...]]] | None:
    """The model of a stage that was finished before and its curves; None where they are not both there and whole."""
    try:
        return keras.saving.load_model(file, compile=False), json.loads(curves.read_text())
    except Exception:  # noqa: BLE001  damaged, or of a class that is not read back: the stage is trained again
        return None


def _source(kind: type) -> str:
    """The code of a user's own model, whose config does not say what it computes; "" where there is none."""
    try:
        return "" if kind.__module__.startswith("keras.") else inspect.getsource(kind)
    except (OSError, TypeError):
        return ""


def _finished(record: Path, wanted: Mapping[str, str], folder: Path) -> Trial | None:
    """The trial in ``record``, if that has what is ``wanted`` and what it wrote is still in ``folder``."""
    try:
        held = json.loads(record.read_text())
        trial = from_json(Trial, json.dumps(held["trial"]))
        same = all(held[name] == value for name, value in wanted.items()) and trial.artifact is not None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not same or trial.artifact is None:
        return None
    path = folder / Path(trial.artifact.path).name
    try:
        held = find_target(trial.artifact.target).read(path)
    except InputError:
        return None
    if sha256(held) != trial.artifact.sha256:
        return None
    return dataclasses.replace(trial, artifact=dataclasses.replace(trial.artifact, path=str(path)))


def _part(report: Report, index: int, count: int, what: str, done: float) -> None:
    """Report one of ``count`` equal parts that is ``done``."""
    report(what, (index + done) / count)


def _doing(
    report: Report, recipe: Recipe, stage: int, before: float, part: float, done: float, words: str = ""
) -> None:
    """Report a stage that is ``done`` (0..1), of a recipe that was ``before`` done and gets ``part`` from it."""
    words = words or ("starting" if done == 0.0 else "training")
    report(f"{recipe.name}: stage {stage + 1} of {len(recipe.stages)}, {words}", before + part * done)
