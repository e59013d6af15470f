"""An export that is killed leaves the old artifact or the new one, whatever it was doing."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

import kompakt as kp
from kompakt.targets import find_target

L = keras.layers
MOMENTS = (0.0, *np.random.default_rng(0).uniform(0.0, 5.0, 9))
"""Seconds: every second one counts from when all has been written once."""

FOLDERS = ["savedmodel"] + ["tflm"] * (importlib.util.find_spec("tflite_micro") is not None)

EXPORTER = """
import sys
import keras
import kompakt as kp
from pathlib import Path
import numpy as np
folder = Path(sys.argv[1])
model = keras.models.load_model(folder / "new.keras")
x = np.random.default_rng(0).random((64, 6), dtype="float32")
print("ready", flush=True)
while True:
    kp.export(model, folder / "m.tflite", quantization="int8", calibration=x)
    for target in sys.argv[2:]:
        kp.export(model, folder / target, target=target, verify=x)
    print("again", flush=True)
"""


def model_of(seed):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((6,)), L.Dense(64, activation="relu", name="a"), L.Dense(3, name="b")])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_kills(tmp_path):
    x = np.random.default_rng(0).random((64, 6), dtype="float32")
    models, wanted = [model_of(0), model_of(1)], []
    models[1].save(tmp_path / "new.keras")
    for age, model in zip(("old", "new"), models, strict=True):
        record = kp.export(model, tmp_path / age / "m.tflite", quantization="int8", calibration=x)
        for target in FOLDERS:
            kp.export(model, tmp_path / age / target, target=target, verify=x)
        wanted.append(record.sha256)
    seen = {name: set() for name in ("m.tflite", *FOLDERS)}
    for count, moment in enumerate(MOMENTS):
        place = Path(shutil.copytree(tmp_path / "old", tmp_path / "place"))
        shutil.copy(tmp_path / "new.keras", place)
        _killed(place, float(moment), written=count % 2 == 1)
        digest = kp.verify_file(place / "m.tflite", models[0], x, least_argmax=0.0).sha256
        seen["m.tflite"].add(wanted.index(digest))
        for target in FOLDERS:
            seen[target].add(_age(target, place / target, models, x))
        shutil.rmtree(place)
    assert all(ages == {0, 1} for ages in seen.values()), seen  # some came before anything was written, some after


def _age(target, folder, models, x):
    """0 for the old artifact, 1 for the new one; which is whole."""
    place = find_target(target)
    data = place.read(folder)
    assert place.altered(data) == []
    found = place.run(data, x).values[0]
    near = [np.abs(found - m.predict(x, verbose=0)).max() < 1e-5 for m in models]
    assert sum(near) == 1
    return near.index(True)


def _killed(folder: Path, moment: float, *, written: bool) -> None:
    """Export in another process, and kill it ``moment`` seconds after it begins to, or after all was ``written``."""
    command = [sys.executable, "-c", EXPORTER, str(folder), *FOLDERS]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "ready\n"
    if written:
        assert writer.stdout.readline() == "again\n"
    time.sleep(moment)
    os.kill(writer.pid, signal.SIGKILL)
    writer.communicate()
