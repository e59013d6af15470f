"""Models that were made by tfmot's names are read by a program that never imports them."""

import subprocess
import sys

import keras
import pytest

import kompakt.tfmot as tfmot

LOAD = """
import sys
import kompakt as kp
model = kp.load_model(sys.argv[1])
print(sorted(slot for layer in model.layers for slot in getattr(layer, "chains", {})))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [
        lambda layer: tfmot.sparsity.keras.prune_low_magnitude(layer),
        lambda layer: tfmot.clustering.keras.cluster_weights(layer, 4),
    ],
)
@pytest.mark.parametrize("command", [["-c", LOAD], ["-m", "kompakt", "export"]])
def test_known_without_their_import(make, command, tmp_path):
    keras.Sequential([keras.Input((4,)), make(keras.layers.Dense(8, name="d"))]).save(tmp_path / "m.keras")
    words = [tmp_path / "m.keras"] if command[0] == "-c" else [tmp_path / "m.keras", tmp_path / "m.tflite"]
    ran = subprocess.run([sys.executable, *command, *map(str, words)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "['kernel']" in ran.stdout if command[0] == "-c" else (tmp_path / "m.tflite").exists()
