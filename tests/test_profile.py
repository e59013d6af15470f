"""``kp.profile`` and ``kp.compare_latency``: facts that do not depend on the machine, and what is refused."""

import dataclasses
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers as L

import kompakt as kp
from kompakt.files import gzip_bytes
from kompakt.profile import cores, machine
from kompakt.records import from_json, to_json
from kompakt.records_profile import LatencyRatio, Profile

X = np.random.default_rng(0).random((32, 8, 8, 3), "float32")


def small():
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((8, 8, 3), name="image")
    x = L.Conv2D(8, 3, use_bias=False, name="conv")(x)
    x = L.ReLU(name="relu")(L.BatchNormalization(name="norm")(x))
    return keras.Model(inputs, L.Dense(5, name="head")(L.Flatten(name="flat")(x)), name="small")


@pytest.fixture(scope="module")
def model():
    return small()


@pytest.fixture(scope="module")
def files(model, tmp_path_factory):
    """Mode -> the artifact."""
    folder = tmp_path_factory.mktemp("files")
    return {
        mode: kp.export(model, folder / f"{mode}.tflite", quantization=mode, calibration=X)
        for mode in ("float", "int8")
    }


@pytest.fixture(scope="module")
def found(files, model):
    """A profile with everything in it."""
    return kp.profile(files["int8"], inputs=X, model=model, threads=[1, 2], rounds=3, operators=True)


def test_what_is_counted(found, model, files):
    assert (found.target, found.batch, found.macs) == ("tflite", 1, 36 * 8 * 27 + 36 * 8 * 5)
    assert found.parameters == model.count_params()
    assert found.bytes == files["int8"].bytes and found.gzip_bytes == files["int8"].gzip_bytes
    assert found.weight_bytes + found.other_bytes == found.bytes
    assert found.weight_bytes == 27 * 8 + 4 * 8 + 36 * 8 * 5  # the bias of the convolution is the normalization's


def test_layers_are_those_of_the_model(found):
    rows = {row.layer: row for row in found.layers}
    assert list(rows) == ["conv", "norm", "head"]
    assert rows["norm"].stored == 0 and rows["norm"].parameters == 32 and rows["norm"].macs == 0
    assert rows["conv"].stored == 27 * 8 + 8 and rows["head"].bits == 8.0
    assert sum(row.bytes for row in found.layers) == found.weight_bytes
    assert sum(row.bound for row in found.layers) == found.entropy_bytes < found.weight_bytes
    assert all(0.0 < row.entropy <= 8.0 for row in found.layers if row.stored)


def test_what_was_measured_is_there(found):
    assert [t.threads for t in found.latency] == [1, 2] == [roof.threads for roof in found.rooflines]
    for each in found.latency:
        assert 0.0 < each.minimum <= each.median <= each.p95 and each.runs >= 3
    assert found.timing(2) is found.latency[1] and found.timing(3) is None
    assert found.cold_start.total > found.cold_start.runtime + found.cold_start.first > 0.0
    assert found.memory.arena is None
    assert not found.missing and not found.notes


def test_rooflines(found):
    for roof, each in zip(found.rooflines, found.latency, strict=True):
        assert roof.macs == {"int8": found.macs} and set(roof.peak) == {"int8"}
        assert roof.traffic == found.weight_bytes + 8 * 8 * 3
        assert roof.bound == max(roof.compute, roof.memory) > 0.0 and roof.measured == each.minimum


def test_operators(found):
    ops = found.operators
    assert [row.name for row in ops.rows if row.macs] == ["CONV_2D", "FULLY_CONNECTED"]
    assert sum(row.macs for row in ops.rows) == found.macs
    assert all(row.milliseconds > 0.0 and row.bound > 0.0 and not row.missing for row in ops.rows)
    assert ops.sum == pytest.approx(sum(row.milliseconds for row in ops.rows))
    assert ops.whole > 0.0 and ops.call > 0.0 and ops.threads == 1


def test_a_profile_is_json(found):
    assert from_json(Profile, to_json(found)) == found


def test_the_same_again_but_for_the_times(found, files, model):
    again = kp.profile(files["int8"].path, inputs=X, model=model, threads=[1, 2], rounds=3)
    measured = dict.fromkeys(("latency", "cold_start", "memory", "rooflines", "operators"))
    assert dataclasses.replace(again, **measured) == dataclasses.replace(found, **measured)


def test_without_a_model_the_file_says_it(files, model):
    found = kp.profile(files["float"], threads=[1], rounds=2, seed=7)
    assert found.macs == 36 * 8 * 27 + 36 * 8 * 5
    assert [(row.layer, row.kind) for row in found.layers] == [("conv", "CONV_2D"), ("head", "FULLY_CONNECTED")]
    assert found.notes == ("inputs are random numbers, seed 7",) and found.seed == 7


