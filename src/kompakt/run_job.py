"""The trials of one ``optimize``: taken up from its folder, or carried out and kept there."""

from __future__ import annotations

import dataclasses
import re
import sys
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import keras

from kompakt.deploy import quantized_mode
from kompakt.examine import versions
from kompakt.export import export
from kompakt.files import sha256, write_atomic
from kompakt.progress import in_words
from kompakt.recipe import Recipe, to_dict
from kompakt.records import Artifact, Trial, to_json
from kompakt.run_measure import BASELINE
from kompakt.run_progress import Report, StageReport
from kompakt.run_resume import Curves, finished
from kompakt.run_setting import Setting
from kompakt.run_stage import Turn, carry_out, split_epochs
from kompakt.targets import find_target


@dataclass(kw_only=True)
class Trained:
    """A model on its way through the stages, and what is told of them."""

    model: keras.Model
    history: Curves = field(default_factory=dict)
    applied: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Job:
    """Carries out recipes one by one."""

    setting: Setting

    def trial(self, recipe: Recipe, before: Sequence[Trial], report: Report) -> Trial:
        """The trial of ``recipe``: taken up from the folder where it is finished there, else carried out."""
        folder, key = self.setting.folder, self._key(recipe)
        record = folder / "trials" / f"{recipe.name}.json"
        found = finished(record, {"key": key}, folder) if self.setting.resume else None
        if found is not None:
            report(f"{recipe.name}: taken up, finished before", 1.0)
            return self._beside_float(found, before, record, key)
        trial = self._carry_out(recipe, key, _baseline(before), report)
        self._keep(record, key, trial)
        for stage in self._stage_files(recipe):
            stage.unlink()
        return trial

    def earlier(self, done: Collection[str]) -> list[Trial]:
        """Trials of earlier runs on the same model and data whose file is still there, but those of ``done``."""
        folder, wanted = self.setting.folder, {"subject": self.setting.subject}
        records = sorted((folder / "trials").glob("*.json"), key=lambda path: path.stat().st_mtime)
        found = [finished(record, wanted, folder) for record in records if record.stem not in done]
        return [trial for trial in found if trial is not None]

    def _beside_float(self, found: Trial, before: Sequence[Trial], record: Path, key: str) -> Trial:
        """A trial that was taken up, with the difference to float that a record from before there was one lacks."""
        float_file = _baseline(before)
        if found.difference is not None or found.artifact is None or float_file is None:
            return found
        difference = self.setting.judge.difference(float_file, found.artifact, found.recipe)
        trial = dataclasses.replace(found, difference=difference)
        self._keep(record, key, trial)
        return trial

    def _keep(self, record: Path, key: str, trial: Trial) -> None:
        subject = self.setting.subject
        write_atomic(record, f'{{"key": "{key}", "subject": "{subject}", "trial": {to_json(trial)}}}')

    def _carry_out(self, recipe: Recipe, key: str, float_file: Artifact | None, report: Report) -> Trial:
        start = time.perf_counter()
        made = self._trained(recipe, key, report)
        report(f"{recipe.name}: exporting and verifying", 0.9)
        artifact = self._exported(recipe, made.model, report)
        report(f"{recipe.name}: measuring", 0.95)
        measurements, difference = self.setting.judge.measure(recipe.name, made.model, artifact, float_file)
        return Trial(
            recipe=recipe.name,
            artifact=artifact,
            measurements=measurements,
            difference=difference,
            history=made.history,
            applied=tuple(made.applied),
            skipped=tuple(dict.fromkeys(made.skipped)),
            seconds=time.perf_counter() - start,
            command=" ".join(sys.argv),
            seed=self.setting.seed,
        )

    def _trained(self, recipe: Recipe, key: str, report: Report) -> Trained:
        """The model behind the last stage."""
        setting, made = self.setting, Trained(model=self.setting.model)
        total = recipe.epochs if setting.epochs is None else setting.epochs
        split = split_epochs(total, [stage.train for stage in recipe.stages])
        if sum(split) > total:
            made.skipped.append(
                f"trained for {sum(split)} epochs, not {total}: each stage that trains takes one at least"
            )
        count = len(recipe.stages)
        for i, stage in enumerate(recipe.stages):
            turn = Turn(
                epochs=split[i],
                key=f"{recipe.name}-{key}-{i}",
                place=f"{recipe.name}/stage_{i + 1}",
                seed=setting.seed + i,
                report=StageReport(report=report, recipe=recipe.name, index=i, count=count, share=0.9 / count),
            )
            started, made.model, curves = carry_out(setting, made.model, stage, turn)
            made.applied += started.applied
            made.skipped += started.skipped
            if stage.train and not split[i]:
                made.skipped.append(f"stage {i + 1}: not trained, there are 0 epochs")
            for name, values in curves.items():
                made.history[name] = (*made.history.get(name, ()), *values)
        return made

    def _exported(self, recipe: Recipe, model: keras.Model, report: Report) -> Artifact:
        setting = self.setting
        return export(
            model,
            setting.folder / f"{recipe.name}{find_target(recipe.target).suffix}",
            quantization=recipe.quantization,
            io=recipe.io,
            target=recipe.target,
            sparse=recipe.sparse,
            provenance={"recipe": recipe.name, "seed": setting.seed},
            calibration=None if quantized_mode(model) else setting.calibration,
            verify=setting.data.x_test,
            progress=lambda what, share: report(f"{recipe.name}: {in_words(what, share)}", 0.9),
        )

    def _stage_files(self, recipe: Recipe) -> list[Path]:
        """Stages of ``recipe``, of this key and of those before it."""
        name = re.compile(re.escape(recipe.name) + r"-[0-9a-f]{16}-\d+\.(keras|json)")
        return [path for path in (self.setting.folder / "trials").iterdir() if name.fullmatch(path.name)]

    def _key(self, recipe: Recipe) -> str:
        """Digest of everything that decides the result."""
        setting = self.setting
        loss = keras.saving.serialize_keras_object(setting.task.loss)
        taught = any(stage.distill is not None for stage in recipe.stages)
        teacher = setting.teacher_digest if taught else ""
        settings = (to_dict(recipe), teacher, setting.epochs, setting.batch_size, setting.seed, str(loss), versions())
        return sha256(f"{setting.subject} {settings!r}".encode())[:16]


def _baseline(trials: Sequence[Trial]) -> Artifact | None:
    """The file that others are compared with."""
    return next((t.artifact for t in trials if t.recipe == BASELINE and t.artifact), None)
