"""Layers that become steps with integer operators: the same function, and weights found again at their new sites."""

import keras
import numpy as np
import pytest
from keras import layers as L

from kompakt.rewrite.affine_to_depthwise import affine_to_depthwise
from kompakt.rewrite.attention_steps import attention_steps
from kompakt.rewrite.elementwise import FUNCTIONS, Elementwise, Mean
from kompakt.rewrite.layered_operations import layered_operations
from kompakt.rewrite.normalization_steps import normalization_steps
from kompakt.rewrite.prelu_steps import prelu_steps
from kompakt.rewrite.recurrent_loops import LONGEST
from kompakt.rewrite.time_distributed import time_distributed
from kompakt.rewrite.unroll_recurrent import unroll_recurrent
from kompakt.sites import sites

ROWS = (5, 6)


def model_of(make, shape=ROWS):
    """The layer on an input, every weight away from where it starts."""
    keras.utils.set_random_seed(1)
    i = keras.Input(shape)
    model = keras.Model(i, make()(i))
    random = np.random.default_rng(0)
    model.set_weights([random.normal(0.2, 0.5, w.shape) for w in model.get_weights()])
    return model


def assert_same(old, new, atol=2e-6):
    x = np.random.default_rng(1).normal(size=(7, *old.input_shape[1:])).astype("float32")
    for a, b in zip(keras.tree.flatten(old(x)), keras.tree.flatten(new(x)), strict=True):
        np.testing.assert_allclose(keras.ops.convert_to_numpy(a), keras.ops.convert_to_numpy(b), atol=atol)


def values(model):
    return {s.name: keras.ops.convert_to_numpy(s.variable) for s in sites(model) if s.variable is not None}


def assert_moved(old, new, moved):
    before, after = values(old), values(new)
    assert set(moved) == set(before) and set(moved.values()) <= set(after)
    for source, target in moved.items():
        np.testing.assert_array_equal(before[source], after[target])


RECURRENT = {
    "lstm": lambda: L.LSTM(3),
    "lstm, sequences backwards": lambda: L.LSTM(3, return_sequences=True, go_backwards=True),
    "lstm with states": lambda: L.LSTM(3, return_state=True),
    "lstm, other activations": lambda: L.LSTM(3, activation="relu", recurrent_activation="hard_sigmoid"),
    "lstm without bias": lambda: L.LSTM(3, use_bias=False, dropout=0.3),
    "gru": lambda: L.GRU(3, return_sequences=True),
    "gru without bias": lambda: L.GRU(3, use_bias=False),
    "simple": lambda: L.SimpleRNN(3),
    "both ways": lambda: L.Bidirectional(L.LSTM(3, return_sequences=True)),
    "both ways, last": lambda: L.Bidirectional(L.GRU(3), merge_mode="mul"),
    "both ways, apart": lambda: L.Bidirectional(L.GRU(3, return_sequences=True, return_state=True), merge_mode=None),
}


@pytest.mark.parametrize("kind", RECURRENT)
def test_unrolled(kind):
    old = model_of(RECURRENT[kind])
    new, moved = unroll_recurrent(old)
    assert not any(isinstance(layer, (L.RNN, L.Bidirectional)) for layer in new.layers)
    assert_same(old, new)
    assert_moved(old, new, moved)


@pytest.mark.parametrize(
    "make",
    [lambda: L.GRU(2, reset_after=False), lambda: L.LSTM(2, recurrent_dropout=0.5), lambda: L.RNN(L.LSTMCell(2))],
)
def test_not_unrolled(make):
    old = model_of(make)
    new, moved = unroll_recurrent(old)
    assert moved == {} and isinstance(new.layers[-1], L.RNN)


def test_long_sequences_are_not_unrolled():
    new, moved = unroll_recurrent(model_of(lambda: L.SimpleRNN(1), (LONGEST + 1, 1)))
    assert moved == {} and isinstance(new.layers[-1], L.SimpleRNN)


