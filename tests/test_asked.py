"""What was asked of a file stands in the file: ``verify_file`` reads it, and names a weight that lost it."""

import json
import os

import keras
import numpy as np
import pytest
from keras import layers as L

import kompakt as kp
from kompakt import cli
from kompakt.targets.sparse_format import Form, encode, to_schema
from kompakt.targets.tflite_file import TFLiteFile

LAST_SPARSE = {"sparse": (False, False, False, True), "blocks": (1, 1, 1, 1)}
X = np.random.default_rng(0).normal(size=(64, 8, 8, 4)).astype("float32")


def model():
    keras.utils.set_random_seed(1)
    parts = [
        keras.Input(X.shape[1:]),
        L.Conv2D(8, 3, use_bias=False, name="conv"),
        L.BatchNormalization(name="norm"),
        L.ReLU(),
        L.Conv2D(8, 1, name="pointwise"),
        L.Flatten(),
        L.Dense(5, name="logits"),
    ]
    made = keras.Sequential(parts)
    norm, random = made.get_layer("norm"), np.random.default_rng(2)
    norm.gamma.assign(random.uniform(-1.5, 1.5, 8))
    norm.moving_variance.assign(random.uniform(0.5, 2.0, 8))
    return made


def small():
    """Half of each weight zeros, and four values in all; the head is left alone."""
    return kp.cluster(kp.prune(model(), 0.5, sites=["conv/*", "point*"]), 4, sites=["conv/*", "point*"])


def note(path):
    return json.loads(TFLiteFile(path.read_bytes()).metadata("kompakt"))


def edit(path, site, change):
    """Put ``change(values)`` in place of a weight of the file."""
    file = TFLiteFile(path.read_bytes())
    tensor = file.named(site)
    values = np.ascontiguousarray(change(tensor.values.copy()), tensor.values.dtype)
    file.model.buffers[file.graph.tensors[tensor.index].buffer].data = np.frombuffer(values.tobytes(), "uint8")
    path.write_bytes(file.pack())


def lose_zeros(count):
    def change(values):
        flat = values.reshape(-1)
        flat[np.flatnonzero(flat == 0)[:count]] = flat[flat != 0][0]
        return values

    return change


def gain_value(values):
    """One weight more to the channel with the most values takes a value that is not among them."""
    counts = [len(np.unique(row)) for row in values]
    row = values[int(np.argmax(counts))].reshape(-1)
    row[np.flatnonzero(row)[0]] = next(v for v in range(1, 127) if v not in row)
    return values


@pytest.mark.long(quick=1)
@pytest.mark.parametrize("mode", ["float", "float16", "dynamic_int8", "int8"])
def test_an_honest_file_passes_and_its_facts_stand_beside_what_was_asked(mode, tmp_path):
    path = tmp_path / "m.tflite"
    written = kp.export(small(), path, quantization=mode, calibration=X)
    asked = {"conv/kernel": [144, 4], "pointwise/kernel": [32, 4]}
    known = note(path)
    assert {key: known[key] for key in ("quantization", "io", "asked")} == {
        "quantization": mode,
        "io": written.io,
        "asked": asked,
    }
    assert known["source_sha256"] == written.source_sha256 and known["versions"] == dict(written.versions)
    assert known["outputs"][0]["shape"] == [1, 5]

    found = kp.verify_file(path, kp.finalize(small())[0], X, least_argmax=0.5)
    assert found.breaches == () and found.sites == written.sites
    assert {s.site: [s.asked_zeros, s.asked_palette] for s in found.sites if s.asked_zeros} == asked
    assert all(s.zeros >= s.asked_zeros and s.distinct <= s.asked_palette for s in found.sites if s.asked_zeros)


@pytest.mark.long(quick=1)
@pytest.mark.parametrize("site", ["conv/kernel", "pointwise/kernel"])
def test_a_lost_zero_is_named(site, tmp_path):
    path = tmp_path / "m.tflite"
    written = kp.export(small(), path, quantization="int8", calibration=X)
    fact = next(s for s in written.sites if s.site == site)
    edit(path, site, lose_zeros(fact.zeros - fact.asked_zeros + 1))

    found = kp.verify_file(path, kp.finalize(small())[0], X, least_argmax=0.0)
    assert found.breaches == (
        f"{site}: {fact.asked_zeros} zeros had to be kept, the file holds {fact.asked_zeros - 1}",
    )


@pytest.mark.slow
def test_a_value_too_many_is_named(tmp_path):
    path = tmp_path / "m.tflite"
    kp.export(kp.cluster(model(), 4, sites="conv/*"), path, quantization="int8", calibration=X)
    assert note(path)["asked"] == {"conv/kernel": [None, 4]}
    edit(path, "conv/kernel", gain_value)

    found = kp.verify_file(path, model(), X, least_argmax=0.0)
    assert found.breaches == ("conv/kernel: at most 4 values a channel were asked for, the file holds 5",)


