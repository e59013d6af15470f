"""Zeros and shared values that were asked for are found in the file again, whatever the converter did to the kernel."""

import keras
import numpy as np
import pytest
from keras import layers as L

import kompakt as kp
from kompakt.records import Encoding
from kompakt.verdicts import unseen_properties

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.normal(size=(64, 8, 8, 3)).astype("float32")
ROWS = RANDOM.normal(size=(64, 6, 4)).astype("float32")


def spread(model):
    """The model, its BatchNormalizations away from their start."""
    for layer in model._flatten_layers():
        if isinstance(layer, L.BatchNormalization):
            layer.gamma.assign(RANDOM.uniform(0.5, 1.5, layer.gamma.shape))
            layer.moving_variance.assign(RANDOM.uniform(0.5, 2.0, layer.gamma.shape))
    return model


def block(name):
    parts = [L.Conv2D(8, 3, use_bias=False, name="c"), L.BatchNormalization(name="n"), L.ReLU()]
    return keras.Sequential([keras.Input((8, 8, 3)), *parts], name=name)


def batchnorm():
    return keras.Sequential([keras.Input((8, 8, 3)), *block("b").layers, L.Flatten(), L.Dense(4, name="d")])


def nested():
    i = keras.Input((8, 8, 3))
    return keras.Model(i, L.Dense(4, name="d")(L.Flatten()(block("inner")(i))))


@pytest.mark.long(quick=1)
@pytest.mark.parametrize("mode", ["float", "float16"])
@pytest.mark.parametrize("make", [batchnorm, nested])
@pytest.mark.parametrize(
    "prepare", [lambda m: kp.prune(m, 0.75, sites="*kernel"), lambda m: kp.cluster(m, 4)], ids=["prune", "cluster"]
)
def test_a_kernel_that_a_batchnorm_was_folded_into(make, prepare, mode, tmp_path):
    keras.utils.set_random_seed(1)
    artifact = kp.export(prepare(spread(make())), tmp_path / "m.tflite", quantization=mode, verify=IMAGES)

    assert artifact.breaches == artifact.notes == ()
    facts = {fact.site: fact for fact in artifact.sites}
    assert set(facts) == {"c/kernel", "d/kernel"}
    for fact in facts.values():
        assert fact.asked_zeros is None or fact.zeros >= fact.asked_zeros == fact.size * 3 // 4
        assert fact.asked_palette is None or fact.distinct <= fact.asked_palette == 4
        assert fact.asked_zeros is not None or fact.asked_palette is not None


@pytest.mark.long(quick=1)
@pytest.mark.parametrize("mode", ["float", "float16"])
@pytest.mark.parametrize(
    ("make", "count"),
    [
        (lambda: L.LSTM(8, name="r"), 2),
        (lambda: L.GRU(8, name="r"), 2),
        (lambda: L.SimpleRNN(8, name="r"), 2),
        (lambda: L.Bidirectional(L.LSTM(8), name="r"), 4),
    ],
    ids=["lstm", "gru", "rnn", "bidirectional"],
)
def test_the_kernels_of_a_recurrent_layer(make, count, mode, tmp_path):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((6, 4)), make(), L.Dense(5, name="d")])
    artifact = kp.export(kp.prune(model, 0.75, sites="*kernel"), tmp_path / "m.tflite", quantization=mode, verify=ROWS)

    assert artifact.breaches == artifact.notes == ()
    recurrent = [fact for fact in artifact.sites if fact.site.startswith("r/") and fact.site.endswith("kernel")]
    assert len(recurrent) == count
    assert all(fact.zeros >= fact.asked_zeros == fact.size * 3 // 4 for fact in recurrent)


def test_what_no_tensor_has_is_said():
    asked = {"a/kernel": Encoding(zeros=3, palette=4), "b/kernel": Encoding(), "c/kernel": Encoding(bits=8, zeros=3)}
    assert unseen_properties([], asked) == [
        "a/kernel: asked for 3 zeros and at most 4 values a channel, but no tensor of the file has its numbers"
    ]
