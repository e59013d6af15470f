"""Files in operators that TensorFlow Lite Micro has, and that it computes as LiteRT's reference kernels do."""

import importlib.util
import re
from pathlib import Path

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

import kompakt as kp
from kompakt.targets import find_target
from kompakt.targets.tflite_file import TFLiteFile
from kompakt.targets.tflite_runtime import run
from kompakt.targets.tflm_edit import ALIGNMENT, packed
from kompakt.targets.tflm_operators import OPERATORS
from kompakt.targets.tflm_rewrite import for_micro

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("tflite_micro") is None,
    reason="TensorFlow Lite Micro is not installed: pip install --pre 'kompakt[tflm]'",
)
L = keras.layers
PLACE = find_target("tflm")


def dense():
    """Dense beside Dense, one twice, one without a bias, one with one unit, one over rows."""
    i = keras.Input((6, 4))
    shared = L.Dense(4, activation="relu", name="shared")
    x = shared(shared(i))
    x = L.Dense(8, use_bias=False, name="plain")(L.Flatten(name="flat")(x))
    return keras.Model(i, [L.Dense(1, name="one")(x), L.Dense(3, name="three")(L.Add(name="sum")([x, x]))])


def cnn():
    i = keras.Input((8, 8, 3))
    x = L.Conv2D(8, 3, activation="relu", name="conv")(i)
    x = L.MaxPooling2D(2, name="pool")(x)
    return keras.Model(i, L.Dense(5, name="logits")(L.Dense(8, name="up")(L.Flatten(name="flat")(x))))


def recurrent():
    parts = [L.Conv1D(6, 3, activation="relu", name="c"), L.LSTM(5, name="lstm"), L.Dense(3, name="d")]
    return keras.Sequential([keras.Input((7, 4)), *parts])


def words():
    """A small transformer of words."""
    i = keras.Input((6,), dtype="int32")
    x = L.Embedding(20, 8, name="table")(i)
    x = L.Add(name="sum")([x, L.MultiHeadAttention(2, 4, name="mha")(x, x)])
    x = L.Dense(8, activation="relu", name="up")(L.LayerNormalization(name="norm")(x))
    return keras.Model(i, L.Dense(3, name="logits")(L.GlobalAveragePooling1D(name="mean")(x)))


def made(make):
    keras.utils.set_random_seed(0)
    model, rng = make(), np.random.default_rng(0)
    shape = (80, *model.inputs[0].shape[1:])
    return model, rng.integers(0, 20, shape).astype("int32") if make is words else rng.normal(size=shape).astype("f4")


def equal(data, x):
    """Whether the file that ships computes in LiteRT's reference kernels what it does in TensorFlow Lite Micro."""
    found, expected = PLACE.run(data, x), run(PLACE.flatbuffer(data), x, kernels="reference")
    assert found.breaches == ()
    return all((f == e).all() for f, e in zip(found.values, expected.values, strict=True))


@pytest.mark.long(quick=1)
@pytest.mark.parametrize("mode", ["int8", "w4a8"])
@pytest.mark.parametrize("make", [cnn, dense, recurrent, words])
def test_the_file_that_ships_is_equal_in_both_runtimes_on_every_sample(make, mode, tmp_path):
    model, x = made(make)
    file = kp.export(model, tmp_path / "m", target="tflm", quantization=mode, calibration=x, on_breach="warn")
    data = PLACE.read(file.path)
    assert "FULLY_CONNECTED" not in file.census.ops
    assert equal(data, x) and PLACE.altered(data) == [] and PLACE.unsound(data) == []


def test_a_reshape_stands_only_where_a_shape_is_seen(tmp_path):
    keras.utils.set_random_seed(0)
    sizes = [L.Dense(n, activation="relu", name=f"d{n}") for n in (8, 4, 6)]
    model = keras.Sequential([keras.Input((10,)), *sizes])
    x = np.random.default_rng(0).normal(size=(40, 10)).astype("f4")
    file = kp.export(model, tmp_path / "m", target="tflm", quantization="int8", calibration=x)
    assert dict(file.census.ops) == {"RESHAPE": 2, "CONV_2D": 3}
    held = {site.site: site.tensor for site in file.sites}
    assert list(held) == ["d8/kernel", "d4/kernel", "d6/kernel"]


@pytest.mark.slow
def test_an_embedding_reads_its_rows_from_the_end_too(tmp_path):
    model, x = made(words)
    x[:, 0] = np.arange(80) % 20 - 20
    kp.export(model, tmp_path / "m", target="tflm")
    found = PLACE.run(PLACE.read(tmp_path / "m"), x).values[0]
    np.testing.assert_allclose(found, model.predict(x, verbose=0), atol=1e-5)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    model, x = made(cnn)
    path = tmp_path_factory.mktemp("tflm") / "m"
    kp.export(model, path, target="tflm", quantization="int8", calibration=x)
    return PLACE.flatbuffer(PLACE.read(path))


def test_every_constant_is_aligned(exported):
    flat = schema.Model.GetRootAsModel(exported, 0)
    whole, starts = np.frombuffer(exported, "uint8"), []
    for i in range(flat.BuffersLength()):
        held = flat.Buffers(i).DataAsNumpy()
        if isinstance(held, np.ndarray) and held.size:
            starts.append((held.ctypes.data - whole.ctypes.data) % ALIGNMENT)
    assert len(starts) > 6 and set(starts) == {0}


def test_nothing_is_left_in_the_file_that_nothing_refers_to(exported):
    file = TFLiteFile(exported)
    used = {i for op in file.ops for i in (*op.inputs, *op.outputs)}
    assert used == set(range(len(file.tensors)))
    assert {op.opcodeIndex for op in file.graph.operators} == set(range(len(file.model.operatorCodes)))
    buffers = {t.buffer for t in file.graph.tensors} | {m.buffer for m in file.model.metadata} | {0}
    assert buffers == set(range(len(file.model.buffers)))
    signature = file.model.signatureDefs[0]
    assert [int(e.tensorIndex) for e in (*signature.inputs, *signature.outputs)] == [*file.inputs, *file.outputs]


def test_a_file_that_was_rewritten_stays_as_it_is(exported):
    once = for_micro(exported)
    assert packed(once) == packed(for_micro(packed(once)))
    assert [op.name for op in once.ops] == [op.name for op in TFLiteFile(exported).ops]


def test_the_operators_are_those_that_the_runtime_registers():
    found = importlib.util.find_spec("tflite_micro")
    (library,) = Path(found.submodule_search_locations[0]).rglob("_runtime*.so")
    registered = {name.decode() for name in re.findall(rb"Register_([A-Z][A-Z0-9_]+)Ev", library.read_bytes())}
    builtin = {name for name in vars(schema.BuiltinOperator) if not name.startswith("_")}
    assert registered & builtin == OPERATORS and len(OPERATORS) == 100
