"""A layer outside Keras that adds and multiplies becomes layers of Keras; any other is left."""

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

import kompakt as kp
from kompakt.rewrite.own_arithmetic import own_arithmetic


class Own(L.Layer):
    """Something with one weight a channel and one number."""

    def __init__(self, number=0.5, **kwargs):
        super().__init__(**kwargs)
        self.number = number

    def build(self, shape):
        channels = (shape[0] if isinstance(shape, list) else shape)[-1]
        self.gamma = self.add_weight(shape=(channels,), initializer="ones", name="gamma")

    def get_config(self):
        return {**super().get_config(), "number": self.number}


class Scale(Own):
    def call(self, x):
        return x * self.gamma


class ScaleFromTheLeft(Own):
    """A variable's own product, which Keras does not follow symbolically."""

    def call(self, x):
        return self.gamma * x


class Residual(Own):
    def call(self, x):
        return x[0] + x[1] * self.number


class Shift(Own):
    def call(self, x):
        return x - self.gamma + 1.0


class Rows(Own):
    """A weight along another axis than the channels'."""

    def build(self, shape):
        self.gamma = self.add_weight(shape=(shape[1], 1), initializer="ones", name="gamma")

    def call(self, x):
        return x * self.gamma


class FromTheOtherSide(Own):
    def call(self, x):
        return 1.0 - x


class InTraining(Own):
    def call(self, x, training=None):
        return x * 0.5 if training else x * self.gamma


class WithSquare(Own):
    def call(self, x):
        return ops.square(x) * self.gamma


class Branches(Own):
    def call(self, x):
        return x * self.number if float(ops.sum(x)) > 0 else x


class Outer(Own):
    def call(self, x):
        return x[0] * x[1]


def made(layer, *shapes):
    inputs = [keras.Input(shape) for shape in shapes]
    return keras.Model(inputs, layer(inputs if len(inputs) > 1 else inputs[0]))


def parts(model):
    return [(type(layer).__name__, layer.name) for layer in model.layers if not isinstance(layer, L.InputLayer)]


@pytest.mark.parametrize("shape", [(4,), (6, 4), (5, 6, 4)], ids=["rank 2", "rank 3", "rank 4"])
def test_a_weight_a_channel(shape, rewritten):
    new = rewritten(made(Scale(name="s"), shape), own_arithmetic)
    assert parts(new) == [("BatchNormalization", "s")]
    assert new.get_layer("s").trainable


def test_a_sum_with_a_number(rewritten):
    new = rewritten(made(Residual(name="r"), (5, 6, 4), (5, 6, 4)), own_arithmetic)
    assert parts(new) == [("BatchNormalization", "r_multiply"), ("Add", "r")]
    assert not new.get_layer("r_multiply").trainable


def test_several_steps(rewritten):
    new = rewritten(made(Shift(name="s"), (4,)), own_arithmetic)
    assert parts(new) == [("BatchNormalization", "s_subtract"), ("BatchNormalization", "s")]


def test_a_frozen_layer_stays_frozen(rewritten):
    assert not rewritten(made(Scale(name="s", trainable=False), (4,)), own_arithmetic).get_layer("s").trainable


@pytest.mark.parametrize(
    ("kind", "shapes"),
    [
        (ScaleFromTheLeft, [(4,)]),
        (Rows, [(6, 4)]),
        (FromTheOtherSide, [(4,)]),
        (InTraining, [(4,)]),
        (WithSquare, [(4,)]),
        (Branches, [(4,)]),
        (Residual, [(5, 6, 4), (1, 1, 4)]),
        (Outer, [(6, 4), (6, 1)]),
        (Scale, [(None, 4)]),
        (Scale, [(2, 3, 3, 4)]),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_what_is_left_as_it_is(kind, shapes):
    layer = kind(name="s")
    if kind is Branches:
        with pytest.raises(Exception, match="float"):  # cannot even be traced
            made(layer, *shapes)
        return
    assert parts(own_arithmetic(made(layer, *shapes))) == [(kind.__name__, "s")]


def test_a_shared_layer_is_left():
    i, s = keras.Input((4,)), Scale(name="s")
    assert parts(own_arithmetic(keras.Model(i, s(s(i))))) == [("Scale", "s")]


def test_layers_of_keras_are_left():
    assert parts(own_arithmetic(made(L.Rescaling(0.5, name="r"), (4,)))) == [("Rescaling", "r")]


def test_quantize_folds_it_into_the_layer_before_and_trains_it_elsewhere():
    """Where it stands alone it is a depthwise convolution, whose kernel is the weight: training moves it."""
    i = keras.Input((4,))
    folded, alone = Scale(name="folded"), Scale(name="alone")
    x = L.ReLU()(folded(L.Dense(4, name="d")(i)))
    model = keras.Model(i, L.Dense(2, name="e")(alone(x)))
    for layer in (folded, alone):
        layer.gamma.assign([0.5, -1.0, 2.0, 0.1])
    rows = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")

    quantized = kp.quantize(model, calibration=rows)

    names = [layer.name for layer in quantized.layers]
    assert "folded" not in names
    plain, _ = kp.finalize(quantized)
    wanted = np.asarray(model.get_layer("d").kernel) * np.asarray(folded.gamma)
    assert np.allclose(plain.get_layer("d").kernel, wanted, atol=0.02)
    before = np.ravel(plain.get_layer("alone").kernel)
    assert np.allclose(before, alone.gamma, atol=0.01)
    quantized.compile(keras.optimizers.SGD(0.5), "mse")
    quantized.fit(rows, rows[:, :2], verbose=0)
    after = np.ravel(kp.finalize(quantized)[0].get_layer("alone").kernel)
    assert np.abs(after - before).max() > 0.02
    assert np.array_equal(np.asarray(alone.gamma), np.float32([0.5, -1.0, 2.0, 0.1]))
