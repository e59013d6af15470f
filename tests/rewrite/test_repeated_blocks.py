"""Which blocks repeat, what their stage is, and what is left without them."""

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

from kompakt.rewrite.remove_blocks import remove_blocks
from kompakt.rewrite.repeated_blocks import find_stages


def conv(filters, name, size=3, **options):
    return L.Conv2D(filters, size, padding="same", name=name, **options)


def found(model):
    """(size of the stage, the first layer of each block that could go), for stages of more than one."""
    return [(s.size, [b.layers[0] for b in s.blocks]) for s in find_stages(model) if s.size > 1]


def residual(x, filters, name, strides=1, before=False):
    """A block of ResNet: activations after the sum, or ``before`` the convolutions."""
    y = L.ReLU(name=f"{name}_pre")(x) if before else x
    y = L.BatchNormalization(name=f"{name}_norm")(conv(filters, f"{name}_a", strides=strides)(y))
    y = conv(filters, f"{name}_b")(L.ReLU()(y))
    if x.shape[-1] != filters or strides != 1:
        x = conv(filters, f"{name}_skip", 1, strides=strides)(x)
    x = L.Add(name=f"{name}_sum")([x, y])
    return x if before else L.ReLU(name=f"{name}_out")(x)


def resnet(each, before=False):
    i = keras.Input((8, 8, 3))
    x = conv(8, "stem")(i)
    for stage, filters in enumerate((8, 16)):
        for k in range(each):
            x = residual(x, filters, f"s{stage}b{k}", 2 if stage and not k else 1, before)
    x = L.ReLU(name="last")(x)
    return keras.Model(i, L.Dense(3, name="head")(L.GlobalAveragePooling2D()(x)))


@pytest.mark.parametrize("before", [False, True])
def test_residual_blocks_are_a_stage_behind_its_first(before):
    start = "pre" if before else "a"
    assert found(resnet(3, before)) == [(3, [f"s{s}b1_{start}", f"s{s}b2_{start}"]) for s in (0, 1)]
    assert found(resnet(1, before)) == []


@pytest.mark.parametrize("before", [False, True])
def test_what_follows_the_sum_goes_with_it_only_where_it_is_of_the_block(before):
    last = find_stages(resnet(3, before))[-1].blocks[-1]
    assert last.layers[-1] == ("s1b2_sum" if before else "s1b2_out")


def test_a_removed_block_is_the_identity():
    model = resnet(3)
    stages = find_stages(model)
    small = remove_blocks(model, [stages[0].blocks[0], stages[1].blocks[1]])
    names = {layer.name for layer in model.layers} - {layer.name for layer in small.layers}
    assert {n for n in names if n.startswith("s")} == {
        f"{b}_{part}" for b in ("s0b1", "s1b2") for part in ("a", "norm", "b", "sum", "out")
    }
    for block in ("s0b1", "s1b2"):  # the last convolution gives zeros: the block is ReLU(x + 0), of x from a ReLU
        for weight in model.get_layer(f"{block}_b").weights:
            weight.assign(ops.zeros_like(weight))
    x = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype("float32")
    assert np.allclose(model.predict(x, verbose=0), small.predict(x, verbose=0), atol=1e-6)


def test_plain_layers_repeat_with_what_follows_them():
    i = keras.Input((8, 8, 3))
    x = i
    for name in "abc":
        x = L.ReLU(name=f"{name}_relu")(L.BatchNormalization(name=f"{name}_norm")(conv(8, name)(x)))
    x = L.Dropout(0.1, name="drop")(x)
    model = keras.Model(i, L.Dense(2)(L.Flatten()(x)))
    (stage,) = find_stages(model)
    assert [b.layers for b in stage.blocks] == [(n, f"{n}_norm", f"{n}_relu") for n in "bc"] and stage.size == 3


