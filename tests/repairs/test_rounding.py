"""Learned rounding: on the grid, never worse than nearest on its data, far better where that is bad."""

import keras
import numpy as np
import pytest
from keras import layers as L

import kompakt as kp
from kompakt.attach import attach, transforms_of
from kompakt.copies import copy_layer
from kompakt.graph import map_layers
from kompakt.repairs.soft import best_scale, own_scale, rectified_sigmoid, round_to_grid
from kompakt.transforms.prune import Prune
from kompakt.transforms.quantize import FakeQuant


def array(x):
    return np.asarray(keras.ops.convert_to_numpy(x))


def draw(shape, count=96):
    """Channels and pixels that depend on each other, as in a network: there rounding to nearest is not best."""
    random = np.random.default_rng(0)
    mixed = random.normal(size=(count, *[1] * (len(shape) - 1), 2)) @ random.normal(size=(2, shape[-1])) + 0.5
    return (mixed + 0.2 * random.normal(size=(count, *shape))).astype("float32")


def one(layer, shape):
    keras.utils.set_random_seed(3)
    return keras.Sequential([keras.Input(shape), layer])


def gap(model, other, x):
    return np.square(array(model(x)) - array(other(x))).mean()


def without_activation(model):
    copy = map_layers(model, copy_layer)
    getattr(copy.layers[0], "transformed_layer", copy.layers[0]).activation = keras.activations.linear
    return copy


