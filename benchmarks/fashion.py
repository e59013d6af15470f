"""What each technique costs and saves on Fashion-MNIST: a small CNN, trained on, and the int8 file it becomes.

Every row is measured on its own file: accuracy in LiteRT on the 10,000 test images, bytes, gzip bytes, the bound
that a look-up-table code of its int8 weights could reach (their entropy), zeros, distinct values, and latency on
one thread, alternated with the float file. All variants start from the same trained float model; "trained on" is
that model with the same further training and no technique, so that training alone is not taken for a gain. Zeros
in blocks of 1x4 lie in runs, which gzip stores in fewer bytes.

    python benchmarks/fashion.py [--shared ../shared/data] [--epochs 6] [--tune 3] [--seed 0] [--only NAME ...] [--json]
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np
from keras import layers
from rich.console import Console
from rich.table import Table

import kompakt as kp
from kompakt.targets import find_target
from kompakt.targets.tflite_file import TFLiteFile

BATCH = 256
CALIBRATION = 512
EVERY = "*/*kernel"
"""All kernels, those of the first and last layer too."""

SPARSE = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

TARGETS = {
    "pruned 75 %": ("points", 0.5),
    "PQAT 75 %": ("points", 0.5),
    "clustered 16": ("points", 0.5),
    "PCQAT 75 %, 16": ("points", 1.0),
    "PCQAT 75 % 1x4, 16": ("points", 1.0),
    "shrunk to 50 % MACs": ("points", 0.5),
}
"""Variant -> the most accuracy points it may lose against the float model."""


def cnn() -> keras.Model:
    """About 100,000 parameters: Conv-BN-ReLU, three times halved, global pooling, Dense."""
    inputs = keras.Input((28, 28, 1), name="image")
    x = _conv(inputs, 16, "conv1", strides=1)
    x = layers.MaxPooling2D(name="pool1")(x)
    x = _conv(x, 32, "conv2")
    x = _conv(x, 64, "conv3", strides=2)
    x = _conv(x, 112, "conv4")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dropout(0.1, seed=0, name="drop")(x)
    return keras.Model(inputs, layers.Dense(10, name="logits")(x), name="fashion")


def _conv(x: Any, filters: int, name: str, strides: int = 1) -> Any:
    x = layers.Conv2D(filters, 3, strides=strides, padding="same", use_bias=False, name=name)(x)
    return layers.ReLU(name=f"{name}_relu")(layers.BatchNormalization(name=f"{name}_bn")(x))


class Bench:
    """The data, the trained float model, and how a variant is trained on."""

    loss: Any = SPARSE
    batch = BATCH

    def __init__(self, shared: Path, *, epochs: int, tune: int, seed: int, images: int | None = None) -> None:
        with np.load(shared / "fashion_mnist" / "fashion_mnist.npz", allow_pickle=False) as file:
            names = sorted(file.files)
            arrays = {name: file[name] for name in names}
        self.x, self.y = _images(arrays["x_train"][:images]), arrays["y_train"][:images].astype("int32")
        self.x_test, self.y_test = _images(arrays["x_test"]), arrays["y_test"].astype("int32")
        self.tune, self.seed = tune, seed
        self._made: dict[str, keras.Model] = {}
        self.steps = tune * math.ceil(len(self.x) / self.batch)
        keras.utils.set_random_seed(seed)
        self.model = self.fit(cnn(), 3e-3, epochs)

    def fit(self, model: keras.Model, rate: float, epochs: int | None = None) -> keras.Model:
        """``model`` trained on with a cosine falling rate."""
        count = self.tune if epochs is None else epochs
        keras.utils.set_random_seed(self.seed)
        total = count * math.ceil(len(self.x) / self.batch)
        model.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(rate, total)), self.loss)
        updates = [kp.callbacks.Update()]
        model.fit(self.x, self.y, batch_size=self.batch, epochs=count, verbose=0, callbacks=updates)
        return model

    def copy(self) -> keras.Model:
        """The trained float model again."""
        model = keras.models.clone_model(self.model)
        model.set_weights(self.model.get_weights())
        return model

    def rise(self, final: float) -> kp.schedules.Schedule:
        """Sparsity that has risen to ``final`` in the first third of the training."""
        return kp.schedules.Polynomial(0.0, final, begin=0, end=self.steps // 3, frequency=max(1, self.steps // 60))

    def once(self, name: str, make: Callable[[], keras.Model]) -> keras.Model:
        """What ``make`` made the first time: combinations start from the variants before them."""
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]

    def pruned(self, sparsity: float, pattern: str | None = None) -> keras.Model:
        options = {"schedule": self.rise(sparsity), "pattern": pattern, "scope": "global", "sites": EVERY}
        return self.once(f"pruned {sparsity} {pattern}", lambda: self.fit(kp.prune(self.model, **options), 3e-3))

    def clustered(self, clusters: int, model: keras.Model | None = None) -> keras.Model:
        if model is not None:
            return self.fit(kp.cluster(model, clusters), 5e-4)
        return self.once(f"clustered {clusters}", lambda: self.fit(kp.cluster(self.model, clusters), 5e-4))

    def quantized(self, model: keras.Model) -> keras.Model:
        return self.fit(kp.quantize(model, "int8", calibration=self.x[:CALIBRATION]), 2e-4)

    def shrunk(self, share: float) -> keras.Model:
        return self.fit(kp.shrink(self.model, share, of="macs"), 2e-3)


def variants(bench: Bench) -> dict[str, Callable[[], keras.Model]]:
    """Name -> how the variant is made."""
    return {
        "trained on": lambda: bench.fit(bench.copy(), 1e-3),
        "pruned 50 %": lambda: bench.pruned(0.5),
        "pruned 75 %": lambda: bench.pruned(0.75),
        "pruned 90 %": lambda: bench.pruned(0.9),
        "pruned 75 %, 1x4": lambda: bench.pruned(0.75, "1x4"),
        "2:4": lambda: bench.fit(kp.prune(bench.model, pattern="2:4"), 1e-3),
        "clustered 32": lambda: bench.clustered(32),
        "clustered 16": lambda: bench.clustered(16),
        "clustered 8": lambda: bench.clustered(8),
        "QAT": lambda: bench.quantized(bench.model),
        "PQAT 75 %": lambda: bench.quantized(bench.pruned(0.75)),
        "CQAT 16": lambda: bench.quantized(bench.clustered(16)),
        "PCQAT 75 %, 16": lambda: bench.quantized(bench.clustered(16, bench.pruned(0.75))),
        "PCQAT 75 % 1x4, 16": lambda: bench.quantized(bench.clustered(16, bench.pruned(0.75, "1x4"))),
        "shrunk to 50 % MACs": lambda: bench.shrunk(0.5),
        "shrunk to 25 % MACs": lambda: bench.shrunk(0.25),
    }


def measured(bench: Bench, name: str, model: keras.Model, folder: Path, against: Path | None) -> dict[str, Any]:
    """A row: the variant's float file where it stays float in training, else its int8 file."""
    quantized = "QAT" in name
    row: dict[str, Any] = {"variant": name}
    int8 = kp.export(
        model, folder / f"{len(os.listdir(folder))}.tflite", quantization="int8", io="float32",
        calibration=bench.x[:CALIBRATION], verify=bench.x_test[:1000],
    )  # fmt: skip
    place, path = find_target("tflite"), Path(int8.path)
    data = path.read_bytes()
    row["int8 accuracy"] = _accuracy(place.run(data, bench.x_test).values[0], bench.y_test)
    row.update({"int8 bytes": int8.bytes, "int8 gzip": int8.gzip_bytes, "zeros": int8.zeros, "distinct": int8.distinct})
    row["entropy bytes"] = entropy_bytes(data)
    if not quantized:
        path = folder / f"{len(os.listdir(folder))}.tflite"
        kept = kp.export(model, path, quantization="float", verify=bench.x_test[:1000])
        data = path.read_bytes()
        row["float accuracy"] = _accuracy(place.run(data, bench.x_test).values[0], bench.y_test)
        row.update({"float bytes": kept.bytes, "float gzip": kept.gzip_bytes})
    if against is not None:
        found = kp.compare_latency(path, against, inputs=bench.x_test)
        row.update({"speed-up": 1.0 / found.ratio, "spread": found.spread / found.ratio**2})
    row["file"] = path
    return row


