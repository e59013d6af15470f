"""The mean of each channel is what it was in float."""

import keras
import numpy as np
import pytest
from keras import layers as L

import kompakt as kp
from kompakt.attach import attach
from kompakt.repairs.bias import LINEAR
from kompakt.transforms.quantize import FakeQuant

KINDS = {
    L.Dense: (lambda **o: L.Dense(5, **o), (4,)),
    L.Conv1D: (lambda **o: L.Conv1D(5, 2, **o), (6, 4)),
    L.Conv2D: (lambda **o: L.Conv2D(6, 3, strides=2, groups=2, **o), (8, 8, 4)),
    L.Conv3D: (lambda **o: L.Conv3D(5, 2, **o), (4, 4, 4, 2)),
    L.Conv1DTranspose: (lambda **o: L.Conv1DTranspose(5, 2, strides=2, **o), (6, 4)),
    L.Conv2DTranspose: (lambda **o: L.Conv2DTranspose(5, 3, strides=2, **o), (4, 4, 3)),
    L.Conv3DTranspose: (lambda **o: L.Conv3DTranspose(5, 2, **o), (3, 3, 3, 2)),
    L.DepthwiseConv1D: (lambda **o: L.DepthwiseConv1D(3, depth_multiplier=2, **o), (6, 4)),
    L.DepthwiseConv2D: (lambda **o: L.DepthwiseConv2D(3, depth_multiplier=2, padding="same", **o), (6, 6, 3)),
}


def array(x):
    return keras.ops.convert_to_numpy(x)


def draw(shape, count=32):
    return np.random.default_rng(0).normal(0.5, 1.0, (count, *shape)).astype("float32")


def channel_means(y):
    return array(y).mean(axis=tuple(range(y.ndim - 1)))


def test_every_kind_is_tested_here():
    assert set(KINDS) == set(LINEAR)


@pytest.mark.parametrize("use_bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_the_means_of_a_layer(kind, use_bias):
    make, shape = KINDS[kind]
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input(shape), make(use_bias=use_bias, name="l")])
    x = draw(shape)
    quantized = attach(model, {"l/kernel": [FakeQuant(3)]})
    mended = kp.correct_bias(quantized, x)
    wanted = channel_means(model(x))
    assert np.abs(channel_means(quantized(x)) - wanted).max() > 1e-3
    np.testing.assert_allclose(channel_means(mended(x)), wanted, atol=2e-5)
    # The one that was given is as it was.
    assert quantized.layers[0].transformed_layer.use_bias == use_bias


def deep():
    keras.utils.set_random_seed(2)
    i = keras.Input((6, 6, 3))
    x = L.Conv2D(8, 3, activation="relu", name="a")(i)
    y = L.Conv2D(8, 1, name="b")(x)
    x = L.Flatten()(L.Add()([x, L.ReLU()(y)]))
    return keras.Model(i, L.Dense(4, activation="softmax", name="c")(x))


def bits(model, width, *names):
    return attach(model, {f"{name}/kernel": [FakeQuant(width)] for name in names})


def test_later_layers_see_the_corrections_of_earlier_ones():
    model, x = deep(), draw((6, 6, 3))
    mended = kp.correct_bias(bits(model, 3, "a", "b", "c"), x)
    for name in ("b", "c"):  # on what really reaches the layer, corrected layers before it
        sides = []
        for each in (model, mended):
            layer = each.get_layer(name)
            inner = getattr(layer, "transformed_layer", layer)
            kept, inner.activation = inner.activation, keras.activations.linear
            try:
                given = keras.Model(each.inputs, layer.input)(x)
                sides.append(channel_means(layer(given)))
            finally:
                inner.activation = kept
        np.testing.assert_allclose(sides[1], sides[0], atol=2e-5)


def test_only_layers_on_a_grid_are_touched():
    mended = kp.correct_bias(bits(deep(), 3, "b"), draw((6, 6, 3)))
    assert np.abs(mended.get_layer("b").transformed_layer.get_weights()[1]).max() > 1e-4
    assert np.all(mended.get_layer("a").get_weights()[1] == 0) and np.all(mended.get_layer("c").get_weights()[1] == 0)


def test_a_shared_layer_is_named(caplog):
    i, d = keras.Input((4,)), L.Dense(4, name="d")
    quantized = attach(keras.Model(i, d(d(i))), {"d/kernel": [FakeQuant(3)]})
    kp.correct_bias(quantized, draw((4,)))
    assert "d: bias correction left it as it is (it is called more than once)" in caplog.text


def test_a_layer_of_another_kind_is_named(caplog):
    model = keras.Sequential([keras.Input((3, 4)), L.EinsumDense("abc,cd->abd", (None, 5), name="e"), L.Dense(2)])
    kp.correct_bias(attach(model, {"e/kernel": [FakeQuant(3)]}), draw((3, 4)))
    assert "e: bias correction left it as it is (EinsumDense has no bias of one value" in caplog.text


@pytest.mark.parametrize("repair", [kp.adaround, kp.correct_bias])
def test_a_model_with_transforms_but_no_grids_on_weights_is_refused(repair):
    """kp.adaround of a pruned model once gave it back as it was."""
    model = keras.Sequential([keras.Input((4,)), L.Dense(4, name="d")], name="m")
    for each in (kp.prune(model, 0.5), attach(model, {"d/output": [FakeQuant(8, symmetric=False)]})):
        with pytest.raises(kp.InputError, match="the model 'm' has no grids on its weights; expected one from"):
            repair(each, draw((4,)))


def test_in_a_nested_model():
    inner = keras.Sequential([keras.Input((4,)), L.Dense(4, name="d")], name="inner")
    i = keras.Input((4,))
    model, x = keras.Model(i, L.Dense(2, name="e")(inner(i))), draw((4,))
    quantized = attach(model, {"inner/d/kernel": [FakeQuant(3)], "e/kernel": [FakeQuant(3)]})
    np.testing.assert_allclose(channel_means(kp.correct_bias(quantized, x)(x)), channel_means(model(x)), atol=2e-5)


def test_a_model_without_grids_is_refused():
    with pytest.raises(
        kp.InputError, match="correct_bias: the model 'm' has no grids on its weights; expected one from"
    ):
        kp.correct_bias(keras.Sequential([keras.Input((4,)), L.Dense(2)], name="m"), draw((4,)))


def test_a_reference_with_other_layers_is_refused():
    other = keras.Sequential([keras.Input((6, 6, 3)), L.Conv2D(8, 3, name="aa")])
    with pytest.raises(kp.InputError, match="the reference has no layer 'a'; nearest: 'aa'; expected the model before"):
        kp.correct_bias(bits(deep(), 3, "a"), draw((6, 6, 3)), reference=other)
