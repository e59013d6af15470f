"""What earlier techniques left on a weight is found again wherever the deployed form has that weight."""

import keras
import numpy as np
import pytest
from keras import layers as L

import kompakt as kp
from kompakt.attach import finalize
from kompakt.deployable import unfolded
from kompakt.errors import InputError
from kompakt.sites import sites


def separable_over_time():
    i = keras.Input((3, 8, 4))
    x = L.TimeDistributed(L.SeparableConv1D(8, 3), name="t")(i)
    return keras.Model(i, L.Dense(3, name="o")(L.Flatten()(x)))


def model_over_time():
    """A CNN on each image of a film, whose layers have names that the model's own have too."""
    parts = [L.Conv2D(4, 3, name="c"), L.BatchNormalization(), L.ReLU(), L.GlobalAveragePooling2D()]
    frame = keras.Sequential([keras.Input((6, 6, 3)), *parts, L.Dense(4, name="o")])
    i = keras.Input((3, 6, 6, 3))
    return keras.Model(i, L.Dense(3, name="o")(L.LSTM(4, name="l")(L.TimeDistributed(frame, name="t")(i))))


def models_over_time_in_one():
    part = keras.Sequential([keras.Input((4,)), L.Dense(4, name="d")])
    row = keras.Sequential([keras.Input((2, 4)), L.TimeDistributed(part, name="u"), L.Flatten(), L.Dense(4, name="e")])
    i = keras.Input((3, 2, 4))
    return keras.Model(i, L.Dense(3, name="o")(L.Flatten()(L.TimeDistributed(row, name="t")(i))))


def attention_in_a_model():
    i, j = keras.Input((8, 6)), keras.Input((8, 6))
    block = keras.Model(i, L.Dense(4, name="e")(L.MultiHeadAttention(2, 3, name="a")(i, i)), name="block")
    return keras.Model(j, L.Dense(3, name="o")(L.Flatten()(block(j))))


def over_time_in_a_model():
    i, j = keras.Input((4, 6)), keras.Input((4, 6))
    block = keras.Model(i, L.TimeDistributed(L.Dense(4), name="t")(i), name="block")
    return keras.Model(j, L.Dense(3, name="o")(L.Flatten()(block(j))))


@pytest.mark.parametrize(
    "make",
    [separable_over_time, model_over_time, models_over_time_in_one, attention_in_a_model, over_time_in_a_model],
    ids=lambda make: make.__name__,
)
def test_zeros_are_kept_where_a_weight_has_moved(make):
    keras.utils.set_random_seed(0)
    model = make()
    names = [site.name for site in sites(model) if site.variable is not None]
    x = np.random.default_rng(0).normal(size=(8, *model.input_shape[1:])).astype("float32")
    pruned = kp.prune(model, 0.5, sites=names)
    zeros = sorted(e.zeros for e in finalize(pruned)[1].values())

    plain, encodings = finalize(kp.quantize(pruned, calibration=x))
    asked = {site: e.zeros for site, e in encodings.items() if e.zeros}
    assert sorted(asked.values()) == zeros and len(zeros) == len(names)
    values = {site.name: site.variable for site in sites(plain) if site.variable is not None}
    for site, count in asked.items():
        assert (keras.ops.convert_to_numpy(values[site]) == 0.0).sum() >= count


@pytest.mark.parametrize("make", [model_over_time, models_over_time_in_one], ids=lambda make: make.__name__)
def test_a_model_over_time_is_entered(make):
    keras.utils.set_random_seed(0)
    model = make()
    x = np.random.default_rng(0).normal(size=(8, *model.input_shape[1:])).astype("float32")
    flat, _ = unfolded(model)
    assert not any(isinstance(layer, (keras.Model, L.TimeDistributed)) for layer in flat.layers)
    np.testing.assert_allclose(*(keras.ops.convert_to_numpy(m(x)) for m in (model, flat)), atol=1e-5)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TFLite files are made on TensorFlow")
def test_the_file_of_a_model_over_time_is_integer(tmp_path):
    keras.utils.set_random_seed(0)
    model = model_over_time()
    x = np.random.default_rng(0).normal(size=(64, *model.input_shape[1:])).astype("float32")
    artifact = kp.export(model, tmp_path / "m.tflite", quantization="int8", calibration=x)
    assert artifact.breaches == () and artifact.agreement.max_lsb <= 2.0 and artifact.census.float_ops == ()


def test_what_has_no_place_in_the_deployed_form_is_an_error(monkeypatch):
    model = keras.Sequential([keras.Input((4,)), L.Dense(8, name="a"), L.Dense(3, name="b")])
    pruned = kp.prune(model, 0.5, sites="a/kernel")
    flat, keeps = unfolded(pruned)
    monkeypatch.setattr("kompakt.quantization.unfolded", lambda _: (flat, {"gone/kernel": keeps["a/kernel"]}))
    text = (
        "gone/kernel: no weight of the model as it is deployed, so that what prune or cluster did there would be lost"
    )
    with pytest.raises(InputError, match=text):
        kp.quantize(pruned, "dynamic_int8")
