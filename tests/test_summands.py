"""What is added is on a grid that XNNPACK takes."""

import keras
import numpy as np
import pytest
from keras import layers as L

import kompakt as kp
from kompakt.targets.tflite_file import TFLiteFile

X = np.random.default_rng(0).normal(size=(64, 6, 6, 3)).astype("float32")


def dead_branch():
    """A residual block as it is initialized: its last normalization has a gamma of zeros."""
    i = keras.Input(X.shape[1:])
    x = L.Conv2D(4, 3, padding="same", name="stem")(i)
    y = L.Conv2D(4, 3, padding="same", name="branch")(x)
    y = L.BatchNormalization(gamma_initializer="zeros", name="norm")(y)
    return keras.Model(i, L.Dense(3)(L.GlobalAveragePooling2D()(L.Add(name="sum")([x, y]))))


def moved_branch():
    i = keras.Input(X.shape[1:])
    x = L.Conv2D(4, 3, padding="same", name="stem")(i)
    y = L.Reshape((6, 6, 4))(L.Conv2D(4, 3, padding="same", kernel_initializer="zeros", name="branch")(x))
    return keras.Model(i, L.Dense(3)(L.GlobalAveragePooling2D()(L.Subtract(name="sum")([x, y]))))


def constant():
    i = keras.Input(X.shape[1:])
    x = keras.ops.add(L.Conv2D(4, 3, activation="relu")(i), np.full((4, 4, 4), 1e-7, "float32"))
    return keras.Model(i, L.Dense(3)(L.GlobalAveragePooling2D()(x)))


@pytest.mark.parametrize("make", [dead_branch, moved_branch, constant])
@pytest.mark.parametrize("mode", ["int8", "w4a8"])
def test_a_summand_that_is_next_to_nothing(make, mode, tmp_path):
    """LiteRT could not prepare the file: "failed to create XNNPACK runtime"."""
    keras.utils.set_random_seed(0)
    artifact = kp.export(make(), tmp_path / "m.tflite", quantization=mode, calibration=X)
    assert artifact.breaches == () and artifact.agreement.max_lsb <= 1.01
    file = TFLiteFile((tmp_path / "m.tflite").read_bytes())
    sums = [op for op in file.ops if op.name in ("ADD", "SUB")]
    steps = [file.tensors[i].scale[0] / file.tensors[op.outputs[0]].scale[0] for op in sums for i in op.inputs]
    assert min(steps) >= 2.0**-10


def test_a_grid_that_others_share_stays(tmp_path):
    keras.utils.set_random_seed(0)
    i = keras.Input(X.shape[1:])
    x = L.Conv2D(4, 3, padding="same", name="stem")(i)
    y = L.Conv2D(4, 3, padding="same", kernel_initializer="zeros", name="branch")(x)
    both = L.Concatenate()([L.Add(name="sum")([x, x]), y])
    artifact = kp.export(
        keras.Model(i, L.Dense(3)(L.GlobalAveragePooling2D()(both))),
        tmp_path / "m.tflite",
        quantization="int8",
        calibration=X,
    )
    assert artifact.breaches == () and artifact.agreement.max_lsb == 0.0
