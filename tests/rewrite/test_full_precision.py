"""Copies that compute in float32."""

import keras
import numpy as np
import pytest
from keras import layers as L

import kompakt as kp
from kompakt.rewrite.full_precision import full_precision
from kompakt.rewrite.input_types import float_inputs

X = np.random.default_rng(0).normal(size=(32, 8, 8, 3)).astype("float32")


def build(policy):
    """Functional, with a nested model, an attention and an input of its own dtype."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        keras.utils.set_random_seed(0)
        i = keras.Input((8, 8, 3), dtype="float16" if policy == "float16" else "float32")
        x = L.ReLU()(L.BatchNormalization()(L.Conv2D(4, 3)(i)))
        inner = [keras.Input((6, 6, 4)), L.Conv2D(4, 3, activation="relu"), L.Reshape((16, 4))]
        y = keras.Sequential(inner, name="inner")(x)
        y = L.MultiHeadAttention(2, 4, name="mha")(y, y)
        return keras.Model(i, L.Dense(4, name="d")(L.Flatten()(y)))
    finally:
        keras.config.set_dtype_policy(before)


def spread(a, b):
    return float(np.sqrt(np.mean((np.float32(a) - np.float32(b)) ** 2)) / np.float32(a).std())


@pytest.mark.parametrize(("policy", "rounding"), [("mixed_float16", 4e-3), ("float16", 4e-3), ("mixed_bfloat16", 3e-2)])
def test_predictions_are_the_same_to_rounding(policy, rounding):
    model = build(policy)
    full = full_precision(model)

    assert all(layer.compute_dtype == layer.variable_dtype == "float32" for layer in full._flatten_layers())
    assert {w.dtype for w in full.weights} == {t.dtype for t in full.inputs} == {"float32"}
    assert keras.config.dtype_policy().name == "float32" and model.get_layer("d").compute_dtype != "float32"
    assert 0 < spread(model.predict(X, verbose=0), full.predict(X, verbose=0)) < rounding


def test_a_float32_model_is_left_as_it_is():
    model = build("float32")
    assert full_precision(model) is model


def test_an_attached_model_keeps_its_chains():
    pruned = kp.prune(build("mixed_float16"), 0.5, sites="*kernel")
    full = full_precision(pruned)
    a, b = kp.finalize(pruned)[1], kp.finalize(full)[1]
    assert a == b and a["d/kernel"].zeros == 128
    assert all(layer.compute_dtype == "float32" for layer in full._flatten_layers())
    assert spread(pruned.predict(X, verbose=0), full.predict(X, verbose=0)) < 4e-3


class Block(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first, self.last = L.Flatten(), L.Dense(4)

    def call(self, x):
        return self.last(self.first(x))


def test_a_subclassed_model():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = Block()
    finally:
        keras.config.set_dtype_policy(before)
    wanted = model.predict(X, verbose=0)
    full = full_precision(model)
    assert full.last.compute_dtype == "float32"
    assert spread(wanted, full.predict(X, verbose=0)) < 4e-3


def test_pixels_that_are_rescaled_come_as_floats():
    i = keras.Input((8, 8, 3), dtype="uint8", name="pixels")
    model = keras.Model(i, L.Dense(2)(L.Flatten()(L.Rescaling(1 / 255)(i))))
    pixels = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 3)).astype("uint8")
    made = float_inputs(model)
    assert [(t.name, t.dtype) for t in made.inputs] == [("pixels", "float32")]
    np.testing.assert_array_equal(made.predict(pixels, verbose=0), model.predict(pixels, verbose=0))


def test_whole_numbers_that_are_no_pixels_stay():
    i = keras.Input((6,), dtype="int32")
    model = keras.Model(i, [L.Embedding(20, 4)(i), L.Rescaling(0.5)(i)])
    assert float_inputs(model) is model
