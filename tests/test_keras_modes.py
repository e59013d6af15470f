"""Keras' own weight-only modes: reached by ``quantize``, refused for TFLite with the reason."""

import keras
import numpy as np
import pytest
from keras import layers as L

import kompakt as kp
from kompakt.keras_modes import quantized_by_keras

X = np.random.default_rng(0).normal(size=(32, 8)).astype("float32")


def words():
    keras.utils.set_random_seed(0)
    i = keras.Input((6,), dtype="int32")
    x = L.Flatten()(L.Conv1D(8, 3, name="conv")(L.Embedding(30, 16, name="table")(i)))
    return keras.Model(i, L.Dense(4, name="head")(x), name="words")


@pytest.mark.parametrize(("mode", "error"), [("keras_int8", 0.05), ("keras_int4", 0.5)])
def test_weights_are_stored_in_few_bits_and_compute_nearly_the_same(mode, error, caplog):
    model, ids = words(), np.arange(24).reshape(4, 6)
    before, wanted = [w.copy() for w in model.get_weights()], model.predict(ids, verbose=0)
    small = kp.quantize(model, mode)

    assert quantized_by_keras(small) == {"table": mode[6:], "head": mode[6:]}
    assert keras.backend.standardize_dtype(small.get_layer("head").kernel.dtype) == "int8"  # Keras unpacks 4 bits
    assert np.abs(small.predict(ids, verbose=0) - wanted).max() < error * wanted.std()
    assert "conv/kernel: left as it is (keras.Model.quantize has no form for its layer)" in caplog.text
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), before, strict=True))
    assert quantized_by_keras(model) == {}


def test_a_configuration_of_keras_is_handed_on():
    small = kp.quantize(words(), keras.quantizers.Int4QuantizationConfig(block_size=8))
    assert quantized_by_keras(small)["head"] == "int4"


@pytest.mark.parametrize("mode", ["keras_int8", "keras_int4"])
def test_tflite_refuses_with_the_reason(mode, tmp_path):
    with pytest.raises(kp.InputError) as caught:
        kp.export(kp.quantize(words(), mode), tmp_path / "m.tflite")
    assert str(caught.value) == (
        f"target='tflite': table, head hold weights that keras.Model.quantize made ({mode[6:]}); TFLite has no "
        "operators for it: of int8 TensorFlow's converter fails, of int4 it makes files that are larger than float "
        "and lose a ReLU without a word. Export it for a server as a SavedModel, model.export(folder), or give the "
        "float model and quantization='weight_only_int8' or 'int8'"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_saved_model_serves_the_same(tmp_path):
    tf = pytest.importorskip("tensorflow")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("SavedModel needs the TensorFlow backend here")
    small, ids = kp.quantize(words(), "keras_int8"), np.arange(24, dtype="int32").reshape(4, 6)
    small.export(tmp_path / "saved", verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    served = loaded.serve(ids)
    np.testing.assert_allclose(np.asarray(served), small.predict(ids, verbose=0), atol=1e-5)


@pytest.mark.parametrize(
    ("mode", "given", "text"),
    [
        ("gptq", {}, "quantize(mode='gptq'): it learns from text; give keras.quantizers.GPTQConfig("),
        (
            "keras_int8",
            {"calibration": X},
            "quantize(mode='keras_int8') with calibration: Keras' own modes take no other",
        ),
        (
            "keras_int4",
            {"ranges": "minmax", "method": "mse"},
            "quantize(mode='keras_int4') with ranges, method: Keras' own modes take no other",
        ),
        (
            "keras_int4",
            {"evaluate": len, "momentum": 0.5},
            "quantize(mode='keras_int4') with evaluate, momentum: Keras' own modes take no other",
        ),
        ("keras_int8", {}, "'bare' has no layer that keras.Model.quantize stores in few bits"),
    ],
)
def test_what_cannot_be(mode, given, text):
    model = keras.Sequential([keras.Input((8, 8)), L.Conv1D(2, 3)], name="bare")
    with pytest.raises(kp.InputError) as caught:
        kp.quantize(model, mode, **given)
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize(
    "earlier",
    [
        lambda m: kp.prune(m, 0.5, sites="head/kernel"),
        lambda m: kp.cluster(m, 4),
        lambda m: kp.quantize(m, "weight_only_int8"),
    ],
)
def test_a_model_with_transforms_is_refused(earlier):
    """Keras once quantized the layer inside, and the masks were computed on integers: outputs moved by 0.88."""
    with pytest.raises(kp.InputError, match=r"finalize first: kompakt\.finalize\(model\)\[0\]"):
        kp.quantize(earlier(words()), "keras_int8")
    assert quantized_by_keras(kp.quantize(kp.finalize(earlier(words()))[0], "keras_int8"))["head"] == "int8"


LATER = {
    "prune": lambda m: kp.prune(m, 0.5),
    "cluster": lambda m: kp.cluster(m, 4),
    "int8": lambda m: kp.quantize(m, "int8", calibration=np.arange(24).reshape(4, 6)),
    "dynamic_int8": lambda m: kp.quantize(m, "dynamic_int8"),
    "keras_int4": lambda m: kp.quantize(m, "keras_int4"),
    "sensitivity": lambda m: kp.sensitivity(m, np.arange(24).reshape(4, 6)),
}


@pytest.mark.long(quick=3)
@pytest.mark.parametrize("later", LATER)
def test_nothing_works_on_a_model_that_keras_quantized(later):
    with pytest.raises(kp.InputError, match=r"table, head hold weights that .* \(int8\); they are integers already"):
        LATER[later](kp.quantize(words(), "keras_int8"))
