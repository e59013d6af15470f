"""``export(sparse=True)``: what is stored sparse computes the same bits, is smaller, and is read back as it is."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from keras import layers as L

import kompakt as kp
from kompakt import cli
from kompakt.deploy import make_job
from kompakt.records import Artifact, from_json, to_json
from kompakt.report.facts.undone import undone
from kompakt.run import optimize
from kompakt.targets import find_target
from kompakt.targets.sparse_format import Form, encode
from kompakt.targets.target import Request
from kompakt.targets.tflite_file import TFLiteFile
from kompakt.targets.tflite_sparse import sparsify, store

SHARED = Path(os.environ.get("KOMPAKT_SHARED", Path(__file__).parents[2] / "shared"))
X = np.random.default_rng(0).normal(size=(32, 10, 10, 8)).astype("float32")
ROWS = np.random.default_rng(0).normal(size=(32, 64)).astype("float32")


def convolutions():
    """Every kind of convolution, and a Dense."""
    keras.utils.set_random_seed(1)
    i = keras.Input(X.shape[1:])
    x = L.Conv2D(32, 3, activation="relu", name="conv")(i)
    x = L.BatchNormalization()(L.Conv2D(64, 1, use_bias=False, name="pointwise")(x))
    x = L.DepthwiseConv2D(3, depth_multiplier=4, name="depthwise")(L.ReLU()(x))
    x = L.Conv2DTranspose(24, 3, name="transposed")(x)
    return keras.Model(i, L.Dense(10, name="logits")(L.Flatten()(x)))


def dense():
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [keras.Input((64,)), L.Dense(64, activation="relu", name="hidden"), L.Dense(8, name="last")]
    )


def pruned(model, sparsity=0.8):
    return kp.prune(model, sparsity, sites="*kernel" if model.count_params() > 20_000 else "*")


def both(model, x, folder, **options):
    """(Artifact, path) of the dense and of the sparse file."""
    options = {"quantization": "float", "calibration": x, "verify": x, **options}
    paths = folder / "dense.tflite", folder / "sparse.tflite"
    return [(kp.export(model, path, sparse=path == paths[1], **options), path) for path in paths]


def litert(path, x):
    interpreter = Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    given, taken = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    found = []
    for row in x[:8]:
        scale, zero = given["quantization"]
        values = np.clip(np.round(row / scale) + zero, -128, 127) if scale else row
        interpreter.set_tensor(given["index"], values[None].astype(given["dtype"]))
        interpreter.invoke()
        found.append(interpreter.get_tensor(taken["index"]))
    return np.concatenate(found)


# What the file holds and computes


@pytest.mark.long(quick=1)
@pytest.mark.parametrize(
    ("mode", "sparse"), [("float", 5), ("float16", 5), ("int8", 4)], ids=["float", "float16", "int8"]
)
def test_the_sparse_file_is_smaller_computes_the_same_bits_and_holds_the_same(mode, sparse, tmp_path):
    (a, dense_path), (b, sparse_path) = both(pruned(convolutions()), X, tmp_path, quantization=mode)
    assert b.bytes < 0.75 * a.bytes and b.breaches == () == a.breaches
    assert np.array_equal(litert(dense_path, X), litert(sparse_path, X))
    assert a.agreement == b.agreement

    assert (a.sparse, b.sparse, len(b.sites)) == (0, sparse, 5)
    assert [dataclasses.replace(site, sparse=False) for site in b.sites] == list(a.sites)
    assert {site.site for site in b.sites if not site.sparse} == ({"logits/kernel"} if mode == "int8" else set())
    assert b.census.ops["DENSIFY"] == sparse and "DENSIFY" not in a.census.ops
    assert mode != "int8" or b.census.float_ops == b.census.float_tensors == ()
    assert f"distinct values a channel; {sparse} of 5 stored sparse" in b.report
    assert b.notes[-1] == (
        f"sparse: {sparse} weights stored sparse, {b.bytes:,} bytes in place of {a.bytes:,} (gzipped {b.gzip_bytes:,} "
        f"in place of {a.gzip_bytes:,}); no faster on x86-64, where LiteRT unpacks them when it loads the file"
    )


@pytest.mark.slow
def test_dense_weights_of_an_int8_file_stay_dense_and_are_named(tmp_path):
    (a, _), (b, _) = both(pruned(dense()), ROWS, tmp_path, quantization="int8")
    assert b.notes == (
        "sparse: stored dense all the same, since LiteRT fails to unpack it: last/kernel (int8, read by "
        "FULLY_CONNECTED), hidden/kernel (int8, read by FULLY_CONNECTED)",
        "sparse: no other weight takes fewer bytes that way, so the file is dense",
    )
    assert (b.sparse, b.sha256) == (0, a.sha256)


def test_litert_still_refuses_what_is_therefore_left_dense(tmp_path):
    """Should this fail after an update of LiteRT: an int8 FULLY_CONNECTED may go into READERS."""
    kp.export(pruned(dense()), tmp_path / "m.tflite", quantization="int8", calibration=ROWS)
    file = TFLiteFile((tmp_path / "m.tflite").read_bytes())
    form = Form(order=(0, 1), sparse=(False, True), blocks=(1, 1))
    store(file, file.named("hidden/kernel"), encode(file.named("hidden/kernel").values, form))
    with pytest.raises(kp.InputError, match="LiteRT refuses the file: failed to delegate FULLY_CONNECTED"):
        find_target("tflite").run(file.pack(), ROWS)


@pytest.mark.parametrize("mode", ["float", "float16"])
def test_nothing_to_gain_is_said_and_the_file_is_the_dense_one(mode, tmp_path):
    (a, _), (b, _) = both(dense(), ROWS, tmp_path, quantization=mode)
    assert b.notes == ("sparse: no weight takes fewer bytes that way, so the file is dense",)
    assert (b.sparse, b.sha256) == (0, a.sha256)


@pytest.mark.slow
def test_an_embedding(tmp_path):
    keras.utils.set_random_seed(1)
    parts = [keras.Input((6,), dtype="int32"), L.Embedding(200, 32, name="e"), L.GlobalAveragePooling1D(), L.Dense(5)]
    x = np.random.default_rng(0).integers(0, 200, (32, 6)).astype("int32")
    model = kp.prune(keras.Sequential(parts), 0.8, sites="e/*")
    for mode, stored in (("float", 1), ("int8", 1), ("float16", 0)):
        (_, dense_path), (b, sparse_path) = both(model, x, tmp_path, quantization=mode)
        assert b.sparse == stored and np.array_equal(litert(dense_path, x), litert(sparse_path, x))
    assert b.notes[0].endswith("LiteRT fails to unpack it: e/embeddings (float16, read by GATHER)")


@pytest.mark.long(quick=1)
@pytest.mark.parametrize(("mode", "stored"), [("float", 5), ("float16", 4)])
def test_a_free_batch(mode, stored, tmp_path):
    (_, dense_path), (b, sparse_path) = both(pruned(convolutions()), X, tmp_path, quantization=mode, batch=None)
    assert b.sparse == stored  # XNNPACK does not compute a transposed convolution of a computed shape
    found = []
    for path in (dense_path, sparse_path):
        interpreter = Interpreter(model_path=str(path))
        index = interpreter.get_input_details()[0]["index"]
        for count in (7, 3):
            interpreter.resize_tensor_input(index, [count, *X.shape[1:]])
            interpreter.allocate_tensors()
            interpreter.set_tensor(index, X[:count])
            interpreter.invoke()
            found.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
    assert np.array_equal(found[0], found[2]) and np.array_equal(found[1], found[3])


@pytest.mark.slow
def test_a_layer_of_zeros_and_a_table_with_two_readers(tmp_path):
    keras.utils.set_random_seed(1)
    i, shared = keras.Input((64,)), L.Dense(64, name="shared")
    model = keras.Model(i, L.Dense(3)(L.Dense(64, name="zeros", kernel_initializer="zeros")(shared(shared(i)))))
    (_, dense_path), (b, sparse_path) = both(kp.prune(model, 0.8, sites="shared/*"), ROWS, tmp_path)
    assert {site.site: site.zeros for site in b.sites if site.sparse} == {"shared/kernel": 3277, "zeros/kernel": 4096}
    assert np.array_equal(litert(dense_path, ROWS), litert(sparse_path, ROWS))
    assert b.census.ops["DENSIFY"] == 2


def test_a_sparse_file_is_edited_again_without_a_change(tmp_path):
    kp.export(pruned(convolutions()), tmp_path / "m.tflite", verify=X, sparse=True)
    data = (tmp_path / "m.tflite").read_bytes()
    file = TFLiteFile(data)
    assert sparsify(file) == ((), ())
    assert find_target("tflite").facts(file.pack(), {}) == find_target("tflite").facts(data, {})


@pytest.mark.slow
def test_a_sparse_file_is_verified(tmp_path):
    model = pruned(convolutions())
    plain = kp.finalize(model)[0]
    kp.export(model, tmp_path / "m.tflite", quantization="int8", calibration=X, sparse=True)
    found = kp.verify_file(tmp_path / "m.tflite", plain, X, least_argmax=0.5)
    assert found.breaches == () and found.sparse == 4 and found.zeros > 0.79


def test_broken_indices_are_found(tmp_path):
    kp.export(pruned(dense()), tmp_path / "m.tflite", verify=ROWS, sparse=True)
    file = TFLiteFile((tmp_path / "m.tflite").read_bytes())
    levels = next(t.sparsity.dimMetadata for t in file.graph.tensors if t.sparsity is not None)
    level = next(level for level in levels if level.arrayIndices is not None)
    level.arrayIndices.values = np.full_like(level.arrayIndices.values, 200)
    (tmp_path / "m.tflite").write_bytes(file.pack())
    with pytest.raises(
        kp.InputError, match=r"m\.tflite: broken TFLite file \(\d+ bytes\): sparse index 200 in a dimension of 64;"
    ):
        kp.verify_file(tmp_path / "m.tflite", dense(), ROWS)


@pytest.mark.slow
def test_another_runtime_fault_leaves_the_file_dense(tmp_path, monkeypatch):
    """A type of weight that LiteRT is wrongly thought to unpack everywhere."""
    from kompakt.targets import tflite_sparse

    monkeypatch.setitem(tflite_sparse.READERS, "INT8", ("FULLY_CONNECTED",))
    (a, _), (b, _) = both(pruned(dense()), ROWS, tmp_path, quantization="int8")
    assert b.sha256 == a.sha256
    assert b.notes[0].startswith("sparse: LiteRT refuses the file: failed to delegate FULLY_CONNECTED")
    assert b.notes[0].endswith("so the file is dense")


# What cannot be had


def test_dynamic_int8_is_refused(tmp_path):
    with pytest.raises(kp.InputError) as caught:
        kp.export(pruned(dense()), tmp_path / "m.tflite", quantization="dynamic_int8", sparse=True)
    assert str(caught.value) == (
        "sparse with quantization='dynamic_int8': LiteRT refuses such a file; export it as 'int8', 'float16' or "
        "'float', or leave sparse out"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_litert_still_refuses_a_sparse_dynamic_int8_file(tmp_path):
    """In a process of its own: what the delegate does with such a file is not its users' business to bear."""
    job = make_job(pruned(dense()), "dynamic_int8", None)
    request = Request(model=job.plain, encodings=job.encodings, quantization="dynamic_int8", samples=ROWS)
    file = TFLiteFile(find_target("tflite").convert(request).data)
    form = Form(order=(0, 1), sparse=(False, True), blocks=(1, 1))
    store(file, file.named("hidden/kernel"), encode(file.named("hidden/kernel").values, form))
    (tmp_path / "m.tflite").write_bytes(file.pack())
    code = "import sys; from ai_edge_litert.interpreter import Interpreter as I; I(sys.argv[1]).allocate_tensors()"
    ran = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "m.tflite")], capture_output=True, text=True, check=False
    )
    assert ran.returncode != 0 and "failed to delegate FULLY_CONNECTED" in ran.stderr


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"sparse": "yes"}, "recipe: 'sparse' is 'yes', expected true or false"),
        ({"sparse": 1}, "recipe: 'sparse' is 1, expected true or false"),
        (
            {"sparse": True, "quantization": "dynamic_int8"},
            "recipe: sparse with quantization='dynamic_int8': LiteRT refuses such a file; export it as 'int8', "
            "'float16' or 'float', or leave sparse out",
        ),
    ],
)
def test_a_recipe_that_asks_what_cannot_be(keys, text):
    with pytest.raises(kp.InputError) as caught:
        kp.load_recipe({"name": "r", **keys})
    assert str(caught.value) == text


