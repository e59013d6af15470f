"""Functions of 16-bit integers beside the runtime's own, on every integer there is."""

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers as L

import kompakt as kp
from kompakt.integer_functions import WideFunction, sigmoid_table, table_units
from kompakt.records import Encoding
from kompakt.targets.litert import load


@pytest.mark.long(quick=2)
@pytest.mark.parametrize("function", ["tanh", "sigmoid"])
@pytest.mark.parametrize("reach", [0.9, 4.0, 8.0, 13.7])
def test_every_integer(function, reach, tmp_path):
    i = keras.Input((1024, 1))
    exact = L.Conv1D(1, 1, use_bias=False, kernel_initializer="ones")
    model = keras.Model(i, L.Activation(function, name="f")(exact(i)))
    x = np.linspace(-reach, reach, 65536, dtype="float32").reshape(64, 1024, 1)
    quantized = kp.quantize(model, "int16x8", calibration=x, ranges="minmax")
    path = kp.export(quantized, tmp_path / "f.tflite", verify=x[::16]).path

    runtime = load(Path(path).read_bytes(), keep_tensors=True)
    given, made = _function_tensors(runtime)
    grids = {t["index"]: t["quantization"][0] for t in runtime.get_tensor_details()}
    layer = WideFunction("f", function, Encoding(bits=16, scale=(float(grids[given]),), zero_point=(0,)))
    for row in np.arange(-32768, 32768).reshape(64, 1024, 1).astype("int16"):
        runtime.set_tensor(runtime.get_input_details()[0]["index"], row[None])
        runtime.invoke()
        steps, found = runtime.get_tensor(given), runtime.get_tensor(made)
        expected = np.asarray(layer(steps.astype("float32") * np.float32(grids[given]))) * 32768
        np.testing.assert_array_equal(expected, found)


def _function_tensors(runtime):
    op = next(op for op in runtime._get_ops_details() if op["op_name"] in ("TANH", "LOGISTIC"))
    return op["inputs"][0], op["outputs"][0]


def test_the_table_rises_from_a_half_to_one():
    table = sigmoid_table()
    assert table[0] == 32768 and table[-1] == 65535 and np.all(np.diff(table) >= 0) and len(table) == 257


@pytest.mark.parametrize("step", [1e-6, 3.05e-5, 2.0**-12, 2.0**-11, 2.0**-10, 1e-3, 0.1])
def test_units_of_a_step(step):
    multiplier, divisor = table_units(step)
    assert multiplier / divisor == pytest.approx(step * 12288, rel=1e-4) and multiplier == int(multiplier) < 2**15
