"""16-bit files and their simulation: no step apart, where numbers are large and ranges clip."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers as L

import kompakt as kp
from kompakt.deploy import make_job
from kompakt.simulation import at_sites, simulate
from kompakt.targets import find_target
from kompakt.targets.target import Request

EXACT = 32767 * 2.0**-12
"""Reach of an input grid that the samples lie on: nothing depends on how float32 divides."""


def difference_at(model, x, site, clip=1.0):
    """(steps that the file's tensor at a site is off, at most; the tensor in steps)."""
    quantized = kp.quantize(model, "int16x8", calibration=x)
    ranges = {name: (low * clip, high * clip) for name, (low, high) in kp.get_ranges(quantized).items()}
    kp.set_ranges(quantized, ranges | {"img_grid/output": (-EXACT, EXACT)})
    job, place = make_job(quantized, "int16x8", None), find_target("tflite")
    made = place.convert(
        Request(model=job.plain, encodings=job.encodings, quantization="int16x8", io="float32", batch=1, samples=x[:64])
    )
    found = place.run(made.data, x, at=[site])
    (expected,) = simulate(at_sites(job.reference, [site]), x)
    steps = found.values[0] / found.lsb[0]
    return np.abs(expected.reshape(steps.shape) / found.lsb[0] - steps).max(), steps


@pytest.fixture
def x():
    values = np.random.default_rng(0).normal(size=(512, 8, 8, 16))
    return np.clip(np.round(values * 256) / 256, -EXACT, EXACT).astype("float32")


@pytest.mark.slow
def test_biases_of_more_than_24_bits(x):
    i = keras.Input((8, 8, 16), name="img")
    conv = L.Conv2D(16, 3, name="c", bias_initializer=keras.initializers.RandomUniform(3.0, 9.0, seed=1))
    model = keras.Model(i, L.Conv2D(4, 1, name="last")(conv(i)))
    conv.kernel.assign(conv.kernel * 1e-2)
    bias = np.asarray(conv.bias)
    assert difference_at(model, x, "c/output")[0] < 0.01
    scale = np.abs(np.asarray(conv.kernel)).max((0, 1, 2)) / 127 * 2.0**-12
    assert (bias / scale).max() > 2**24


@pytest.mark.slow
def test_sums(x):
    i = keras.Input((8, 8, 16), name="img")
    a, b = L.Conv2D(16, 1, name="a", activation="relu")(i), L.Conv2D(16, 1, name="b")(i)
    model = keras.Model(i, L.Conv2D(4, 1, name="last")(L.ReLU(name="r")(L.Add(name="sum")([a, b]))))
    assert difference_at(model, x, "r/output")[0] < 0.01


@pytest.mark.long(quick=1)
@pytest.mark.parametrize("bias", ["none", "zeros", "random_normal"])
def test_dense(bias, x):
    i = keras.Input((1024,), name="img")
    options = {"use_bias": False} if bias == "none" else {"bias_initializer": bias}
    model = keras.Model(i, L.Dense(4, name="last")(L.Dense(64, name="d", **options)(i)))
    assert difference_at(model, x.reshape(512, -1), "d/output")[0] < 0.01


@pytest.mark.long(quick=1)
@pytest.mark.parametrize("io", ["float32", "int16"])
def test_inputs_that_are_not_on_the_grid(io, x):
    i = keras.Input((8, 8, 16), name="img")
    model = keras.Model(i, L.Conv2D(4, 1, name="last")(L.Conv2D(16, 1, name="c")(i)))
    inputs = np.random.default_rng(1).uniform(-3, 3, (2048, 8, 8, 16)).astype("float32")
    job, place = make_job(model, "int16x8", inputs[:64]), find_target("tflite")
    made = place.convert(
        Request(model=job.plain, encodings=job.encodings, quantization="int16x8", io=io, batch=1, samples=x[:64])
    )
    (expected,) = simulate(job.reference, inputs)
    found = place.run(made.data, inputs)
    assert np.abs(expected - found.values[0]).max() / found.lsb[0] < 0.01


@pytest.mark.slow
def test_clipping_ends_where_the_kernels_do(x):
    i = keras.Input((8, 8, 16), name="img")
    model = keras.Model(i, L.Conv2D(4, 1, name="last")(L.Conv2D(16, 1, name="c")(i)))
    off, steps = difference_at(model, x, "c/output", clip=0.3)
    assert off < 0.01 and round(float(steps.min())) == -32768 and round(float(steps.max())) == 32767


@pytest.mark.slow
@pytest.mark.parametrize("kind", [L.LSTM, L.GRU])
def test_recurrent_layers(kind):
    """Tables of tanh and sigmoid, products and sums, step after step: no integer of the file is another."""
    x = np.random.default_rng(0).normal(size=(128, 4, 6)).astype("float32")
    i = keras.Input((4, 6))
    model = keras.Model(i, L.Dense(5, name="last")(kind(8, name="cell")(L.Conv1D(8, 1, name="conv")(i))))
    quantized = kp.quantize(model, "int16x8", calibration=x)
    job, place = make_job(quantized, "int16x8", None), find_target("tflite")
    made = place.convert(
        Request(model=job.plain, encodings=job.encodings, quantization="int16x8", io="float32", batch=1, samples=x[:64])
    )
    named = (f"{layer.name}/output" for layer in job.reference.layers)
    sites = [site for site in named if place.has(made.data, site)]
    found, expected = place.run(made.data, x, at=sites), simulate(at_sites(job.reference, sites), x)
    steps = {
        site: float(np.abs(wanted.reshape(values.shape) - values).max() / lsb)
        for site, wanted, values, lsb in zip(sites, expected, found.values, found.lsb, strict=True)
        if lsb
    }
    assert len(steps) > 20 and max(steps.values()) < 0.01, steps


@pytest.mark.slow
def test_a_normalization_is_all_of_16_bits(tmp_path):
    """The square of a difference is one operator of TFLite, without a 16-bit form."""
    x = np.random.default_rng(0).normal(size=(64, 4, 16)).astype("float32")
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((4, 16)), L.Dense(16), L.LayerNormalization(), L.Flatten(), L.Dense(5, name="last")]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its root the last bits are not known: it may be a breach
        made = kp.export(
            model, tmp_path / "m.tflite", quantization="int16x8", calibration=x, verify=x, on_breach="warn"
        )
    assert set(made.census.tensors) == {"INT8", "INT16", "INT32", "INT64"} and not made.census.float_ops
