"""Which layer kinds prune, cluster, train quantized and become integers in the file, and how well the file agrees.

One row a kind, on a small model of its own (``coverage_kinds.py``), or a family of ``keras.applications`` with
random weights (``--families``, each in a process of its own). Each model is pruned, clustered, quantized to int8 on
random samples, trained for one step, exported, run in LiteRT and compared with its simulation. The verdict is
``integer``, ``named: <reason>`` where ``export`` refused and its text has the reason, or ``SILENT`` where it let a
float operator pass, or refused without naming a layer or operator.

    python benchmarks/coverage.py [--only GLOB] [--families] [--json FILE] [--markdown FILE]
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import logging
import os
import re
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

if TYPE_CHECKING:
    import keras

SAMPLES = 128
COLUMNS = ("kind", "prune", "cluster", "QAT step", "int8 ops", "argmax", "LSB", "verdict")
FAMILIES = {
    "MobileNet": 96,
    "MobileNetV2": 96,
    "MobileNetV3Small": 96,
    "EfficientNetB0": 96,
    "EfficientNetV2B0": 96,
    "ResNet50": 96,
    "ResNet50V2": 96,
    "DenseNet121": 96,
    "ConvNeXtTiny": 96,
    "InceptionResNetV2": 96,
    "NASNetMobile": 96,
    "VGG16": 96,
    "Xception": 96,
}
"""Family of keras.applications -> size of its images."""

CLASSES = 5


def family(name: str) -> keras.Model:
    """A family with random weights and few classes."""
    import keras

    size = FAMILIES[name]
    return getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3), classes=CLASSES)


def moved(model: keras.Model) -> keras.Model:
    """``model`` with biases and moving statistics away from where they start, where mistakes would not show."""
    import numpy as np
    from keras import layers

    random = np.random.default_rng(3)
    for each in model._flatten_layers():
        if isinstance(each, layers.BatchNormalization):
            shape = each.moving_mean.shape
            each.moving_mean.assign(random.normal(0, 0.3, shape))
            each.moving_variance.assign(random.uniform(0.5, 2.0, shape))
            if each.scale:
                each.gamma.assign(random.uniform(0.5, 1.5, shape))
            if each.center:
                each.beta.assign(random.normal(0, 0.3, shape))
        elif getattr(each, "bias", None) is not None and hasattr(each.bias, "assign"):
            each.bias.assign(random.normal(0, 0.2, each.bias.shape))
    return model


def samples(model: keras.Model, count: int) -> Any:
    """Random inputs: ids where the model takes whole numbers."""
    import keras
    import numpy as np

    from kompakt.graph import symbolic_inputs

    random = np.random.default_rng(0)
    given = symbolic_inputs(model)
    shape = (count, *given.shape[1:])
    if keras.backend.is_float_dtype(given.dtype):
        return random.normal(0.1, 1.0, shape).astype("float32")
    return random.integers(0, 20, shape).astype("int32")


def attempt(work: Any) -> str:
    """Whether the work went well ("ok"), or the first line of what went wrong."""
    try:
        work()
    except Exception as error:  # noqa: BLE001 - any failure is a row
        return f"{type(error).__name__}: {first_line(error)}"
    return "ok"


def first_line(error: Exception) -> str:
    """Of what an error says."""
    return next(iter(str(error).strip().splitlines()), "")


def step(model: keras.Model, x: Any, classes: int, batch: int) -> None:
    """One training step; NaN is an error."""
    import keras
    import numpy as np

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(1e-3), loss)
    found = model.fit(x[:batch], np.arange(len(x[:batch])) % classes, batch_size=batch, epochs=1, verbose=0)
    if not np.isfinite(found.history["loss"][0]):
        raise ValueError("the loss is NaN or infinite")


def row(name: str, make: Any, *, count: int = SAMPLES, every: bool = True) -> dict[str, Any]:
    """Everything about one kind."""
    import keras

    import kompakt as kp

    keras.utils.set_random_seed(0)
    keras.backend.clear_session()
    start = time.perf_counter()
    found: dict[str, Any] = {"kind": name}
    try:
        model = moved(make())
    except Exception as error:  # noqa: BLE001 - any failure is a row
        return {**found, "verdict": f"SILENT, not built: {first_line(error)}", "seconds": 0.0}
    x = samples(model, count)
    if every:
        found["prune"] = attempt(lambda: kp.prune(model, 0.5, sites="*"))
        found["cluster"] = attempt(lambda: kp.cluster(model, 8, sites="*"))
    made: dict[str, Any] = {}

    def train() -> None:
        made["model"] = kp.quantize(model, calibration=x)
        step(made["model"], x, CLASSES, min(16, count))

    found["qat"] = attempt(train)
    found.update(_exported(made.get("model"), found["qat"], x, model))
    found["seconds"] = round(time.perf_counter() - start, 1)
    return found


def _exported(model: Any, trained: str, x: Any, plain: keras.Model) -> dict[str, Any]:
    import kompakt as kp

    if model is None:
        return {"verdict": _named(trained, plain)}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            artifact = kp.export(model, Path(folder) / "m.tflite", verify=x, on_breach="warn")
        except Exception as error:  # noqa: BLE001 - any failure is a row
            return {"verdict": _named(f"{type(error).__name__}: {error}", plain)}
    census, agree = artifact.census, artifact.agreement
    total = sum(n for op, n in census.ops.items())
    verdict = "integer" if not artifact.breaches else _named("; ".join(artifact.breaches), plain)
    if census.float_ops and not artifact.breaches:
        verdict = f"SILENT: {', '.join(census.float_ops)}"
    return {
        "ops": total,
        "int8_ops": total - len(census.float_ops),
        "float_ops": list(census.float_ops),
        "argmax": agree.argmax,
        "lsb": agree.max_lsb,
        "notes": list(artifact.notes),
        "bytes": artifact.bytes,
        "verdict": verdict,
    }


def _named(text: str, model: keras.Model) -> str:
    """A refusal, which has to name a layer of the model."""
    names = {each.name for each in model._flatten_layers()}
    words = set(re.split(r"[\s,:;()'\"/]+", text))
    known = any(word in names or any(word.startswith(f"{name}_") for name in names) for word in words)
    line = text.splitlines()[0] if text else ""
    return f"{'named' if known else 'SILENT, no layer named'}: {line}"


def count(rows: list[dict[str, Any]]) -> str:
    """How many kinds there are of each verdict."""
    whole = sum(r["verdict"] == "integer" for r in rows)
    named = sum(r["verdict"].startswith("named") for r in rows)
    return f"{len(rows)} kinds: {whole} fully integer, {named} refused by name, {len(rows) - whole - named} silent"


def cells(found: dict[str, Any]) -> list[str]:
    """A row of the table."""
    ops = f"{found['int8_ops']} / {found['ops']}" if "ops" in found else "-"
    lsb = found.get("lsb")
    marks = [("yes" if found[key] == "ok" else "no") if key in found else "-" for key in ("prune", "cluster", "qat")]
    argmax = f"{found['argmax']:.3f}" if "argmax" in found else "-"
    return [found["kind"], *marks, ops, argmax, "-" if lsb is None else f"{lsb:.0f}", found["verdict"][:160]]


def markdown(rows: list[dict[str, Any]]) -> str:
    """The table in Markdown, under the count."""
    lines = [count(rows), "", f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    lines += [f"| {' | '.join(cell.replace('|', '/') for cell in cells(found))} |" for found in rows]
    return "\n".join(lines) + "\n"


def in_child(name: str) -> dict[str, Any]:
    """The row of a family, in a process that gives its memory back."""
    command = [sys.executable, __file__, "--child", name]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if lines:
        return json.loads(lines[-1])
    why = (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]
    return {"kind": name, "qat": why, "verdict": f"SILENT: {why}", "seconds": round(time.perf_counter() - start, 1)}


def main() -> None:
    """Run what was asked and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="*", metavar="GLOB", help="kinds to run")
    parser.add_argument("--families", action="store_true", help="families of keras.applications, not layer kinds")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--markdown", metavar="FILE")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for logger in ("kompakt", "tensorflow"):
        logging.getLogger(logger).setLevel(logging.ERROR)
    if options.child:
        print(json.dumps(row(options.child, lambda: family(options.child), count=16, every=False)))
        return
    console = Console()
    rows = []
    from coverage_kinds import KINDS

    wanted = [name for name in (FAMILIES if options.families else KINDS) if fnmatch.fnmatchcase(name, options.only)]
    table = Table(*COLUMNS, *(["seconds"] if options.families else []))
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("", total=len(wanted))
        for name in wanted:
            progress.update(task, description=name)
            rows.append(in_child(name) if options.families else row(name, KINDS[name]))
            table.add_row(*cells(rows[-1]), *([str(rows[-1]["seconds"])] if options.families else []))
            progress.advance(task)
            if options.json:
                Path(options.json).write_text(json.dumps(rows, indent=1) + "\n")
    console.print(table)
    console.print(count(rows))
    if options.markdown:
        Path(options.markdown).write_text(markdown(rows))


if __name__ == "__main__":
    main()
