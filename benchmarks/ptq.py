"""Quantization after training on real models: every mode, every calibration method, repairs off and on.

The MLPerf Tiny ResNets are calibrated on images 0-499 of the first 4,000 CIFAR-10 training images, scored on 500-3999
(training images of the models: the figures compare files, they are no test accuracy), with the agreement with the
float model on those and on the 200 inputs of ``ic01``. The autoencoder is scored by the area under the ROC curve of
its reconstruction error over ``ad01``; its outputs are no classes, so its agreement is the coefficient of
determination. A small transformer is trained on SST-2 and a Conv1D/LSTM net on UCI HAR first. Every row is the file's
own, run in LiteRT.

    python benchmarks/ptq.py [--shared ../shared/data] [--models resnet8 large autoencoder transformer har]
                             [--only GLOB] [--images 3500] [--iterations 200] [--seed 0] [--json OUT]
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import math
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np
from ptq_models import JOBS, Job, Options
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import kompakt as kp
from kompakt.precision import INTEGER
from kompakt.repairs.walk import without_grids
from kompakt.targets import find_target

METHODS = ("minmax", "moving_average", "percentile", "mse", "entropy")
MODES = ("float16", "weight_only_int8", "dynamic_int8", "int8", "w4a8", "int16x8")
REPAIRS = (("equalize",), ("bias",), ("batchnorm",), ("adaround",), ("adaround", "bias"))
VERIFIED = 256
"""Samples that each file is compared with its simulation on."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One row."""

    mode: str
    method: str = "moving_average"
    repairs: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " ".join((self.mode, self.method, "+".join(self.repairs))).strip()


def variants(model: keras.Model, only: str = "*") -> list[Variant]:
    """Every mode, every method in int8, every repair in w4a8; in int8 those but AdaRound, which takes minutes.

    AdaRound in int16x8 too, whose weights of 8 bits are what is left between it and the float model.
    """
    found = [Variant(mode=mode) for mode in MODES]
    found += [Variant(mode="int8", method=method) for method in METHODS if method != "moving_average"]
    normalized = any(isinstance(layer, keras.layers.BatchNormalization) for layer in model._flatten_layers())
    repairs = [each for each in REPAIRS if normalized or "batchnorm" not in each]
    found += [Variant(mode="int8", repairs=each) for each in repairs if "adaround" not in each]
    found += [Variant(mode="w4a8", repairs=each) for each in repairs]
    found += [Variant(mode="int16x8", repairs=each) for each in repairs if "adaround" in each]
    return [each for each in found if fnmatch.fnmatchcase(str(each), only)]


class Maker:
    """Quantizes a model for each variant; what AdaRound has learned is used twice."""

    def __init__(self, job: Job, options: Options) -> None:
        self._job, self._options = job, options
        self._rounded: dict[str, dict[tuple[str, ...], keras.Model]] = {}

    def __call__(self, variant: Variant) -> keras.Model:
        model, data = self._job.model, self._job.calibration
        if variant.mode == "float16":
            return model
        if "adaround" not in variant.repairs:
            by_data = {"calibration": data, "method": variant.method} if variant.mode in INTEGER else {}
            return kp.quantize(model, variant.mode, repairs=variant.repairs, ranges="minmax", **by_data)
        if variant.mode not in self._rounded:
            self._rounded[variant.mode] = self._adaround(variant.mode)
        return kp.calibrate(self._rounded[variant.mode][variant.repairs], data, method=variant.method)

    def _adaround(self, mode: str) -> dict[tuple[str, ...], keras.Model]:
        data = self._job.calibration
        start = kp.quantize(self._job.model, mode, ranges="minmax")
        rounded = kp.adaround(start, data, iterations=self._options.iterations, seed=self._options.seed)
        mended = kp.correct_bias(rounded, data, reference=without_grids(start))
        return {("adaround",): rounded, ("adaround", "bias"): mended}


