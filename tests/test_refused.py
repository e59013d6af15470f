"""What ``export`` and ``quantize`` were given, and what of it cannot be used."""

import keras
import numpy as np
import pytest
from keras import layers as L

import kompakt as kp
from kompakt.errors import InputError

X = np.random.default_rng(0).normal(size=(96, 6)).astype("float32")


def dense():
    keras.utils.set_random_seed(1)
    return keras.Sequential([keras.Input((6,)), L.Dense(8, "relu", name="hidden"), L.Dense(4, name="logits")])


@pytest.mark.slow
def test_ranges_of_a_quantized_model_are_not_measured_again(tmp_path):
    """calibration= and method= were ignored without a word."""
    quantized = kp.quantize(dense(), "int8", calibration=X)
    with pytest.raises(InputError, match="method='minmax': the model is quantized already and has its ranges"):
        kp.export(quantized, tmp_path / "m.tflite", calibration=X, method="minmax")
    (note,) = kp.export(quantized, tmp_path / "m.tflite", calibration=X).notes
    assert note.startswith("calibration= was only used as samples to compare on: the model is quantized already")
    (note,) = kp.export(quantized, tmp_path / "m.tflite", calibration=X, verify=X).notes
    assert note.startswith("calibration= was not used: the model is quantized already")


@pytest.mark.parametrize("mode", ["dynamic_int8", "weight_only_int8"])
def test_what_has_no_meaning_without_ranges_is_refused(mode):
    text = rf"mode='{mode}'\) with %s: its activations have no ranges"
    with pytest.raises(InputError, match=text % "calibration, method"):
        kp.quantize(dense(), mode, calibration=X, method="mse")
    with pytest.raises(InputError, match=text % "method"):
        kp.quantize(dense(), mode, calibration=X, method="mse", repairs=["bias"])
    kp.quantize(dense(), mode, calibration=X, repairs=["bias"])
    kp.quantize(dense(), mode, ranges="lsq")  # the steps of weights are learned


@pytest.mark.long(quick=1)
@pytest.mark.parametrize(
    ("rules", "text"),
    [
        ({"*": "int8", "logits": "int16x8"}, "'logits' has 16-bit integers at an end of the model; give io='float32'"),
        ({"*": "int8", "hidden": "int16x8"}, "has 16-bit integers at an end of the model"),
        ({"*": "int8", "logits": "float"}, "'logits' has floats at an end of the model"),
    ],
)
@pytest.mark.parametrize("io", ["int8", "uint8"])
def test_an_end_of_another_width_than_io_is_refused_before_conversion(rules, text, io, tmp_path):
    """TensorFlow's own text came after seconds."""
    with pytest.raises(InputError, match=rf"io='{io}': .*{text}"):
        kp.export(dense(), tmp_path / "m.tflite", rules=rules, calibration=X, io=io)
    middle = kp.export(dense(), tmp_path / "m.tflite", rules={"logits": np.int64(4)}, calibration=X, io=io)
    assert middle.breaches == () and middle.io == io


def test_a_mode_of_keras_itself_is_refused_with_the_reason(tmp_path):
    with pytest.raises(
        InputError, match=r"keras_int8': of kompakt\.quantize and of target='savedmodel'\. TFLite has no"
    ):
        kp.export(dense(), tmp_path / "m.tflite", quantization="keras_int8")


def lines():
    yield X


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda p: kp.export(dense(), p, quantization=8), "quantization=8: expected one of float, float16, "),
        (lambda p: kp.export(dense(), p, quantization="INT8"), "int16x8, mixed; nearest: 'int8'$"),
        (lambda p: kp.export(dense(), p.with_suffix(".onnx")), r"m\.onnx: the target 'tflite' writes \.tflite files"),
        (lambda p: kp.export(dense(), None), r"path=None: expected the file to write, such as 'model\.tflite'"),
        (lambda p: kp.quantize("m.keras"), "received the path 'm.keras', expected a keras.Model: kompakt.load_model"),
        (lambda p: kp.quantize(dense(), calibration=X[0]), r"shape \(6,\), the model takes \(None, 6\); that is one"),
        (lambda p: kp.export(dense(), p, verify=X[0]), r"takes \(None, 6\); that is one sample: give several as one"),
        (lambda p: kp.quantize(dense(), calibration="d.npz"), "received the path 'd.npz', expected arrays: those of"),
        (lambda p: kp.quantize(dense(), calibration=lines), "received a function, expected what it returns: call it"),
        (
            lambda p: kp.quantize(dense(), calibration=X, max_drop=0.1, evaluate="accuracy"),
            "evaluate='accuracy': give both, .* a function of a model that returns its score",
        ),
    ],
)
def test_what_is_received_expected_and_to_do(call, text, tmp_path):
    with pytest.raises(InputError, match=text):
        call(tmp_path / "m.tflite")
    assert not any(tmp_path.iterdir())


def test_an_operation_without_an_operator_is_named(tmp_path):
    i = keras.Input((8,))
    real, imaginary = keras.ops.fft((i, keras.ops.zeros_like(i)))
    with pytest.raises(InputError, match=r"refuses the model '\w+': Complex has no TFLite operator \("):
        kp.export(keras.Model(i, keras.ops.abs(real + imaginary)), tmp_path / "m.tflite")
