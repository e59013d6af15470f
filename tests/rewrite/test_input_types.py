"""Inputs of the type that an integer file takes."""

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

import kompakt as kp
from kompakt.errors import InputError
from kompakt.rewrite.input_types import index_inputs

IDS = np.random.default_rng(0).integers(0, 5000, (64, 12))


def words(dtype="float32"):
    keras.utils.set_random_seed(0)
    i = keras.Input((12,), dtype=dtype, name="ids")
    return keras.Model(i, L.Dense(2, name="d")(L.GlobalAveragePooling1D()(L.Embedding(5000, 8, name="e")(i))))


def test_indices_that_come_as_floats_have_no_grid(tmp_path):
    """On a grid of 8 bits 5000 words became 256: accuracy fell from 1 to a half, and nobody said so."""
    model = words()
    quantized = kp.quantize(model, "int8", calibration=IDS)
    assert "ids_grid/output" not in kp.finalize(quantized)[1]
    wanted, found = model.predict(IDS, verbose=0), quantized.predict(IDS, verbose=0)
    assert np.corrcoef(wanted.ravel(), found.ravel())[0, 1] > 0.99
    made = kp.export(quantized, tmp_path / "m.tflite", verify=IDS.astype("float32"))
    assert made.breaches == () and made.census.float_ops == ()
    assert kp.export(model, tmp_path / "n.tflite", quantization="int8", calibration=IDS).breaches == ()
    assert kp.verify_file(tmp_path / "m.tflite", model, IDS).breaches == ()


def test_through_what_only_moves_them():
    i = keras.Input((12,), name="ids")
    model = keras.Model(i, L.Embedding(50, 4)(L.Reshape((3, 4))(ops.cast(i, "int32"))))
    assert [t.dtype for t in index_inputs(model).inputs] == ["int32"]


def test_numbers_and_indices_in_one_input_are_refused():
    i = keras.Input((4,), name="row")
    columns = [L.Flatten()(L.Embedding(5000, 2, name="shop")(i[:, :1])), i[:, 1:]]
    model = keras.Model(i, L.Dense(1)(L.Concatenate()(columns)))
    with pytest.raises(InputError) as caught:
        kp.quantize(model, "int8")
    assert str(caught.value) == (
        "'shop' reads its indices from the float input 'row', which other layers read too: the file's grid for it "
        "would change indices; give them an input of their own, keras.Input(..., dtype='int32')"
    )


def test_a_model_without_indices_is_left():
    i = keras.Input((4,))
    model = keras.Model(i, L.Dense(1)(i))
    assert index_inputs(model) is model and index_inputs(words("int32")).inputs[0].dtype == "int32"
