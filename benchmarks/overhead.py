"""What a technique adds to a training step, beside plain ``fit`` (and beside tensorflow-model-optimization).

A model with the technique and the plain one train in turns, two steps each, in one process, so that what else
the machine does falls on both. The table has the median of the turns' ratios of elapsed time with its quartiles,
and the ratio of the processor time of all turns, which other processes disturb less. Compilation is left out.
"Every 10 steps" and "every step" make the mask anew that often; the others keep the one they began with.

    python benchmarks/overhead.py [--backend tensorflow|jax] [--rounds 40] [--tfmot-python PATH] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from overhead_models import BATCH, MODELS
from rich.console import Console
from rich.table import Table
from stepping import step_ratio

if TYPE_CHECKING:
    import keras

TARGETS = {
    "ResNet-8": {"pruned": 1.05, "clustered": 1.10, "QAT": 1.15},
    "two Dense(1024)": {"": 1.5},
}
"""Model -> start of a variant's name -> the ratio it should stay below."""

STEPS = {"ResNet-8": 8, "two Dense(1024)": 16}
"""Steps of an epoch."""


def variants() -> dict[str, Callable[[keras.Model, Any], keras.Model]]:
    """Name -> function of (plain model, samples) that makes the model to time."""
    import kompakt as kp

    def pruned(model: keras.Model, sparsity: float | None = 0.75, **options: Any) -> keras.Model:
        return kp.prune(model, sparsity, sites="*kernel", **options)  # those of the ends too

    # They never end within a run.
    every_step, every_tenth = (kp.schedules.Constant(0.75, frequency=steps) for steps in (1, 10))
    return {
        "pruned 75 %": lambda m, _: pruned(m),
        "pruned 75 %, every 10 steps": lambda m, _: pruned(m, schedule=every_tenth),
        "pruned 75 %, every step": lambda m, _: pruned(m, schedule=every_step),
        "pruned 2:4": lambda m, _: kp.prune(m, pattern="2:4"),  # not an image of 3 channels
        "pruned 75 %, 1x16 blocks": lambda m, _: pruned(m, pattern="1x16"),
        "pruned 75 %, 4x4 blocks": lambda m, _: pruned(m, pattern="4x4"),
        "pruned 75 %, channels": lambda m, _: pruned(m, pattern="channels"),
        "clustered 16": lambda m, _: kp.cluster(m, 16),
        "QAT": lambda m, x: kp.quantize(m, calibration=x),
        "PQAT": lambda m, x: kp.quantize(pruned(m), calibration=x),
        "CQAT": lambda m, x: kp.quantize(kp.cluster(m, 16), calibration=x),
        "PCQAT": lambda m, x: kp.quantize(kp.cluster(pruned(m), 16), calibration=x),
    }


def timed(name: str, variant: str, rounds: int) -> dict[str, Any]:
    """The ratio of one variant on one model."""
    import keras
    import numpy as np

    import kompakt as kp

    keras.utils.set_random_seed(0)
    plain = MODELS[name](keras)
    random = np.random.default_rng(0)
    x = random.normal(size=(STEPS[name] * BATCH, *plain.input_shape[1:])).astype("float32")
    data = x, random.integers(0, 10, len(x))
    model = variants()[variant](MODELS[name](keras), x[:64])
    for each in (model, plain):
        each.compile(keras.optimizers.Adam(), "sparse_categorical_crossentropy")
    driver = [kp.callbacks.Update()]
    return step_ratio(
        model, plain, data, base=keras.callbacks.Callback, callbacks=driver, turns=rounds, batch=BATCH
    ).to_dict()


def tfmot(python: str, models: list[str], wanted: list[str], rounds: int) -> dict[str, dict[str, Any]]:
    """The same of tensorflow-model-optimization, run by the interpreter ``python``."""
    script = Path(__file__).with_name("overhead_tfmot.py")
    found: dict[str, dict[str, Any]] = {}
    for name in models:
        request = {"models": [name], "variants": wanted, "rounds": rounds, "steps": STEPS[name]}
        child = subprocess.run([python, str(script), json.dumps(request)], capture_output=True, text=True, check=False)
        lines = [line for line in child.stdout.splitlines() if line.startswith("{")]
        if child.returncode or not lines:
            raise SystemExit(f"{python}: {child.stderr.strip().splitlines()[-1:] or 'no output'}")
        found.update(json.loads(lines[-1]))
    return found


def show(rows: dict[str, dict[str, Any]], theirs: dict[str, dict[str, Any]] | None, title: str) -> None:
    """The ratios as a table."""
    table = Table(title=title, box=None, pad_edge=False)
    table.add_column("model, variant", no_wrap=True)
    for heading in ("time a step", "quartiles", "processor time", "ms a step", "target"):
        table.add_column(heading, justify="right")
    if theirs is not None:
        table.add_column("tfmot's", justify="right")
        table.add_column("processor time", justify="right")
    for name, found in rows.items():
        table.add_row(f"[bold]{name}[/bold]")
        for variant, row in found.items():
            limit = next((t for start, t in TARGETS[name].items() if variant.startswith(start)), None)
            cells = [
                f"  {variant}",
                f"{row['median']:.2f}",
                f"{row['low']:.2f} - {row['high']:.2f}",
                f"{row['cpu']:.2f}",
                f"{row['seconds'] * 1e3:.1f}",
                "" if limit is None else f"{limit:.2f}",
            ]
            other = (theirs or {}).get(name, {}).get(variant, {})
            if "error" in other:
                print(f"tfmot, {name}, {variant}: {other['error']}", file=sys.stderr)
                cells += ["cannot", ""]
            elif other:
                cells += [f"{other['median']:.2f}", f"{other['cpu']:.2f}"]
            table.add_row(*cells)
    Console(width=130).print(table)


def main() -> int:
    """Time every variant and print the table."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    options.add_argument("--backend", choices=("tensorflow", "jax"), default="tensorflow")
    options.add_argument("--rounds", type=int, default=40, help="turns of two steps for each side of a comparison")
    options.add_argument("--tfmot-python", metavar="PATH", help="interpreter that has tfmot and tf_keras")
    options.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    options.add_argument("--only", nargs="+", metavar="VARIANT", help="these variants alone")
    options.add_argument("--json", action="store_true")
    chosen = options.parse_args()
    os.environ["KERAS_BACKEND"] = chosen.backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    wanted = [name for name in variants() if not chosen.only or name in chosen.only]
    rows: dict[str, dict[str, Any]] = {}
    for name in chosen.models:
        rows[name] = {}
        for variant in wanted:
            print(f"{name}: {variant}", file=sys.stderr)
            rows[name][variant] = timed(name, variant, chosen.rounds)
    theirs = tfmot(chosen.tfmot_python, chosen.models, wanted, chosen.rounds) if chosen.tfmot_python else None
    if chosen.json:
        print(json.dumps({"kompakt": rows, "tfmot": theirs}, indent=2))
        return 0
    show(rows, theirs, f"Training step beside plain fit, {chosen.backend}, batch {BATCH}, {chosen.rounds} rounds")
    if theirs is None:
        print("tensorflow-model-optimization: skipped (give --tfmot-python an interpreter that has it and tf_keras)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