NORMALIZATIONS = {
    "layer": (lambda: L.LayerNormalization(), ROWS),
    "layer, image": (lambda: L.LayerNormalization(), (4, 4, 3)),
    "layer, plain": (lambda: L.LayerNormalization(center=False, scale=False), (6,)),
    "rms": (lambda: L.RMSNormalization(), ROWS),
    "group": (lambda: L.GroupNormalization(2), (4, 4, 6)),
    "instance": (lambda: L.GroupNormalization(-1), (4, 4, 3)),
    "unit": (lambda: L.UnitNormalization(), ROWS),
}


@pytest.mark.parametrize("kind", NORMALIZATIONS)
def test_normalization(kind):
    make, shape = NORMALIZATIONS[kind]
    old = model_of(make, shape)
    new = normalization_steps(old)
    assert any(isinstance(layer, Mean) for layer in new.layers)
    assert_same(old, new, atol=1e-5)


def test_normalization_over_other_axes_is_left():
    new = normalization_steps(model_of(lambda: L.LayerNormalization(axis=1)))
    assert [type(layer) for layer in new.layers[1:]] == [L.LayerNormalization]


@pytest.mark.parametrize("invert", [False, True])
def test_standardization(invert):
    i = keras.Input((4, 4, 3))
    norm = L.Normalization(mean=[1.0, 2.0, 3.0], variance=[1.0, 4.0, 0.25], invert=invert)
    old = keras.Model(i, norm(i))
    new = affine_to_depthwise(old)
    assert isinstance(new.layers[-1], L.DepthwiseConv2D)
    assert_same(old, new)


@pytest.mark.parametrize("layer", [L.Dense(3), L.Conv1D(3, 2), L.ReLU()], ids=lambda layer: type(layer).__name__)
def test_over_time(layer):
    old = model_of(lambda: L.TimeDistributed(layer), (4, 5, 2))
    new, moved = time_distributed(old)
    assert not any(isinstance(each, L.TimeDistributed) for each in new.layers)
    assert_same(old, new)
    assert_moved(old, new, moved)


def test_attention():
    i, j = keras.Input(ROWS), keras.Input(ROWS)
    old = keras.Model([i, j], L.MultiHeadAttention(2, 3, value_dim=4, dropout=0.2)(i, j))
    new, moved = attention_steps(old)
    x, y = np.random.default_rng(1).normal(size=(2, 7, *ROWS)).astype("float32")
    np.testing.assert_allclose(*(keras.ops.convert_to_numpy(m([x, y])) for m in (old, new)), atol=2e-6)
    assert_moved(old, new, moved)


def test_attention_with_a_mask_is_left():
    i = keras.Input(ROWS)
    new, moved = attention_steps(keras.Model(i, L.MultiHeadAttention(2, 3)(i, i, use_causal_mask=True)))
    assert moved == {} and isinstance(new.layers[-1], L.MultiHeadAttention)


@pytest.mark.parametrize("axes", [None, [1], [1, 2]])
def test_slopes(axes):
    old = model_of(lambda: L.PReLU(shared_axes=axes), (4, 4, 3))
    new = prelu_steps(old)
    assert not any(isinstance(layer, L.PReLU) for layer in new.layers)
    assert_same(old, new)


@pytest.mark.parametrize("name", ["abs", "square", "exp", "floor", "arctan"])
def test_operations_on_each_number(name):
    i = keras.Input((4,))
    old = keras.Model(i, getattr(keras.ops, name)(i))
    new = layered_operations(old)
    assert isinstance(new.layers[-1], Elementwise) and new.layers[-1].function in FUNCTIONS
    assert_same(old, new)


def test_operations_with_numbers():
    i = keras.Input((4,))
    old = keras.Model(i, keras.ops.clip(keras.ops.maximum(i, -0.5) ** 2, 0.1, 0.6))
    new = layered_operations(old)
    assert [layer.arguments for layer in new.layers[1:]] == [(-0.5,), (2.0,), (0.1, 0.6)]
    assert_same(old, new)
