"""An export that is killed leaves the old artifact or the new one, whatever it was doing."""

import os
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
MOMENTS = 10

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
    kp.export(model, folder / "served", target="savedmodel", verify=x)
    print("again", flush=True)
"""


def model_of(seed):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((6,)), L.Dense(64, activation="relu", name="a"), L.Dense(3, name="b")])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_kills(tmp_path):
    x = np.random.default_rng(0).random((64, 6), dtype="float32")
    old, new = model_of(0), model_of(1)
    new.save(tmp_path / "new.keras")
    wanted = {name: kp.export(m, tmp_path / f"{name}.tflite", quantization="int8", calibration=x)
              for name, m in (("old", old), ("newer", new))}  # fmt: skip
    kp.export(old, tmp_path / "served", target="savedmodel", verify=x)
    os.replace(tmp_path / "old.tflite", tmp_path / "m.tflite")
    served, outcomes = find_target("savedmodel"), set()
    for moment in np.random.default_rng(0).uniform(0.0, 10.0, MOMENTS):
        _killed(tmp_path, float(moment))
        digest = kp.verify_file(tmp_path / "m.tflite", old, x, least_argmax=0.0).sha256
        assert digest in {each.sha256 for each in wanted.values()}
        data = served.read(tmp_path / "served")
        assert served.altered(data) == []
        found = served.run(data, x).values[0]
        near = [np.abs(found - m.predict(x, verbose=0)).max() < 1e-5 for m in (old, new)]
        assert sum(near) == 1
        outcomes.add((digest, near.index(True)))
    assert outcomes


def _killed(folder: Path, moment: float) -> None:
    """Export in another process, and kill it ``moment`` seconds after it has begun to."""
    writer = subprocess.Popen([sys.executable, "-c", EXPORTER, str(folder)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "ready\n"
    time.sleep(moment)
    os.kill(writer.pid, signal.SIGKILL)
    writer.communicate()
