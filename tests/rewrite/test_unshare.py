"""Each call of a shared layer gets a layer of its own."""

import keras
import numpy as np
from keras import layers as L

import kompakt as kp
from kompakt.rewrite.unshare import unshare


def test_a_shared_layer(rewritten):
    i, shared = keras.Input((4,)), L.Dense(4, name="d")
    model = keras.Model(i, L.Add(name="a")([shared(shared(i)), shared(i)]))
    new = rewritten(model, unshare)
    dense = [layer for layer in new.layers if isinstance(layer, L.Dense)]
    assert sorted(layer.name for layer in dense) == ["d", "d_1", "d_2"]
    assert len({id(layer.kernel) for layer in dense}) == 3
    assert all(len(layer._inbound_nodes) == 1 for layer in dense)


def test_a_name_that_is_taken_is_not_given_again(rewritten):
    i, shared = keras.Input((4,)), L.Dense(4, name="d")
    model = keras.Model(i, L.Dense(4, name="d_1")(shared(shared(i))))
    assert sorted(layer.name for layer in rewritten(model, unshare).layers[1:]) == ["d", "d_1", "d_2"]


def test_a_model_that_shares_nothing_keeps_its_names(rewritten):
    model = keras.Sequential([keras.Input((4,)), L.Dense(3, name="a"), L.ReLU(name="b")])
    assert [layer.name for layer in rewritten(model, unshare).layers[1:]] == ["a", "b"]


def test_a_wrapped_layer_is_renamed_inside_and_outside():
    i, shared = keras.Input((4,)), L.Dense(4, name="d")
    x = np.random.default_rng(0).normal(size=(9, 4)).astype("float32")
    quantized = kp.quantize(keras.Model(i, shared(shared(i))), "int8", calibration=x)
    new = unshare(quantized)
    assert np.array_equal(new.predict(x, verbose=0), quantized.predict(x, verbose=0))
    twins = [layer for layer in new.layers if layer.name.startswith("d")]
    assert [(t.name, t.transformed_layer.name) for t in twins] == [("d", "d"), ("d_1", "d_1")]
    _, encodings = kp.finalize(new)
    assert encodings["d/kernel"] == encodings["d_1/kernel"]
