"""A factor and an offset a channel become a 1x1 depthwise convolution."""

import keras
import numpy as np
import pytest
from keras import layers as L

from kompakt.rewrite.affine_to_depthwise import affine_to_depthwise


def made(layer, shape, **options):
    i = keras.Input(shape, **options)
    return keras.Model(i, layer(i))


def parts(model):
    return [(type(layer).__name__, layer.name) for layer in model.layers if not isinstance(layer, L.InputLayer)]


AROUND = [("Reshape", "a_in"), ("DepthwiseConv2D", "a"), ("Reshape", "a_out")]


@pytest.mark.parametrize("shape", [(4,), (6, 4), (5, 6, 4)], ids=["rank 2", "rank 3", "rank 4"])
@pytest.mark.parametrize(
    "layer",
    [
        lambda: L.BatchNormalization(name="a"),
        lambda: L.BatchNormalization(scale=False, center=False, name="a"),
        lambda: L.Rescaling(1 / 255, name="a"),
        lambda: L.Rescaling(2.0, offset=-1.0, name="a"),
        lambda: L.Rescaling([1.0, 2.0, 3.0, 4.0], offset=[0.1, 0.2, 0.3, 0.4], name="a"),
    ],
    ids=["norm", "bare norm", "scale", "scale and offset", "a channel"],
)
def test_the_same_function(layer, shape, rewritten):
    new = rewritten(made(layer(), shape), affine_to_depthwise)
    assert parts(new) == (AROUND if len(shape) < 3 else AROUND[1:2])
    assert new.get_layer("a").trainable == isinstance(layer(), L.BatchNormalization)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (lambda: L.BatchNormalization(axis=1, name="a"), (5, 6, 4)),
        (lambda: L.BatchNormalization(name="a"), (None, 6, 4)),
        (lambda: L.BatchNormalization(name="a"), (3, 5, 6, 4)),
        (lambda: L.LayerNormalization(name="a"), (4,)),
        (lambda: L.ReLU(name="a"), (4,)),
    ],
    ids=["other axis", "unknown size", "rank 5", "layer norm", "relu"],
)
def test_what_is_left_as_it_is(layer, shape, rewritten):
    assert parts(rewritten(made(layer(), shape), affine_to_depthwise)) == [(type(layer()).__name__, "a")]


def test_a_norm_that_does_not_train_stays_so(rewritten):
    new = rewritten(made(L.BatchNormalization(trainable=False, name="a"), (5, 6, 4)), affine_to_depthwise)
    assert not new.get_layer("a").trainable


def test_a_shared_norm_stays_shared(rewritten):
    i, norm = keras.Input((6, 6, 4)), L.BatchNormalization(name="a")
    new = rewritten(keras.Model(i, norm(L.Conv2D(4, 3)(norm(i)))), affine_to_depthwise)
    assert len(new.get_layer("a")._inbound_nodes) == 2


def test_names_that_are_taken(rewritten):
    i = keras.Input((4,))
    model = keras.Model(i, L.Rescaling(2.0, name="a")(L.ReLU(name="a_in")(i)))
    assert [name for _, name in parts(rewritten(model, affine_to_depthwise))] == ["a_in", "a_in_1", "a", "a_out"]


@pytest.mark.parametrize("dtype", ["uint8", "int32"])
def test_whole_numbers(dtype):
    """Images as they are stored: a Rescaling takes them, a convolution does not."""
    model = made(L.Rescaling(1 / 255, name="a"), (5, 6, 3), dtype=dtype)
    x = np.random.default_rng(0).integers(0, 256, (2, 5, 6, 3)).astype(dtype)
    new = affine_to_depthwise(model)
    np.testing.assert_allclose(new.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-6)
