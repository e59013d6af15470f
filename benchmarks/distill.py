"""What a student learns from a teacher, loss by loss, and what is left of it in 8 bits.

(a) The large ResNet of MLPerf Tiny (as given) teaches one of the shape of its ResNet-8, from scratch, on CIFAR-10
re-encoded as JPEG. (b) A CNN of about 100,000 parameters, trained here on all of Fashion-MNIST, teaches one of about a
tenth. Students see a fixed part of the training images, the same for all rows, as often, in the same batches and at
the same rate; "alone" learns from their labels only. The teacher's answers are computed once (``kp.cache_teacher``).
How many images, rate, epochs and share were chosen by "alone" and soft targets, where a teacher has something to give,
and the weight of each loss on (b) for both: all on seed 100, which is none of those shown, by the same test images.

Each row is the mean of the seeds and its standard deviation, on the test images; gains are of one seed against "alone"
of the same seed. "+ QAT int8" takes the student of soft targets, quantizes it and trains it on, the float teacher still
teaching; its accuracy is that of the file in LiteRT, and it is compared with that student trained on in float as long.

    python benchmarks/distill.py [--shared ../shared/data] [--data cifar fashion] [--seeds 3] [--json OUT]
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np
from fashion import cnn
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import kompakt as kp
from kompakt.loading import load_model
from kompakt.targets import find_target

d = kp.distillation
LOSSES: dict[str, Any] = {
    "soft targets": [d.SoftTargets(4.0)],
    "decoupled": [d.Decoupled(1.0, 4.0, 4.0, weight=0.5)],
    "hints": [d.Hints(weight=0.1)],
    "attention": [d.Attention(weight=0.1)],
    "relational": [d.Relational(weight=0.1)],
}
ALPHA = 0.9
TUNED = 0.1
"""Rate of training on, as a share of that before."""

Images = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A teacher, a student's shape, and data."""

    teacher: keras.Model
    student: Callable[[], keras.Model]
    train: Images
    test: Images
    layers: Sequence[str]
    """Of the teacher, that terms compare."""
    epochs: int
    more: int
    rate: float
    batch: int

    def cached(self, folder: Path) -> kp.distillation.CachedTeacher:
        """The teacher's answers on the training images, for all rows and seeds."""
        return kp.cache_teacher(self.teacher, self.train[0], folder, layers=self.layers)

    def fit(self, model: keras.Model, *, seed: int, epochs: int, rate: float) -> None:
        """Train with a cosine falling rate."""
        keras.utils.set_random_seed(seed)
        steps = epochs * math.ceil(len(self.train[0]) / self.batch)
        rates = keras.optimizers.schedules.CosineDecay(rate, steps)
        model.compile(keras.optimizers.Adam(rates), self.loss(model))
        model.fit(*self.train, batch_size=self.batch, epochs=epochs, verbose=0)

    @staticmethod
    def loss(model: keras.Model) -> Any:
        """Of labels, for logits or probabilities."""
        student = getattr(model, "student", model)
        probabilities = getattr(student.layers[-1], "activation", None) is keras.activations.softmax
        return keras.losses.SparseCategoricalCrossentropy(from_logits=not probabilities)

    def accuracy(self, model: keras.Model) -> float:
        """On the test images, in points."""
        x, y = self.test
        return 100.0 * float((model.predict(x, batch_size=250, verbose=0).argmax(-1) == y).mean())


def again(model: keras.Model) -> Callable[[], keras.Model]:
    """A maker of models of this shape, from scratch."""
    return lambda: keras.models.clone_model(model)


