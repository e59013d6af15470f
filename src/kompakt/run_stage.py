"""A stage of a recipe: begun, trained, and kept so that it can be taken up."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras

from kompakt.callbacks import TensorBoard, Update
from kompakt.data import sample_rows
from kompakt.distill import distill
from kompakt.distillation.model import Distillation
from kompakt.files import write_atomic
from kompakt.graph import reseed
from kompakt.loading import save_model
from kompakt.progress import in_words
from kompakt.run_progress import StageReport
from kompakt.run_resume import Curves, held
from kompakt.run_setting import Setting
from kompakt.stages import Stage, Started, in_training, start_stage

WATCHED = 64
"""Samples that go through the model at the end of an epoch where TensorBoard is asked for."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """When and where a stage is carried out.

    Attributes:
        key: name of its files below "trials". place: of its run in TensorBoard.
    """

    epochs: int
    key: str
    place: str
    seed: int
    report: StageReport


def carry_out(setting: Setting, model: keras.Model, stage: Stage, turn: Turn) -> tuple[Started, keras.Model, Curves]:
    """A stage as it started, the model after it, and the training curves."""
    steps = turn.epochs * math.ceil(len(setting.data.y_train) / setting.batch_size)
    turn.report(0.0)
    keras.utils.set_random_seed(turn.seed)  # a stage that is taken up goes on as if never stopped
    started = start_stage(
        model,
        stage,
        steps=max(1, steps),
        calibration=setting.calibration,
        seed=setting.seed,
        progress=lambda what, share: turn.report(0.0, in_words(what, share)),
    )
    if turn.epochs == 0:
        return started, started.model, {}
    reseed(started.model, turn.seed)
    trained, attached = started.model, started.model
    if stage.distill is not None:
        trained = distill(attached, setting.teacher, **in_training(stage.distill, steps))
        started = dataclasses.replace(started, applied=(*started.applied, *_taught(setting, trained)))
        attached = trained.student
    file = setting.folder / "trials" / f"{turn.key}.keras"
    known = file.with_suffix(".json")
    left = held(file, known) if setting.resume else None
    if left is not None:
        return started, *left
    curves = _fitted(setting, trained, turn, rate=stage.learning_rate, steps=steps)
    write_atomic(known, json.dumps(curves))  # before the model: where that is, the stage is finished
    save_model(attached, file)
    return started, attached, curves


def _fitted(setting: Setting, trained: Any, turn: Turn, *, rate: float, steps: int) -> Curves:
    """The curves of a training, Adam's rate falling to 0 as half a cosine.

    A step at the end that is as large, where gradients are next to none, flips 4-bit weights.
    """
    data = setting.data
    falling = keras.optimizers.schedules.CosineDecay(rate, max(steps, 1))
    trained.compile(keras.optimizers.Adam(falling), setting.task.loss)
    progress = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, _: turn.report((epoch + 1) / turn.epochs))
    history = trained.fit(
        data.x_train,
        data.y_train,
        epochs=turn.epochs,
        batch_size=setting.batch_size,
        verbose=0,
        validation_data=None if data.x_val is None else (data.x_val, data.y_val),
        callbacks=[Update(), progress, *_watch(setting, turn.place)],
    ).history
    return {name: tuple(map(float, values)) for name, values in history.items()}


def _watch(setting: Setting, place: str) -> list[TensorBoard]:
    """What shows the training of a stage, where that is wanted: at ``place``, a run of its own in TensorBoard."""
    if setting.tensorboard is None:
        return []
    return [TensorBoard(setting.tensorboard / place, data=sample_rows(setting.data.x_train, WATCHED))]


def _taught(setting: Setting, trained: Distillation) -> tuple[str, ...]:
    """What a distillation learns from, a line each."""
    teacher, metric = trained.teacher, setting.task.metric
    terms = ", ".join(trained.term_names)
    first = f"distill {terms} from {teacher.name} ({teacher.count_params():,} parameters, {metric} "
    return (f"{first}{setting.teacher_score:.4f})", *trained.found)


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
