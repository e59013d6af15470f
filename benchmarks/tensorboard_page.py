"""A picture of TensorBoard's page for the digits CNN, pruned and then trained on as an integer model.

    python benchmarks/tensorboard_page.py [docs/tensorboard.png] [--logs build/logs] [--view NAME] [--tags REGEX]

Trains, serves the logs on 127.0.0.1, opens the page in headless Chromium and writes the picture. Needs Node, and the
extra ``tensorboard``.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras

import kompakt as kp
from kompakt.demo import digits, digits_model, train
from kompakt.run_progress import silent
from kompakt.targets.web_browser import chromium
from kompakt.targets.web_packages import node, packages

VIEWS = ("timeseries", "custom_scalars", "histograms")
"""Pages of TensorBoard."""


def write_logs(folder: Path) -> None:
    """Train the digits model, prune it with a polynomial schedule, then train it on as an int8 model."""
    keras.utils.set_random_seed(0)
    data = digits(0)
    model = train(digits_model(), data, epochs=8, seed=0, report=silent)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    rise = kp.schedules.Polynomial(0.0, 0.8, begin=30, end=220, frequency=5)
    pruned = kp.prune(model, schedule=rise, sites="*kernel", scope="global", limits=(0.0, 0.95))
    stages = {
        "1_prune": (6, 1e-3, lambda model: model),
        "2_qat": (3, 3e-4, lambda model: kp.quantize(model, calibration=data.x_train[:256], ranges="lsq")),
    }
    for name, (epochs, rate, begin) in stages.items():
        pruned = begin(pruned)
        pruned.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
        watch = kp.callbacks.TensorBoard(folder / name, update_freq=5, data=data.x_train[:64])
        pruned.fit(
            data.x_train,
            data.y_train,
            epochs=epochs,
            verbose=2,
            validation_data=(data.x_test, data.y_test),
            callbacks=[kp.callbacks.Update(), kp.callbacks.Metrics(["sparsity"]), watch],
        )


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a TensorBoard of ``folder``, on this machine alone."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--host", "127.0.0.1"]
    process = subprocess.Popen([*command, "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}/"
        for _ in range(120):
            time.sleep(0.5)
            with contextlib.suppress(OSError):
                if b"sparsity" in urllib.request.urlopen(f"{url}data/plugin/scalars/tags", timeout=5).read():
                    break
        else:
            raise SystemExit(f"TensorBoard does not serve {folder} at {url}")
        yield url
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    """Train, serve, open, and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", nargs="?", default="docs/tensorboard.png")
    parser.add_argument("--logs", default="build/logs", help="folder, written where it is not there yet")
    parser.add_argument("--view", default="timeseries", choices=VIEWS)
    parser.add_argument("--tags", default="^sparsity(/|$)", help="regular expression of those to show in timeseries")
    given = parser.parse_args()
    logs = Path(given.logs)
    if not logs.is_dir():
        write_logs(logs)
    script = Path(__file__).with_suffix(".mjs")
    with served(logs) as url:
        page = f"{url}?darkMode=false&smoothing=0&tagFilter={urllib.parse.quote(given.tags)}#{given.view}"
        subprocess.run([node(), script, packages("browser"), chromium(), page, given.path], check=True, timeout=300)
    print(given.path)


if __name__ == "__main__":
    main()