# The other ways to ask for it, and the records


@pytest.mark.slow
def test_a_recipe_and_the_command_line(tmp_path, capsys):
    model = dense()
    y = np.random.default_rng(1).integers(0, 8, 32)
    data = {"x_train": ROWS, "y_train": y, "x_test": ROWS, "y_test": y}
    rule = {"sites": "*", "transforms": [{"name": "Prune", "sparsity": 0.8}]}
    recipe = {"name": "sparse_float16", "stages": [{"rules": [rule]}], "quantization": "float16", "sparse": True}
    run = optimize(model, data, recipe, tmp_path / "out")
    assert run.artifact.sparse == 2 and run.trials[-1].skipped == ()
    (note,) = run.artifact.notes
    assert note.startswith("sparse: 2 weights stored sparse, ")
    assert [item.text for item in undone(run) if item.kind == "note"] == [note]  # told once, beside the file
    assert run.trials[0].artifact.sparse == 0

    kp.finalize(kp.prune(model, 0.8, sites="*kernel"))[0].save(tmp_path / "m.keras")
    np.savez(tmp_path / "d.npz", **data)
    paths = [str(tmp_path / name) for name in ("m.keras", "m.tflite", "d.npz")]
    assert cli.main(["export", *paths[:2], "--sparse", "--data", paths[2], "--json"]) == 0
    assert sum(site["sparse"] for site in json.loads(capsys.readouterr().out)["sites"]) == 2


