"""What is in a file: of each target, of other programs' making, damaged, with names that would drive a terminal."""

import json
import shutil

import keras
import numpy as np
import pytest

import kompakt as kp
from kompakt.contents import Contents
from kompakt.errors import InputError
from kompakt.folders import read_folder
from kompakt.records import from_json, to_json
from kompakt.targets.tflite_file import TFLiteFile

L = keras.layers
X = np.random.default_rng(0).normal(size=(64, 8, 8, 3)).astype("float32")


def small() -> keras.Model:
    keras.utils.set_random_seed(0)
    i = keras.Input((8, 8, 3), name="image")
    h = L.Conv2D(4, 3, strides=2, activation="relu", bias_initializer="ones", name="conv")(i)
    h = L.GlobalAveragePooling2D(name="mean")(h)
    return keras.Model(i, L.Dense(3, name="head")(h), name="small")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A float and an int8 file of one model, with three zeros in a kernel."""
    place, model = tmp_path_factory.mktemp("files"), small()
    kernel, bias = model.get_layer("head").get_weights()
    kernel[0] = 0.0
    model.get_layer("head").set_weights([kernel, bias])
    model.save(place / "m.keras")
    kp.export(model, place / "float.tflite", verify=X)
    kp.export(model, place / "int8.tflite", quantization="int8", calibration=X)
    return place


def constant(found: Contents, name: str):
    return next(tensor for _, tensor in found.constants() if tensor.name == name)


def test_an_int8_file(folder):
    found = kp.inspect(folder / "int8.tflite")
    assert found.operators == {"CONV_2D": 1, "FULLY_CONNECTED": 1, "MEAN": 1}
    (main,) = found.subgraphs
    conv = main.operators[0]
    assert dict(conv.options) == {"padding": "VALID", "stride": "2x2"} and conv.activation == "RELU"
    assert [main.tensors[i].name for i in conv.inputs] == ["image", "conv/kernel", "conv/bias"]
    ends = [main.tensors[i] for i in (*main.inputs, *main.outputs)]
    assert [(end.name, end.dtype, end.text_shape) for end in ends] == [
        ("image", "INT8", "1x8x8x3"),
        ("head/output", "INT8", "1x3"),
    ]
    note = json.loads(found.note["inputs"])[0]
    assert ends[0].grid.scale == (note["scale"],) and ends[0].grid.zero_point == (note["zero_point"],)
    assert found.integer and found.float_operators == () and found.faults == () and found.notes == ()
    assert found.note["quantization"] == "int8" and "keras" in json.loads(found.note["versions"])
    assert [each.name for each in found.signatures] == ["serving_default"]
    assert {entry.name for entry in found.metadata} >= {"kompakt", "kompakt_seal"}


def test_the_numbers_of_a_constant_are_those_of_the_model(folder):
    found, model = kp.inspect(folder / "int8.tflite"), keras.models.load_model(folder / "m.keras")
    kernel = constant(found, "conv/kernel")
    assert (kernel.dtype, kernel.text_shape, kernel.bytes) == ("INT8", "4x3x3x3", 108)
    assert kernel.grid.axis == 0 and len(kernel.grid.scale) == 4 and kernel.grid.zero_point == (0,)
    weights = model.get_layer("conv").get_weights()[0]
    assert kernel.values.high == pytest.approx(weights.max(), abs=max(kernel.grid.scale))
    head = constant(found, "head/kernel")
    assert head.values.size == 12 and head.values.zeros == 3 and head.values.channel_distinct <= 4
    assert found.constant_bytes == sum(tensor.bytes for _, tensor in found.constants())


def test_a_float_file_has_floats_and_no_island(folder):
    found = kp.inspect(folder / "float.tflite")
    assert not found.integer and found.float_operators == () and found.dtypes["FLOAT32"] > 5
    assert constant(found, "head/kernel").grid is None


def test_an_island_of_floats_is_named(tmp_path):
    rules = {"head": "float"}
    artifact = kp.export(small(), tmp_path / "m.tflite", quantization="int8", rules=rules, calibration=X)
    (island,) = kp.inspect(artifact).float_operators
    assert island.startswith("FULLY_CONNECTED (")


def test_floats_that_were_asked_for_are_no_islands(tmp_path):
    artifact = kp.export(small(), tmp_path / "m.tflite", quantization="dynamic_int8", verify=X)
    found = kp.inspect(artifact)
    assert not found.integer and found.float_operators == ()  # nothing that is computed has a grid


def test_the_record_is_json(folder):
    for name in ("float.tflite", "int8.tflite"):
        found = kp.inspect(folder / name)
        assert from_json(Contents, to_json(found)) == found


def test_an_artifact_record_is_taken_as_well_as_a_path(folder, tmp_path):
    artifact = kp.export(small(), tmp_path / "m.tflite", verify=X)
    assert kp.inspect(artifact) == kp.inspect(tmp_path / "m.tflite")


def test_sparse_weights_are_shown_as_they_are_read(tmp_path):
    model = keras.Sequential([keras.Input((64,)), L.Dense(64, name="d")])
    kernel = np.zeros((64, 64), "float32")
    kernel[::16, 3] = np.arange(1, 5)
    model.get_layer("d").set_weights([kernel, np.zeros(64, "float32")])
    kp.export(model, tmp_path / "m.tflite", sparse=True, verify=X.reshape(64, -1)[:, :64])
    stored = [t for _, t in kp.inspect(tmp_path / "m.tflite").constants() if t.sparse]
    (held,) = stored
    assert held.values.zeros == 64 * 64 - 4 and held.values.high == 4.0 and held.bytes < 64 * 64


def test_several_signatures_have_their_own_subgraphs_and_notes(folder, tmp_path):
    files = {name: folder / f"{name}.tflite" for name in ("float", "int8")}
    kp.join_signatures(files, tmp_path / "both.tflite", verify={"float": X, "int8": X})
    found = kp.inspect(tmp_path / "both.tflite")
    assert [(each.name, each.subgraph) for each in found.signatures] == [("float", 0), ("int8", 1)]
    assert found.note["float: quantization"] == "float" and found.note["int8: quantization"] == "int8"
    # the shape of the mean's axes is the same constant in both: it counts once
    assert found.constant_bytes < sum(t.bytes for part in found.subgraphs for t in part.tensors if t.constant)


def test_a_changed_file_says_so(folder, tmp_path):
    file = TFLiteFile((folder / "int8.tflite").read_bytes())
    index = file.named("head/kernel").index
    file.put(index, np.full_like(file.tensors[index].values, 3))
    (tmp_path / "m.tflite").write_bytes(file.pack())
    (fault,) = kp.inspect(tmp_path / "m.tflite").faults
    assert fault.startswith("head/kernel: ")


@pytest.mark.parametrize("scale", [float("nan"), float("inf")])
def test_a_scale_that_is_no_number_is_a_fault_and_still_json(scale, folder, tmp_path):
    file = TFLiteFile((folder / "int8.tflite").read_bytes())
    file.graph.tensors[file.named("conv/output").index].quantization.scale = [scale]
    (tmp_path / "m.tflite").write_bytes(file.pack())
    found = kp.inspect(tmp_path / "m.tflite")
    assert f"conv/output: its scale is {scale}" in found.faults
    assert from_json(Contents, to_json(found)) == found


def test_a_grid_that_does_not_fit_its_tensor_is_a_fault(folder, tmp_path):
    file = TFLiteFile((folder / "int8.tflite").read_bytes())
    file.graph.tensors[file.named("conv/kernel").index].quantization.scale = [0.5, 0.5, 0.5]
    (tmp_path / "m.tflite").write_bytes(file.pack())
    found = kp.inspect(tmp_path / "m.tflite")
    assert "conv/kernel: it has 3 scales along dimension 0 of the shape (4, 3, 3, 3)" in found.faults
    assert constant(found, "conv/kernel").values is None


def test_weights_that_are_no_numbers_are_counted(tmp_path):
    model = small()
    kp.export(model, tmp_path / "m.tflite", verify=X)
    file = TFLiteFile((tmp_path / "m.tflite").read_bytes())
    index = file.named("head/kernel").index
    values = file.tensors[index].values.copy()
    values[0, :2] = np.nan, np.inf
    file.put(index, values)
    (tmp_path / "m.tflite").write_bytes(file.pack())
    found = kp.inspect(tmp_path / "m.tflite")
    assert constant(found, "head/kernel").values.not_finite == 2
    assert from_json(Contents, to_json(found)) == found


@pytest.mark.parametrize("share", [0.0, 0.05, 0.3, 0.6, 0.9, 0.999])
def test_a_file_that_is_cut_off_is_one_clear_error(share, folder, tmp_path):
    data = (folder / "int8.tflite").read_bytes()
    (tmp_path / "m.tflite").write_bytes(data[: int(share * len(data))])
    with pytest.raises(InputError, match=r"m\.tflite: (not a|broken) TFLite file"):
        kp.inspect(tmp_path / "m.tflite")


def test_flipped_bytes_are_an_error_of_one_line_or_a_record(folder, tmp_path):
    data, random = (folder / "int8.tflite").read_bytes(), np.random.default_rng(0)
    refused = told = 0
    for place in random.integers(8, len(data), 150):
        broken = bytearray(data)
        broken[place] ^= int(random.integers(1, 256))
        (tmp_path / "m.tflite").write_bytes(broken)
        try:
            found = kp.inspect(tmp_path / "m.tflite")
        except InputError as error:
            refused += str(error).startswith(f"{tmp_path}/m.tflite: ")
        else:
            told += from_json(Contents, to_json(found)) == found
    assert refused > 0 and told > 0 and refused + told == 150


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("none.tflite", "No such file"),
        ("other.bin", "expected an artifact of one of"),
        ("empty", "expected an artifact"),
    ],
)
def test_what_is_no_artifact_is_one_clear_error(path, said, tmp_path):
    (tmp_path / "other.bin").write_bytes(b"1")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=said):
        kp.inspect(tmp_path / path)
    with pytest.raises(InputError, match="expected one of tflite"):
        kp.inspect(tmp_path / path, target="coreml")


def test_the_target_may_be_said(folder, tmp_path):
    (tmp_path / "model.bin").write_bytes((folder / "int8.tflite").read_bytes())
    assert kp.inspect(tmp_path / "model.bin", target="tflite").operators["CONV_2D"] == 1


@pytest.mark.slow
def test_a_file_of_another_program_with_a_loop_and_a_state(tmp_path):
    """CALL_ONCE and ASSIGN_VARIABLE make no tensor: such a file was called broken."""
    tf = pytest.importorskip("tensorflow")

    class Counter(tf.Module):
        def __init__(self):
            self.count = tf.Variable(tf.zeros((2,)), name="count")

        @tf.function(input_signature=[tf.TensorSpec((None, 2), tf.float32, name="x")])
        def step(self, x):
            self.count.assign_add(tf.reduce_sum(x, 0))
            made = tf.while_loop(lambda i, _: i < 3, lambda i, y: (i + 1, y * 2.0), (0, x))
            return {"y": made[1] + self.count}

    module = Counter()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([module.step.get_concrete_function()], module)
    (tmp_path / "m.tflite").write_bytes(converter.convert())
    found = kp.inspect(tmp_path / "m.tflite")
    assert {"ASSIGN_VARIABLE", "CALL_ONCE", "WHILE"} <= set(found.operators)
    assert len(found.subgraphs) >= 3 and found.note == {}
    main = found.subgraphs[0]
    assert main.tensors[main.inputs[0]].shape == (None, 2)
    loop = next(op for op in main.operators if op.name == "WHILE")
    assert {"cond subgraph index", "body subgraph index"} == set(loop.options)
    assert "WHILE" in kp.analyzer(tmp_path / "m.tflite")


@pytest.mark.slow
def test_tflite_micro(tmp_path):
    pytest.importorskip("tflite_micro")
    kp.export(small(), tmp_path / "micro", target="tflm", quantization="int8", calibration=X)
    found = kp.inspect(tmp_path / "micro")
    assert found.target == "tflm" and found.bytes == (tmp_path / "micro/model.tflite").stat().st_size
    assert found.note["quantization"] == "int8" and found.float_operators == ()
    assert "CONV_2D" in kp.analyzer(tmp_path / "micro")


@pytest.mark.slow
def test_tflite_micro_with_tables_shows_the_file_without(tmp_path):
    pytest.importorskip("tflite_micro")
    i = keras.Input((8, 8, 3), name="image")
    h = L.Conv2D(16, 3, activation="relu", name="conv")(i)
    model = keras.Model(i, L.Dense(3, name="head")(L.Flatten(name="flat")(h)))
    kp.export(
        _few_values(model),
        tmp_path / "micro",
        target="tflm",
        quantization="int8",
        compress=True,
        calibration=X,
    )
    found = kp.inspect(tmp_path / "micro")
    assert "its kernels as tables" in found.notes[0]
    assert constant(found, "head/kernel").values.channel_distinct <= 4


def _few_values(model):
    for name in ("conv", "head"):
        kernel, bias = model.get_layer(name).get_weights()
        model.get_layer(name).set_weights([np.round(kernel / np.abs(kernel).max()) * 0.5, bias])
    return model


@pytest.mark.slow
def test_tfjs(tmp_path):
    if shutil.which("node") is None:
        pytest.skip("no Node")
    kp.export(small(), tmp_path / "web", target="tfjs", quantization="uint8", verify=X)
    found = kp.inspect(tmp_path / "web")
    kernel = constant(found, "conv/kernel")
    assert (kernel.dtype, kernel.text_shape, kernel.bytes) == ("UINT8", "3x3x3x4", 108)
    assert kernel.grid.offset == pytest.approx(kernel.values.low)
    conv = next(op for op in found.subgraphs[0].operators if op.name == "_FusedConv2D")
    assert conv.activation == "BiasAdd + Relu" and conv.options["strides"] == "1x2x2x1"
    assert found.float_operators == ()  # it computes in floats: nothing else was asked
    main = found.subgraphs[0]
    assert [main.tensors[i].text_shape for i in (*main.inputs, *main.outputs)] == ["?x8x8x3", "?x3"]
    with pytest.raises(InputError, match="an artifact of 'tfjs' holds no TFLite file"):
        kp.analyzer(tmp_path / "web")
    for file in ("model.json", "group1-shard1of1.bin"):
        content = (tmp_path / "web" / file).read_bytes()
        (tmp_path / "web" / file).write_bytes(content[: len(content) // 2])
        with pytest.raises(InputError, match=r"web: broken model\.json"):
            kp.inspect(tmp_path / "web")
        (tmp_path / "web" / file).write_bytes(content)


@pytest.mark.slow
def test_a_savedmodel(tmp_path):
    kp.export(small(), tmp_path / "server", target="savedmodel", verify=X)
    found = kp.inspect(tmp_path / "server")
    kernel = constant(found, "conv/kernel")
    assert (kernel.dtype, kernel.text_shape, kernel.bytes) == ("FLOAT32", "3x3x3x4", 432)
    assert [t.name for _, t in found.constants()].count("conv/kernel") == 1  # three functions have it
    (call,) = found.signatures
    part = found.subgraphs[call.subgraph]
    assert dict(call.inputs) == {"image": "image"} and part.tensors[part.outputs[0]].text_shape == "?x3"
    conv = next(op for part in found.subgraphs for op in part.operators if op.name == "Conv2D")
    assert conv.options["strides"] == "1x2x2x1"
    assert found.constant_bytes == pytest.approx(4 * small().count_params(), abs=64)
    pb = tmp_path / "server/saved_model.pb"
    content = pb.read_bytes()
    pb.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="server: broken SavedModel"):
        kp.inspect(tmp_path / "server")


@pytest.mark.slow
def test_a_savedmodel_that_does_more_than_compute_is_looked_at_and_not_loaded(tmp_path):
    tf = pytest.importorskip("tensorflow")
    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec((), tf.string)])
    def reader(path):
        return {"text": tf.io.read_file(path)}

    module.serve = reader
    tf.saved_model.save(module, str(tmp_path / "m"), signatures={"serving_default": reader})
    found = kp.inspect(tmp_path / "m")
    assert "its graph does more than compute: ReadFile" in found.notes and "ReadFile" in found.operators


@pytest.mark.slow
def test_onnx(tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("tf2onnx")
    kp.export(small(), tmp_path / "m.onnx", target="onnx", quantization="int8", calibration=X)
    found = kp.inspect(tmp_path / "m.onnx")
    kernel = constant(found, "conv/kernel_integers")
    assert (kernel.dtype, kernel.text_shape) == ("UINT8", "4x3x3x3")
    assert kernel.grid.axis == 0 and len(kernel.grid.scale) == 4 and kernel.grid.zero_point == (128,)
    conv = next(op for op in found.subgraphs[0].operators if op.name == "Conv")
    assert conv.options["strides"] == "2x2"
    made = found.subgraphs[0].tensors[conv.outputs[0]]
    assert (made.dtype, made.text_shape) == ("FLOAT32", "?x4x3x3")
    assert found.float_operators == () and found.note["quantization"] == "int8"
    data = (tmp_path / "m.onnx").read_bytes()
    for share in (0.2, 0.7):
        (tmp_path / "m.onnx").write_bytes(data[: int(share * len(data))])
        with pytest.raises(InputError, match=r"m\.onnx: broken ONNX file"):
            kp.inspect(tmp_path / "m.onnx")


@pytest.mark.slow
def test_onnx_of_another_program_with_a_branch_old_constants_and_strings(tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("tf2onnx")
    h, t = onnx.helper, onnx.TensorProto
    branch = h.make_graph(
        [h.make_node("Constant", [], ["z"], value=h.make_tensor("", t.FLOAT, [1], [1.0]))],
        "branch",
        [],
        [h.make_tensor_value_info("z", t.FLOAT, [1])],
    )
    nodes = [
        h.make_node("Clip", ["x", "", "most"], ["y"], name="clip"),
        h.make_node("If", ["yes"], ["w"], then_branch=branch, else_branch=branch),
        h.make_node("Add", ["y", "w"], ["out"]),
    ]
    held = [h.make_tensor("most", t.FLOAT, [], [6.0]), h.make_tensor("yes", t.BOOL, [], [True])]
    held.append(h.make_tensor("words", t.STRING, [2], [b"a", b"b"]))
    ends = [h.make_tensor_value_info(name, t.FLOAT, ["n"]) for name in ("x", "out")]
    old = h.make_tensor_value_info("most", t.FLOAT, [])
    graph = h.make_graph(nodes, "g", [ends[0], old], [ends[1]], initializer=held)
    onnx.save(h.make_model(graph), tmp_path / "m.onnx")
    found = kp.inspect(tmp_path / "m.onnx")
    main = found.subgraphs[0]
    assert [main.tensors[i].name for i in main.inputs] == ["x"]
    assert main.operators[0].inputs[1] == -1
    assert len(found.subgraphs) == 3 and found.note == {}
    assert constant(found, "words").values is None and constant(found, "most").values.high == 6.0


def test_the_analyzer_of_tensorflow(folder):
    text = kp.analyzer(folder / "int8.tflite")
    assert "CONV_2D" in text and "conv/kernel" in text and "signature_def" in text
    assert "compatible with GPU delegate" in kp.analyzer(folder / "float.tflite", gpu=True)


def test_the_analyzer_refuses_what_is_broken(folder, tmp_path):
    (tmp_path / "m.tflite").write_bytes((folder / "int8.tflite").read_bytes()[:900])
    with pytest.raises(InputError, match="broken TFLite file"):
        kp.analyzer(tmp_path / "m.tflite")


def test_nothing_is_left_where_a_folder_was_looked_at(folder):
    before = read_folder(folder)
    kp.inspect(folder / "int8.tflite")
    assert read_folder(folder) == before
