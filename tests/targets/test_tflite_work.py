"""Multiply-accumulates and constants read out of a TFLite file, against those of the model that it is made of."""

import keras
import numpy as np
import pytest
from keras import layers as L

import kompakt as kp
from kompakt.cost import layer_costs
from kompakt.targets.tflite_file import TFLiteFile
from kompakt.targets.tflite_work import RULES, UNKNOWN, layer_of, stored, work

RNG = np.random.default_rng(0)


def functional(*made, shape):
    x = inputs = keras.Input(shape)
    for layer in made:
        x = layer(x)
    return keras.Model(inputs, x)


def exported(model, folder, **options):
    return TFLiteFile((folder / kp.export(model, folder / "m.tflite", **options).path).read_bytes())


MODELS = {
    "dense": lambda: functional(L.Dense(7, name="a"), L.Dense(3, name="b"), shape=(5,)),
    "conv": lambda: functional(L.Conv2D(6, 3, strides=2, padding="same", name="a"), shape=(8, 8, 4)),
    "conv1d": lambda: functional(L.Conv1D(5, 3, name="a"), shape=(8, 4)),
    "conv3d": lambda: functional(L.Conv3D(5, 2, name="a"), shape=(4, 4, 4, 3)),
    "depthwise": lambda: functional(L.DepthwiseConv2D(3, name="a"), L.Conv2D(5, 1, name="b"), shape=(8, 8, 4)),
    "separable": lambda: functional(L.SeparableConv2D(5, 3, name="a"), shape=(8, 8, 4)),
    "transposed": lambda: functional(L.Conv2DTranspose(5, 3, strides=2, padding="same", name="a"), shape=(4, 4, 3)),
    "on every position": lambda: functional(L.Dense(7, name="a"), shape=(6, 5)),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_file_multiplies_as_often_as_the_model(name, tmp_path):
    model = MODELS[name]()
    file = exported(model, tmp_path)
    assert sum(row.macs for row in work(file)) == sum(row.macs for row in layer_costs(model))
    assert sum(each.values.size for each in stored(file) if each.values.ndim > 1) == sum(
        int(np.prod(w.shape)) for w in model.weights if len(w.shape) > 1
    )


@pytest.mark.slow
def test_attention_multiplies_as_often_as_the_model(tmp_path):
    x = keras.Input((6, 8))
    model = keras.Model(x, L.MultiHeadAttention(2, 3, value_dim=5, output_shape=7, name="mha")(x, x))
    rows = work(exported(model, tmp_path))
    assert sum(row.macs for row in rows) == sum(row.macs for row in layer_costs(model))
    assert {row.layer for row in rows if row.macs and row.name != "BATCH_MATMUL"} >= {"mha/query_dense"}


def test_integers_multiply_integers(tmp_path):
    model = MODELS["conv"]()
    x = RNG.random((16, 8, 8, 4), "float32")
    file = exported(model, tmp_path, quantization="int8", calibration=x)
    (row,) = [row for row in work(file) if row.macs]
    assert (row.arithmetic, row.layer) == ("int8", "a")
    (kernel, bias) = sorted(stored(file), key=lambda each: each.kind, reverse=True)
    assert (kernel.kind, kernel.layer, kernel.bytes) == ("INT8", "a", 3 * 3 * 4 * 6)
    assert (bias.kind, bias.layer, bias.bytes) == ("INT32", "a", 4 * 6)
    assert row.traffic == 8 * 8 * 4 + 3 * 3 * 4 * 6 + 4 * 6 + 4 * 4 * 6  # one byte each, biases four


def test_float16_weights_are_unpacked_once_and_belong_to_their_layer(tmp_path):
    file = exported(MODELS["conv"](), tmp_path, quantization="float16")
    rows = work(file)
    assert "DEQUANTIZE" in [op.name for op in file.ops] and "DEQUANTIZE" not in [row.name for row in rows]
    assert {each.layer for each in stored(file)} == {"a"}
    assert next(each.bytes for each in stored(file) if each.values.ndim > 1) == 2 * 3 * 3 * 4 * 6


@pytest.mark.slow
def test_sparse_weights_take_the_bytes_of_their_places_too(tmp_path):
    model = kp.prune(functional(L.Dense(64, name="a"), shape=(256,)), 0.9)
    file = exported(model, tmp_path, sparse=True, quantization="float16")
    (kernel,) = [each for each in stored(file) if each.values.ndim > 1]
    kept = int(np.count_nonzero(kernel.values))
    assert kernel.values.size == 64 * 256 and kernel.layer == "a"
    assert 2 * kept < kernel.bytes < 2 * 64 * 256 / 2


def test_a_loop_is_not_counted(tmp_path):
    model = functional(L.LSTM(3, name="lstm"), shape=(6, 4))
    file = exported(model, tmp_path)
    loops = [row for row in work(file) if row.name == "WHILE"]
    assert [row.macs for row in loops] == [None] * len(loops) and loops
    kernels = [each for each in stored(file) if each.name.endswith("kernel")]  # they are in the body of the loop
    assert sum(each.values.size for each in kernels) == (4 + 3) * 4 * 3


def test_names():
    assert layer_of("outer/inner/a/kernel") == "outer/inner/a"
    assert layer_of("outer/a:t3") == "outer/a"


def test_no_operator_is_counted_and_not_counted():
    assert not set(RULES) & set(UNKNOWN)