def test_records_from_before_are_read(tmp_path):
    artifact = kp.export(pruned(dense()), tmp_path / "m.tflite", verify=ROWS, sparse=True)
    assert from_json(Artifact, to_json(artifact)) == artifact
    old = json.loads(to_json(artifact))
    for site in old["sites"]:
        del site["sparse"]
    assert from_json(Artifact, json.dumps(old)).sparse == 0


# A model of practice


@pytest.mark.slow
@pytest.mark.skipif(
    not (SHARED / "data" / "mlperf_tiny").exists(),
    reason=f"no models under {SHARED}: set KOMPAKT_SHARED to the folder that has data/mlperf_tiny",
)
@pytest.mark.parametrize(("mode", "most"), [("float", 0.35), ("float16", 0.45), ("int8", 0.66)])
def test_resnet8_pruned_to_three_quarters(mode, most, tmp_path):
    model = keras.saving.load_model(SHARED / "data" / "mlperf_tiny" / "ic_resnet8.keras", compile=False)
    x = np.random.default_rng(0).uniform(0, 255, (32, 32, 32, 3)).astype("float32")
    (a, dense_path), (b, sparse_path) = both(
        kp.prune(model, 0.75, sites="*kernel"), x, tmp_path, quantization=mode, on_breach="warn"
    )
    assert b.bytes < most * a.bytes and b.zeros == pytest.approx(0.75, abs=0.01)
    assert np.array_equal(litert(dense_path, x), litert(sparse_path, x))
    assert len(b.sites) == 10 and all(site.asked_zeros <= site.zeros for site in b.sites)
