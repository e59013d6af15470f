"""Integer biases of a file, against the simulation's to the last one."""

import keras
import numpy as np
from keras import layers as L

import kompakt as kp
from kompakt.attach import finalize
from kompakt.integer_layers import integer_bias
from kompakt.targets.tflite_file import TFLiteFile

RANDOM = np.random.default_rng(0)


def test_every_integer_bias_is_the_simulations(tmp_path):
    """In float32 some of these 600 are a step off; 50 such layers make four steps at the logits (ResNet50)."""
    keras.utils.set_random_seed(0)
    wide = L.Dense(600, activation="relu", name="wide")
    model = keras.Sequential([keras.Input((8,)), wide, L.Dense(3, name="d")])
    wide.bias.assign(RANDOM.normal(0.0, 8.0, 600))
    x = RANDOM.normal(size=(64, 8)).astype("float32")
    quantized = kp.quantize(model, calibration=x)
    plain, encodings = finalize(quantized)

    artifact = kp.export(quantized, tmp_path / "m.tflite", verify=x)

    held = TFLiteFile((tmp_path / "m.tflite").read_bytes()).named("wide/bias")
    bias = np.asarray(plain.get_layer("wide").bias)
    wanted = integer_bias(bias, encodings["wide/kernel"], encodings["input_grid/output"])
    assert artifact.breaches == ()
    assert np.abs(wanted).max() > 2e4
    assert held.values.tolist() == wanted.tolist()
