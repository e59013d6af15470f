"""Folded kernels are trained in the units they had before folding: the same bits, and steps that fit."""

import keras
import numpy as np
import pytest
from keras import layers as L

import kompakt as kp
from kompakt.gauges import folding_factors, settled, with_gauges
from kompakt.testing import check_gradient_law, check_layer_law, check_round_trip, check_undo
from kompakt.transforms.gauge import Gauge


def pixels(count=64):
    return np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3)).astype("float32")


def trained_on_pixels():
    """A convolution of usual size, and a BatchNormalization that takes 0..255 to about 1."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            L.Conv2D(8, 3, name="c"),
            L.BatchNormalization(name="n"),
            L.ReLU(),
            L.Flatten(),
            L.Dense(4, name="d"),
        ]
    )
    x = pixels()
    before = keras.ops.convert_to_numpy(model.layers[0](x))
    model.get_layer("n").moving_mean.assign(before.mean((0, 1, 2)))
    model.get_layer("n").moving_variance.assign(before.var((0, 1, 2)))
    return model, x


def gauges(model):
    return {
        layer.name: t.factor for layer in model.layers for c in getattr(layer, "chains", {}).values() for t in c
        if isinstance(t, Gauge)
    }  # fmt: skip


def test_the_laws():
    check_layer_law(lambda: Gauge(0.25), L.Dense(3), np.ones((2, 4), "float32"))
    check_gradient_law(lambda: Gauge(0.25), shape=(3, 4))
    model = keras.Sequential([keras.Input((4,)), L.Dense(3, name="d")])
    check_undo(lambda: Gauge(0.25), model, np.ones((2, 4), "float32"))
    check_round_trip(lambda: Gauge(0.25), model, np.ones((2, 4), "float32"))


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan"), float("inf")])
def test_other_factors_are_refused(factor):
    with pytest.raises(kp.InputError, match="expected a number above 0"):
        Gauge(factor)


def test_only_what_folding_changed_much_gets_one():
    model, x = trained_on_pixels()
    quantized = kp.quantize(model, calibration=x)
    assert list(gauges(quantized)) == ["c"] and gauges(quantized)["c"] <= 2**-5
    held = keras.ops.convert_to_numpy(quantized.get_layer("c").transformed_layer.kernel)
    was = keras.ops.convert_to_numpy(model.get_layer("c").kernel)
    assert 0.7 < np.sqrt((held**2).mean() / (was**2).mean()) < 1.5
    assert kp.finalize(quantized)[1]["c/kernel"].bits == 8


def test_not_a_bit_of_the_weights_changes():
    model, x = trained_on_pixels()
    quantized = kp.quantize(model, calibration=x)
    plain = settled(quantized)
    assert gauges(plain) == {} and settled(plain) is plain
    again = with_gauges(plain, gauges(quantized))
    for other in (plain, again):
        (a, first), (b, second) = kp.finalize(quantized), kp.finalize(other)
        assert first == second
        assert all(np.array_equal(v, w) for v, w in zip(a.get_weights(), b.get_weights(), strict=True))
    np.testing.assert_array_equal(quantized.predict(x, verbose=0), plain.predict(x, verbose=0))


@pytest.mark.long(quick=1)
@pytest.mark.parametrize("repair", [kp.correct_bias, lambda q, x: kp.adaround(q, x, iterations=5)])
def test_repairs_afterwards_are_those_of_the_kernel_as_it_is(repair):
    model, x = trained_on_pixels()
    quantized = kp.quantize(model, "w4a8", calibration=x)
    found, wanted = (kp.finalize(repair(each, x))[0].get_weights() for each in (quantized, settled(quantized)))
    assert all(np.array_equal(a, b) for a, b in zip(found, wanted, strict=True))


@pytest.mark.slow
def test_the_usual_rate_does_not_destroy_the_first_kernel(tmp_path):
    """Adam moved each weight by its rate: a ResNet-8 on pixels had 10 % of accuracy after an epoch."""
    model, x = trained_on_pixels()
    quantized = kp.quantize(model, calibration=x)
    before = kp.finalize(quantized)[0].get_layer("c").get_weights()[0]
    quantized.compile(keras.optimizers.Adam(1e-3), "mse")
    quantized.fit(x, model.predict(x, verbose=0), epochs=4, batch_size=16, verbose=0)
    after = kp.finalize(quantized)[0].get_layer("c").get_weights()[0]
    moved = np.abs(after - before).max() / np.abs(before).max()
    assert 0 < moved < 0.2  # sixteen steps of 1e-3 in units of about 0.3
    quantized.save(tmp_path / "q.keras")
    again = keras.saving.load_model(tmp_path / "q.keras")
    assert gauges(again) == gauges(quantized)
    assert kp.export(again, tmp_path / "m.tflite", verify=x).breaches == ()


def test_layers_that_are_not_in_both_have_no_factor():
    model, _ = trained_on_pixels()
    other = keras.Sequential([keras.Input((4,)), L.Dense(2, name="e")])
    assert folding_factors(model, other) == {} == folding_factors(other, model)
