"""quantize_annotate_layer, quantize_annotate_model, quantize_apply: which layers are quantized, and called how."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import kompakt as kp
from kompakt.attach import Transformed, transforms_of
from kompakt.errors import InputError
from kompakt.tfmot.quantization.annotate import QuantizeAnnotate
from kompakt.tfmot.quantization.keras import (
    default_8bit,
    quantize_annotate_layer,
    quantize_annotate_model,
    quantize_apply,
    quantize_model,
    quantize_scope,
)

X = np.random.default_rng(0).normal(size=(64, 6)).astype("float32")


def plain(**options):
    return keras.Sequential(
        [keras.Input((6,), name="x"), layers.Dense(8, "relu", name="a"), layers.Dense(3, name="b")], **options
    )


def same(first, second, x=X):
    return np.array_equal(first.predict(x, verbose=0), second.predict(x, verbose=0))


def quantized(model):
    return {layer.name for layer in model.layers if isinstance(layer, Transformed)}


def test_an_annotated_layer_is_called_as_it_is_and_unbuilt_ones_are_built():
    dense = layers.Dense(3, name="b")
    model = keras.Sequential([keras.Input((6,)), layers.Dense(8, name="a"), quantize_annotate_layer(dense)])
    assert dense.built and model.layers[1].layer is dense
    assert np.allclose(model.predict(X, verbose=0), dense(model.layers[0](X)), atol=1e-6)
    eager = quantize_annotate_layer(layers.Dense(3))
    assert eager(X).shape == (64, 3)


def test_a_first_layer_with_input_shape_builds_the_model():
    with pytest.warns(UserWarning, match="input_shape"):
        first = layers.Dense(3, input_shape=(6,), name="a")
    model = keras.Sequential([quantize_annotate_layer(first)])
    assert model.built and quantized(quantize_apply(model)) == {"input_grid", "quant_a"}


def test_layers_without_an_annotation_stay_float():
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(8, "relu", name="a"), quantize_annotate_layer(layers.Dense(3, name="b"))]
    )
    made = quantize_apply(model)
    assert {name.split("/")[0] for name, _ in transforms_of(made)} == {"a_int8_grid", "quant_b"}
    assert type(made.get_layer("a")) is layers.Dense


def test_in_functional_style_several_inputs_and_keywords_go_through():
    class Weighted(layers.Layer):
        def call(self, x, other, *, factor=1.0, training=False):
            return (x + other) * factor if not training else x

    i, j = keras.Input((6,), name="i"), keras.Input((6,), name="j")
    dense = quantize_annotate_layer(layers.Dense(6, name="d"))
    y = quantize_annotate_layer(Weighted(name="w"))(dense(i), other=j, factor=3.0)
    model = keras.Model([i, j], y)
    assert np.allclose(model.predict([X, X], verbose=0), (model.get_layer("d").layer(X) + X) * 3.0, atol=1e-5)
    assert np.allclose(ops.convert_to_numpy(model([X, X], training=True)), model.get_layer("d").layer(X), atol=1e-5)
    made = kp.calibrate(quantize_apply(model), [X, X], method="minmax")
    assert np.abs(made.predict([X, X], verbose=0) - model.predict([X, X], verbose=0)).max() < 0.3


def test_training_reaches_a_layer_and_keeps_its_given_value():
    model = keras.Sequential([keras.Input((6,)), quantize_annotate_layer(layers.Dropout(0.5, seed=1))])
    assert same(model, keras.Sequential([keras.Input((6,)), layers.Identity()]))
    assert (ops.convert_to_numpy(model(X, training=True)) == 0).mean() > 0.3
    i = keras.Input((6,))
    always = keras.Model(i, quantize_annotate_layer(layers.Dropout(0.5))(layers.Dense(6)(i), training=True))
    assert (ops.convert_to_numpy(always(X)) == 0).mean() > 0.3


def test_masks_go_through():
    i = keras.Input((5,), dtype="int32")
    x = layers.Embedding(7, 4, mask_zero=True)(i)
    x = quantize_annotate_layer(layers.LSTM(3, name="l"))(x)
    model = keras.Model(i, x)
    bare = keras.Model(i, model.get_layer("l").layer(model.layers[1](i)))
    ids = np.array([[1, 2, 0, 0, 0], [3, 4, 5, 6, 1]], "int32")
    assert same(model, bare, ids)
    ones = np.where(ids == 0, 6, ids)
    assert not np.allclose(model.predict(ids, verbose=0)[0], model.predict(ones, verbose=0)[0])


def test_clone_model_with_a_clone_function_marks_some_layers():
    model = plain()

    def mark(layer):
        return quantize_annotate_layer(layer) if layer.name == "a" else layer

    annotated = keras.models.clone_model(model, clone_function=mark)
    assert same(annotated, model)
    made = quantize_apply(annotated)
    assert quantized(made) >= {"quant_a"} and "b" in {layer.name for layer in made.layers}


def test_the_users_model_is_not_changed():
    model = plain()
    before, types = model.get_weights(), [type(layer) for layer in model.layers]
    made = quantize_model(model)
    made.compile("sgd", "mse")
    made.fit(X, X[:, :3], verbose=0)
    assert [type(layer) for layer in model.layers] == types
    assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))
    assert all(len(layer._inbound_nodes) == 1 for layer in model.layers)


def test_the_prefix_is_on_layers_that_were_annotated_and_can_be_left_out():
    names = [layer.name for layer in quantize_model(plain()).layers]
    assert names == ["x", "x_grid", "quant_a", "quant_b"]
    assert [layer.name for layer in quantize_model(plain(), "q8_").layers][-1] == "q8_b"
    for none in ("", None):
        assert [layer.name for layer in quantize_model(plain(), none).layers][-2:] == ["a", "b"]
    made = quantize_model(keras.Sequential([keras.Input((6,)), layers.Dense(3, "softmax", name="d")]))
    assert [layer.name for layer in made.layers][-2:] == ["quant_d", "quant_d_softmax"]


def test_a_prefixed_model_is_finalized_and_exported_under_its_names(tmp_path):
    made = kp.calibrate(quantize_model(plain()), X)
    stored = kp.finalize(made)[1]
    assert {"quant_a/kernel", "quant_b/kernel", "quant_b/output", "x_grid/output"} <= set(stored)
    found = kp.export(made, tmp_path / "m.tflite", verify=X)
    assert found.io == "int8" and {fact.site for fact in found.sites} == {"quant_a/kernel", "quant_b/kernel"}


def test_quantize_model_is_kompakts_quantize():
    model = plain()
    ours, theirs = kp.quantize(model, calibration=X), kp.calibrate(quantize_model(model), X)
    assert same(ours, theirs)


def test_nested_and_subclassed_models_are_entered():
    inner = plain(name="inner")
    i = keras.Input((6,))
    nested = keras.Model(i, layers.Dense(2, name="end")(inner(i)))
    assert quantized(quantize_model(nested)) >= {"quant_a", "quant_b", "quant_end"}

    class Mine(keras.Model):
        def __init__(self):
            super().__init__()
            self.first = layers.Dense(4, "relu", name="first")
            self.last = layers.Dense(2, name="last")

        def call(self, x):
            return self.last(self.first(x))

    model = Mine()
    model(X)
    assert quantized(quantize_model(model)) >= {"quant_first", "quant_last"}


def test_batch_normalization_is_folded_into_the_layer_that_is_annotated():
    i = keras.Input((8, 8, 3))
    x = quantize_annotate_layer(layers.Conv2D(4, 3, use_bias=False, name="c"))(i)
    x = quantize_annotate_layer(layers.ReLU(name="r"))(quantize_annotate_layer(layers.BatchNormalization(name="n"))(x))
    model = keras.Model(i, layers.Dense(2, name="float")(layers.GlobalAveragePooling2D(name="g")(x)))
    made = quantize_apply(model)
    assert [layer.name for layer in made.layers][2:] == ["quant_c", "quant_r", "g", "float"]


@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_annotated_and_quantized_models_are_saved_and_read(tmp_path, ending):
    annotated = quantize_annotate_model(plain())
    made = kp.calibrate(quantize_apply(annotated), X)
    for name, model in (("annotated", annotated), ("made", made)):
        path = tmp_path / f"{name}.{ending}"
        model.save(path)
        assert same(keras.saving.load_model(path), model)
        with quantize_scope():
            assert same(keras.saving.load_model(path), model)
    again = keras.saving.load_model(tmp_path / f"annotated.{ending}")
    assert [type(layer) for layer in again.layers] == [QuantizeAnnotate] * 2
    assert same(kp.calibrate(quantize_apply(again), X), made)


def test_what_cannot_be_annotated_or_quantized_is_said():
    for wrong, name in ((plain(), "Sequential"), (None, "NoneType"), ("dense", "str")):
        with pytest.raises(InputError, match=f"quantize_annotate_layer received {name}, expected a Keras layer"):
            quantize_annotate_layer(wrong)
    with pytest.raises(InputError, match="quantize_config is dict, expected an instance of a subclass"):
        quantize_annotate_layer(layers.Dense(1), {})
    with pytest.raises(InputError, match="has no annotated layer: mark some with quantize_annotate_layer"):
        quantize_apply(plain())
    with pytest.raises(InputError, match="has no weights yet"):
        quantize_apply(keras.Sequential([quantize_annotate_layer(layers.Dense(1))]))
    with pytest.raises(InputError, match=r"scheme=<class .*expected an instance of a scheme"):
        quantize_apply(quantize_annotate_model(plain()), default_8bit.Default8BitQuantizeScheme)
    with pytest.raises(InputError, match="received NoneType, expected a keras"):
        quantize_model(None)


def test_outputs_of_a_model_with_several_have_the_names_of_their_layers(tmp_path):
    """A softmax in a Dense is a layer of its own here: losses by name did not find ``quant_kind``."""
    i = keras.Input((4,))
    ends = [
        keras.layers.Dense(3, activation="softmax", name="kind")(i),
        keras.layers.Dense(1, name="size")(i),
        keras.layers.Dense(1, activation="sigmoid", name="sure")(i),
    ]
    quantized = quantize_model(keras.Model(i, ends))
    assert quantized.output_names == ["quant_kind", "quant_size", "quant_sure"]
    losses = {"quant_kind": "sparse_categorical_crossentropy", "quant_size": "mse", "quant_sure": "mse"}
    quantized.compile("adam", loss=losses)
    x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    quantized.fit(x, [np.zeros(64), np.zeros(64), np.zeros(64)], verbose=0)
    quantized.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    assert again.output_names == quantized.output_names
    np.testing.assert_array_equal(again.predict(x, verbose=0)[0], quantized.predict(x, verbose=0)[0])
    assert kp.export(again, tmp_path / "m.tflite", verify=x).breaches == ()