@pytest.mark.slow
def test_a_weight_that_is_gone_is_named(tmp_path):
    path = tmp_path / "m.tflite"
    kp.export(small(), path, quantization="int8", calibration=X)
    file = TFLiteFile(path.read_bytes())
    file.rename(lambda index: "other/kernel" if file.tensors[index].name == "conv/kernel" else None)
    path.write_bytes(file.pack())

    found = kp.verify_file(path, kp.finalize(small())[0], X, least_argmax=0.5)
    assert found.breaches[0] == "conv/kernel: zeros or values had to be kept, the file holds no such weight"
    assert found.breaches[1] == "other/kernel: a tensor (INT8) that was not written"


@pytest.mark.slow
def test_sparse_storage_is_no_loss_and_a_zero_lost_in_it_is_named(tmp_path):
    path = tmp_path / "m.tflite"
    pruned = kp.prune(model(), 0.8, sites="conv/*")
    assert kp.export(pruned, path, verify=X, sparse=True).sparse == 1
    plain = kp.finalize(pruned)[0]
    assert kp.verify_file(path, plain, X).breaches == ()

    file = TFLiteFile(path.read_bytes())
    stored = encode(lose_zeros(1)(file.named("conv/kernel").values.copy()), Form(order=(0, 1, 2, 3), **LAST_SPARSE))
    constant = next(t for t in file.graph.tensors if t.sparsity is not None)
    constant.sparsity = to_schema(stored)
    file.model.buffers[constant.buffer].data = np.frombuffer(stored.values.tobytes(), "uint8")
    path.write_bytes(file.pack())
    found = kp.verify_file(path, plain, X, least_argmax=0.0)
    assert found.breaches == ("conv/kernel: 230 zeros had to be kept, the file holds 229",)


@pytest.mark.slow
def test_nothing_asked_leaves_the_note_short(tmp_path):
    path = tmp_path / "m.tflite"
    kp.export(model(), path, quantization="int8", calibration=X)
    assert set(note(path)) == {"quantization", "io", "inputs", "outputs", "source_sha256", "versions"}


@pytest.mark.slow
def test_weights_inside_a_loop_are_asked_and_counted_too(tmp_path):
    keras.utils.set_random_seed(1)
    built = keras.Sequential([keras.Input((6, 4)), L.LSTM(8, name="memory"), L.Dense(5, name="last")])
    x = np.random.default_rng(0).normal(size=(32, 6, 4)).astype("float32")
    artifact = kp.export(kp.prune(built, 0.5, sites="*kernel"), tmp_path / "m.tflite", verify=x)
    assert artifact.notes == ()
    asked = {"memory/cell/kernel": [64, None], "memory/cell/recurrent_kernel": [128, None], "last/kernel": [20, None]}
    assert note(tmp_path / "m.tflite")["asked"] == asked
    assert {fact.site: [fact.zeros, None] for fact in artifact.sites if fact.asked_zeros} == asked


@pytest.mark.long(quick=1)
@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            "{",
            "broken artifact: kompakt's note in it is no JSON (Expecting property name enclosed in double quotes: ",
        ),
        ("[1]", "broken artifact: kompakt's note in it is [1]; make it again"),
        ('{"asked":{"a":3}}', "broken artifact: 'asked' of kompakt's note in it is {'a': 3}; make it again"),
    ],
)
def test_a_broken_note(text, error, tmp_path):
    path = tmp_path / "m.tflite"
    kp.export(model(), path, verify=X)
    file = TFLiteFile(path.read_bytes())
    file.put_metadata("kompakt", text)
    path.write_bytes(file.pack())
    with pytest.raises(kp.InputError) as caught:
        kp.verify_file(path, model(), X)
    assert str(caught.value).startswith(f"{path}: {error}")


@pytest.mark.slow
def test_the_command_line_says_it_and_exits_with_1(tmp_path, capsys):
    kp.finalize(small())[0].save(tmp_path / "m.keras")
    path = tmp_path / "m.tflite"
    kp.export(small(), path, quantization="int8", calibration=X)
    np.savez(tmp_path / "d.npz", x_train=X, y_train=np.arange(64) % 5, x_test=X, y_test=np.arange(64) % 5)
    asked = ["verify", str(path), "--model", str(tmp_path / "m.keras"), "--data", str(tmp_path / "d.npz")]
    assert cli.main([*asked, "--least-argmax", "0.5"]) == 0
    edit(path, "conv/kernel", lambda values: np.full_like(values, 3))
    assert cli.main([*asked, "--least-argmax", "0"]) == 1
    assert f"BREACH     conv/kernel: 144 zeros had to be kept, the file holds 0{os.linesep}" in capsys.readouterr().out
