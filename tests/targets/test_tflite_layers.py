"""What no TFLite file can hold is told with its cause, and with what helps."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers as L

import kompakt as kp
from kompakt.deploy import make_job
from kompakt.examine import _run
from kompakt.targets import find_target

ROWS = (6, 3)
MASK = (
    "{}: it has no integer form: a mask reaches it (Masking, or Embedding with mask_zero=True); train the model "
    "without the mask, on inputs of one length; or export the model as 'float' or 'float16'"
)
RESET = (
    "{}: it has no integer form: reset_after=False cannot be unrolled; train the model with GRU(reset_after=True); or "
    "export the model as 'float' or 'float16'"
)
LOOPS = {
    "reset": ([L.GRU(4, reset_after=False, name="g")], RESET.format("g")),
    "reset, both ways": ([L.Bidirectional(L.GRU(4, reset_after=False), name="b")], RESET.format("b")),
    "masking": ([L.Masking(), L.LSTM(4, name="l")], MASK.format("l")),
    "masking, unrolled by Keras": ([L.Masking(), L.LSTM(4, unroll=True, name="l")], MASK.format("l")),
    "cells": (
        [L.RNN([L.LSTMCell(3), L.GRUCell(3)], name="r")],
        "r: it has no integer form: the loop of RNN cannot be unrolled; take LSTM, GRU or SimpleRNN, or make it with "
        "unroll=True and export as 'dynamic_int8'; or export the model as 'float' or 'float16'",
    ),
    "dropout": (
        [L.LSTM(4, recurrent_dropout=0.1, name="l")],
        "l: a TFLite file cannot hold it: it keeps a state, or drops it out by chance; make it without stateful and "
        "recurrent_dropout",
    ),
}


def model_of(layers):
    return keras.Sequential([keras.Input(ROWS), *[type(e).from_config(e.get_config()) for e in layers], L.Dense(2)])


@pytest.mark.parametrize("case", LOOPS)
def test_an_integer_file(case, tmp_path):
    layers, text = LOOPS[case]
    x = np.random.default_rng(0).normal(size=(16, *ROWS)).astype("float32")
    with pytest.raises(kp.InputError) as caught:
        kp.export(model_of(layers), tmp_path / "m.tflite", quantization="int8", calibration=x)
    assert str(caught.value) == text


def test_an_embedding_with_a_mask(tmp_path):
    model = keras.Sequential([keras.Input((6,)), L.Embedding(9, 4, mask_zero=True), L.GRU(4, name="g"), L.Dense(2)])
    with pytest.raises(kp.InputError) as caught:
        kp.export(model, tmp_path / "m.tflite", quantization="int8", calibration=np.ones((8, 6), "float32"))
    assert str(caught.value) == MASK.format("g")


CAUSE = "mean (GlobalAveragePooling1D) takes the mask of an Embedding(mask_zero=True) or a Masking, which is computed"


def masked_average():
    words = L.Embedding(9, 4, mask_zero=True)
    model = keras.Sequential([keras.Input((6,)), words, L.GlobalAveragePooling1D(name="mean"), L.Dense(2)])
    return model, np.random.default_rng(0).integers(0, 9, (64, 6)).astype("float32")


def test_a_file_with_floats_for_its_mask(tmp_path):
    model, x = masked_average()
    with pytest.raises(kp.VerificationError) as caught:
        kp.export(model, tmp_path / "m.tflite", quantization="int8", calibration=x)
    assert any(line.startswith(CAUSE) for line in caught.value.breaches)


def test_a_file_that_its_runtime_refuses_is_told_with_what_may_help():
    """It said "make it again", of a file that kompakt had just made."""
    model, x = masked_average()
    with pytest.raises(kp.InputError) as caught:
        _run(find_target("tflite"), b"no file", make_job(model, "int8", x), x, "int8")
    assert str(caught.value).startswith(f"{CAUSE} with in floats: ") and str(caught.value).endswith(
        "; no file is written; rules={'LAYER': 'float'} for the layers there, or another quantization may go round that"
    )


def test_a_state_in_a_float_file(tmp_path):
    """It once was a broken file in which an operator makes no tensor."""
    layers, text = LOOPS["dropout"]
    with pytest.raises(kp.InputError) as caught:
        kp.export(model_of(layers), tmp_path / "m.tflite")
    assert str(caught.value) == text


@pytest.mark.parametrize("case", ["reset", "masking", "cells"])
def test_the_remedies_hold(case, tmp_path):
    layers, _ = LOOPS[case]
    x = np.random.default_rng(0).normal(size=(16, *ROWS)).astype("float32")
    x[3, 4:] = 0.0
    assert kp.export(model_of(layers), tmp_path / "m.tflite", verify=x).breaches == ()


def test_a_mask_goes_through_what_quantizes():
    """Keras once warned that FakeQuant destroys it."""
    model = keras.Sequential([keras.Input(ROWS), L.Masking(), L.LSTM(4, return_sequences=True), L.LSTM(2)])
    x = np.random.default_rng(0).normal(size=(16, *ROWS)).astype("float32")
    x[3, 4:] = 0.0
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Layer .* was passed an input with a mask")
        made = kp.quantize(model, "int8", calibration=x)
    assert np.max(np.abs(made.predict(x, verbose=0) - model.predict(x, verbose=0))) < 0.05