def entropy_bytes(data: bytes) -> int:
    """Bytes that an ideal code of each int8 weight tensor by itself would take (Shannon 1948), without its table."""
    bits = 0.0
    for tensor in TFLiteFile(data).tensors:
        if tensor.kind == "INT8" and tensor.values is not None:
            _, counts = np.unique(tensor.values, return_counts=True)
            bits -= float((counts * np.log2(counts / counts.sum())).sum())
    return math.ceil(bits / 8)


def _images(pixels: np.ndarray) -> np.ndarray:
    return (pixels.reshape(-1, 28, 28, 1) / 255.0).astype("float32")


def _accuracy(outputs: np.ndarray, labels: np.ndarray) -> float:
    return float((outputs.argmax(-1) == labels).mean())


def table(rows: list[dict[str, Any]]) -> Table:
    """The rows, for a terminal."""
    columns = ["float accuracy", "int8 accuracy", "float bytes", "float gzip", "int8 bytes", "int8 gzip"]
    columns += ["entropy bytes", "zeros", "distinct", "speed-up"]
    shown = Table(title="Fashion-MNIST: each technique on a CNN of about 100,000 parameters", box=None, pad_edge=False)
    shown.add_column("variant", no_wrap=True)
    for column in columns:
        shown.add_column(column, justify="right")
    for row in rows:
        shown.add_row(row["variant"], *(_cell(column, row) for column in columns))
    return shown


