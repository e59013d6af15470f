"""Each operator cut out of a file computes what it computes in the file."""

import keras
import numpy as np
import pytest
from keras import layers as L

import kompakt as kp
from kompakt.targets import litert
from kompakt.targets.profiler_tflite import TFLiteProfiler, captured
from kompakt.targets.tflite_file import TFLiteFile
from kompakt.targets.tflite_slices import slices
from kompakt.targets.tflite_work import work

RNG = np.random.default_rng(0)


def small():
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((8, 8, 3))
    x = a = L.Conv2D(8, 3, padding="same", activation="relu", name="conv1")(x)
    x = L.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    x = L.Add(name="sum")([x, a])
    x = L.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, L.Dense(5, activation="softmax", name="head")(x))


def looped():
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((6, 4))
    return keras.Model(inputs, L.Dense(2, name="head")(L.LSTM(3, name="lstm")(x)))


def computed(each, seen):
    """What a slice makes of what was seen in the file, on the kernels that were looked at there."""
    interpreter = litert.load(each.data, kernels="plain")
    for detail, index in zip(interpreter.get_input_details(), each.inputs, strict=True):
        interpreter.resize_tensor_input(detail["index"], seen[index].shape)
    interpreter.allocate_tensors()
    for detail, index in zip(interpreter.get_input_details(), each.inputs, strict=True):
        interpreter.set_tensor(detail["index"], seen[index])
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (small, {"quantization": "float"}),
        (small, {"quantization": "float16"}),
        (small, {"quantization": "int8", "calibration": RNG.random((32, 8, 8, 3), "float32")}),
        pytest.param(small, {"quantization": "dynamic_int8"}, marks=pytest.mark.slow),
        pytest.param(looped, {"quantization": "float"}, marks=pytest.mark.slow),
    ],
    ids=["float", "float16", "int8", "dynamic", "loop"],
)
def test_a_slice_computes_what_the_operator_does(make, options, tmp_path):
    model = make()
    data = (tmp_path / kp.export(model, tmp_path / "m.tflite", **options).path).read_bytes()
    file, cut = TFLiteFile(data), list(slices(data))
    made = [op for op in file.ops if op.name not in ("DEQUANTIZE", "DENSIFY")]
    assert len(cut) == len(work(file)) == len(made)
    outputs = [op.outputs[0] for op in made]
    x = RNG.random((1, *model.input_shape[1:]), "float32")
    seen = captured(file, data, x, [i for each in cut for i in each.inputs] + outputs)
    for each, index in zip(cut, outputs, strict=True):
        assert np.array_equal(computed(each, seen)[0], seen[index]), file.tensors[index].name


def test_a_slice_holds_its_own_constants_alone(tmp_path):
    data = (tmp_path / kp.export(small(), tmp_path / "m.tflite").path).read_bytes()
    first = next(iter(slices(data)))
    kept = [t.name for t in TFLiteFile(first.data).tensors if t.values is not None]
    assert "conv1/kernel" in kept and "head/kernel" not in kept
    assert len(first.data) < len(data) / 2
    assert TFLiteFile(data).pack()  # the file itself is as it was


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*argmax agreement:UserWarning")
def test_a_run_that_cannot_be_looked_into(tmp_path):
    """Grids so fine that LiteRT's own kernels refuse a ReLU6 on them (untrained models have such); XNNPACK does not."""
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, L.ReLU(6.0, name="six")(L.Conv2D(4, 3, use_bias=False, name="conv")(inputs)))
    x = 1e-12 * RNG.random((32, 8, 8, 3), "float32")
    made = kp.export(model, tmp_path / "m.tflite", quantization="int8", calibration=x, on_breach="warn")
    found = TFLiteProfiler().operators((tmp_path / made.path).read_bytes(), x, threads=1, rounds=2)
    assert found.note.startswith("operators were fed zeros, a run could not be looked into (LiteRT refuses the file")
    assert all(row.milliseconds > 0.0 for row in found.rows)
