"""How two artifacts differ: each kind of change made in a file by hand, and found with its numbers."""

import keras
import numpy as np
import pytest

import kompakt as kp
from kompakt.changes import ArtifactDifference
from kompakt.errors import InputError
from kompakt.records import from_json, to_json
from kompakt.targets.tflite_file import TFLiteFile

L = keras.layers
X = np.random.default_rng(0).normal(size=(64, 6)).astype("float32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("files")
    keras.utils.set_random_seed(0)
    i = keras.Input((6,), name="x")
    model = keras.Model(i, L.Dense(3, name="b")(L.Dense(5, activation="relu", name="a")(i)))
    kp.export(model, place / "float.tflite", verify=X)
    kp.export(model, place / "int8.tflite", quantization="int8", calibration=X)
    return place


@pytest.fixture
def changed(folder, tmp_path):
    """``changed(edit)``: the difference to a copy of the int8 file, after ``edit(file)``."""

    def made(edit):
        file = TFLiteFile((folder / "int8.tflite").read_bytes())
        edit(file)
        (tmp_path / "m.tflite").write_bytes(file.pack())
        return kp.difference(folder / "int8.tflite", tmp_path / "m.tflite")

    return made


def one(found: ArtifactDifference):
    (tensor,) = found.tensors
    return tensor


def test_a_file_is_as_it_is(folder):
    found = kp.difference(folder / "int8.tflite", folder / "int8.tflite")
    assert found.same and found.bytes[0] == found.bytes[1]


def test_float_and_int8(folder):
    found = kp.difference(folder / "float.tflite", folder / "int8.tflite")
    assert found.operators == () and not found.same
    kernel = next(each for each in found.tensors if each.name == "a/kernel")
    assert kernel.state == "changed" and kernel.what == ("dtype", "scale", "zero point", "values")
    assert kernel.values.size == 30 and kernel.values.largest <= max(kernel.after.grid.scale) / 2 * 1.01
    assert kernel.values.steps is None
    assert {each.name for each in found.metadata} >= {"quantization"}
    assert from_json(ArtifactDifference, to_json(found)) == found


def test_values_by_how_many_steps(changed):
    def edit(file):
        tensor = file.named("a/kernel")
        values = tensor.values.copy()
        values[2, 1] += 3 if values[2, 1] < 100 else -3
        values[0, 0] += 1 if values[0, 0] < 100 else -1
        file.put(tensor.index, values)

    found = one(changed(edit))
    assert found.what == ("values",) and found.values.differing == 2 and found.values.steps == 3.0
    assert found.values.largest == pytest.approx(3 * found.after.grid.scale[2])


def test_a_scale_and_by_what_factor(changed):
    def edit(file):
        raw = file.graph.tensors[file.named("a/output").index].quantization
        raw.scale = [float(raw.scale[0]) * 1.25]

    found = one(changed(edit))
    assert found.what == ("scale",) and found.scale_ratio == pytest.approx(1.25) and found.values is None


def test_a_zero_point(changed):
    def edit(file):
        file.graph.tensors[file.named("a/output").index].quantization.zeroPoint = [-127]

    found = one(changed(edit))
    assert found.what == ("zero point",) and found.after.grid.zero_point == (-127,)


def test_a_shape(changed):
    def edit(file):
        file.graph.tensors[file.named("a/output").index].shape = np.array([5], "int32")

    assert one(changed(edit)).what == ("shape",)


def test_a_name_is_a_tensor_less_and_one_more(changed):
    index = {}

    def edit(file):
        index["a"] = file.named("a/output").index
        file.rename({index["a"]: "other"}.get)

    states = {each.name: each.state for each in changed(edit).tensors}
    assert states == {"a/output": "removed", "other": "added"}


def test_an_activation_and_an_operator_less(changed):
    def edit(file):
        file.graph.operators[0].builtinOptions.fusedActivationFunction = 0
        file.graph.operators = file.graph.operators[:1]

    found = changed(edit).operators
    assert [(each.state, each.what) for each in found] == [("changed", ("activation",)), ("removed", ())]
    assert found[0].before.activation == "RELU" and found[0].after.activation == ""


def test_metadata_that_came(changed):
    (change,) = changed(lambda file: file.put_metadata("owner", "me")).metadata
    assert change.name == "owner" and change.before is None and change.after.startswith("2 bytes")


def test_names_of_a_signature(changed):
    (change,) = changed(lambda file: file.name_ends("inputs", {"x": "y"})).ends
    assert (change.name, change.before, change.after) == ("signature serving_default, inputs", "x", "y")


def test_nan_is_a_difference_and_json(folder, tmp_path):
    file = TFLiteFile((folder / "float.tflite").read_bytes())
    tensor = file.named("a/kernel")
    values = tensor.values.copy()
    values[0, 0] = np.nan
    file.put(tensor.index, values)
    (tmp_path / "m.tflite").write_bytes(file.pack())
    found = kp.difference(folder / "float.tflite", tmp_path / "m.tflite")
    assert one(found).values.differing == 1 and from_json(ArtifactDifference, to_json(found)) == found
    assert kp.difference(tmp_path / "m.tflite", tmp_path / "m.tflite").same


@pytest.mark.slow
def test_two_targets_are_compared_too(folder, tmp_path):
    keras.utils.set_random_seed(0)
    i = keras.Input((6,), name="x")
    model = keras.Model(i, L.Dense(3, name="b")(L.Dense(5, activation="relu", name="a")(i)))
    kp.export(model, tmp_path / "server", target="savedmodel", verify=X)
    found = kp.difference(folder / "float.tflite", tmp_path / "server")
    assert {each.state for each in found.operators} == {"added", "removed"}
    kernel = next(each for each in found.tensors if each.name == "a/kernel")
    assert kernel.what == ("shape",)  # 5x6 in TFLite, 6x5 in Keras


def test_subgraphs_that_one_has_and_the_other_has_not(folder, tmp_path):
    files = {name: folder / f"{name}.tflite" for name in ("float", "int8")}
    kp.join_signatures(files, tmp_path / "both.tflite", verify={"float": X, "int8": X})
    found = kp.difference(folder / "float.tflite", tmp_path / "both.tflite")
    assert [each.state for each in found.operators] == ["added", "added"]
    assert {"signature int8, inputs"} <= {each.name for each in found.ends}


def test_a_missing_one_is_named(folder):
    with pytest.raises(InputError, match=r"cannot read .*none\.tflite"):
        kp.difference(folder / "float.tflite", folder / "none.tflite")