def _cell(column: str, row: dict[str, Any]) -> str:
    value = row.get(column)
    if value is None:
        return "-"
    if "accuracy" in column or column == "zeros":
        return f"{value:.2%}" if "accuracy" in column else f"{value:.1%}"
    if column == "speed-up":
        return f"{value:.2f} ±{row['spread']:.2f}"
    return f"{value:,}"


def verdicts(rows: list[dict[str, Any]]) -> list[str]:
    """Each target, with what was reached."""
    found = {row["variant"]: row for row in rows}
    base = found["baseline"]["float accuracy"]
    lines = []
    for name, (_, allowed) in TARGETS.items():
        if name in found:
            best = found[name].get("float accuracy", found[name]["int8 accuracy"])
            lost = 100 * (base - best)
            lines.append(f"{name}: {lost:+.2f} points lost, at most {allowed} asked: {_word(lost <= allowed)}")
    for name in ("PCQAT 75 %, 16", "PCQAT 75 % 1x4, 16"):
        if name in found:
            times = found["baseline"]["float bytes"] / found[name]["int8 gzip"]
            lines.append(f"{name}: gzip is 1/{times:.1f} of the float file, 1/12 asked: {_word(times >= 12)}")
    if "shrunk to 50 % MACs" in found:
        times = found["shrunk to 50 % MACs"]["speed-up"]
        lines.append(f"shrunk to 50 % MACs is {times:.2f} times as fast, 1.6 asked: {_word(times >= 1.6)}")
    return lines


def _word(reached: bool) -> str:
    return "reached" if reached else "MISSED"


def main() -> int:
    """Run the benchmark and print its table."""
    options = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    options.add_argument("--shared", type=Path, default=Path("../shared/data"))
    options.add_argument("--epochs", type=int, default=6, help="of the float model")
    options.add_argument("--tune", type=int, default=3, help="epochs each technique trains on")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--only", nargs="+", metavar="VARIANT", help="these variants alone")
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    if not (given.shared / "fashion_mnist").is_dir():
        print(f"no data in {given.shared}: give the folder that holds fashion_mnist with --shared", file=sys.stderr)
        return 2
    console, start = Console(stderr=True), time.perf_counter()
    bench = Bench(given.shared, epochs=given.epochs, tune=given.tune, seed=given.seed)
    with tempfile.TemporaryDirectory() as folder:
        rows = [measured(bench, "baseline", bench.model, Path(folder), None)]
        for name, make in variants(bench).items():
            if not given.only or name in given.only:
                console.log(f"{time.perf_counter() - start:.0f} s: {name}")
                rows.append(measured(bench, name, make(), Path(folder), rows[0]["file"]))
    for row in rows:
        del row["file"]
    if given.json:
        print(json.dumps(rows, indent=2))
        return 0
    out = Console(width=150)
    out.print(f"{bench.model.count_params():,} parameters, seed {given.seed}, {time.perf_counter() - start:.0f} s")
    out.print(table(rows))
    for line in verdicts(rows):
        out.print(line, highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