def test_pairs_that_repeat_are_one_block():
    def pair(x, filters, n, strides=1):
        x = L.DepthwiseConv2D(3, strides, padding="same", name=f"dw{n}")(x)
        return L.ReLU()(conv(filters, f"pw{n}", 1)(x))

    i = keras.Input((16, 16, 3))
    x = pair(conv(8, "stem")(i), 16, 0)
    for n in range(1, 4):
        x = pair(x, 16, n)
    x = pair(pair(x, 32, 4, 2), 32, 5)
    model = keras.Model(i, L.Dense(2)(L.Flatten()(x)))
    assert found(model) == [(4, ["dw1", "dw2", "dw3"]), (2, ["dw5"])]


def test_attention_and_feed_forward_are_one_block_also_with_a_mask():
    i = keras.Input((6,), dtype="int32")
    x = L.Embedding(9, 8)(i)
    mask = ops.expand_dims(ops.not_equal(i, 0), 1)
    for n in range(3):
        x = L.LayerNormalization()(x + L.MultiHeadAttention(2, 4, name=f"mha{n}")(x, x, attention_mask=mask))
        x = L.LayerNormalization()(x + L.Dense(8)(L.Dense(16, name=f"up{n}")(x)))
    model = keras.Model(i, L.Dense(2)(L.GlobalAveragePooling1D()(x)))
    assert found(model) == [(3, ["mha1", "mha2"])]
    small = remove_blocks(model, find_stages(model)[0].blocks)
    kinds = [type(layer).__name__ for layer in small.layers]
    assert kinds.count("MultiHeadAttention") == 1 and kinds.count("LayerNormalization") == 2


def test_nested_models_are_entered_and_can_be_blocks():
    def inner(name, *layers):
        return keras.Sequential([keras.Input((8,)), *layers], name=name)

    first = inner("first", *[L.Dense(8, name=f"d{n}") for n in range(3)], L.Dense(4, name="narrow"))
    again = [inner(f"n{n}", L.Dense(5, name=f"x{n}"), L.Dense(8, name=f"y{n}")) for n in range(2)]
    model = keras.Sequential([keras.Input((8,)), first, L.Dense(8, name="wide"), *again, L.Dense(2)])
    assert found(model) == [(2, ["n1"]), (3, ["first/d1", "first/d2"])]
    blocks = [b for s in find_stages(model) for b in s.blocks]
    small = remove_blocks(model, blocks)
    assert [layer.name for layer in small.layers[:-1]] == ["first", "wide", "n0"]
    assert [layer.name for layer in small.layers[0].layers] == ["d0", "narrow"]


def parallel():
    i = keras.Input((8, 8, 3))
    x = conv(8, "stem")(i)
    a = conv(8, "a2")(conv(8, "a1")(x))
    return keras.Model(i, conv(2, "out")(L.Concatenate()([a, conv(8, "b1")(x)])))


def tapped():
    i = keras.Input((8, 8, 3))
    x = conv(8, "stem")(i)
    for n in range(3):
        y = conv(8, f"tap{n}")(x)
        x = L.Add()([x, conv(8, f"end{n}")(y)])
    return keras.Model(i, [L.GlobalAveragePooling2D()(x), y])


def last():
    i = keras.Input((4,))
    return keras.Model(i, L.Dense(4, name="b")(L.Dense(4, name="a")(i)))


def bottleneck():
    i = keras.Input((8, 8, 3))
    x = L.DepthwiseConv2D(3, padding="same", name="dw")(conv(8, "stem")(i))
    return keras.Model(i, conv(2, "out", 1)(x))


@pytest.mark.parametrize(("make", "expected"), [(parallel, []), (last, []), (bottleneck, [])])
def test_what_lies_beside_another_way_or_is_an_output_or_single_stays(make, expected):
    assert found(make()) == expected


def test_a_block_that_is_looked_into_stays():
    assert found(tapped()) == [(2, ["tap1"])]  # the third one has an output of the model in it
