"""What watching a training costs: milliseconds of processor a look, and an epoch of 100 steps over one unwatched.

Epochs alternate, watched and not, in one process. Processor time is told, which other programs disturb less.

    python benchmarks/watching.py [--backend tensorflow|jax|torch] [--rounds 7]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
from overhead_models import BATCH, MODELS
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    import keras

STEPS = 100
"""Of an epoch."""


def prepared(name: str) -> tuple[keras.Model, Any, Any]:
    """(a model that is pruned, clustered and quantized, samples, labels)."""
    import keras

    import kompakt as kp

    keras.utils.set_random_seed(0)
    plain = MODELS[name](keras)
    random = np.random.default_rng(0)
    x = random.normal(size=(BATCH * STEPS, *plain.input_shape[1:])).astype("float32")
    y = random.integers(0, plain.output_shape[-1], len(x))
    model = kp.quantize(kp.cluster(kp.prune(plain, 0.5), 16), calibration=x[:64])
    loss = keras.losses.SparseCategoricalCrossentropy()
    model.compile(keras.optimizers.Adam(1e-5), loss)
    return model, x, y


def measured(name: str, rounds: int, samples: int, update_freq: str | int) -> tuple[float, float, float]:
    """(milliseconds a look, ratio of the epochs, kilobytes a look)."""
    import kompakt as kp

    looks: list[float] = []

    class Timed(kp.callbacks.TensorBoard):
        def look(self, logs: Any = None) -> None:
            begun = time.process_time()
            super().look(logs)
            looks.append(time.process_time() - begun)

    model, x, y = prepared(name)
    seconds: dict[bool, list[float]] = {True: [], False: []}
    with tempfile.TemporaryDirectory() as folder:
        watch = Timed(folder, update_freq, data=x[:samples] if samples else None)
        for watched in (False, True) * (rounds + 1):
            begun = time.process_time()
            model.fit(x, y, batch_size=BATCH, verbose=0, callbacks=[watch] if watched else [])
            seconds[watched].append(time.process_time() - begun)
        size = watch.file.path.stat().st_size / len(looks) / 1e3
    # The first of each compiles; what a training writes as it begins is no part of its epochs.
    a_round = len(looks) // (rounds + 1)
    begins = sum(looks[a_round::a_round]) / rounds
    ratio = median((on - begins) / off for on, off in zip(seconds[True][1:], seconds[False][1:], strict=True))
    return 1e3 * median(looks[a_round:]), ratio, size


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="tensorflow", choices=("tensorflow", "jax", "torch"))
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    os.environ["KERAS_BACKEND"] = given.backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    table = Table("model (PCQAT)", "samples", "looks", "ms a look", "epoch", "kB a look", title=given.backend)
    for name in MODELS:
        for samples, update_freq in ((0, "epoch"), (64, "epoch"), (0, 10)):
            look, ratio, size = measured(name, given.rounds, samples, update_freq)
            often = f"every {update_freq} steps" if update_freq != "epoch" else "an epoch"
            table.add_row(name, str(samples), often, f"{look:.1f}", f"{ratio:.3f}", f"{size:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
