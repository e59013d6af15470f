"""What converters would decompose becomes layers with one operator each."""

import keras
import pytest
from keras import layers as L

from kompakt.rewrite.plain_operators import RULES, plain_operators


def made(layer, *shapes):
    inputs = [keras.Input(shape) for shape in shapes]
    return keras.Model(inputs, layer(inputs if len(inputs) > 1 else inputs[0]))


def parts(model):
    return [(type(layer).__name__, layer.name) for layer in model.layers if not isinstance(layer, L.InputLayer)]


@pytest.mark.parametrize("kind", [L.Add, L.Multiply, L.Maximum, L.Minimum])
@pytest.mark.parametrize("count", [2, 3, 5])
def test_merges_go_two_by_two(kind, count, rewritten):
    new = rewritten(made(kind(name="m"), *[(4, 3)] * count), plain_operators)
    names = ["m_1", "m_1_1", "m_1_2"][: count - 2]
    assert parts(new) == [(kind.__name__, name) for name in [*names, "m"]]


def test_merges_of_shapes_that_broadcast(rewritten):
    rewritten(made(L.Add(name="m"), (4, 3), (1, 3), (4, 1)), plain_operators)


def test_merges_of_several_ranks(rewritten):
    rewritten(made(L.Multiply(name="m"), (3,), (4, 3), (3,)), plain_operators)


def test_other_merges_are_left(rewritten):
    new = rewritten(made(L.Concatenate(name="m"), (4, 3), (4, 3), (4, 3)), plain_operators)
    assert parts(new) == [("Concatenate", "m")]


@pytest.mark.parametrize("count", [2, 3])
def test_averages_are_a_share_of_the_sum(count, rewritten):
    new = rewritten(made(L.Average(name="m"), *[(4, 3)] * count), plain_operators)
    assert parts(new) == [("Add", f"m_sum{n}") for n in ("", "_1")[: count - 1]] + [("Elementwise", "m")]


ADAPTIVE = {
    L.AdaptiveAveragePooling1D: ("AveragePooling1D", (6, 2), (5, 2), 3),
    L.AdaptiveMaxPooling1D: ("MaxPooling1D", (6, 2), (5, 2), 3),
    L.AdaptiveAveragePooling2D: ("AveragePooling2D", (6, 4, 2), (6, 5, 2), (3, 2)),
    L.AdaptiveMaxPooling2D: ("MaxPooling2D", (6, 4, 2), (6, 5, 2), (3, 2)),
}
"""Layer -> (what it becomes, a shape that its size divides, one that it does not, the size)."""


@pytest.mark.parametrize("kind", ADAPTIVE)
def test_adaptive_pools(kind, rewritten):
    name, fits, other, size = ADAPTIVE[kind]
    assert parts(rewritten(made(kind(size, name="p"), fits), plain_operators)) == [(name, "p")]
    assert parts(rewritten(made(kind(size, name="p"), other), plain_operators)) == [(kind.__name__, "p")]


def test_one_tensor_three_times(rewritten):
    i = keras.Input((4,))
    assert len(parts(rewritten(keras.Model(i, L.Add(name="m")([i, i, i])), plain_operators))) == 2


@pytest.mark.parametrize("size", [2, (3, 1)], ids=str)
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_up_sampling(interpolation, size, rewritten):
    model = made(L.UpSampling2D(size, interpolation=interpolation, name="u"), (4, 5, 2))
    assert parts(rewritten(model, plain_operators)) == [("Resizing", "u")]


@pytest.mark.parametrize("shape", [(None, 5, 2), (4, None, 2)], ids=str)
def test_up_sampling_of_an_unknown_size_is_left(shape, rewritten):
    assert parts(rewritten(made(L.UpSampling2D(name="u"), shape), plain_operators)) == [("UpSampling2D", "u")]


def test_other_up_sampling_is_left(rewritten):
    model = made(L.UpSampling2D(interpolation="bicubic", name="u"), (4, 5, 2))
    assert parts(rewritten(model, plain_operators)) == [("UpSampling2D", "u")]


@pytest.mark.parametrize(("kind", "shape"), [(L.GlobalMaxPooling1D, (6, 3)), (L.GlobalMaxPooling2D, (4, 5, 3))])
def test_global_maxima(kind, shape, rewritten):
    pool = kind.__name__.removeprefix("Global")
    new = rewritten(made(kind(name="g"), shape), plain_operators)
    assert parts(new) == [(pool, "g_pool"), ("Flatten", "g")]
    kept = rewritten(made(kind(keepdims=True, name="g"), shape), plain_operators)
    assert parts(kept) == [(pool, "g")]
    unknown = made(kind(name="g"), (None, *shape[1:]))
    assert parts(rewritten(unknown, plain_operators)) == [(kind.__name__, "g")]


def test_channels_first_is_left():
    i = keras.Input((3, 4, 5))
    x = L.GlobalMaxPooling2D(data_format="channels_first", name="g")(i)
    y = L.UpSampling2D(data_format="channels_first", name="u")(i)
    assert {name for _, name in parts(plain_operators(keras.Model(i, [x, y])))} == {"g", "u"}


@pytest.mark.parametrize("name", ["relu", "tanh", "gelu", "hard_silu", "silu"])
def test_other_activations_are_left(name, rewritten):
    assert parts(rewritten(made(L.Activation(name, name="s"), (4,)), plain_operators)) == [("Activation", "s")]


def test_a_layer_of_the_user_is_left(rewritten):
    @keras.saving.register_keras_serializable(package="kompakt_tests")
    class Twice(L.Add):
        def _merge_function(self, inputs):
            return 2.0 * super()._merge_function(inputs)

    assert parts(rewritten(made(Twice(name="t"), (4,), (4,), (4,)), plain_operators)) == [("Twice", "t")]


def test_a_shared_layer(rewritten):
    i, pool = keras.Input((4, 4, 2)), L.GlobalMaxPooling2D(name="s")
    new = rewritten(keras.Model(i, L.Add()([pool(i), pool(L.Conv2D(2, 1)(i))])), plain_operators)
    assert len({name for _, name in parts(new)}) == 6


def test_every_rule_is_tested_here():
    tested = {L.Add, L.Multiply, L.Maximum, L.Minimum, L.UpSampling2D, L.GlobalMaxPooling1D, L.GlobalMaxPooling2D}
    assert set(RULES) == {*tested, L.Average, *ADAPTIVE}
