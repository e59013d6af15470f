"""The techniques on whole models: their order, what they cannot reach, and what they leave alone."""

import logging

import keras
import numpy as np
import pytest
from keras import layers, ops

import kompakt as kp
from kompakt import testing as laws
from kompakt.attach import attach, finalize, transforms_of
from kompakt.errors import InputError
from kompakt.planning import unreached
from kompakt.schedules import Polynomial
from kompakt.transforms import FakeQuant, Prune


@keras.saving.register_keras_serializable(package="kompakt_tests")
class Own(layers.Layer):
    """A layer with a weight of its own making, which no table knows."""

    def build(self, shape):
        self.table = self.add_weight(shape=(shape[-1], 8), name="table")

    def call(self, x):
        return ops.matmul(x, self.table)


def array(tensor):
    return np.array(ops.convert_to_numpy(tensor))


def small():
    return keras.Sequential([keras.Input((6,)), layers.Dense(8, name="a"), layers.Dense(3, name="b")])


X = np.random.default_rng(0).random((64, 6)).astype("float32")


@pytest.mark.parametrize(
    "late", [lambda q: kp.prune(q, 0.5), lambda q: kp.cluster(q, 4), lambda q: kp.quantize(q, calibration=X)]
)
def test_nothing_comes_after_quantization_and_it_is_said(late):
    quantized = kp.quantize(small(), "int8", calibration=X)
    text = r"^the model 'sequential\w*' is quantized already \(\w+/\w+\): .*quantize last; kompakt.calibrate measures"
    with pytest.raises(kp.InputError, match=text):
        late(quantized)


def test_finalize_leaves_the_state_of_the_model_alone():
    quantized = kp.quantize(small(), "int8", calibration=X)
    before = [array(w) for w in quantized.weights]
    finalize(quantized)
    assert all(np.array_equal(a, array(b)) for a, b in zip(before, quantized.weights, strict=True))


def test_one_transform_given_for_two_sites_has_a_state_at_each():
    """tfmot shares one quantizer among layers: a layer without zeros switches the zeros of the others off."""
    once = Prune(0.5)
    attached = attach(small(), {"a/kernel": [once], "b/kernel": [once]})
    masks = {name: array(t.mask) for name, t in transforms_of(attached)}
    assert masks["a/kernel"].sum() == 24 and masks["b/kernel"].sum() == 12
    assert not once.built


def test_weights_that_no_technique_reaches_are_named(caplog):
    model = keras.Sequential([keras.Input((6,)), Own(name="own"), layers.Dense(3, name="head")])
    with caplog.at_level(logging.WARNING, logger="kompakt"):
        kp.prune(model, 0.5, sites="head/kernel")
    assert "own/table: left as it is (sites knows no weight tensors of its layer)" in caplog.messages
    assert unreached(model) == ["own/table"]


def test_centroids_and_biases_of_attention_are_no_weights_that_were_left_out():
    i = keras.Input((4, 8))
    model = keras.Model(i, layers.MultiHeadAttention(2, 4, name="mha")(i, i))
    clustered = kp.cluster(model, 4, sites="*")
    assert any(len(v.shape) > 1 and "centroids" in v.path for v in clustered.trainable_variables)
    assert unreached(model) == unreached(clustered) == []


def test_the_depthwise_half_of_a_separable_convolution_is_left_out_as_any_other():
    model = keras.Sequential([keras.Input((8, 8, 3)), layers.SeparableConv2D(4, 3, name="s")])
    _, encodings = finalize(kp.prune(model, 0.5))
    assert sorted(encodings) == ["s/pointwise_kernel"]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64", "mixed_float16"])
def test_models_of_any_precision_are_computed_in_their_own(dtype):
    parts = [layers.Conv2D(4, 3, dtype=dtype), layers.Flatten(dtype=dtype), layers.Dense(3, dtype=dtype)]
    model = keras.Sequential([keras.Input((6, 6, 2), dtype="float32"), *parts])
    attached = kp.prune(model, 0.5, sites="*kernel")
    found = attached(np.ones((2, 6, 6, 2), "float32"))
    assert keras.backend.standardize_dtype(found.dtype) == dtype.removeprefix("mixed_")
    assert np.isfinite(array(ops.cast(found, "float32"))).all()


def test_a_lambda_is_copied_and_a_training_step_of_ones_own_is_told(caplog):
    class Mine(keras.Model):
        def train_step(self, *args):
            return super().train_step(*args)

    inputs = keras.Input((4,))
    outputs = layers.Dense(2)(layers.Lambda(lambda x: x + 1.0, output_shape=(4,))(inputs))
    with caplog.at_level(logging.WARNING, logger="kompakt"):
        attached = kp.prune(Mine(inputs, outputs), 0.5)
    assert "has a train_step of its own, which its copy does not" in caplog.text
    assert attached(np.ones((1, 4))).shape == (1, 2)


def test_a_site_with_a_glob_in_its_name_can_be_named():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2, name="d[1]")])
    assert list(finalize(kp.prune(model, 0.5, sites="d[1]/kernel"))[1]) == ["d[1]/kernel"]


