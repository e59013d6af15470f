"""Can the latency tool be trusted? A file against itself must be 1, and smaller models must come out faster in order.

Each file is compared with itself several times, each side in a process of its own, as `kp.compare_latency` compares any
two; the ratio has to be within 3 % of 1. Then MobileNetV2 (96 x 96, width 0.5, random weights) with 75, 50 and 25 % of
its channels (`kp.shrink`) is compared with the whole, in float and int8: the ratios have to fall in that order, and
their intervals not to overlap. The exit code is 1 where one of these does not hold.

    python benchmarks/latency_self.py [--repeats 3] [--rounds 30] [--threads 1] [--seed 0] [--json]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np
from rich.console import Console
from rich.table import Table

import kompakt as kp
from kompakt.cost import layer_costs
from kompakt.demo import digits_model
from kompakt.profile import machine
from kompakt.records_profile import LatencyRatio

OFF = 0.03
"""Most that a file may seem faster or slower than itself."""

KEPT = (0.75, 0.5, 0.25)
"""Shares of the channels."""

MODES = ("float", "int8")


def mobilenet(seed: int) -> keras.Model:
    """About 300,000 parameters without its head."""
    keras.utils.set_random_seed(seed)
    return keras.applications.MobileNetV2((96, 96, 3), alpha=0.5, weights=None, classes=10)


def exported(model: keras.Model, folder: Path, name: str) -> dict[str, str]:
    """Mode -> the path of the model's file."""
    x = np.random.default_rng(0).random((32, *model.input_shape[1:]), dtype="float32")
    return {
        mode: kp.export(
            model, folder / f"{name}_{mode}.tflite", quantization=mode, calibration=x, on_breach="warn"
        ).path
        for mode in MODES
    }


def million_macs(model: keras.Model) -> float:
    """Millions of multiply-accumulates."""
    return sum(row.macs or 0 for row in layer_costs(model)) / 1e6


def against_itself(files: dict[str, str], options: argparse.Namespace) -> Iterator[LatencyRatio]:
    """Each file, several times."""
    for path in files.values():
        for _ in range(options.repeats):
            yield kp.compare_latency(path, path, threads=options.threads, rounds=options.rounds, seed=options.seed)


def in_order(ratios: list[LatencyRatio]) -> bool:
    """Whether each is faster than the one before, beyond doubt."""
    return all(later.high < earlier.low for earlier, later in pairwise(ratios))


def table(rows: list[tuple[str, LatencyRatio]], title: str) -> Table:
    """Ratios as they were measured."""
    made = Table(title=title, box=None, title_justify="left", pad_edge=False)
    made.add_column("file")
    for head in ("ms", "ratio", "±", "95 % interval"):
        made.add_column(head, justify="right")
    for name, r in rows:
        made.add_row(name, f"{r.milliseconds:.4f}", f"{r.ratio:.3f}", f"{r.spread:.3f}", f"{r.low:.3f}..{r.high:.3f}")
    return made


def main() -> int:
    """Measure, print, and say whether it held."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return measured(options, Path(folder))


def measured(options: argparse.Namespace, folder: Path) -> int:
    """The exit code."""
    keras.utils.set_random_seed(options.seed)
    whole = mobilenet(options.seed)
    files = exported(whole, folder, "mobilenetv2")
    small = exported(digits_model(), folder, "digits")
    selves = [*against_itself(small, options), *against_itself(files, options)]
    shrunk = {share: kp.shrink(whole, share, of="channels", scope="group") for share in KEPT}
    made = {share: exported(model, folder, f"mobilenetv2_{share}") for share, model in shrunk.items()}
    order = {
        mode: [
            kp.compare_latency(made[share][mode], files[mode], threads=options.threads, rounds=options.rounds)
            for share in KEPT
        ]
        for mode in MODES
    }
    held = all(abs(r.ratio - 1) <= OFF for r in selves)
    ordered = {mode: ratios[0].high < 1 and in_order(ratios) for mode, ratios in order.items()}
    if options.json:
        rows = [dataclasses.asdict(r) for r in [*selves, *(r for ratios in order.values() for r in ratios)]]
        print(json.dumps({"machine": machine(), "ratios": rows}, indent=2))
    else:
        show(selves, order, {share: million_macs(model) for share, model in shrunk.items()}, million_macs(whole))
        worst = max(abs(r.ratio - 1) for r in selves)
        print(f"\nagainst itself: at most {worst:.1%} off, {OFF:.0%} allowed: {'held' if held else 'NOT HELD'}")
        print(f"in order: {', '.join(f'{mode} {yes}' for mode, yes in ordered.items())}")
    return 0 if held and all(ordered.values()) else 1


def show(
    selves: list[LatencyRatio], order: dict[str, list[LatencyRatio]], macs: dict[float, float], whole: float
) -> None:
    """Print the tables."""
    console = Console()
    console.print(f"{machine()}; {selves[0].threads} threads, {selves[0].rounds} rounds\n")
    console.print(table([(Path(r.path).stem, r) for r in selves], "A file against itself"))
    for mode, ratios in order.items():
        rows = [
            (f"{share:.0%} of the channels, {macs[share] / whole:.0%} of MACs", r)
            for share, r in zip(KEPT, ratios, strict=True)
        ]
        console.print(table(rows, f"\nMobileNetV2 shrunk, against the whole, {mode}"))


if __name__ == "__main__":
    sys.exit(main())
