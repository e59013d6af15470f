"""Quantization after training on real models: every mode, every calibration method, repairs off and on.

The MLPerf Tiny ResNets are calibrated on images 0-499 of the first 4,000 CIFAR-10 training images, scored on 500-3999
(training images of the models: the figures compare files, they are no test accuracy), with the agreement with the
float model on the 200 inputs of ``ic01``. The autoencoder is scored by the area under the ROC curve of its
reconstruction error over ``ad01``. A small transformer is trained on SST-2 and a Conv1D/LSTM net on UCI HAR first.

    python benchmarks/ptq.py [--shared ../shared/data] [--models resnet8 large autoencoder transformer har]
                             [--images 3500] [--json OUT]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.metrics import roc_auc_score

import kompakt as kp
from kompakt.loading import load_model
from kompakt.targets import find_target

METHODS = ("minmax", "moving_average", "percentile", "mse", "entropy")
MODES = ("float16", "weight_only_int8", "dynamic_int8", "int8", "w4a8", "int16x8")
REPAIRS = (("equalize",), ("bias",), ("adaround",), ("adaround", "bias"))


@dataclass(frozen=True, kw_only=True)
class Job:
    """A model, samples to calibrate on, inputs to score on, and the score of a file's outputs on them."""

    name: str
    model: keras.Model
    calibration: Any
    inputs: Any
    score: Callable[[np.ndarray], float]
    agree_on: Any


def accuracy(labels: np.ndarray) -> Callable[[np.ndarray], float]:
    """The share of outputs whose largest is the label's."""
    return lambda outputs: float((outputs.argmax(-1) == labels).mean())


def resnet(name: str, file: str) -> Callable[[Path, int], Job]:
    """A ResNet of MLPerf Tiny."""

    def job(folder: Path, images: int) -> Job:
        with np.load(folder / "cifar10_lossless4k" / "cifar10_train_first4000.npz", allow_pickle=False) as held:
            x, y = held["x"].astype("float32"), held["y"]
        with np.load(folder / "mlperf_tiny" / "ic01.npz", allow_pickle=False) as held:
            ic01 = held["x"].astype("float32")
        test = slice(500, 500 + images)
        model = load_model(folder / "mlperf_tiny" / file)
        return Job(name=name, model=model, calibration=x[:500], inputs=x[test], score=accuracy(y[test]), agree_on=ic01)

    return job


def autoencoder(folder: Path, _: int) -> Job:
    """The anomaly detector: its score is the pooled area under the curve of the mean reconstruction error a clip."""
    with np.load(folder / "mlperf_tiny" / "ad01_logmel_f16.npz", allow_pickle=False) as held:
        frames, labels = held["x"].astype("float32"), held["y"]
    windows = np.concatenate([frames[:, k : frames.shape[1] - 4 + k] for k in range(5)], axis=-1)  # five frames each
    clips, per_clip = windows.shape[:2]
    x = windows.reshape(clips * per_clip, -1)

    def score(outputs: np.ndarray) -> float:
        errors = np.square(outputs - x).mean(-1).reshape(clips, per_clip).mean(-1)
        return float(roc_auc_score(labels, errors))

    model = load_model(folder / "mlperf_tiny" / "ad_autoencoder.keras")
    return Job(
        name="autoencoder", model=model, calibration=x[:: len(x) // 500], inputs=x, score=score, agree_on=x[:200]
    )


def transformer(folder: Path, _: int) -> Job:
    """Words of SST-2 through one block of attention."""
    train, test = (_sst2(folder, split) for split in ("train", "test"))
    lookup = keras.layers.TextVectorization(4000, output_sequence_length=24)
    lookup.adapt(train[0])
    x, x_test = (np.asarray(lookup(np.asarray(text))).astype("int32") for text in (train[0], test[0]))
    keras.utils.set_random_seed(0)
    i = keras.Input((24,), dtype="int32", name="words")
    h = keras.layers.Embedding(4000, 32, name="table")(i)
    h = keras.layers.Add(name="sum1")([h, keras.layers.MultiHeadAttention(2, 16, name="attention")(h, h)])
    h = keras.layers.LayerNormalization(name="norm")(h)
    h = keras.layers.Add(name="sum2")(
        [h, keras.layers.Dense(32, name="down")(keras.layers.Dense(64, activation="relu", name="up")(h))]
    )
    h = keras.layers.Dropout(0.3)(keras.layers.GlobalAveragePooling1D(name="mean")(h))
    model = keras.Model(i, keras.layers.Dense(2, name="logits")(h))
    _train(model, x, train[1], 4)
    return Job(
        name="transformer", model=model, calibration=x[:500], inputs=x_test, score=accuracy(test[1]),
        agree_on=x_test[:200],
    )  # fmt: skip


def _sst2(folder: Path, split: str) -> tuple[list[str], np.ndarray]:
    sys.path.insert(0, str(folder))
    import load  # type: ignore[import-not-found]

    text, labels = load.sst2(split)
    return [str(t) for t in text], np.asarray(labels).astype("int32")


def har(folder: Path, _: int) -> Job:
    """Smartphone motion through convolutions and an LSTM."""
    with np.load(folder / "uci_har_2400" / "uci_har_2400_950.npz", allow_pickle=False) as held:
        x, y, x_test, y_test = (held[name] for name in ("x_train", "y_train", "x_test", "y_test"))
    first = y.min()
    y, y_test = y - first, y_test - first
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input(x.shape[1:]),
            layers.Conv1D(16, 5, strides=2, activation="relu", name="c1"),
            layers.Conv1D(24, 5, strides=2, activation="relu", name="c2"),
            layers.LSTM(24, name="lstm"),
            layers.Dense(6, name="logits"),
        ]
    )
    _train(model, x.astype("float32"), y, 12)
    x_test = x_test.astype("float32")
    return Job(
        name="har", model=model, calibration=x[:500].astype("float32"), inputs=x_test, score=accuracy(y_test),
        agree_on=x_test[:200],
    )  # fmt: skip


