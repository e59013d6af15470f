"""Channels between two linear layers get ranges of one size, and the function stays."""

import keras
import numpy as np
import pytest
from keras import layers as L

import kompakt as kp
from kompakt.repairs.equalize import equalize


def chain(*made, shape):
    x = inputs = keras.Input(shape)
    for layer in made:
        x = layer(x)
    return keras.Model(inputs, x)


def lines_of(found):
    return [line for line in found[1] if "->" in line]


def reach(layer, axis):
    kernel = np.abs(keras.ops.convert_to_numpy(layer.kernel))
    return kernel.max(axis=tuple(a for a in range(kernel.ndim) if a != axis % kernel.ndim))


SHAPE = (8, 8, 3)
KINDS = {
    "dense": ([L.Dense(6, "relu", name="a"), L.Dense(4, name="b")], (5,)),
    "conv": ([L.Conv2D(6, 3, activation="relu", name="a"), L.Conv2D(4, 3, name="b")], SHAPE),
    "conv, leaky": ([L.Conv2D(6, 3, name="a"), L.LeakyReLU(0.1), L.Conv2D(4, 1, name="b")], SHAPE),
    "linear": ([L.Conv2D(6, 3, name="a"), L.Conv2D(4, 1, name="b")], SHAPE),
    "conv1d": ([L.Conv1D(6, 3, activation="relu", name="a"), L.Conv1D(4, 2, name="b")], (9, 3)),
    "conv3d": ([L.Conv3D(6, 2, activation="relu", name="a"), L.Conv3D(4, 2, name="b")], (4, 4, 4, 2)),
    "transposed": ([L.Conv2DTranspose(6, 3, name="a"), L.ReLU(), L.Conv2DTranspose(4, 3, name="b")], SHAPE),
    "to depthwise": ([L.Conv2D(6, 1, name="a"), L.ReLU(), L.DepthwiseConv2D(3, name="b")], SHAPE),
    "from depthwise": (
        [L.DepthwiseConv2D(3, depth_multiplier=2, activation="relu", name="a"), L.Conv2D(4, 1, name="b")],
        SHAPE,
    ),
    "to a multiplier": (
        [L.Conv2D(3, 1, activation="relu", name="a"), L.DepthwiseConv2D(3, depth_multiplier=2, name="b")],
        SHAPE,
    ),
    "flattened": (
        [L.Conv2D(6, 3, activation="relu", name="a"), L.MaxPooling2D(2), L.Flatten(), L.Dense(4, name="b")],
        SHAPE,
    ),
    "averaged": (
        [L.Conv2D(6, 3, activation="relu", name="a"), L.Dropout(0.3), L.GlobalAveragePooling2D(), L.Dense(4, name="b")],
        SHAPE,
    ),
    "no bias": ([L.Conv2D(6, 3, use_bias=False, name="a"), L.ReLU(), L.Conv2D(4, 1, use_bias=False, name="b")], SHAPE),
    "padded": ([L.Conv2D(6, 3, name="a"), L.ReLU(), L.ZeroPadding2D(1), L.Conv2D(4, 3, name="b")], SHAPE),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_function_stays_and_the_ranges_meet(kind, rewritten):
    made, shape = KINDS[kind]
    # Layers are used up by a model: each case makes its own.
    made = [layer.__class__.from_config(layer.get_config()) for layer in made]
    found = rewritten(chain(*made, shape=shape), equalize, tolerance=2e-5)
    assert len(lines_of(found)) == 1 and lines_of(found)[0].startswith("a -> b: ")
    a, b = found[0].get_layer("a"), found[0].get_layer("b")
    if kind in ("dense", "conv", "conv, leaky", "linear", "conv1d", "conv3d", "averaged"):
        np.testing.assert_allclose(reach(a, -1), reach(b, -2), rtol=1e-3)


def test_the_numbers_of_the_paper():
    model = chain(L.Dense(2, "relu", name="a"), L.Dense(1, name="b"), shape=(1,))
    model.set_weights([np.array([[8.0, 0.5]]), np.array([4.0, 1.0]), np.array([[2.0], [8.0]]), np.array([3.0])])
    new, lines = equalize(model)
    # r1 = 8, 0.5 and r2 = 2, 8, so s = sqrt(r1 r2) / r2 = 2, 1/4
    assert [w.ravel().tolist() for w in new.get_weights()] == [[4.0, 2.0], [2.0, 4.0], [4.0, 2.0], [3.0]]
    assert lines[0] == "a -> b: 2 channels, ranges of a 16 times apart, now 2 times"


def test_a_chain_settles(rewritten):
    model = chain(
        L.Conv2D(6, 1, activation="relu", name="a"),
        L.DepthwiseConv2D(3, activation="relu", name="b"),
        L.Conv2D(4, 1, name="c"),
        shape=SHAPE,
    )
    new, lines = rewritten(model, equalize, tolerance=2e-5)
    assert [line.split(":")[0] for line in lines if "->" in line] == ["a -> b", "b -> c"]
    ranges = [reach(new.get_layer("a"), -1), reach(new.get_layer("b"), -2), reach(new.get_layer("c"), -2)]
    np.testing.assert_allclose(ranges[1], ranges[0], rtol=5e-3)
    np.testing.assert_allclose(ranges[2], ranges[1], rtol=5e-3)


def test_a_dead_channel_stays_as_it_is():
    model = chain(L.Dense(2, "relu", name="a"), L.Dense(1, name="b"), shape=(1,))
    model.set_weights([np.array([[0.0, 4.0]]), np.array([7.0, 0.0]), np.array([[5.0], [1.0]]), np.zeros(1)])
    assert [w.ravel().tolist() for w in equalize(model)[0].get_weights()] == [[0.0, 2.0], [7.0, 0.0], [5.0, 2.0], [0.0]]


def two_readers():
    i = keras.Input((4,))
    a = L.Dense(4, "relu", name="a")(i)
    return keras.Model(i, L.Add()([L.Dense(4, name="b")(a), a]))


def called_twice():
    i, d = keras.Input((4,)), L.Dense(4, name="a")
    return keras.Model(i, L.Dense(2, name="b")(d(d(i))))


LEFT = [
    (two_readers, "a: left as it is (a has 2 readers)"),
    (called_twice, "a: left as it is (a is called more than once)"),
    (
        lambda: chain(L.Dense(3, "tanh", name="a"), L.Dense(2, name="b"), shape=(4,)),
        "a: left as it is (tanh of a does not scale with its input)",
    ),
    (
        lambda: chain(L.Dense(3, "relu6", name="a"), L.Dense(2, name="b"), shape=(4,)),
        "a: left as it is (relu6 of a clips at 6; replace_relu6=True makes it a ReLU)",
    ),
    (
        lambda: chain(L.Conv2D(4, 1, name="a"), L.ReLU(2.0, name="r"), L.Conv2D(2, 1, name="b"), shape=SHAPE),
        "a: left as it is (ReLU of r does not scale with its input)",
    ),
    (
        lambda: chain(L.Conv2D(4, 1, name="a"), L.Conv2D(2, 1, groups=2, name="b"), shape=SHAPE),
        "a: left as it is (b has groups)",
    ),
    (
        lambda: chain(L.Dense(3, "relu", name="a"), L.BatchNormalization(name="n"), L.Dense(2, name="b"), shape=(4,)),
        "a: left as it is (n (BatchNormalization) follows)",
    ),
]


@pytest.mark.parametrize(("make", "line"), LEFT, ids=lambda value: "" if callable(value) else value)
def test_what_is_left_is_named_with_the_reason(make, line, rewritten):
    found = rewritten(make(), equalize)
    assert line in found[1] and not any(each.startswith("a ->") for each in found[1])


def test_layers_to_leave():
    model = chain(L.Dense(3, "relu", name="a"), L.Dense(2, name="b"), shape=(4,))
    assert equalize(model, leave={"b"})[1][0] == "a: left as it is (b is to be left)"


@pytest.mark.parametrize("between", [[L.ReLU(6.0, name="r")], [L.Activation("relu6", name="r")]])
def test_relu6_is_replaced_where_that_is_asked_for(between):
    model = chain(L.Dense(3, name="a"), *between, L.Dense(2, name="b"), shape=(4,))
    new, lines = equalize(model, replace_relu6=True)
    assert "a -> b" in lines[0] and lines[0].endswith(", ReLU6 replaced by ReLU")
    x = 100.0 * np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    hidden = np.maximum(x @ model.get_weights()[0], 0)
    assert hidden.max() > 6
    np.testing.assert_allclose(new(x), hidden @ model.get_weights()[2], rtol=1e-4, atol=1e-4)


def folded_and_nested():
    inner = keras.Sequential(
        [keras.Input((8, 8, 3)), L.Conv2D(6, 3, use_bias=False, name="a"), L.BatchNormalization(name="n"), L.ReLU()],
        name="inner",
    )
    i = keras.Input((8, 8, 3))
    model = keras.Model(i, L.Conv2D(4, 1, name="b")(inner(i)))
    random = np.random.default_rng(0)
    inner.get_layer("n").set_weights([random.uniform(0.1, 9.0, 6) for _ in range(4)])
    return model


def test_batchnormalizations_are_folded_first(rewritten):
    """With them in the way nothing was done for a model as it is trained."""
    new, lines = rewritten(folded_and_nested(), equalize, tolerance=2e-5)
    assert lines[0] == "n: folded into a" and lines[1].startswith("a -> b: 6 channels")
    np.testing.assert_allclose(reach(new.get_layer("a"), -1), reach(new.get_layer("b"), -2), rtol=1e-3)


def test_a_layer_to_leave_that_is_not_there():
    model = chain(L.Dense(3, "relu", name="first"), L.Dense(2, name="last"), shape=(4,))
    with pytest.raises(kp.InputError, match=r"equalize\(leave=\): the model has no layer 'frist'; nearest: 'first'"):
        equalize(model, leave=["frist"])


def test_a_model_with_transforms_is_refused():
    """It once came back as it was, with no line."""
    model = chain(L.Dense(3, "relu", name="a"), L.Dense(2, name="b"), shape=(4,))
    for each in (kp.prune(model, 0.5), kp.quantize(model, "weight_only_int8")):
        with pytest.raises(
            kp.InputError, match=r"has transforms on its layers .* give the float model, or ask quantize"
        ):
            equalize(each)