def test_a_layer_with_the_name_of_the_inputs_grid_is_refused_in_one_line():
    inputs = keras.Input((4,), name="x")
    model = keras.Model(inputs, layers.Dense(2, name="x_grid")(inputs))
    with pytest.raises(kp.InputError, match="a layer is called 'x_grid', which quantize needs for the input's grid"):
        kp.quantize(model, "int8", calibration=np.ones((4, 4), "float32"))


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ([], "calibration data is empty: expected at least one sample"),
        (X[:0], "calibration data is empty"),
        (X[:, :3], r"calibration data: received an array of shape \(32, 3\), the model takes \(None, 6\)"),
        ([X[:8], X[:8, :3]], r"calibration data: received an array of shape \(8, 3\), the model takes"),
        (X * np.nan, "values of a batch are NaN or infinite; expected finite numbers, clean the data"),
    ],
)
def test_calibration_data_that_cannot_be_used(data, text):
    with pytest.raises(kp.InputError, match=text):
        kp.quantize(small(), "int8", calibration=data)


def test_a_list_of_batches_is_calibrated_on_as_one_array_is():
    model = small()
    whole = finalize(kp.quantize(model, "int8", calibration=X, method="minmax"))[1]
    parts = finalize(kp.quantize(model, "int8", calibration=[X[:32], X[32:]], method="minmax"))[1]
    assert whole == parts


def test_an_unknown_method_is_an_error_without_data_too():
    with pytest.raises(kp.InputError, match="method 'bogus': expected one of minmax, moving_average"):
        kp.quantize(small(), "int8", method="bogus")


def test_training_that_ends_before_the_schedule_is_told_in_the_file(tmp_path):
    schedule = Polynomial(0.0, 0.75, begin=0, end=12, power=1.0, frequency=2)
    attached = kp.prune(laws.toy_model(), schedule=schedule)
    attached.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = laws.toy_data(40)
    attached.fit(x, y, batch_size=8, verbose=0, callbacks=[kp.callbacks.Update()])
    _, encodings = finalize(attached)
    text = "pruned to 0.25 of the 0.75 asked: training ended before the schedule Polynomial"
    assert encodings["dense/kernel"].shortfall.startswith(text)
    if keras.backend.backend() == "tensorflow":
        artifact = kp.export(attached, tmp_path / "m.tflite", verify=x)
        assert any(note.startswith(f"dense/kernel: {text}") for note in artifact.notes)


def test_weights_quantized_by_hand_in_a_sequential_model_are_exported(tmp_path):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("converting needs Keras on TensorFlow")
    attached = attach(small(), {"a/kernel": [FakeQuant(8)], "b/kernel": [FakeQuant(8)]})
    assert kp.export(attached, tmp_path / "m.tflite", verify=X).quantization == "dynamic_int8"


def test_what_was_asked_outlives_what_was_found():
    """A tensor with fewer values than were asked for is kept as it is, and is still asked for as many as before."""
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="d")])
    model.get_layer("d").kernel.assign(np.tile([[0.5, -0.5, 0.25]], (4, 1)))
    aware = kp.quantize(kp.cluster(model, 16), "int8", calibration=np.ones((4, 4), "float32"))
    assert kp.finalize(aware)[1]["d/kernel"].palette == 16
    again = kp.cluster(model, keep="clusters")
    assert kp.finalize(again)[1]["d/kernel"].palette <= 3


def test_clusters_by_type_and_by_predicate():
    model = keras.Sequential([keras.Input((8, 8, 2)), layers.Conv2D(4, 3, name="c"), layers.Flatten(), layers.Dense(3)])
    assert list(finalize(kp.cluster(model, 4, sites=layers.Conv2D))[1]) == ["c/kernel"]
    found = finalize(kp.cluster(model, 4, sites=["c/*", lambda site: site.variable.shape[-1] == 3]))[1]
    assert len(found) == 2


@pytest.mark.parametrize("clusters", [16.5, True, "4"])
def test_clusters_are_counted_in_whole_numbers(clusters):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    with pytest.raises(InputError, match="expected a whole number of values"):
        kp.cluster(model, clusters)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ([[0.0, 1.0, 2.0, 3.0]], "received a list of numbers, expected an array: give numpy.asarray(...)"),
        (3, "received int, expected arrays or batches of them"),
    ],
)
def test_calibration_data_that_is_no_array(given, text):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    with pytest.raises(InputError) as caught:
        kp.quantize(model, calibration=given)
    assert str(caught.value) == f"calibration data: {text}"


def test_what_a_schedule_did_not_come_to_is_told_after_the_next_technique_too():
    schedule = Polynomial(0.0, 0.75, begin=0, end=100, power=1.0, frequency=1)
    pruned = kp.prune(laws.toy_model(), schedule=schedule)
    pruned.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = laws.toy_data(40)
    pruned.fit(x, y, batch_size=8, verbose=0, callbacks=[kp.callbacks.Update()])
    told = finalize(pruned)[1]["conv/kernel"].shortfall
    assert told.startswith("pruned to 0.03 of the 0.75 asked")
    assert finalize(kp.quantize(kp.cluster(pruned, 4), "dynamic_int8"))[1]["conv/kernel"].shortfall == told


def test_a_layer_is_no_site():
    model = laws.toy_model()
    with pytest.raises(InputError) as caught:
        kp.prune(model, 0.5, sites=[model.get_layer("conv")])
    assert str(caught.value) == (
        "sites= has the layer 'conv': expected glob patterns such as 'name/kernel', types of layers or predicates on a "
        "Site"
    )


def test_training_without_the_callback_is_one_line():
    model = kp.prune(laws.toy_model(), schedule=Polynomial(0.0, 0.75, begin=1, end=9))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    with pytest.raises(InputError) as caught:
        model.fit(*laws.toy_data(16), verbose=0)
    assert "callbacks.Update" in str(caught.value) and "\n" not in str(caught.value)
