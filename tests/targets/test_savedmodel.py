"""SavedModels: what servers call, in every way they can be called, and what is never loaded."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import kompakt as kp
from kompakt.errors import InputError, VerificationError
from kompakt.targets.profiler import find_profiler
from kompakt.targets.savedmodel import SavedModel
from kompakt.targets.savedmodel_graph import TOUCHES, parse, refuse_dangers
from kompakt.targets.warm_up import PLACE, read_requests

RNG = np.random.default_rng(0)


def dense() -> tuple[keras.Model, np.ndarray]:
    keras.utils.set_random_seed(0)
    i = keras.Input((6,), name="numbers")
    h = layers.BatchNormalization(name="norm")(layers.Dense(16, name="hidden")(i))
    m = keras.Model(i, layers.Dense(4, name="kind")(layers.ReLU(name="cut")(h)), name="small")
    m.get_layer("norm").set_weights([RNG.uniform(0.5, 2.0, 16) for _ in range(4)])
    return m, RNG.random((40, 6), dtype="float32")


def two() -> tuple[keras.Model, dict[str, np.ndarray]]:
    i = {"right": keras.Input((3,), name="right"), "left": keras.Input((5,), name="left")}
    h = layers.Concatenate(name="both")([i["left"], i["right"]])
    outputs = {"kind": layers.Dense(4, name="a")(h), "a value": layers.Dense(1, name="b")(h)}
    x = {"right": RNG.random((40, 3), dtype="float32"), "left": RNG.random((40, 5), dtype="float32")}
    return keras.Model(i, outputs, name="two"), x


def listed() -> tuple[keras.Model, list[np.ndarray]]:
    i = [keras.Input((3, 2), name="second"), keras.Input((4,), name="first")]
    sequence, state, cell = layers.LSTM(3, return_state=True, name="memory")(i[0])
    x = [RNG.random((40, 3, 2), dtype="float32"), RNG.random((40, 4), dtype="float32")]
    return keras.Model(i, [layers.Dense(2, name="d")(i[1]), state, cell, sequence], name="listed"), x


def attention() -> tuple[keras.Model, np.ndarray]:
    i = keras.Input((6,), dtype="int32", name="words")
    h = layers.Embedding(20, 8, name="table")(i)
    h = layers.Add(name="sum")([h, layers.MultiHeadAttention(2, 4, name="attention")(h, h)])
    h = layers.GlobalAveragePooling1D(name="mean")(layers.LayerNormalization(name="norm")(h))
    return keras.Model(i, layers.Dense(2, name="kind")(h), name="text"), RNG.integers(0, 20, (40, 6)).astype("int32")


class Own(keras.Model):
    """A subclassed model."""

    def __init__(self):
        super().__init__(name="own")
        self.first, self.last = layers.Dense(5, activation="gelu"), layers.Dense(3)

    def call(self, x):
        return self.last(self.first(x))


def own() -> tuple[keras.Model, np.ndarray]:
    m, x = Own(), RNG.random((40, 4), dtype="float32")
    m(x)
    return m, x


MODELS = {"dense": dense, "two": two, "listed": listed, "attention": attention, "own": own}
ENDS = {
    "dense": (["numbers"], ["kind"]),
    "two": (["left", "right"], ["a_value", "kind"]),
    "listed": (["second", "first"], ["d", "memory", "memory_1", "memory_2"]),
    "attention": (["words"], ["kind"]),
    "own": (["input"], ["output_0"]),
}


def export(model, tmp_path, x, **options):
    return Path(kp.export(model, tmp_path / "server", target="savedmodel", verify=x, **options).path)


@pytest.mark.parametrize("name", MODELS)
def test_signature_serve_and_layer_agree_at_any_batch(name, tmp_path):
    model, x = MODELS[name]()
    place = export(model, tmp_path, x)
    loaded = tf.saved_model.load(str(place))
    signature, layer = loaded.signatures["serving_default"], keras.layers.TFSMLayer(str(place), call_endpoint="serve")
    inputs, outputs = ENDS[name]
    assert sorted(spec.name for spec in signature.structured_input_signature[1].values()) == sorted(inputs)
    for size in (1, 5):
        few = keras.tree.map_structure(lambda a, size=size: tf.constant(a[:size]), x)
        expected = keras.tree.flatten(model(few, training=False))
        made = signature(**dict(zip(inputs, keras.tree.flatten(few), strict=True)))
        assert sorted(made) == sorted(outputs)
        for found in ([made[n] for n in outputs], *map(keras.tree.flatten, (loaded.serve(few), layer(few)))):
            assert len(found) == len(expected)
            for a, b in zip(expected, found, strict=True):
                np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)


def test_the_same_model_is_the_same_bytes(tmp_path):
    model, x = listed()  # with the functions of a loop, which TensorFlow counts on
    first = SavedModel().read(export(model, tmp_path, x))
    assert SavedModel().read(export(model, tmp_path, x)) == first


def test_verify_takes_it_and_names_what_was_changed(tmp_path):
    model, x = dense()
    place = export(model, tmp_path, x)
    good = kp.verify_file(place, model, x)
    assert good.target == "savedmodel" and good.breaches == () and good.agreement.max_abs == 0.0
    assert good.census.ops["MatMul"] == 2 and good.census.tensors == {"FLOAT32": 8}
    warm = place / PLACE
    warm.write_bytes(warm.read_bytes()[:-1] + b"!")
    assert list(kp.verify_file(place, model, x).breaches) == [f"{PLACE}: changed since it was written"]


def test_other_weights_are_told_by_the_seal_and_by_the_outputs(tmp_path):
    model, x = dense()
    place = export(model, tmp_path, x)
    shard = next(place.glob("variables/*.data-*"))
    model.get_layer("hidden").kernel.assign(-model.get_layer("hidden").kernel)
    other = export(model, tmp_path / "other", x)
    shard.write_bytes(next(other.glob("variables/*.data-*")).read_bytes())
    (place / "variables/variables.index").write_bytes((other / "variables/variables.index").read_bytes())
    model.get_layer("hidden").kernel.assign(-model.get_layer("hidden").kernel)
    breaches = kp.verify_file(place, model, x).breaches
    assert "variables/variables.data-00000-of-00001: changed since it was written" in breaches
    assert any(line.startswith("argmax agreement with the float model") for line in breaches)


def test_pruned_and_clustered_weights_are_plain_inside(tmp_path):
    model, x = dense()
    pruned = kp.prune(model, 0.75, sites="hidden/kernel")
    both = kp.cluster(pruned, 4, sites="kind/kernel")
    made = kp.export(both, tmp_path / "server", target="savedmodel", verify=x)
    fact = {site.site: site for site in made.sites}
    assert fact["kind/kernel"].asked_palette == 4 and fact["kind/kernel"].distinct <= 4
    reader = tf.train.load_checkpoint(f"{made.path}/variables/variables")
    kernel = reader.get_tensor("weights/hidden.Skernel/.ATTRIBUTES/VARIABLE_VALUE")
    assert (kernel == 0).mean() >= 0.75 and fact["hidden/kernel"].zeros == (kernel == 0).sum()
    assert kp.verify_file(made.path, model, x).target == "savedmodel"


def test_lost_zeros_are_a_breach(tmp_path):
    model, x = dense()
    place = Path(kp.export(kp.prune(model, 0.75, sites="hidden/kernel"), tmp_path / "server", target="savedmodel").path)
    full = export(model, tmp_path / "full", x)
    for file in ("saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"):
        (place / file).write_bytes((full / file).read_bytes())
    breaches = kp.verify_file(place, model, x).breaches
    assert any(line.startswith("hidden/kernel: 72 zeros had to be kept") for line in breaches)


@pytest.mark.long(quick=1)
@pytest.mark.parametrize("mode", ["keras_int8", "keras_int4"])
def test_what_keras_quantized_is_exported_as_it_is(mode, tmp_path):
    model, x = dense()
    small = kp.quantize(model, mode)
    made = kp.export(small, tmp_path / "server", target="savedmodel", verify=x)
    assert made.quantization == mode and made.census.tensors["INT8"] == (2 if mode == "keras_int8" else 4)
    assert made.agreement.max_abs == 0.0 and made.agreement.argmax == 1.0
    assert kp.export(model, tmp_path / "again", target="savedmodel", quantization=mode).quantization == mode
    assert kp.verify_file(made.path, model, x).breaches == ()


def test_float16_halves_the_weights_and_computes_with_them_rounded(tmp_path):
    model, x = MODELS["listed"]()
    made = kp.export(model, tmp_path / "server", target="savedmodel", quantization="float16", verify=x)
    assert made.census.tensors == {"FLOAT16": 3, "FLOAT32": 2} and made.sites[0].dtype == "FLOAT16"
    held = SavedModel().weights(SavedModel().read(made.path))["memory/cell/kernel"]
    kernel = model.get_layer("memory").cell.kernel.numpy()
    np.testing.assert_array_equal(held, kernel.astype("float16").astype("float32"))
    assert 0.0 < made.agreement.given_abs < 1e-3


def test_a_quantized_model_is_served_with_its_weights_on_their_grid(tmp_path):
    model, x = dense()
    small = kp.quantize(model, "int8", calibration=x)
    made = kp.export(small, tmp_path / "server", target="savedmodel", verify=x)
    assert made.quantization == "float" and any("quantized as int8" in note for note in made.notes)
    kernel = SavedModel().weights(SavedModel().read(made.path))["hidden/kernel"]
    steps = kernel / (np.abs(kernel).max(axis=0) / 127)
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-3)


def test_warm_up_requests_are_real_samples_that_the_signature_takes(tmp_path):
    model, x = two()
    place = export(model, tmp_path, x)
    sent = read_requests((place / PLACE).read_bytes())
    assert [(name, signature) for name, signature, _ in sent] == [("two", "serving_default")] * 4
    assert all((x["left"] == each["left"]).all(1).any() for _, _, each in sent)
    signature = tf.saved_model.load(str(place)).signatures["serving_default"]
    assert signature(**{n: tf.constant(v) for n, v in sent[1][2].items()})["kind"].shape == (1, 4)


def test_a_fixed_batch_is_kept_and_filled_up(tmp_path):
    model, x = dense()
    place = export(model, tmp_path, x[:10], batch=4)
    signature = tf.saved_model.load(str(place)).signatures["serving_default"]
    assert [spec.shape[0] for spec in signature.structured_input_signature[1].values()] == [4]
    assert {len(each["numbers"]) for _, _, each in read_requests((place / PLACE).read_bytes())} == {4}
    assert SavedModel().run(SavedModel().read(place), x[:10]).values[0].shape == (10, 4)


@pytest.mark.slow  # TensorFlow starts once more
def test_it_is_timed_with_the_threads_asked_for(tmp_path):
    model, x = dense()
    run = find_profiler("savedmodel").laps(SavedModel().read(export(model, tmp_path, x)), x, threads=1)
    run(1)
    assert 0.0 < run(20).sum() < 5.0


def test_an_integer_lookup_keeps_its_table(tmp_path):
    i = keras.Input((2,), dtype="int64", name="ids")
    h = layers.IntegerLookup(vocabulary=[7, 9], output_mode="multi_hot", name="lookup")(i)
    model = keras.Model(i, layers.Dense(2, name="d")(h), name="looks")
    x = RNG.choice([7, 9, 11], (20, 2))
    assert kp.export(model, tmp_path / "server", target="savedmodel", verify=x).agreement.max_abs == 0.0


class ReadsFiles(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec((None, 6), name="numbers")])
    def __call__(self, numbers):
        secret = tf.io.read_file("/etc/hostname")
        return {"kind": numbers[:, :4] + tf.cast(tf.strings.length(secret), "float32")}


class RunsPython(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec((None, 6), name="numbers")])
    def __call__(self, numbers):
        return {"kind": tf.ensure_shape(tf.numpy_function(lambda a: a[:, :4], [numbers], tf.float32), (None, 4))}


@pytest.mark.parametrize(("module", "operation"), [(ReadsFiles(), "ReadFile"), (RunsPython(), "PyFunc")])
def test_a_graph_that_does_more_than_compute_is_not_loaded(module, operation, tmp_path):
    model, x = dense()
    tf.saved_model.save(module, str(tmp_path), signatures=module.__call__)
    with pytest.raises(InputError, match=f"the graph in saved_model.pb does more than compute: {operation} .*not load"):
        kp.verify_file(tmp_path, model, x)


def test_the_functions_that_save_variables_are_for_nothing_else(tmp_path):
    model, x = dense()
    graph = parse((export(model, tmp_path, x) / "saved_model.pb").read_bytes())
    refuse_dangers(graph)
    library = graph.meta_graphs[0].graph_def.library.function
    saver = next(f.signature.name for f in library if any(n.op == "SaveV2" for n in f.node_def))
    node = next(n for f in library for n in f.node_def if n.op == "StatefulPartitionedCall")
    node.attr["f"].func.name = saver
    with pytest.raises(InputError, match="MergeV2Checkpoints, SaveV2, ShardedFilename"):
        refuse_dangers(graph)


def test_words_of_operations_that_touch_files():
    bad = "ReadFile WriteFile MatchingFiles PyFunc PyFuncStateless EagerPyFunc SaveV2 RestoreV2 TFRecordDataset PrintV2"
    bad += " InitializeTableFromTextFileV2 WholeFileReaderV2 LMDBReader DebugIdentityV2 WriteSummary RpcCall RemoteCall"
    good = "ReadVariableOp AssignVariableOp VarHandleOp StatefulPartitionedCall TensorListFromTensor LookupTableFindV2"
    good += " While If Conv2D FusedBatchNormV3 Print StatelessRandomUniformV2 ResizeBilinear DisableCopyOnRead"
    good += " XlaCallModule"
    assert [op for op in bad.split() if not TOUCHES.search(op)] == []
    assert [op for op in good.split() if TOUCHES.search(op)] == []


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("saved_model.pb", b"\x0a\xff\xff", "saved_model.pb is cut off or no SavedModel"),
        ("saved_model.pb", b"", "saved_model.pb is cut off or no SavedModel"),
        ("variables/variables.index", b"?" * 100, "its variables cannot be read"),
    ],
)
def test_a_damaged_folder_is_one_clear_error(file, content, said, tmp_path):
    model, x = dense()
    place = export(model, tmp_path, x)
    (place / file).write_bytes(content)
    with pytest.raises(InputError, match=said):
        kp.verify_file(place, model, x)


def test_nothing_is_written_where_verification_fails(tmp_path):
    model, x = dense()
    place = export(model, tmp_path, x)
    before = SavedModel().read(place)
    model.get_layer("kind").bias.assign([np.nan] * 4)
    with pytest.raises(VerificationError, match="NaN"):
        export(model, tmp_path, x)
    assert SavedModel().read(place) == before and [p.name for p in tmp_path.iterdir()] == ["server"]


def test_the_note_says_where_it_comes_from(tmp_path):
    model, x = dense()
    note = json.loads((export(model, tmp_path, x, provenance={"recipe": "by hand"}) / "kompakt.json").read_text())
    assert note["recipe"] == "by hand" and note["inputs"] == ["numbers"] and note["outputs"] == ["kind"]
    files = {PLACE, "saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"}
    assert set(note["sha256"]) == files


EXPORTS = """
import sys
import keras, numpy as np
import kompakt as kp
m = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
for target in sys.argv[2:]:
    suffix = ".onnx" if target == "onnx" else ""
    kp.export(m, f"{sys.argv[1]}/m{suffix}", target=target, verify=np.zeros((8, 4), "float32"))
"""


@pytest.mark.slow  # TensorFlow starts once more
def test_no_copy_of_a_model_is_left_where_temporary_files_are(tmp_path):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    targets = ["savedmodel"] + ["onnx"] * all(map(importlib.util.find_spec, ("onnx", "tf2onnx", "onnxruntime")))
    command = [sys.executable, "-c", EXPORTS, str(tmp_path), *targets]
    subprocess.run(command, env={**os.environ, "TMPDIR": str(temporary)}, check=True)
    assert list(temporary.iterdir()) == []