def _train(model: keras.Model, x: Any, y: Any, epochs: int) -> None:
    model.compile(keras.optimizers.Adam(2e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(x, y, epochs=epochs, batch_size=64, verbose=0)


JOBS: dict[str, Callable[[Path, int], Job]] = {
    "resnet8": resnet("resnet8", "ic_resnet8.keras"),
    "large": resnet("large", "ic02_resnet_large_bnfolded.keras"),
    "autoencoder": autoencoder,
    "transformer": transformer,
    "har": har,
}


def variants() -> list[tuple[str, str, tuple[str, ...]]]:
    """(mode, method, repairs): every mode, every method in int8, every repair in int8 and w4a8."""
    found = [(mode, "moving_average", ()) for mode in MODES]
    found += [("int8", method, ()) for method in METHODS if method != "moving_average"]
    return found + [(mode, "moving_average", repairs) for mode in ("int8", "w4a8") for repairs in REPAIRS]


def rows_of(job: Job, report: Callable[[str], None]) -> list[dict[str, Any]]:
    """One row for the float model and one a variant."""
    plain = job.model.predict(job.inputs, batch_size=256, verbose=0)
    near = job.model.predict(job.agree_on, batch_size=256, verbose=0)
    rows: list[dict[str, Any]] = [{"model": job.name, "mode": "float", "score": job.score(plain)}]
    place = find_target("tflite")
    for mode, method, repairs in variants():
        report(f"{job.name}: {mode} {method} {'+'.join(repairs)}")
        row: dict[str, Any] = {"model": job.name, "mode": mode, "method": method, "repairs": "+".join(repairs)}
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as out:
            try:
                artifact = kp.export(
                    job.model,
                    Path(out) / "m.tflite",
                    quantization=mode,
                    calibration=job.calibration,
                    method=method,
                    repairs=repairs,
                    io="float32",
                    on_breach="warn",
                )
            except kp.InputError as error:
                rows.append({**row, "refused": str(error)})
                continue
            data = Path(artifact.path).read_bytes()
        found, agree = (place.run(data, x).values[0] for x in (job.inputs, job.agree_on))
        score = job.score(found)
        rows.append(
            {
                **row,
                "score": score,
                "drop": rows[0]["score"] - score,
                "agreement": float((agree.argmax(-1) == near.argmax(-1)).mean()),
                "bytes": artifact.bytes,
                "lsb": artifact.agreement.max_lsb if artifact.agreement else None,
                "breaches": list(artifact.breaches),
                "seconds": round(time.perf_counter() - started, 1),
            }
        )
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    """The rows as a table."""
    table = Table(title="quantization after training", box=None, pad_edge=False)
    for heading in ("model", "mode", "method", "repairs"):
        table.add_column(heading, no_wrap=True)
    for heading in ("score", "drop", "agreement", "bytes", "LSB", "s"):
        table.add_column(heading, justify="right")
    table.add_column("breaches")
    for row in rows:
        numbers = [f"{row[key]:.4f}" if key in row else "" for key in ("score", "drop", "agreement")]
        lsb = row.get("lsb")
        table.add_row(
            *(str(row.get(key, "")) for key in ("model", "mode", "method", "repairs")),
            *numbers,
            f"{row['bytes']:,}" if "bytes" in row else "",
            "" if lsb is None else f"{lsb:.1f}",
            str(row.get("seconds", "")),
            row.get("refused") or "; ".join(row.get("breaches", ()))[:60],
        )
    Console(width=180).print(table)


def main() -> int:
    """Print the table; 2 where the shared data is missing."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    options.add_argument("--shared", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    options.add_argument("--models", nargs="*", choices=JOBS, default=list(JOBS))
    options.add_argument("--images", type=int, default=3500)
    options.add_argument("--json", type=Path, metavar="OUT")
    chosen = options.parse_args()
    if not (chosen.shared / "mlperf_tiny").is_dir():
        print(f"no reference models in {chosen.shared}: give their folder with --shared", file=sys.stderr)
        return 2
    rows: list[dict[str, Any]] = []
    for name in chosen.models:
        rows += rows_of(JOBS[name](chosen.shared, chosen.images), lambda text: print(text, file=sys.stderr))
        if chosen.json:
            chosen.json.write_text(json.dumps(rows, indent=1))
    show(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
