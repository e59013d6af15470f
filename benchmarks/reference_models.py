"""Post-training int8 of the MLPerf Tiny ResNets, beside the files their authors published.

Calibrates on images 0-499 of the first 4,000 CIFAR-10 training images and scores on images 500-3999 (these are
training images of the models: the figures compare files, they are no test accuracy).

    python benchmarks/reference_models.py [--shared ../shared/data] [--images 3500] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import numpy as np
from rich.console import Console
from rich.table import Table

import kompakt as kp
from kompakt.loading import load_model
from kompakt.targets import find_target

PAIRS = (
    ("ic_resnet8.keras", "pretrainedResnet_quant.tflite"),
    ("ic02_resnet_large_bnfolded.keras", "pretrainedResnet_large_int8.tflite"),
)
CALIBRATION = slice(0, 500)


def compare(name: str, official: str, folder: Path, images: int) -> list[dict[str, float | str]]:
    """One row each for the float model, the official file and ours."""
    with np.load(folder / "cifar10_lossless4k" / "cifar10_train_first4000.npz", allow_pickle=False) as file:
        x, y = file["x"].astype("float32"), file["y"]
    test = slice(500, 500 + images)
    model = load_model(folder / "mlperf_tiny" / name)
    theirs = (folder / "mlperf_tiny" / official).read_bytes()
    with tempfile.TemporaryDirectory() as out:
        artifact = kp.export(
            model, Path(out) / "ours.tflite", quantization="int8", calibration=x[CALIBRATION], verify=x[test]
        )
        ours = Path(artifact.path).read_bytes()
        speed = kp.compare_latency(artifact, folder / "mlperf_tiny" / official, inputs=x[:1])
    place = find_target("tflite")
    float_class = model.predict(x[test], batch_size=256, verbose=0).argmax(-1)
    rows: list[dict[str, float | str]] = [
        {"model": name, "file": "float (Keras)", "accuracy": float((float_class == y[test]).mean())}
    ]
    for label, data in (("official int8", theirs), ("kompakt int8", ours)):
        found = place.run(data, x[test]).values[0].argmax(-1)
        rows.append(
            {
                "model": name,
                "file": label,
                "accuracy": float((found == y[test]).mean()),
                "agreement": float((found == float_class).mean()),
                "bytes": len(data),
            }
        )
    assert artifact.agreement is not None
    rows[-1] |= {
        "simulation_argmax": artifact.agreement.argmax,
        "simulation_lsb": artifact.agreement.max_lsb or 0.0,
        "latency_ratio": speed.ratio,
        "latency_low": speed.low,
        "latency_high": speed.high,
    }
    return rows


def show(rows: list[dict[str, float | str]], images: int) -> None:
    """The rows as a table."""
    table = Table(title=f"int8 after training, {images} images", box=None, pad_edge=False)
    for heading in (
        "model",
        "file",
        "accuracy",
        "agrees with float",
        "bytes",
        "argmax, LSB to simulation",
        "latency",
    ):
        name = heading in ("model", "file")
        table.add_column(heading, justify="left" if name else "right", no_wrap=name)
    for row in rows:
        ours = "simulation_lsb" in row
        sure = f"({row['latency_low']:.3f}..{row['latency_high']:.3f})" if ours else ""
        table.add_row(
            str(row["model"]),
            str(row["file"]),
            f"{row['accuracy']:.4f}",
            f"{row['agreement']:.4f}" if "agreement" in row else "",
            f"{row['bytes']:,}" if "bytes" in row else "",
            f"{row['simulation_argmax']:.4f}, {row['simulation_lsb']:.2f}" if ours else "",
            f"{row['latency_ratio']:.3f} {sure} of official" if ours else "",
        )
    Console(width=160).print(table)


def main() -> int:
    """Print the comparison; 2 where the shared data is missing."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    options.add_argument("--shared", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    options.add_argument("--images", type=int, default=3500)
    options.add_argument("--json", action="store_true")
    chosen = options.parse_args()
    if not (chosen.shared / "mlperf_tiny").is_dir():
        print(f"no reference models in {chosen.shared}: give their folder with --shared", file=sys.stderr)
        return 2
    rows = [row for pair in PAIRS for row in compare(*pair, chosen.shared, chosen.images)]
    if chosen.json:
        print(json.dumps(rows, indent=2))
    else:
        show(rows, chosen.images)
    return 0


if __name__ == "__main__":
    sys.exit(main())
