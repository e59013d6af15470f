"""Moving statistics measured anew are those of all the data, layer after layer."""

import keras
import numpy as np
import pytest
from keras import layers as L

import kompakt as kp
from kompakt.attach import attach
from kompakt.transforms.quantize import FakeQuant


def data(shape=(6, 6, 3), count=50):
    return np.random.default_rng(0).normal(2.0, 3.0, (count, *shape)).astype("float32")


def made():
    keras.utils.set_random_seed(0)
    return [
        L.Conv2D(5, 3, name="c"),
        L.BatchNormalization(name="n"),
        L.ReLU(),
        L.Dropout(0.5),
        L.Conv2D(4, 1, name="d"),
        L.BatchNormalization(name="o", scale=False),
    ]


def statistics(model, name):
    norm = model.get_layer(name)
    return [keras.ops.convert_to_numpy(w) for w in (norm.moving_mean, norm.moving_variance)]


def test_the_numbers():
    model, x = keras.Sequential([keras.Input((6, 6, 3)), *made()]), data()
    before = [w.copy() for w in model.get_weights()]
    new = kp.reestimate_batchnorm(model, x)
    assert isinstance(new, keras.Sequential)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    for name in ("n", "o"):
        given = keras.ops.convert_to_numpy(keras.Model(new.inputs, new.get_layer(name).input)(x))
        mean, variance = statistics(new, name)
        np.testing.assert_allclose(mean, given.mean(axis=(0, 1, 2)), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(variance, given.var(axis=(0, 1, 2)), rtol=1e-4)
    # The output of the last one has mean 0 and spread 1 then.
    assert np.abs(keras.ops.convert_to_numpy(new(x)).mean(axis=(0, 1, 2))).max() < 1e-4


def test_batches_make_no_difference():
    model, x = keras.Sequential([keras.Input((6, 6, 3)), *made()]), data()
    parts = [x[:7], x[7:40], x[40:]]
    for a, b in zip(
        kp.reestimate_batchnorm(model, x).get_weights(),
        kp.reestimate_batchnorm(model, parts).get_weights(),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@keras.saving.register_keras_serializable("test_batchnorm")
class Block(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense, self.norm = L.Dense(3), L.BatchNormalization()

    def call(self, x):
        return self.norm(self.dense(x))


def test_nested_and_subclassed_models():
    x = data((4,))
    model = Block()
    model(x)
    i = keras.Input((4,))
    inner = keras.Sequential([keras.Input((4,)), L.Dense(3), L.BatchNormalization(name="n")], name="inner")
    for each in (model, keras.Model(i, L.ReLU()(inner(i)))):
        new = kp.reestimate_batchnorm(each, x)
        assert type(new) is type(each)
    assert np.abs(keras.ops.convert_to_numpy(kp.reestimate_batchnorm(model, x)(x)).mean(axis=0)).max() < 1e-4
    mean = kp.reestimate_batchnorm(keras.Model(i, inner(i)), x).get_layer("inner").get_layer("n").moving_mean
    assert np.abs(keras.ops.convert_to_numpy(mean)).max() > 0.1


def test_channels_first_axis():
    model = keras.Sequential([keras.Input((3, 5)), L.BatchNormalization(axis=1, name="n")])
    x = data((3, 5))
    mean, _ = statistics(kp.reestimate_batchnorm(model, x), "n")
    np.testing.assert_allclose(mean, x.mean(axis=(0, 2)), rtol=1e-5)


def test_it_helps_weights_on_a_coarse_grid():
    model, x = keras.Sequential([keras.Input((6, 6, 3)), *made()]), data()
    model = kp.reestimate_batchnorm(model, x)  # as trained
    coarse = attach(model, {"c/kernel": [FakeQuant(2)], "d/kernel": [FakeQuant(2)]})
    wanted = keras.ops.convert_to_numpy(model(x))
    errors = [
        np.square(keras.ops.convert_to_numpy(each(x)) - wanted).mean()
        for each in (coarse, kp.reestimate_batchnorm(coarse, x))
    ]
    assert errors[1] < 0.9 * errors[0]


def test_with_a_reference_only_what_has_changed_moves():
    """The data are not what the model was trained on: its statistics are not theirs, and stay."""
    model, x = keras.Sequential([keras.Input((6, 6, 3)), *made()]), data()
    same = kp.reestimate_batchnorm(model, x, reference=model)
    for a, b in zip(model.get_weights(), same.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    coarse = attach(model, {"c/kernel": [FakeQuant(2)]})
    new = kp.reestimate_batchnorm(coarse, x, reference=model)
    convolutions = [keras.ops.convert_to_numpy(each.layers[0](x)).astype("float64") for each in (model, coarse)]
    means, variances = ([f(y, axis=(0, 1, 2)) for y in convolutions] for f in (np.mean, np.var))
    mean, variance = statistics(new, "n")
    np.testing.assert_allclose(mean, means[1] - means[0], rtol=1e-3, atol=1e-5)  # the model's own are 0 and 1
    np.testing.assert_allclose(variance, variances[1] / variances[0], rtol=1e-3)


def test_a_channel_that_does_not_vary_keeps_its_variance():
    model = keras.Sequential(
        [keras.Input((4,)), L.Dense(3, kernel_initializer="zeros"), L.BatchNormalization(name="n")]
    )
    _, variance = statistics(kp.reestimate_batchnorm(model, data((4,)), reference=model), "n")
    assert variance.tolist() == [1.0, 1.0, 1.0]


def test_the_repair_works_on_the_grid_of_the_weights():
    """It once re-estimated with float weights, which repairs nothing and moves the model to the calibration data."""
    model, x = keras.Sequential([keras.Input((6, 6, 3)), *made()]), data()
    wanted = keras.ops.convert_to_numpy(model(x))
    plain, mended = (
        kp.quantize(model, "int8", rules={"c": 2, "d": 3}, calibration=x, ranges="minmax", repairs=repairs)
        for repairs in ((), ("batchnorm",))
    )
    errors = [np.square(keras.ops.convert_to_numpy(each(x)) - wanted).mean() for each in (plain, mended)]
    assert errors[1] < 0.9 * errors[0]


@pytest.mark.parametrize("more", [("bias",), ("equalize", "bias")])
def test_later_repairs_agree_with_the_model_from_before(more):
    """Their reference once was the model with the new statistics, which bias correction then took back."""
    model, x = keras.Sequential([keras.Input((6, 6, 3)), *made()]), data()
    wanted = keras.ops.convert_to_numpy(model(x))
    given = {"rules": {"c": 2, "d": 3}, "calibration": x, "ranges": "minmax"}
    found = kp.quantize(model, "int8", repairs=("batchnorm", *more), **given)(x)
    apart = keras.ops.convert_to_numpy(found) - wanted
    assert np.abs(apart.mean(axis=(0, 1, 2))).max() < 0.03 * wanted.std()


@pytest.mark.parametrize("with_reference", [False, True])
def test_one_that_is_called_twice_is_left_and_named(with_reference, caplog):
    """The statistics of the last call once were those of both."""
    i, norm = keras.Input((4,)), L.BatchNormalization(name="n")
    x = L.BatchNormalization(name="last")(norm(L.Dense(4, name="d")(norm(i))))
    model = keras.Model(i, x)
    new = kp.reestimate_batchnorm(model, data((4,)), reference=model if with_reference else None)
    for old, found in zip(statistics(model, "n"), statistics(new, "n"), strict=True):
        np.testing.assert_array_equal(old, found)
    assert with_reference or np.abs(statistics(new, "last")[0]).max() > 0.1
    assert caplog.text.count("n: reestimate_batchnorm left it as it is (it is called more than once)") == 1


def test_a_model_without_any_is_refused():
    model = keras.Sequential([keras.Input((4,)), L.Dense(2, name="d")], name="m")
    with pytest.raises(kp.InputError, match=r"the model 'm' has no BatchNormalization \(none there\)"):
        kp.reestimate_batchnorm(model, data((4,)))
    attached = attach(model, {"d/kernel": [FakeQuant(4)]})
    with pytest.raises(kp.InputError, match=r"kompakt.quantize has folded them"):
        kp.reestimate_batchnorm(attached, data((4,)))
