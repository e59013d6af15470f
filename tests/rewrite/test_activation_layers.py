"""Layers given as activations stand behind the layers that had them."""

import keras
import numpy as np
import pytest
from keras import layers as L

import kompakt as kp
from kompakt.rewrite.activation_layers import activation_layers


def built(activation):
    layer = L.Dense(4, activation=activation, name="d")
    return keras.Sequential([keras.Input((3,)), layer, L.Dense(2, name="e")])


@pytest.mark.parametrize("kind", [L.LeakyReLU, L.Softmax, L.PReLU, lambda: L.ReLU(6.0)])
def test_it_stands_behind(kind, rewritten):
    model = built(kind())
    new = rewritten(model, activation_layers)
    assert [layer.name for layer in new.layers[1:]] == ["d", "d_activation", "e"]
    assert type(new.layers[2]) is type(kind())
    assert keras.activations.serialize(new.layers[1].activation) == "linear"


def test_what_has_none_stays(rewritten):
    i = keras.Input((5, 3))
    model = keras.Model(i, L.LSTM(2, activation=L.LeakyReLU(0.1), name="l")(L.Dense(3, activation="relu", name="d")(i)))
    assert [layer.name for layer in rewritten(model, activation_layers).layers[1:]] == ["d", "l"]


def test_a_shared_layer_shares_it(rewritten):
    i, shared = keras.Input((4,)), L.Dense(4, activation=L.LeakyReLU(0.2), name="d")
    assert len(rewritten(keras.Model(i, shared(shared(i))), activation_layers).layers) == 3


def test_it_becomes_integers(tmp_path):
    """It once failed with ``zip() argument 2 is shorter than argument 1``."""
    x = np.random.default_rng(0).normal(size=(64, 3)).astype("float32")
    made = kp.export(built(L.LeakyReLU(0.2)), tmp_path / "m.tflite", quantization="int8", calibration=x)
    assert made.breaches == ()