def agreement(job: Job, expected: np.ndarray, found: np.ndarray) -> float:
    """The share of outputs with the same largest value, or the coefficient of determination without classes."""
    if job.labels is None:
        return 1.0 - float(np.square(found - expected).mean() / expected.var())
    return float((found.argmax(-1) == expected.argmax(-1)).mean())


def rows_of(job: Job, options: Options, todo: list[Variant], tick: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """One row for the float model and one a variant."""
    plain = job.model.predict(job.inputs, batch_size=256, verbose=0)
    more = None if job.more is None else job.model.predict(job.more, verbose=0)
    base = job.score(plain)
    yield {"model": job.name, "mode": "float", "score": base, "right": _right(job, plain)}
    make, place = Maker(job, options), find_target("tflite")
    for variant in todo:
        tick(f"{job.name}: {variant}")
        row: dict[str, Any] = {"model": job.name, "mode": variant.mode, "method": variant.method}
        row["repairs"] = "+".join(variant.repairs)
        started = time.perf_counter()
        try:
            artifact, data = _exported(job, make(variant), variant.mode)
        except kp.InputError as error:
            yield {**row, "refused": str(error)}
            continue
        found = place.run(data, job.inputs).values[0]
        score = job.score(found)
        row |= {"score": score, "lost": 100 * (base - score), "agreement": agreement(job, plain, found)}
        if more is not None:
            row["ic01"] = agreement(job, more, place.run(data, job.more).values[0])
        row |= {"bytes": artifact.bytes, "breaches": list(artifact.breaches), "right": _right(job, found)}
        row["lsb"] = artifact.agreement.max_lsb if artifact.agreement else None
        yield {**row, "seconds": round(time.perf_counter() - started, 1)}


def _exported(job: Job, model: keras.Model, mode: str) -> tuple[kp.Artifact, bytes]:
    with tempfile.TemporaryDirectory() as out, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # breaches are in the row
        artifact = kp.export(
            model, Path(out) / "m.tflite", quantization=mode, verify=job.inputs[:VERIFIED], on_breach="warn",
            io="float32",
        )  # fmt: skip
        return artifact, Path(artifact.path).read_bytes()


def _right(job: Job, outputs: np.ndarray) -> np.ndarray | None:
    return None if job.labels is None else outputs.argmax(-1) == job.labels


def verdicts(rows: list[dict[str, Any]]) -> list[str]:
    """Each target, with what was reached."""
    lines = []
    for name in dict.fromkeys(row["model"] for row in rows):
        held = {(r["mode"], r.get("method"), r.get("repairs")): r for r in rows if r["model"] == name and "score" in r}

        def at(mode: str, method: str = "moving_average", repairs: str = "", held: Any = held) -> Any:
            return held.get((mode, method, repairs))

        int8, nearest, learned, wide = at("int8"), at("w4a8"), at("w4a8", repairs="adaround"), at("int16x8")
        if int8 and name in ("resnet8", "large"):
            lines.append(
                f"{name}: int8 loses {int8['lost']:.2f} points, at most 0.2 asked: {word(int8['lost'] <= 0.2)}"
            )
        if nearest and learned and nearest["lost"] > 0:
            lines.append(
                f"{name}: w4a8 loses {learned['lost']:.2f} points with AdaRound and {nearest['lost']:.2f} rounded to "
                f"nearest, half of it at most asked: {word(learned['lost'] <= nearest['lost'] / 2)}"
            )
        if wide:
            others = {
                "int8 weights alone": at("weight_only_int8"),
                "float16": at("float16"),
                "with AdaRound": at("int16x8", repairs="adaround"),
                "with AdaRound and bias correction": at("int16x8", repairs="adaround+bias"),
            }
            beside = ", ".join(f"{what} {row['agreement']:.4f}" for what, row in others.items() if row)
            agreed = wide["agreement"]
            lines.append(
                f"{name}: int16x8 agreement {agreed:.4f}, at least 0.999 asked: {word(agreed >= 0.999)} ({beside})"
            )
        if whole := at("int8", "minmax"):
            lines += [_beside(name, each, whole) for m in METHODS[2:] if (each := at("int8", m))]
    return lines


def _beside(name: str, row: dict[str, Any], whole: dict[str, Any]) -> str:
    """A method's score beside that of whole ranges, with how much of it chance may be."""
    worse = row["lost"] - whole["lost"]
    line = f"{name}: {row['method']} is {worse:+.2f} points worse than min-max"
    if row["right"] is not None:
        line += f" (one standard error {standard_error(row['right'], whole['right']):.2f})"
    return f"{line}, at most 0.5 asked: {word(worse <= 0.5)}"


def standard_error(first: np.ndarray, second: np.ndarray) -> float:
    """Points that the difference of two accuracies on the same images may be by chance: of those that differ."""
    return 100 * math.sqrt(np.count_nonzero(first != second)) / len(first)


def word(reached: bool) -> str:
    """How a target was met."""
    return "reached" if reached else "MISSED"


def table(rows: list[dict[str, Any]]) -> Table:
    """The rows, for a terminal."""
    shown = Table(title="quantization after training", box=None, pad_edge=False)
    for heading in ("model", "mode", "method", "repairs"):
        shown.add_column(heading, no_wrap=True)
    for heading in ("score", "lost", "agreement", "ic01", "bytes", "LSB", "s"):
        shown.add_column(heading, justify="right", no_wrap=True)
    shown.add_column("breaches")
    shapes = {"score": ".4f", "lost": ".2f", "agreement": ".4f", "ic01": ".3f", "bytes": ",", "lsb": ".1f"}
    for row in rows:
        shown.add_row(
            *(str(row.get(key, "")) for key in ("model", "mode", "method", "repairs")),
            *("" if row.get(key) is None else format(row[key], shape) for key, shape in shapes.items()),
            str(row.get("seconds", "")),
            row.get("refused") or "; ".join(row.get("breaches", ())),
        )
    return shown


def main() -> int:
    """Print the table and the targets; 2 where the shared data is missing."""
    given = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    given.add_argument("--shared", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    given.add_argument("--models", nargs="*", choices=JOBS, default=list(JOBS))
    given.add_argument("--only", default="*", metavar="GLOB", help="rows, e.g. 'w4a8 * batchnorm*'")
    given.add_argument("--images", type=int, default=3500, help="that the ResNets are scored on")
    given.add_argument("--iterations", type=int, default=200, help="of AdaRound, a layer")
    given.add_argument("--seed", type=int, default=0, help="of the two trainings and of AdaRound")
    given.add_argument("--json", type=Path, metavar="OUT")
    chosen = given.parse_args()
    if not (chosen.shared / "mlperf_tiny").is_dir():
        print(f"no reference models in {chosen.shared}: give their folder with --shared", file=sys.stderr)
        return 2
    options = Options(shared=chosen.shared, images=chosen.images, iterations=chosen.iterations, seed=chosen.seed)
    rows: list[dict[str, Any]] = []
    started = time.perf_counter()
    with Progress(console=Console(stderr=True)) as progress:
        for name in chosen.models:
            job = JOBS[name](options)
            todo = variants(job.model, chosen.only)
            task = progress.add_task(name, total=len(todo))

            def tick(text: str, task: Any = task) -> None:
                progress.console.log(text)
                progress.advance(task)

            for row in rows_of(job, options, todo, tick):
                rows.append(row)
                if chosen.json is not None:
                    chosen.json.write_text(json.dumps(kept(rows), indent=1))
    out = Console(width=190)
    out.print(table(rows))
    out.print(f"{time.perf_counter() - started:.0f} s; AdaRound {options.iterations} iterations, seed {options.seed}")
    for line in verdicts(rows):
        out.print(line, highlight=False)
    return 0


def kept(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows without what is known of each image."""
    return [{key: value for key, value in row.items() if key != "right"} for row in rows]


if __name__ == "__main__":
    sys.exit(main())
