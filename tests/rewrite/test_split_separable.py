"""A separable convolution becomes the two that it is."""

import keras
import numpy as np
import pytest
from keras import layers as L

from kompakt.rewrite.split_separable import split_separable

KINDS = {
    "1D": (lambda **o: L.SeparableConv1D(5, 3, name="s", **o), (8, 4)),
    "2D": (lambda **o: L.SeparableConv2D(5, 3, name="s", **o), (8, 8, 4)),
}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_bias": False},
        {"strides": 2, "padding": "same"},
        {"dilation_rate": 2},
        {"depth_multiplier": 3, "activation": "relu"},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_function(kind, options, rewritten):
    make, shape = KINDS[kind]
    i = keras.Input(shape)
    model = keras.Model(i, L.ReLU()(make(**options)(i)))
    new, moved = rewritten(model, split_separable)
    assert [type(layer).__name__ for layer in new.layers[1:]] == [f"DepthwiseConv{kind}", f"Conv{kind}", "ReLU"]
    assert moved == {"s/depthwise_kernel": "s_depthwise/kernel", "s/pointwise_kernel": "s/kernel"}
    assert not new.get_layer("s_depthwise").use_bias
    assert new.get_layer("s").use_bias == options.get("use_bias", True)


def test_a_shared_one_shares_both_parts(rewritten):
    i, s = keras.Input((8, 8, 4)), L.SeparableConv2D(4, 3, padding="same", name="s")
    new, _ = rewritten(keras.Model(i, s(s(i))), split_separable)
    assert [layer.name for layer in new.layers[1:]] == ["s_depthwise", "s"]
    assert len(new.get_layer("s")._inbound_nodes) == 2


def test_a_name_that_is_taken(rewritten):
    i = keras.Input((8, 8, 4))
    x = L.SeparableConv2D(4, 3, name="s")(L.ReLU(name="s_depthwise")(i))
    new, moved = rewritten(keras.Model(i, x), split_separable)
    assert moved["s/depthwise_kernel"] == "s_depthwise_1/kernel"
    assert [layer.name for layer in new.layers[1:]] == ["s_depthwise", "s_depthwise_1", "s"]


def test_the_kernels_are_where_it_says(rewritten):
    i = keras.Input((8, 4))
    model = keras.Model(i, L.SeparableConv1D(5, 3, name="s", trainable=False)(i))
    new, _ = rewritten(model, split_separable)
    layer = model.get_layer("s")
    assert np.array_equal(new.get_layer("s_depthwise").kernel, layer.depthwise_kernel)
    assert np.array_equal(new.get_layer("s").kernel, layer.pointwise_kernel)
    assert not new.get_layer("s").trainable and not new.get_layer("s_depthwise").trainable


def test_other_layers_are_left(rewritten):
    model = keras.Sequential([keras.Input((8, 4)), L.Conv1D(5, 3, name="c"), L.DepthwiseConv1D(2, name="d")])
    new, moved = rewritten(model, split_separable)
    assert moved == {} and [layer.name for layer in new.layers[1:]] == ["c", "d"]
