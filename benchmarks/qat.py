"""Quantization-aware training beside quantization after training, on Fashion-MNIST and on ResNet-8 with CIFAR-10.

Every row but "float" starts from the same trained float model and sees the same images as often, at the same rate:
those of quantization after training are made from "float, trained on". ResNet-8 is MLPerf Tiny's, on CIFAR-10
re-encoded as JPEG (``cifar10_jpeg``), on which training itself raises the accuracy: "as given" is the model of MLPerf
Tiny, "float" what the same number of epochs at 5e-4 makes of it. "model" is the accuracy in Keras, of the float
model or of the fake-quantized one; "file" that of the written file in LiteRT, both on the 10,000 test images.
In "live" the statistics of the BatchNormalizations move in the first epoch, beside weights on their grids, and are
folded then. "argmax" and "LSB" are law 7: the share of 1,000 test images on which the file and its integer simulation
have the same largest output, and the largest difference in steps of the output's grid.

    python benchmarks/qat.py [--shared ../shared/data] [--data fashion cifar] [--images 10000] [--epochs 3]
                             [--rate RATE] [--test 10000] [--seed 0] [--only NAME ...] [--json OUT]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np
from fashion import CALIBRATION, Bench
from ptq import kept, standard_error, word
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import kompakt as kp
from kompakt.loading import load_model
from kompakt.targets import find_target

COMPARED = 1000
"""Test images that a file is compared with its simulation on."""


class Fashion(Bench):
    """A small CNN with BatchNormalizations, trained twice as long before."""

    batch = 64

    def __init__(self, given: argparse.Namespace) -> None:
        first, images = 2 * given.epochs, given.images
        super().__init__(given.shared, epochs=first, tune=given.epochs, seed=given.seed, images=images)


class Cifar(Bench):
    """ResNet-8 of MLPerf Tiny, which ends in a softmax and takes pixels of 0 to 255."""

    loss = keras.losses.SparseCategoricalCrossentropy()
    batch = 64

    def __init__(self, given: argparse.Namespace) -> None:
        sys.path.insert(0, str(given.shared))
        import load  # type: ignore[import-not-found]

        self.x, self.y = _mixed(*load.cifar10_jpeg("train"), given.images)
        self.x_test, self.y_test = _mixed(*load.cifar10_jpeg("test"), given.test)
        self.tune, self.seed = given.epochs, given.seed
        self._made: dict[str, keras.Model] = {}
        self.model = self.given = load_model(given.shared / "mlperf_tiny" / "ic_resnet8.keras")
        self.model = self.fit(self.copy(), 5e-4)


def _mixed(x: np.ndarray, y: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """``count`` samples of all classes, the same in every run: the set is sorted by class."""
    chosen = np.random.default_rng(0).permutation(len(x))[:count]
    return x[chosen].astype("float32"), y[chosen].astype("int32")


BENCHES: dict[str, Callable[[argparse.Namespace], Fashion | Cifar]] = {"fashion": Fashion, "cifar": Cifar}
Made = tuple[str, Callable[[], keras.Model]]


def variants(bench: Fashion | Cifar, rate: float, seed: int) -> dict[str, Made]:
    """Name -> (mode of the file, how the variant is made)."""
    some = bench.x[:CALIBRATION]

    def trained_on() -> keras.Model:
        return bench.once("trained on", lambda: bench.fit(bench.copy(), rate))

    def after(mode: str) -> keras.Model:
        return kp.quantize(trained_on(), mode, calibration=some, ranges="minmax")

    def rounded() -> keras.Model:
        made = kp.adaround(kp.quantize(trained_on(), "w4a8", ranges="minmax"), some, iterations=300, seed=seed)
        return kp.calibrate(made, some)

    def live(mode: str) -> keras.Model:
        first = bench.fit(kp.quantize(bench.model, mode, batchnorm="live"), rate, 1)
        return bench.fit(kp.quantize(first, mode, calibration=some), rate, bench.tune - 1)

    def aware(mode: str, ranges: str) -> keras.Model:
        return bench.fit(kp.quantize(bench.model, mode, calibration=some, ranges=ranges), rate)

    given = {"as given": ("float", lambda: bench.given)} if isinstance(bench, Cifar) else {}
    return given | {
        "float": ("float", bench.copy),
        "float, trained on": ("float", trained_on),
        "PTQ int8": ("int8", lambda: after("int8")),
        "QAT int8": ("int8", lambda: aware("int8", "moving_average")),
        "QAT int8, LSQ": ("int8", lambda: aware("int8", "lsq")),
        "PTQ w4a8": ("w4a8", lambda: after("w4a8")),
        "PTQ w4a8, AdaRound": ("w4a8", rounded),
        "QAT w4a8": ("w4a8", lambda: aware("w4a8", "moving_average")),
        "QAT w4a8, LSQ": ("w4a8", lambda: aware("w4a8", "lsq")),
        "QAT w4a8, live": ("w4a8", lambda: live("w4a8")),
    }


def measured(bench: Bench, mode: str, model: keras.Model, test: int) -> dict[str, Any]:
    """Accuracies, bytes and law 7 of one variant."""
    x, y = bench.x_test[:test], bench.y_test[:test]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # breaches are in the row
        made = kp.export(
            model, Path(folder) / "m.tflite", quantization=mode, verify=x[:COMPARED], on_breach="warn",
            io=None if mode == "float" else "float32",
        )  # fmt: skip
        data = Path(made.path).read_bytes()
    agree = made.agreement
    right = find_target("tflite").run(data, x).values[0].argmax(-1) == y
    return {
        "model": float((model.predict(x, batch_size=250, verbose=0).argmax(-1) == y).mean()),
        "file": float(right.mean()),
        "right": right,
        "bytes": made.bytes,
        "argmax": agree.argmax if agree else None,
        "lsb": agree.max_lsb if agree else None,
        "breaches": list(made.breaches),
    }


def verdicts(data: str, rows: list[dict[str, Any]]) -> list[str]:
    """Each target, with what was reached."""
    held = {row["variant"]: row for row in rows}
    lines = []

    def beside(name: str, base: str, most: float) -> None:
        if name in held and base in held:
            lost = 100 * (held[base]["file"] - held[name]["file"])
            error = standard_error(held[name]["right"], held[base]["right"])
            lines.append(
                f"{data}: {name} is {lost:+.2f} points below {base} (one standard error {error:.2f}), at most {most:g} "
                f"asked: {word(lost <= most)}"
            )

    for name in ("QAT int8", "QAT int8, LSQ"):
        beside(name, "PTQ int8", 0.0)
        beside(name, "float, trained on", 0.1)
    for name in ("QAT w4a8", "QAT w4a8, LSQ", "QAT w4a8, live"):
        beside(name, "float, trained on", 1.0)
    for mode in ("int8", "w4a8"):
        if (pair := [held.get(f"QAT {mode}, LSQ"), held.get(f"QAT {mode}")]) and all(pair):
            gain = 100 * (pair[0]["file"] - pair[1]["file"])
            lines.append(f"{data}: LSQ is {gain:+.2f} points beside the moving average, {mode}")
    integer = [row for row in rows if row["lsb"] is not None]
    if integer:
        argmax, lsb = min(row["argmax"] for row in integer), max(row["lsb"] for row in integer)
        same = word(argmax >= 0.99 and lsb <= 2.0)
        lines.append(f"{data}: files = simulations: argmax at least {argmax:.4f}, LSB at most {lsb:.2f}: {same}")
    return lines


def table(rows: list[dict[str, Any]]) -> Table:
    """The rows, for a terminal."""
    shown = Table(title="quantization-aware training", box=None, pad_edge=False)
    for heading in ("data", "variant"):
        shown.add_column(heading, no_wrap=True)
    for heading in ("model", "file", "bytes", "argmax", "LSB", "s"):
        shown.add_column(heading, justify="right", no_wrap=True)
    shown.add_column("breaches")
    shapes = {"model": ".2%", "file": ".2%", "bytes": ",", "argmax": ".4f", "lsb": ".2f", "seconds": ".0f"}
    for row in rows:
        cells = ("" if row.get(key) is None else format(row[key], shape) for key, shape in shapes.items())
        shown.add_row(row["data"], row["variant"], *cells, "; ".join(row["breaches"]))
    return shown


def arguments() -> argparse.Namespace:
    """The command line."""
    given = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    given.add_argument("--shared", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    given.add_argument("--data", nargs="*", choices=BENCHES, default=list(BENCHES))
    given.add_argument("--images", type=int, default=10000, help="training images, the same for all rows")
    given.add_argument("--epochs", type=int, default=3, help="that each variant trains on")
    given.add_argument("--rate", type=float, default=5e-4, help="of Adam at the start, the same for all rows")
    given.add_argument("--test", type=int, default=10000, help="test images")
    given.add_argument("--seed", type=int, default=0)
    given.add_argument("--only", nargs="+", metavar="VARIANT", help="these variants alone")
    given.add_argument("--json", type=Path, metavar="OUT")
    return given.parse_args()


def main() -> int:
    """Print the table and the targets; 2 where the shared data is missing."""
    given = arguments()
    if not (given.shared / "fashion_mnist").is_dir():
        print(f"no data in {given.shared}: give the folder that holds fashion_mnist with --shared", file=sys.stderr)
        return 2
    started, rows = time.perf_counter(), []
    with Progress(console=Console(stderr=True)) as progress:
        for data in given.data:
            bench = BENCHES[data](given)
            todo = variants(bench, given.rate, given.seed)
            todo = {name: row for name, row in todo.items() if not given.only or name in given.only}
            for name, (mode, make) in progress.track(todo.items(), description=data):
                progress.console.log(f"{data}: {name}")
                begun = time.perf_counter()
                row = {"data": data, "variant": name, **measured(bench, mode, make(), given.test)}
                rows.append({**row, "seconds": time.perf_counter() - begun})
                if given.json is not None:
                    given.json.write_text(json.dumps(kept(rows), indent=1))
    out = Console(width=150)
    out.print(table(rows))
    out.print(
        f"{given.images} training images, {given.epochs} epochs, seed {given.seed}; "
        f"{time.perf_counter() - started:.0f} s"
    )
    for data in given.data:
        for line in verdicts(data, [row for row in rows if row["data"] == data]):
            out.print(line, highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
