"""What is measured of a trial: how good its model and its file are, how fast that is, beside the float file."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass, field
from typing import Any

import keras

from kompakt.answers import Labelled, labelled
from kompakt.data import Data
from kompakt.deploy import make_job
from kompakt.evaluate import judge
from kompakt.profiling.pairs import alone, in_pairs
from kompakt.profiling.subject import subject_at
from kompakt.records import Artifact, Measurement
from kompakt.records_difference import Difference
from kompakt.records_evaluation import Evaluation
from kompakt.records_profile import LatencyRatio
from kompakt.run_progress import silent
from kompakt.subjects import Subject, subject
from kompakt.targets import find_target
from kompakt.targets.quiet import quiet
from kompakt.task import Task
from kompakt.versus import compare_evaluations

BASELINE = "float"

ROUNDS = 15
"""Readings of a latency beside the float file's: of two small files about 1.5 seconds."""

RATIO_INTERVAL = "sign test turned round, 95 %"


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Measures the trials of one model on its test samples.

    Attributes:
        seen: digest of a file that others are beside -> what it answered.
    """

    data: Data
    task: Task
    seed: int
    seen: dict[str, Evaluation] = field(default_factory=dict, repr=False)

    def measure(
        self, recipe: str, model: keras.Model, artifact: Artifact, float_file: Artifact | None
    ) -> tuple[tuple[Measurement, ...], Difference | None]:
        """(what is measured of a trial, its difference to the float file).

        Args:
            model: that the file was made of. float_file: that it is beside; None where there is none, or it is that.
        """
        if artifact.quantization == "dynamic_int8":  # its inputs are rounded at run time: as the file does it
            model = make_job(model, "dynamic_int8", None).reference
        by_keras, by_file = self._of_model(model), self._of_file(artifact, recipe)
        name = "accuracy" if self.task.metric == "accuracy" else "metric"
        measured = (
            self._measured(f"{name}_keras", by_keras, "Keras"),
            self._measured(f"{name}_file", by_file, find_target(artifact.target).runtime),
            *self._latency(recipe, artifact, float_file),
        )
        if float_file is None:
            self.seen[artifact.sha256] = by_file
            return measured, None
        return measured, self._difference(float_file, by_file)

    def difference(self, float_file: Artifact, artifact: Artifact, recipe: str) -> Difference:
        """The difference of a file to the float file, on the same samples."""
        return self._difference(float_file, self._of_file(artifact, recipe))

    def score(self, model: keras.Model) -> float:
        """The metric of a Keras model."""
        return self._of_model(model).measurements[0].value

    @functools.cached_property
    def _samples(self) -> Labelled:
        labels = self.task.labels(self.data.y_test)
        return labelled((self.data.x_test, labels), len(labels))

    def _of_model(self, model: keras.Model) -> Evaluation:
        return self._judged(subject(model))

    def _of_file(self, artifact: Artifact, recipe: str) -> Evaluation:
        found = subject(artifact.path)
        return self._judged(dataclasses.replace(found, name=recipe, probabilities=self.task.probabilities))

    def _judged(self, found: Subject) -> Evaluation:
        with quiet():  # TensorFlow warns of models that come one after the other
            return judge(
                found, self._samples, [self.task.judged_by], threads=1, seed=self.seed, confidence=0.95, report=silent
            )

    def _measured(self, name: str, found: Evaluation, runtime: str) -> Measurement:
        """Of an accuracy ``where`` is the runtime; of another metric it is its name, and ``unit`` what is better."""
        own = not name.startswith("accuracy")
        where, unit = (self.task.metric, "lower") if own else (runtime, "")
        return dataclasses.replace(found.measurements[0], name=name, unit=unit, where=where)

    def _difference(self, float_file: Artifact, found: Evaluation) -> Difference:
        first = self.seen.get(float_file.sha256)
        if first is None:  # it was taken up
            first = self.seen[float_file.sha256] = self._of_file(float_file, BASELINE)
        return compare_evaluations(first, found, seed=self.seed)

    def _latency(self, recipe: str, artifact: Artifact, float_file: Artifact | None) -> tuple[Measurement, ...]:
        """Of one run on one thread; where a file of the same target is float, over that of it."""
        where = f"{find_target(artifact.target).runtime}, 1 thread"
        this = subject_at(artifact, self.data.x_test, self.seed)
        if float_file is not None and float_file.target == artifact.target:
            other = subject_at(float_file, self.data.x_test, self.seed)
            return _of_ratio(in_pairs(this, other, rounds=ROUNDS), f"{where}, in turn with the float file")
        milliseconds = Measurement(name="latency_ms", value=alone(this, rounds=ROUNDS).median, unit="ms", where=where)
        if recipe != BASELINE:
            return (milliseconds,)
        itself = "the float file itself"
        return (
            milliseconds,
            Measurement(name="latency_ratio", value=1.0, where=itself),
            Measurement(name="latency_ratio_spread", value=0.0, where=itself),
        )


def _of_ratio(found: LatencyRatio, where: str) -> tuple[Measurement, ...]:
    span: dict[str, Any] = {"low": found.low, "high": found.high, "interval": RATIO_INTERVAL}
    return (
        Measurement(name="latency_ms", value=found.milliseconds, unit="ms", where=where),
        Measurement(name="latency_ratio", value=found.ratio, where=where, **span),
        Measurement(name="latency_ratio_spread", value=found.spread, where=where),
    )
