"""The policy for XNNPACK's sparse kernels: what it takes, and what it refuses and why."""

import keras
import pytest
from keras import layers

import kompakt as kp
from kompakt.attach import finalize


def mobile(*, size=33, stem=None, middle=None, pool=True):
    inputs = keras.Input((size, size, 3))
    x = stem(inputs) if stem else layers.Conv2D(8, 3, strides=2, padding="same", activation="relu", name="stem")(inputs)
    x = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    y = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(8, 1, name="point")(x)))
    y = middle(y) if middle else y
    y = layers.Add()([x, layers.Conv2D(8, 1, name="again")(y)])
    y = layers.GlobalAveragePooling2D()(y) if pool else layers.Flatten()(y)
    return keras.Model(inputs, layers.Dense(3, name="head")(y))


def padded_stem(inputs):
    return layers.Conv2D(8, 3, strides=2, name="stem")(layers.ZeroPadding2D(1)(inputs))


@pytest.mark.parametrize("given", [{}, {"size": 32, "stem": padded_stem}, {"middle": layers.Activation("hard_silu")}])
def test_the_1x1_convolutions_of_a_fitting_model_are_pruned(given):
    _, encodings = finalize(kp.prune(mobile(**given), 0.75, policy="xnnpack"))
    assert sorted(encodings) == ["again/kernel", "point/kernel"]


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"size": 32}, "it has no 3x3 convolution of stride 2 on 3 channels, padded by 1 on every side"),
        ({"middle": layers.Softmax(name="soft")}, r"no sparse kernel for the layer 'soft' \(Softmax\)"),
        ({"middle": layers.Conv2D(8, 3, padding="same", name="wide")}, "no sparse kernel for the layer 'wide'"),
        ({"middle": layers.ReLU(4.0, name="relu4")}, "no sparse kernel for the layer 'relu4'"),
        ({"pool": False}, r"no sparse kernel for the layer 'flatten.*' \(Flatten\)"),
    ],
)
def test_a_model_that_cannot_be_helped_is_refused_with_the_reason(given, text):
    with pytest.raises(kp.InputError, match=f"policy 'xnnpack' cannot help this model: {text}"):
        kp.prune(mobile(**given), 0.75, policy="xnnpack")


def test_the_policy_chooses_the_sites_itself():
    with pytest.raises(kp.InputError, match="policy= chooses the sites itself: leave sites= out"):
        kp.prune(mobile(), 0.75, policy="xnnpack", sites="point/*")
