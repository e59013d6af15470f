"""Equal activations of one tensor become one."""

import keras
import numpy as np
import pytest
from keras import layers as L

import kompakt as kp
from kompakt.rewrite.merge_twins import merge_twins


def made(*kinds):
    i = keras.Input((4,))
    tensors = [layer(i) for layer in kinds]
    return keras.Model(i, tensors)


def names(model):
    return [layer.name for layer in model.layers if not isinstance(layer, L.InputLayer)]


@pytest.mark.parametrize(
    "kinds",
    [
        lambda: (L.ReLU(name="a"), L.ReLU(name="b"), L.Activation("relu", name="c")),
        lambda: (L.ReLU(max_value=6.0, name="a"), L.Activation("relu6", name="b")),
        lambda: (L.Activation("gelu", name="a"), L.Activation("gelu", name="b")),
        lambda: (L.ReLU(negative_slope=0.1, name="a"), L.ReLU(negative_slope=0.1, name="b")),
    ],
    ids=["relu", "relu6", "gelu", "slope"],
)
def test_twins_become_one(kinds, rewritten):
    (name,) = names(rewritten(made(*kinds()), merge_twins))
    assert name in "abc"


@pytest.mark.parametrize(
    "kinds",
    [
        lambda: (L.ReLU(name="a"), L.ReLU(max_value=6.0, name="b")),
        lambda: (L.ReLU(negative_slope=0.1, name="a"), L.ReLU(negative_slope=0.2, name="b")),
        lambda: (L.Activation("tanh", name="a"), L.Activation("gelu", name="b")),
        lambda: (L.Dropout(0.5, name="a"), L.Dropout(0.5, name="b")),
        lambda: (L.Activation("linear", name="a"), L.Activation("linear", name="b")),
        lambda: (L.Dense(4, name="a"), L.Dense(4, name="b")),
    ],
    ids=["limits", "slopes", "functions", "dropout", "linear", "weights"],
)
def test_others_stay(kinds, rewritten):
    assert names(rewritten(made(*kinds()), merge_twins)) == ["a", "b"]


def test_on_two_tensors_they_stay(rewritten):
    i = keras.Input((4,))
    model = keras.Model(i, [L.ReLU(name="a")(i), L.ReLU(name="b")(L.Dense(4, name="d")(i))])
    assert sorted(names(rewritten(model, merge_twins))) == ["a", "b", "d"]


@pytest.mark.slow
def test_two_relus_after_a_convolution_are_the_files_one(tmp_path):
    """The converter merges them and fuses the one: the convolution has no output of its own in the file."""
    keras.utils.set_random_seed(0)
    i = keras.Input((8, 8, 3))
    x = L.Conv2D(6, 3, padding="same", name="c")(i)
    y = L.Add()([L.Conv2D(4, 3, padding="same")(L.ReLU()(x)), L.Conv2D(4, 1)(L.Activation("relu")(x))])
    images = np.random.default_rng(0).normal(size=(64, 8, 8, 3)).astype("float32")

    quantized = kp.quantize(keras.Model(i, L.Dense(5)(L.Flatten()(y))), calibration=images)
    artifact = kp.export(quantized, tmp_path / "m.tflite", verify=images)

    assert artifact.breaches == ()
    assert artifact.agreement.max_lsb < 0.01
