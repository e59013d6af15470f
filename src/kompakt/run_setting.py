"""What all trials of one ``optimize`` share."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from kompakt.data import CALIBRATION, Data, sample_rows
from kompakt.run_measure import Judge
from kompakt.run_resume import digest_of_model, digest_of_subject
from kompakt.task import Task


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One model, its data, how it is trained and where the files go.

    Attributes:
        epochs: of training in all, None for each recipe's own. tensorboard: folder, or None.
    """

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

    @property
    def calibration(self) -> Any:
        """Samples for ranges."""
        return sample_rows(self.data.x_train, CALIBRATION)

    @functools.cached_property
    def judge(self) -> Judge:
        """What measures."""
        return Judge(data=self.data, task=self.task, seed=self.seed)

    @functools.cached_property
    def teacher_score(self) -> float:
        """The metric of the float teacher."""
        assert self.teacher is not None  # asked for where a stage distils, which needs one
        return self.judge.score(self.teacher)

    @functools.cached_property
    def subject(self) -> str:
        """Digest of the model and the data."""
        return digest_of_subject(self.model, self.data)

    @functools.cached_property
    def teacher_digest(self) -> str:
        """Digest of the teacher, "" where there is none."""
        return "" if self.teacher is None else digest_of_model(self.teacher)