@pytest.mark.slow
def test_loops_are_named(tmp_path):
    x = keras.Input((6, 4))
    model = keras.Model(x, L.LSTM(3, name="lstm")(x))
    made = kp.export(model, tmp_path / "m.tflite")
    found = kp.profile(made, threads=[1], rounds=2, operators=True)
    assert "multiply-accumulates in WHILE are not counted: give the model" in found.notes
    known = kp.profile(made, model=model, threads=[1], rounds=2)
    assert known.macs == 6 * 4 * (4 + 3) * 3 and known.rooflines[0].macs == {"float32": known.macs}
    loop = next(row for row in found.operators.rows if row.name == "WHILE")
    assert loop.milliseconds > 0.0 and loop.macs is None and loop.bound is None


@pytest.mark.slow
def test_a_batch_counts_as_one_run(tmp_path, model):
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(
        keras.Model(i := keras.Input(batch_shape=(4, 8, 8, 3)), model(i))
    )
    (tmp_path / "m.tflite").write_bytes(converter.convert())
    found = kp.profile(tmp_path / "m.tflite", threads=[1], rounds=2)
    assert found.batch == 4 and found.macs == 36 * 8 * 27 + 36 * 8 * 5
    assert found.rooflines[0].macs == {"float32": 4 * found.macs}


@pytest.mark.slow
def test_what_a_runtime_has_not_is_told(tmp_path, model):
    kp.export(model, tmp_path / "m", target="tflm", quantization="int8", calibration=X)
    found = kp.profile(tmp_path / "m", threads=[1, 2], rounds=2, operators=True)
    assert found.missing == (
        "latency on several threads: the runtime of tflm works on one",
        "operators one by one: only TFLite files can be cut into them",
    )
    assert [t.threads for t in found.latency] == [1] and found.operators is None
    assert found.memory.arena > 0
    assert found.bytes == (tmp_path / "m" / "model.tflite").stat().st_size
    assert found.gzip_bytes == gzip_bytes((tmp_path / "m" / "model.tflite").read_bytes())


@pytest.mark.slow
def test_a_savedmodel_says_nothing_of_its_work(tmp_path, model):
    kp.export(model, tmp_path / "m", target="savedmodel")
    bare = kp.profile(tmp_path / "m", threads=[1], rounds=2)
    assert bare.macs is None and bare.rooflines == ()
    assert bare.missing == ("multiply-accumulates: the files of savedmodel do not say; give the model",)
    known = kp.profile(tmp_path / "m", model=model, threads=[1], rounds=2)
    assert known.macs == 36 * 8 * 27 + 36 * 8 * 5 and known.rooflines[0].macs == {"float32": known.macs}


def test_a_ratio(files):
    found = kp.compare_latency(files["int8"], files["float"], inputs=X, rounds=6)
    assert found.low <= found.ratio <= found.high and found.spread >= 0.0
    assert (found.path, found.other, found.rounds, found.threads) == (
        files["int8"].path,
        files["float"].path,
        6,
        1,
    )
    assert from_json(LatencyRatio, to_json(found)) == found


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"threads": [0]}, r"^threads=\[0\]: expected whole numbers from 1 on, such as \[1, \d+\]$"),
        ({"threads": []}, r"^threads=\[\]: expected whole numbers from 1 on"),
        ({"rounds": 1}, r"^rounds=1: expected a whole number from 2 on, such as 15$"),
        ({"inputs": X[:, :4]}, r"takes 8x8x3 a sample, received 4x8x3"),
        ({"inputs": [X, X]}, r"^inputs=: received 2 arrays, .*float\.tflite takes 1$"),
        ({"inputs": X[:0]}, r"^inputs=: expected arrays with at least one sample each"),
    ],
)
def test_what_is_refused(given, text, files):
    with pytest.raises(kp.InputError, match=text):
        kp.profile(files["float"], **{"threads": [1], "rounds": 2, **given})


def test_a_broken_file(tmp_path):
    (tmp_path / "m.tflite").write_bytes(b"\x00" * 64)
    with pytest.raises(kp.InputError, match="not a TFLite file"):
        kp.profile(tmp_path / "m.tflite")


def test_the_machine():
    assert machine().endswith(f", {cores()} cores") and cores() >= 1


def test_the_runtime_of_tflite_loads_no_tensorflow():
    """What runs and measures a file starts without it."""
    modules = ("litert", "litert_slices", "first_run", "bandwidth", "laps", "tflm_runtime", "onnx_work")
    text = "".join(f"import kompakt.targets.{name}\n" for name in modules)
    code = f"import sys\n{text}sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_ratio_is_of_one_number_of_threads(files):
    with pytest.raises(kp.InputError, match=r"^threads=\[\[1, 2\]\]: expected whole numbers"):
        kp.compare_latency(files["int8"], files["float"], threads=[1, 2])
