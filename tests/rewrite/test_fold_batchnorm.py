"""Each BatchNormalization goes into the linear layer before it, where that is the same function."""

import keras
import pytest
from keras import layers as L

from kompakt.rewrite.fold_batchnorm import FOLDABLE, Folded, fold_batchnorm

KINDS = {
    L.Dense: (lambda **o: L.Dense(5, **o), (4,)),
    L.Conv1D: (lambda **o: L.Conv1D(5, 2, **o), (6, 4)),
    L.Conv2D: (lambda **o: L.Conv2D(6, 3, strides=2, groups=2, **o), (8, 8, 4)),
    L.Conv3D: (lambda **o: L.Conv3D(5, 2, **o), (4, 4, 4, 2)),
    L.Conv1DTranspose: (lambda **o: L.Conv1DTranspose(5, 2, strides=2, **o), (6, 4)),
    L.Conv2DTranspose: (lambda **o: L.Conv2DTranspose(5, 3, strides=2, **o), (4, 4, 3)),
    L.Conv3DTranspose: (lambda **o: L.Conv3DTranspose(5, 2, **o), (3, 3, 3, 2)),
    L.DepthwiseConv1D: (lambda **o: L.DepthwiseConv1D(3, depth_multiplier=2, **o), (6, 4)),
    L.DepthwiseConv2D: (lambda **o: L.DepthwiseConv2D(3, depth_multiplier=2, padding="same", **o), (6, 6, 3)),
    L.SeparableConv1D: (lambda **o: L.SeparableConv1D(5, 3, **o), (6, 4)),
    L.SeparableConv2D: (lambda **o: L.SeparableConv2D(5, 3, depth_multiplier=2, **o), (6, 6, 3)),
}


def chain(*made, shape):
    x = inputs = keras.Input(shape)
    for layer in made:
        x = layer(x)
    return keras.Model(inputs, x)


def kinds(model):
    return [type(layer).__name__ for layer in model.layers[1:]]


def test_every_foldable_kind_is_tested_here():
    assert set(KINDS) == set(FOLDABLE)


@pytest.mark.parametrize("use_bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_folded(kind, use_bias, rewritten):
    make, shape = KINDS[kind]
    model = chain(make(use_bias=use_bias, name="linear"), L.BatchNormalization(name="norm"), L.ReLU(), shape=shape)
    new, folded = rewritten(model, fold_batchnorm)
    assert folded == (Folded(layer="linear", batchnorm="norm"),)
    assert kinds(new) == [kind.__name__, "ReLU"] and new.get_layer("linear").use_bias


@pytest.mark.parametrize("options", [{"scale": False}, {"center": False}, {"scale": False, "center": False}])
def test_without_gamma_or_beta(options, rewritten):
    model = chain(L.Conv2D(4, 3), L.BatchNormalization(epsilon=0.1, **options), shape=(6, 6, 2))
    assert len(rewritten(model, fold_batchnorm)[1]) == 1


def test_one_after_the_other_folds_the_first(rewritten):
    model = chain(L.Dense(3, name="d"), L.BatchNormalization(name="a"), L.BatchNormalization(name="b"), shape=(4,))
    new, folded = rewritten(model, fold_batchnorm)
    assert folded == (Folded(layer="d", batchnorm="a"),) and kinds(new) == ["Dense", "BatchNormalization"]


def test_several_in_a_graph(rewritten):
    i = keras.Input((6, 6, 3))
    a = L.BatchNormalization(name="na")(L.Conv2D(4, 1, name="a")(i))
    b = L.BatchNormalization(name="nb")(L.Conv2D(4, 1, name="b")(i))
    model = keras.Model(i, L.BatchNormalization(name="nc")(L.Add()([a, b])))
    new, folded = rewritten(model, fold_batchnorm)
    assert {(f.layer, f.batchnorm) for f in folded} == {("a", "na"), ("b", "nb")}
    assert kinds(new).count("BatchNormalization") == 1


def shared_layer():
    i, d = keras.Input((4,)), L.Dense(4)
    return keras.Model(i, L.BatchNormalization()(d(d(i))))


def shared_norm():
    i, norm = keras.Input((4,)), L.BatchNormalization()
    return keras.Model(i, norm(L.Dense(4)(norm(L.Dense(4)(i)))))


def used_twice():
    i = keras.Input((4,))
    x = L.Dense(4)(i)
    return keras.Model(i, L.Add()([L.BatchNormalization()(x), x]))


def an_output_too():
    i = keras.Input((4,))
    x = L.Dense(4)(i)
    return keras.Model(i, [L.BatchNormalization()(x), x])


@pytest.mark.parametrize(
    "make",
    [
        shared_layer,
        shared_norm,
        used_twice,
        an_output_too,
        lambda: chain(L.Dense(4, activation="relu"), L.BatchNormalization(), shape=(4,)),
        lambda: chain(L.Dense(4), L.ReLU(), L.BatchNormalization(), shape=(4,)),
        lambda: chain(L.BatchNormalization(), L.Dense(4), shape=(4,)),
        lambda: chain(L.Conv2D(4, 3), L.BatchNormalization(axis=1), shape=(6, 6, 2)),
        lambda: chain(L.EinsumDense("ab,bc->ac", 4), L.BatchNormalization(), shape=(4,)),
        lambda: chain(L.Conv2D(4, 3), L.LayerNormalization(), shape=(6, 6, 2)),
    ],
    ids=[
        "shared layer",
        "shared norm",
        "used twice",
        "an output too",
        "activation",
        "activation between",
        "norm first",
        "other axis",
        "einsum",
        "layer norm",
    ],
)
def test_what_is_left_as_it_is(make, rewritten):
    model = make()
    new, folded = rewritten(model, fold_batchnorm)
    assert folded == () and kinds(new) == kinds(model)


def test_channels_first_is_left_as_it_is():
    """Its last axis is the width, which a BatchNormalization on the last axis normalizes."""
    i = keras.Input((2, 6, 6))
    x = L.Conv2D(4, 3, data_format="channels_first")(i)
    assert fold_batchnorm(keras.Model(i, L.BatchNormalization()(x)))[1] == ()


def test_what_else_the_layer_has_is_kept(rewritten):
    layer = L.Conv2D(4, 3, use_bias=False, trainable=False, kernel_regularizer="l2", name="c")
    new, _ = rewritten(chain(layer, L.BatchNormalization(), shape=(6, 6, 2)), fold_batchnorm)
    assert not new.get_layer("c").trainable and new.get_layer("c").kernel_regularizer is not None
