"""What models bring to every target: dicts, names, bools, policies, threads; and what an export must leave alone."""

import hashlib
import random
import subprocess
import sys
import threading

import keras
import numpy as np
import pytest

import kompakt as kp
from kompakt.errors import InputError
from kompakt.targets import TARGETS, find_target
from kompakt.targets.tflite_file import TFLiteFile
from kompakt.targets.tflite_signatures import ends_of

L = keras.layers
X = np.random.default_rng(0).normal(size=(48, 6)).astype("float32")
MODES = [(target, mode) for target in TARGETS for mode in ("float", "int8") if mode in find_target(target).modes]


def small(**given):
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [keras.Input((6,), **given), L.Dense(8, activation="relu", name="d1"), L.Dense(3, name="d")], name="small"
    )


def ready(target):
    try:
        find_target(target).ready()
    except InputError as error:
        pytest.skip(str(error))
    return find_target(target)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:When providing `inputs` as a dict")
@pytest.mark.parametrize(("target", "mode"), MODES)
def test_keys_of_a_dict_that_are_not_the_names_of_its_inputs(target, mode, tmp_path):
    place = ready(target)
    keras.utils.set_random_seed(0)
    right, left = keras.Input((6,), name="a"), keras.Input((4,), name="b")
    both = L.Concatenate(name="both")([right, left])
    ends = {"score": L.Dense(1, activation="sigmoid", name="z")(both), "kind": L.Dense(3, name="y")(both)}
    model = keras.Model({"right": right, "left": left}, ends, name="two")
    path = tmp_path / f"m{place.suffix}"
    kp.export(model, path, target=target, quantization=mode, calibration={"right": X, "left": 3 * X[:, :4]})
    names = place.ends(place.read(path))
    if target == "tflite":
        names = ends_of(path.read_bytes())
    if any(names):
        assert sorted(names[0]) == ["left", "right"] and sorted(names[1]) in ([], ["kind", "score"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["_x", "é"])
@pytest.mark.parametrize("target", ["savedmodel", "onnx", "tflite"])
def test_inputs_of_any_name(target, name, tmp_path):
    place = ready(target)
    assert kp.export(small(name=name), tmp_path / f"m{place.suffix}", target=target, verify=X).breaches == ()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["my image", "dense:0"])
def test_names_that_tensorflow_does_not_take_on_many_samples(name, tmp_path):
    """Over one batch Keras predicts with a compiled function, in which names are scopes."""
    keras.utils.set_random_seed(0)
    parts = [L.Dense(8, activation="relu", name=name), L.Dense(3, name="d")]
    model = keras.Sequential([keras.Input((6,), name="an input"), *parts], name="a model")
    many = np.tile(X, (7, 1))
    assert kp.export(model, tmp_path / "m.tflite", quantization="int8", calibration=X, verify=many).breaches == ()
    trained = kp.quantize(model, "int8", calibration=X)
    assert trained.get_layer("an_input_grid") is not None


def test_the_int8_onnx_file_calls_its_output_as_the_model_does(tmp_path):
    ready("onnx")
    import onnxruntime

    kp.export(small(), tmp_path / "m.onnx", target="onnx", quantization="int8", calibration=X)
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    assert [end.name for end in session.get_outputs()] == ["d"]


def test_bools_go_to_a_microcontroller(tmp_path):
    place = ready("tflm")
    keras.utils.set_random_seed(0)
    ids, mask = keras.Input((5,), dtype="int32", name="ids"), keras.Input((5,), dtype="bool", name="mask")
    seen = L.Embedding(10, 4, name="e")(ids) * keras.ops.expand_dims(keras.ops.cast(mask, "float32"), -1)
    model = keras.Model([ids, mask], L.Dense(3, name="d")(L.Flatten(name="f")(seen)), name="masked")
    rng = np.random.default_rng(0)
    given = [rng.integers(0, 10, (16, 5)).astype("int32"), rng.random((16, 5)) > 0.5]
    assert kp.export(model, tmp_path / "m", target="tflm", verify=given).breaches == ()
    source = (tmp_path / "m" / "masked_model.c").read_text()
    assert "const bool masked_model_test_input_1[" in source
    assert place.read(tmp_path / "m")


def test_a_global_policy_is_nothing_to_a_model_that_has_its_own(tmp_path):
    model = small()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        made = kp.export(model, tmp_path / "m.tflite", quantization="int8", calibration=X)
        assert keras.config.dtype_policy().name == "mixed_float16"
    finally:
        keras.config.set_dtype_policy("float32")
    assert made.breaches == ()