def cifar(shared: Path) -> Setting:
    """The large ResNet teaches a ResNet-8."""
    sys.path.insert(0, str(shared))
    import load  # type: ignore[import-not-found]

    tiny = shared / "mlperf_tiny"
    teacher = load_model(tiny / "ic02_resnet_large_bnfolded.keras")
    student = load_model(tiny / "ic_resnet8.keras")
    train, test = part(load.cifar10_jpeg("train"), 500), part(load.cifar10_jpeg("test"), 4000)
    layers = ("re_lu_6", "flatten")
    training = {"epochs": 12, "more": 2, "rate": 2e-3, "batch": 16}
    return Setting(teacher=teacher, student=again(student), train=train, test=test, layers=layers, **training)


def fashion(shared: Path) -> Setting:
    """A CNN of a hundred thousand parameters teaches one of ten thousand."""
    with np.load(shared / "fashion_mnist" / "fashion_mnist.npz", allow_pickle=False) as file:
        held = {name: file[name] for name in file.files}
    x, x_test = ((held[name] / 255.0).astype("float32")[..., None] for name in ("x_train", "x_test"))
    y, y_test = held["y_train"].astype("int32"), held["y_test"].astype("int32")
    keras.utils.set_random_seed(0)
    teacher = cnn()
    rates = keras.optimizers.schedules.CosineDecay(3e-3, 2 * math.ceil(len(x) / 64))
    teacher.compile(keras.optimizers.Adam(rates), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    teacher.fit(x, y, batch_size=64, epochs=2, verbose=0)
    train, layers = part((x, y), 1000), ("conv4_relu", "drop")
    training = {"epochs": 20, "more": 4, "rate": 1e-2, "batch": 32}
    return Setting(teacher=teacher, student=small, train=train, test=(x_test, y_test), layers=layers, **training)


def small() -> keras.Model:
    """The shape of :func:`fashion.cnn` with three tenths of its channels."""
    return again(kp.shrink(cnn(), 0.3, of="channels", scope="group", round_to=1))()


SETTINGS: dict[str, Callable[[Path], Setting]] = {"cifar": cifar, "fashion": fashion}


def part(images: Images, count: int) -> Images:
    """``count`` samples, the same in every run, of all classes."""
    x, y = images
    chosen = np.random.default_rng(0).permutation(len(x))[:count]
    return x[chosen].astype("float32"), y[chosen].astype("int32")


def rows(setting: Setting, teacher: kp.distillation.CachedTeacher, seed: int) -> dict[str, float]:
    """Row -> accuracy in points, of one seed."""

    def start() -> keras.Model:
        keras.utils.set_random_seed(seed)
        return setting.student()

    alone = start()
    setting.fit(alone, seed=seed, epochs=setting.epochs, rate=setting.rate)
    found, taught = {"alone": setting.accuracy(alone)}, {}
    for name, losses in LOSSES.items():
        model = kp.distill(start(), teacher, losses=losses, alpha=ALPHA)
        setting.fit(model, seed=seed, epochs=setting.epochs, rate=setting.rate)
        found[name], taught[name] = setting.accuracy(model.student), model.student
    student, more = taught["soft targets"], {"seed": seed, "epochs": setting.more, "rate": TUNED * setting.rate}
    longer = kp.distill(student, teacher, alpha=ALPHA)
    setting.fit(longer, **more)
    found["soft targets, trained on"] = setting.accuracy(longer.student)
    qat = kp.distill(kp.quantize(student, "int8", calibration=setting.train[0][:500]), teacher, alpha=ALPHA)
    setting.fit(qat, **more)
    found["soft targets + QAT int8"] = in_file(qat.student, setting)
    return found


def in_file(model: keras.Model, setting: Setting) -> float:
    """Accuracy of the int8 file in LiteRT, in points."""
    x, y = setting.test
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = kp.export(model, Path(folder) / "m.tflite", io="float32", verify=x[:500])
        outputs = find_target("tflite").run(Path(made.path).read_bytes(), x).values[0]
    return 100.0 * float((outputs.argmax(-1) == y).mean())


def summary(seeds: Sequence[dict[str, float]]) -> dict[str, tuple[float, float, float, float]]:
    """Row -> (mean, standard deviation, mean gain over "alone", standard deviation of that)."""

    def spread(values: Sequence[float]) -> float:
        return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan

    made = {}
    for name in seeds[0]:
        scores, gains = [s[name] for s in seeds], [s[name] - s["alone"] for s in seeds]
        made[name] = (float(np.mean(scores)), spread(scores), float(np.mean(gains)), spread(gains))
    return made


def verdicts(
    data: str, held: dict[str, tuple[float, float, float, float]], seeds: Sequence[dict[str, float]]
) -> list[str]:
    """The targets, with what was reached."""
    best = max(LOSSES, key=lambda name: held[name][0])
    _, _, gain, spread = held[best]
    reached = gain >= 1.0 or gain > 2.0 * spread
    lost = [s["soft targets, trained on"] - s["soft targets + QAT int8"] for s in seeds]
    return [
        f"{data}: best is {best}: {gain:+.2f} points over alone (spread {spread:.2f}); 1 point or twice the spread "
        f"asked: {'reached' if reached else 'MISSED'}",
        f"{data}: distillation + QAT int8 loses {np.mean(lost):+.2f} points against the float student trained on as "
        f"long, at most 0.3 asked: {'reached' if np.mean(lost) <= 0.3 else 'MISSED'}",
        *[
            f"{data}: {name} gains nothing beyond the spread ({held[name][2]:+.2f}, spread {held[name][3]:.2f})"
            for name in LOSSES
            if held[name][2] <= 0.0 or held[name][2] <= held[name][3]
        ],
    ]


def main() -> int:
    """Print a table for each data set, and the targets; 2 where the shared data is missing."""
    given = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    given.add_argument("--shared", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    given.add_argument("--data", nargs="*", choices=SETTINGS, default=list(SETTINGS))
    given.add_argument("--seeds", type=int, default=3)
    given.add_argument("--json", type=Path, metavar="OUT")
    options = given.parse_args()
    if not (options.shared / "fashion_mnist").is_dir():
        print(f"no data in {options.shared}: give the folder that holds fashion_mnist with --shared", file=sys.stderr)
        return 2
    out, kept, started = Console(width=120), {}, time.perf_counter()
    with Progress(console=Console(stderr=True)) as progress, tempfile.TemporaryDirectory() as folder:
        for data in options.data:
            begun = time.perf_counter()
            setting = SETTINGS[data](options.shared)
            teacher = setting.cached(Path(folder) / data)
            sizes = setting.teacher.count_params(), setting.student().count_params()
            taught = setting.accuracy(setting.teacher)
            progress.console.log(data, "teacher", taught)
            seeds = []
            for seed in progress.track(range(options.seeds), description=data):
                seeds.append(rows(setting, teacher, seed))
                progress.console.log(data, seed, seeds[-1])
            kept[data] = {"teacher": taught, "parameters": sizes, "seeds": seeds}
            held = summary(seeds)
            shown = Table(
                title=f"{data}: teacher {sizes[0]:,} parameters, {taught:.2f} %; student {sizes[1]:,}", box=None
            )
            for heading in ("row", "accuracy %", "spread", "over alone", "spread"):
                shown.add_column(heading, justify="left" if heading == "row" else "right")
            for name, values in held.items():
                shown.add_row(name, *(f"{v:+.2f}" if i == 2 else f"{v:.2f}" for i, v in enumerate(values)))
            out.print(shown)
            count, seconds = len(setting.train[0]), time.perf_counter() - begun
            out.print(f"{count} training images, {setting.epochs} epochs, {options.seeds} seeds; {seconds:.0f} s")
            for line in verdicts(data, held, seeds):
                out.print(line, highlight=False)
            if options.json is not None:
                options.json.write_text(json.dumps(kept, indent=1))
    out.print(f"{time.perf_counter() - started:.0f} s in all, {time.process_time():.0f} s of processors")
    return 0


if __name__ == "__main__":
    sys.exit(main())
