"""Every model to every target in every mode: agreement, size, latency and memory, as verification found them.

Six models: the digits CNN, ResNet-8 of MLPerf Tiny, a Conv1D/LSTM net on UCI HAR, a small transformer on SST-2, the
anomaly detector of MLPerf Tiny, and a net with two inputs and two outputs. Each cell is one `kompakt.export`, whose
file was run in its own runtime; a cell that a target refuses has the text of the refusal. int8 files of TFLite Micro
are equal to LiteRT's reference kernels on every sample, or not verified.

    python benchmarks/targets.py [--shared ../shared/data] [--models digits resnet8 ...] [--targets tflite tflm ...]
                                 [--only GLOB] [--samples 200] [--seed 0] [--json OUT.jsonl]

With ``--json`` each cell is written when it is there, and not made again in the next run.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
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
from ptq_models import JOBS, Options
from rich.console import Console
from rich.table import Table
from rich.text import Text

import kompakt as kp
from kompakt.data import sample_rows
from kompakt.demo import digits, digits_model, train
from kompakt.errors import InputError, VerificationError
from kompakt.profiling.pairs import alone
from kompakt.profiling.subject import subject_at
from kompakt.run_progress import silent
from kompakt.targets import TARGETS, find_target

Made = tuple[keras.Model, Any, Any]
"""Model, samples to calibrate on, samples to compare on."""


def digits_job(options: Options) -> Made:
    """The CNN of `kompakt demo`, trained for a few epochs."""
    data = digits(options.seed)
    keras.utils.set_random_seed(options.seed)
    model = train(digits_model(), data, epochs=8, seed=options.seed, report=silent)
    return model, data.x_train[:500], data.x_test


def two_job(options: Options) -> Made:
    """Two inputs by name, two outputs: a picture and four numbers, a class and a value."""
    rng = np.random.default_rng(options.seed)
    keras.utils.set_random_seed(options.seed)
    image, numbers = keras.Input((12, 12, 3), name="image"), keras.Input((4,), name="numbers")
    x = keras.layers.Conv2D(8, 3, activation="relu", name="conv")(image)
    x = keras.layers.Concatenate(name="both")([keras.layers.GlobalAveragePooling2D(name="mean")(x), numbers])
    x = keras.layers.Dense(16, activation="relu", name="hidden")(x)
    outputs = [keras.layers.Dense(5, name="kind")(x), keras.layers.Dense(1, name="value")(x)]
    given = {"image": rng.random((600, 12, 12, 3), "float32"), "numbers": rng.random((600, 4), "float32")}
    first, rest = ({name: values[rows] for name, values in given.items()} for rows in (slice(400), slice(400, None)))
    return keras.Model({"image": image, "numbers": numbers}, outputs, name="two"), first, rest


def from_ptq(name: str) -> Callable[[Options], Made]:
    """A model of `ptq.py`."""

    def make(options: Options) -> Made:
        job = JOBS[name](options)
        return job.model, job.calibration, job.inputs

    return make


MODELS: dict[str, Callable[[Options], Made]] = {
    "digits": digits_job,
    "resnet8": from_ptq("resnet8"),
    "har": from_ptq("har"),
    "transformer": from_ptq("transformer"),
    "autoencoder": from_ptq("autoencoder"),
    "two": two_job,
}


def cell(model: keras.Model, calibration: Any, samples: Any, target: str, mode: str, folder: Path) -> dict[str, Any]:
    """What one export says of itself, or why it was refused."""
    place = find_target(target)
    path = folder / f"{model.name}_{target}_{mode}{place.suffix}"
    start = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = kp.export(
                model, path, target=target, quantization=mode, calibration=calibration, verify=samples, on_breach="warn"
            )
    except (InputError, VerificationError) as error:
        return {"refused": str(error).replace(str(folder), "")}
    seconds = time.perf_counter() - start
    assert made.agreement is not None
    timed = alone(subject_at(path, sample_rows(samples, 8), 0), rounds=9)
    return {
        "bytes": made.bytes,
        "gzip": made.gzip_bytes,
        **{f: getattr(made.agreement, f) for f in ("argmax", "exact", "max_abs", "max_lsb", "given_argmax", "samples")},
        "milliseconds": timed.median,
        "spread": timed.spread,
        "measured": {m.name: m.value for m in made.measurements},
        "notes": list(made.notes),
        "breaches": list(made.breaches),
        "seconds": seconds,
    }


def modes_of(target: str) -> list[str]:
    """The modes of a target that need no rules."""
    return [mode for mode in find_target(target).modes if mode != "mixed"]


def held(path: str | None) -> dict[str, Any]:
    """Cells of earlier runs."""
    if path is None or not Path(path).exists():
        return {}
    lines = [json.loads(line) for line in Path(path).read_text().splitlines()]
    return {line["cell"]: line for line in lines}


def table_of(name: str, cells: dict[str, Any]) -> Table:
    """One row a target and mode of one model."""
    table = Table(title=name, title_justify="left", box=None, pad_edge=False)
    for head in ("target", "mode"):
        table.add_column(head, no_wrap=True)
    for head in ("bytes", "gzip", "argmax", "equal", "largest diff.", "argmax, float", "ms", "arena"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("said", overflow="fold")
    for key, found in cells.items():
        _, target, mode = key.split("/")
        table.add_row(target, mode, *row_of(found))
    return table


def row_of(found: dict[str, Any]) -> list[str | Text]:
    """The figures of a cell, or its refusal."""
    if "refused" in found:
        return [*["-"] * 8, Text(f"refused: {found['refused']}")]
    steps = found["max_lsb"]
    given, arena = found["given_argmax"], found["measured"].get("arena")
    return [
        f"{found['bytes']:,}",
        f"{found['gzip']:,}",
        f"{found['argmax']:.4f}",
        f"{found['exact']:.1%}",
        f"{found['max_abs']:.1e}" if steps is None else f"{steps:.2f} LSB",
        "-" if given is None else f"{given:.4f}",
        f"{found['milliseconds']:.3g} ±{found['spread']:.1g}",
        "-" if arena is None else f"{arena:,.0f}",
        Text("; ".join(f"BREACH {line}" for line in found["breaches"])),
    ]


def main() -> None:
    """Make the cells and print a table a model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", default="../shared/data")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--targets", nargs="+", default=list(TARGETS), choices=list(TARGETS))
    parser.add_argument("--only", default="*", metavar="GLOB", help="of MODEL/TARGET/MODE")
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", metavar="OUT.jsonl")
    given = parser.parse_args()
    options = Options(shared=Path(given.shared), images=given.samples, iterations=0, seed=given.seed)
    console, known = Console(width=200), held(given.json)
    console.print(f"seed {given.seed}, {given.samples} samples compared, {time.strftime('%Y-%m-%d')}")
    for name in given.models:
        keys = [f"{name}/{target}/{mode}" for target in given.targets for mode in modes_of(target)]
        keys = [key for key in keys if fnmatch.fnmatchcase(key, given.only)]
        model, calibration, samples = (None, None, None) if set(keys) <= set(known) else MODELS[name](options)
        cells = {}
        for key in keys:
            if key not in known:
                target, mode = key.split("/")[1:]
                with tempfile.TemporaryDirectory() as folder:
                    found = cell(model, calibration, sample_rows(samples, given.samples), target, mode, Path(folder))
                known[key] = {"cell": key, **found}
                if given.json:
                    with Path(given.json).open("a") as file:
                        file.write(json.dumps(known[key]) + "\n")
            cells[key] = known[key]
        console.print(table_of(name, cells))


if __name__ == "__main__":
    main()