def test_random_numbers_go_on_as_if_nothing_was_exported(tmp_path):
    model = small()
    random.seed(3)
    before = random.getstate()
    kp.export(model, tmp_path / "m.tflite", quantization="int8", calibration=X)
    assert random.getstate() == before


@pytest.mark.slow
def test_threads_that_export_one_model_with_a_name_that_tensorflow_does_not_take(tmp_path):
    model = small()
    model.layers[0].name = "my layer"
    failed = []

    def export(i):
        try:
            kp.export(model, tmp_path / f"m{i}", target="savedmodel", verify=X)
        except Exception as error:  # noqa: BLE001  it is shown below
            failed.append(str(error))

    threads = [threading.Thread(target=export, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == [] and model.layers[0].name == "my layer"


LOOP = """
import sys, keras, numpy as np, kompakt as kp
L = keras.layers
keras.utils.set_random_seed(0)
parts = [L.Reshape((3, 2)), L.LSTM(4, name="l"), L.Dropout(0.2), L.Dense(3, name="d")]
x = np.random.default_rng(0).random((16, 6), dtype="float32")
kp.export(keras.Sequential([keras.Input((6,)), *parts], name="loop"), sys.argv[1], target="tfjs", verify=x)
"""


@pytest.mark.slow
def test_a_loop_is_the_same_bytes_in_every_process(tmp_path):
    ready("tfjs")
    for name in "ab":
        done = subprocess.run(
            [sys.executable, "-c", LOOP, tmp_path / name], capture_output=True, text=True, check=False
        )
        if "Node" in done.stderr:
            pytest.skip(done.stderr.strip().splitlines()[-1])
        assert done.returncode == 0, done.stderr
    digests = {hashlib.sha256((tmp_path / name / "model.json").read_bytes()).hexdigest() for name in "ab"}
    assert len(digests) == 1


def test_a_file_with_any_batch_size_is_run_with_another_than_one(tmp_path):
    path = tmp_path / "m.tflite"
    kp.export(small(), path, verify=X, batch=None)
    file = TFLiteFile(path.read_bytes())
    reshaped = next((t for t in file.graph.tensors if t.shapeSignature is not None and len(t.shapeSignature)), None)
    assert reshaped is not None and int(reshaped.shapeSignature[0]) == -1
    assert kp.verify_file(path, small(), X).breaches == ()


def test_a_recurrent_layer_with_any_batch_size_is_told_what_it_needs(tmp_path):
    model = keras.Sequential([keras.Input((6, 3)), L.LSTM(4, name="l"), L.Dense(3, name="d")])
    x = np.random.default_rng(0).random((8, 6, 3), dtype="float32")
    with pytest.raises(InputError, match="a recurrent layer needs a fixed batch, batch=1, or unroll=True"):
        kp.export(model, tmp_path / "m.tflite", verify=x, batch=None)


def test_what_goes_wrong_inside_one_target_is_its_row(tmp_path, monkeypatch):
    place = type(find_target("savedmodel"))

    def broken(self, request):
        raise KeyError("BOOL")

    monkeypatch.setattr(place, "convert", broken)
    made = kp.export_all(small(), tmp_path, targets=["savedmodel", "tflite"], verify=X)
    assert made[0].failed and made[0].refused == "failed inside (KeyError: 'BOOL'); please report it"
    assert made[1].artifact is not None and made[1].artifact.breaches == ()


@pytest.mark.slow
def test_what_is_joined_and_a_leaky_relu_round_as_in_tensorflow_lite_micro(tmp_path):
    ready("tflm")
    keras.utils.set_random_seed(0)
    i = keras.Input((8, 8, 3), name="image")
    a = L.LeakyReLU(0.3, name="leaky")(L.Conv2D(6, 3, padding="same", name="a")(i))
    b = L.Conv2D(5, 3, padding="same", activation="relu", name="b")(i)
    ends = L.Flatten(name="flat")(L.Concatenate(name="joined")([a, b]))
    model = keras.Model(i, L.Dense(1, activation="sigmoid", name="odd")(ends), name="joined")
    x = np.random.default_rng(0).normal(size=(128, 8, 8, 3)).astype("float32")
    made = kp.export(model, tmp_path / "m", target="tflm", quantization="int8", calibration=x)
    assert made.breaches == () and made.agreement.exact == 1.0