KINDS = {
    "dense": (lambda: L.Dense(6, name="l"), (64,)),
    "conv": (lambda: L.Conv2D(6, 3, activation="relu", name="l"), (5, 5, 8)),
    "strided conv1d": (lambda: L.Conv1D(6, 3, strides=2, name="l"), (9, 16)),
    "transposed": (lambda: L.Conv2DTranspose(4, 3, strides=2, name="l"), (4, 4, 24)),
    "depthwise": (lambda: L.DepthwiseConv2D(7, depth_multiplier=2, name="l"), (9, 9, 4)),
    "einsum": (lambda: L.EinsumDense("abc,cde->abde", (None, 3, 4), name="l"), (3, 48)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_never_more_error_than_nearest_and_on_the_grid_of_the_encoding(kind):
    make, shape = KINDS[kind]
    model, x = one(make(), shape), draw(shape)
    quantized = attach(model, {"l/kernel": [FakeQuant(4)]})
    mended = kp.adaround(quantized, x, iterations=60, learning_rate=0.1)
    nearest, learned = (gap(without_activation(each), without_activation(model), x) for each in (quantized, mended))
    assert learned <= nearest * 1.0001
    plain, encodings = kp.finalize(mended)
    grid = encodings["l/kernel"]
    kernel = array(plain.get_layer("l").kernel).astype("float64")
    kept = [n if a - kernel.ndim in grid.axis else 1 for a, n in enumerate(kernel.shape)]
    steps = kernel / np.reshape(np.array(grid.scale), kept)
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-4)
    assert np.abs(steps).max() < 7.001 and gap(plain, mended, x) < 1e-12
    # FakeQuant gives back what it is given: its grid did not move when the largest weights did.
    layer = mended.layers[0]
    np.testing.assert_array_equal(
        array(layer.chains["kernel"](layer.variable("kernel"))), array(layer.variable("kernel"))
    )


def test_far_less_error_where_inputs_depend_on_each_other():
    model, x = one(L.Dense(6, name="l"), (128,)), draw((128,))
    model.set_weights([np.random.default_rng(1).normal(size=(128, 6)), np.zeros(6)])
    quantized = attach(model, {"l/kernel": [FakeQuant(4)]})
    mended = kp.adaround(quantized, x, iterations=150)
    assert gap(mended, model, x) < 0.3 * gap(quantized, model, x)


def test_each_channel_is_never_worse_after_one_step():
    """One step of a large rate spoils the roundings: what is spoilt is not taken."""
    model, x = one(L.Dense(16, name="l"), (12,)), draw((12,))
    quantized = attach(model, {"l/kernel": [FakeQuant(4)]})
    mended = kp.adaround(quantized, x, iterations=1, learning_rate=30.0)
    errors = [np.square(array(each(x)) - array(model(x))).mean(axis=0) for each in (quantized, mended)]
    assert np.all(errors[1] <= errors[0] * 1.0001)
    assert np.any(np.isclose(errors[1], errors[0]))


def test_the_same_seed_gives_the_same_weights():
    model, x = one(L.Dense(6, name="l"), (12,)), draw((12,))
    quantized = attach(model, {"l/kernel": [FakeQuant(3)]})
    keras.utils.set_random_seed(1)
    first = kp.adaround(quantized, x, iterations=30, seed=5).get_weights()
    keras.utils.set_random_seed(2)
    again = kp.adaround(quantized, x, iterations=30, seed=5).get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


def test_later_layers_make_good_what_earlier_ones_lose():
    keras.utils.set_random_seed(0)
    i = keras.Input((6, 6, 4))
    x = L.Conv2D(12, 3, name="a")(i)
    x = L.Conv2D(12, 1, name="b")(L.ReLU(name="r")(x))
    model = keras.Model(i, L.Dense(5, name="c")(L.Flatten()(L.Add()([x, L.ReLU()(x)]))))
    data = draw((6, 6, 4))
    quantized = attach(model, {f"{name}/kernel": [FakeQuant(3)] for name in "abc"})
    before = quantized.get_weights()
    mended = kp.adaround(quantized, data, iterations=150, learning_rate=0.03)
    assert gap(mended, model, data) < 0.5 * gap(quantized, model, data)
    assert all(np.array_equal(a, b) for a, b in zip(before, quantized.get_weights(), strict=True))
    assert all(t.frozen for _, t in transforms_of(mended))


def test_saved_and_loaded(tmp_path):
    model, x = one(L.Dense(6, name="l"), (12,)), draw((12,))
    mended = kp.adaround(attach(model, {"l/kernel": [FakeQuant(4)]}), x, iterations=10)
    mended.save(tmp_path / "m.keras")
    again = kp.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(array(again(x)), array(mended(x)))


def test_zeros_of_pruning_stay():
    model, x = one(L.Dense(6, name="l"), (12,)), draw((12,))
    mended = kp.adaround(attach(model, {"l/kernel": [Prune(0.5), FakeQuant(3)]}), x, iterations=50)
    assert (array(mended.layers[0].variable("kernel")) == 0).sum() >= 36


def shared():
    i, d = keras.Input((4,)), L.Dense(4, name="l")
    return keras.Model(i, d(d(i))), {"l/kernel": [FakeQuant(4)]}, "it is called more than once"


def recurrent():
    model = keras.Sequential([keras.Input((5, 4)), L.LSTM(3, name="l")])
    plan = {"l/cell/kernel": [FakeQuant(4)], "l/cell/recurrent_kernel": [FakeQuant(4)]}
    return model, plan, "it has several weights on a grid"


def masked_later():
    return one(L.Dense(4, name="l"), (4,)), {"l/kernel": [FakeQuant(4), Prune(0.5)]}, "another transform comes after"


def frozen():
    return one(L.Dense(4, name="l"), (4,)), {"l/kernel": [FakeQuant(4, frozen=True)]}, "its grid is frozen"


@pytest.mark.parametrize("make", [shared, recurrent, masked_later, frozen])
def test_what_is_left_is_named(make, caplog):
    model, plan, reason = make()
    quantized = attach(model, plan)
    x = draw(tuple(model.inputs[0].shape[1:]))
    mended = kp.adaround(quantized, x, iterations=2)
    assert f"l: adaround left its weights rounded to nearest ({reason}" in caplog.text
    assert all(np.array_equal(a, b) for a, b in zip(quantized.get_weights(), mended.get_weights(), strict=True))


def test_what_cannot_be_done():
    model = one(L.Dense(4, name="l"), (4,))
    with pytest.raises(kp.InputError, match=r"adaround: the model .* has no grids on its weights"):
        kp.adaround(model, draw((4,)))
    quantized = attach(model, {"l/kernel": [FakeQuant(4)]})
    with pytest.raises(kp.InputError, match=r"adaround\(iterations=0\): expected a whole number of 1 or more"):
        kp.adaround(quantized, draw((4,)), iterations=0)
    with pytest.raises(kp.InputError, match=r"adaround\(learning_rate=0.0\): expected more than 0"):
        kp.adaround(quantized, draw((4,)), learning_rate=0.0)


def test_numbers():
    np.testing.assert_allclose(array(rectified_sigmoid(np.array([np.log(3.0)], "float32"))), [0.8], rtol=1e-6)
    weight = np.array([[0.4, 2.0], [-0.7, 0.49]], "float32")
    scale = own_scale(weight, 3, (-1,))
    np.testing.assert_allclose(scale, [[0.7 / 3, 2.0 / 3]], rtol=1e-6)
    np.testing.assert_allclose(round_to_grid(weight, scale, 3), [[1.4 / 3, 2.0], [-0.7, 2.0 / 3]], rtol=1e-6)


def test_the_best_scale_has_the_least_squared_error():
    weight = np.random.default_rng(0).standard_t(4, (200, 3)).astype("float32")
    best, own = best_scale(weight, 4, (-1,)), own_scale(weight, 4, (-1,))
    assert np.all(best < own)
    errors = [np.square(round_to_grid(weight, scale, 4) - weight).sum(axis=0) for scale in (best, own)]
    assert np.all(errors[0] < errors[1])
    one_value = np.full((4, 1), 0.3, "float32")
    np.testing.assert_allclose(round_to_grid(one_value, best_scale(one_value, 4, (-1,)), 4), one_value, rtol=1e-6)
