"""Files made from nothing compute what they say."""

import numpy as np
import pytest

from kompakt.targets import litert
from kompakt.targets.tflite_build import nothing, product
from kompakt.targets.tflite_file import TFLiteFile


def run(data, x):
    interpreter = litert.load(data)
    litert.feed(interpreter, interpreter.get_input_details()[0], x)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


@pytest.mark.parametrize("kind", ["float32", "int8"])
def test_a_product(kind):
    data = product(kind, 4, 16, 8)
    held = TFLiteFile(data).named("w")
    x = np.random.default_rng(1).standard_normal((4, 16)).astype("float32")
    if kind == "float32":
        assert run(data, x) == pytest.approx(x @ held.values.T, rel=1e-5, abs=1e-5)
        return
    whole = np.clip(np.round(x / np.float32(0.05)), -128, 127).astype("int64") @ held.values.T.astype("int64")
    assert np.abs(run(data, x) - np.clip(whole * (0.05 * 0.01 / 0.5), -128, 127)).max() <= 1.0


def test_nothing():
    assert run(nothing(), np.array([[-1.0]], "float32")) == 0.0
