"""Activations that the runtime does not fuse get a layer of their own."""

import keras
import pytest
from keras import layers as L

from kompakt.rewrite.split_activation import FUSED, fused, split_activation


def names(model):
    return [layer.name for layer in model.layers[1:]]


def activation(layer):
    return keras.activations.serialize(layer.activation)


@pytest.mark.parametrize("name", ["softmax", "sigmoid", "tanh", "silu", "gelu", "elu", "leaky_relu", "hard_sigmoid"])
def test_split(name, rewritten):
    model = keras.Sequential([keras.Input((4,)), L.Dense(3, activation=name, name="d"), L.Dense(2, name="e")])
    new = rewritten(model, split_activation)
    assert names(new) == ["d", f"d_{name}", "e"]
    assert activation(new.get_layer("d")) == "linear" and activation(new.get_layer(f"d_{name}")) == name


@pytest.mark.parametrize("name", FUSED)
def test_what_the_runtime_fuses_stays(name, rewritten):
    model = keras.Sequential([keras.Input((4, 4, 2)), L.Conv2D(3, 2, activation=name, name="c")])
    new = rewritten(model, split_activation)
    assert names(new) == ["c"] and activation(new.get_layer("c")) == name


def test_layers_with_activations_inside_stay(rewritten):
    model = keras.Sequential(
        [keras.Input((5, 4)), L.LSTM(3, activation="tanh", name="l"), L.Activation("tanh", name="t"), L.ReLU(name="r")]
    )
    assert names(rewritten(model, split_activation)) == ["l", "t", "r"]


def test_a_shared_layer_shares_its_activation(rewritten):
    i, shared = keras.Input((4,)), L.Dense(4, activation="tanh", name="d")
    new = rewritten(keras.Model(i, shared(shared(i))), split_activation)
    assert names(new) == ["d", "d_tanh"]
    assert len(new.get_layer("d_tanh")._inbound_nodes) == 2


def test_an_activation_that_is_a_function_of_the_user(rewritten):
    @keras.saving.register_keras_serializable(package="kompakt_tests")
    def double(x):
        return 2.0 * x

    model = keras.Sequential([keras.Input((4,)), L.Dense(3, activation=double, name="d")])
    assert names(rewritten(model, split_activation)) == ["d", "d_double"]


def test_a_name_that_is_taken(rewritten):
    i = keras.Input((4,))
    x = L.Dense(3, activation="tanh", name="d")(i)
    model = keras.Model(i, L.Dense(3, name="d_tanh")(x))
    assert names(rewritten(model, split_activation)) == ["d", "d_tanh_1", "d_tanh"]


@pytest.mark.parametrize(
    ("layer", "is_fused"),
    [
        (L.ReLU(), True),
        (L.ReLU(max_value=6.0), True),
        (L.ReLU(max_value=1.0), False),
        (L.ReLU(negative_slope=0.1), False),
        (L.ReLU(threshold=0.5), False),
        (L.Activation("relu"), True),
        (L.Activation("relu6"), True),
        (L.Activation("linear"), False),
        (L.Activation("tanh"), False),
        (L.LeakyReLU(), False),
        (L.Dense(3, activation="relu"), False),
    ],
)
def test_fused(layer, is_fused):
    assert fused(layer) == is_fused
