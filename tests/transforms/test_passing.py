"""BatchNormalizations that are frozen by schedule: first live beside weights on their grids, then folded."""

import keras
import numpy as np
import pytest
from keras import layers as L

import kompakt as kp
from kompakt.attach import chains_of

X = np.random.default_rng(0).normal(2.0, size=(64, 6, 6, 2)).astype("float32")
Y = np.random.default_rng(1).integers(0, 3, 64)


def net(*, norm=True):
    keras.utils.set_random_seed(0)
    parts = [L.Conv2D(4, 3, use_bias=False, name="conv"), *([L.BatchNormalization(name="norm")] if norm else [])]
    return keras.Sequential(
        [keras.Input((6, 6, 2)), *parts, L.ReLU(), L.GlobalAveragePooling2D(), L.Dense(3, name="head")]
    )


def trained(model):
    model.compile(keras.optimizers.Adam(1e-2), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(X, Y, batch_size=8, epochs=2, verbose=0)
    return model


@pytest.fixture(scope="module")
def first():
    return trained(kp.quantize(net(), "w4a8", batchnorm="live"))


def on_grid(kernel, bits):
    """Whether each output channel holds whole numbers of one step, at most ``2^(bits - 1) - 1`` of them."""
    flat = kernel.reshape(-1, kernel.shape[-1])
    steps = flat / (np.abs(flat).max(0) / (2 ** (bits - 1) - 1))
    return np.allclose(steps, np.round(steps), atol=1e-3)


def test_weights_are_on_their_grids_and_statistics_move(first):
    assert {name for name, _, _ in chains_of(first)} == {"conv/kernel", "head/kernel"}
    plain, encodings = kp.finalize(first)
    assert not np.allclose(plain.get_layer("norm").moving_mean, net().get_layer("norm").moving_mean)
    assert on_grid(np.asarray(plain.get_layer("conv").kernel), 4)
    assert not any(encoding.scale for encoding in encodings.values())


def test_then_they_are_folded_and_what_was_trained_stays(first, tmp_path):
    second = kp.quantize(first, "w4a8", calibration=X)
    assert on_grid(np.asarray(kp.finalize(second)[0].get_layer("conv").kernel), 4)
    assert not any(isinstance(layer, L.BatchNormalization) for layer in second._flatten_layers())
    before, after = first.predict(X, verbose=0), second.predict(X, verbose=0)
    assert np.abs(before - after).max() < 0.1 * np.ptp(before)  # but for activations in 8 bits
    assert kp.export(trained(second), tmp_path / "m.tflite", verify=X).agreement.argmax >= 0.99


def test_zeros_are_kept_through_both():
    live = trained(kp.quantize(kp.prune(net(), 0.5), "w4a8", batchnorm="live"))
    plain, _ = kp.finalize(trained(kp.quantize(live, "w4a8", calibration=X)))
    assert (np.asarray(plain.get_layer("conv").kernel) == 0).mean() >= 0.5


def test_rules_count():
    live = kp.quantize(net(), "int8", rules={"conv": 3, "head": "float"}, batchnorm="live")
    assert {name: chain.transforms[0].bits for name, chain, _ in chains_of(live)} == {"conv/kernel": 3}


def test_without_more_it_is_a_float_model(first, tmp_path):
    made = kp.export(first, tmp_path / "m.tflite", verify=X)
    assert made.quantization == "float" and made.breaches == ()


@pytest.mark.parametrize(
    ("options", "norm", "text"),
    [
        ({"batchnorm": "thawed"}, True, "batchnorm='thawed': expected 'frozen' or 'live'"),
        ({"batchnorm": "live"}, False, "has no BatchNormalization; leave it out"),
        ({"batchnorm": "live", "repairs": ["bias"]}, True, "with repairs: give them to the quantize after it"),
    ],
)
def test_bad_input(options, norm, text):
    with pytest.raises(kp.InputError, match=text):
        kp.quantize(net(norm=norm), "w4a8", **options)


def test_in_a_recipe(tmp_path):
    data = {"x_train": X, "y_train": Y, "x_test": X, "y_test": Y}
    stages = [
        {"quantize": "w4a8", "options": {"batchnorm": "live"}, "train": 0.5},
        {"quantize": "w4a8", "train": 0.5},
    ]
    recipe = {"name": "mine", "epochs": 2, "stages": stages, "quantization": "w4a8"}
    trial = kp.optimize(net(), data, recipe, tmp_path).trials[-1]
    assert trial.artifact.breaches == () and trial.skipped == ()
