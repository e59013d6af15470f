"""Notes that are not what kompakt writes: one error each, whatever the target; and notes that were taken out."""

import json

import keras
import numpy as np
import pytest

import kompakt as kp
from kompakt.cli import main
from kompakt.errors import InputError
from kompakt.folders import packed, unpacked
from kompakt.targets import find_target
from kompakt.targets.notes import FORMS, read_note

L = keras.layers
X = np.random.default_rng(0).random((32, 4), dtype="float32")


def small():
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((4,)), L.Dense(8, activation="relu", name="d1"), L.Dense(3, name="d")])


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Target -> the folder that it wrote."""
    made = {}
    for target in ("savedmodel", "tflm", "tfjs"):
        try:
            find_target(target).ready()
            path = tmp_path_factory.mktemp(target) / "m"
            kp.export(small(), path, target=target, verify=X)
        except InputError:
            continue  # its runtime is not here: the others are tried
        made[target] = path
    return made


BROKEN = [
    {"quantization": 5},
    {"asked": {"d1/kernel": [[1], 2]}},
    {"asked": 5},
    {"channels": {"d1/kernel": "x"}},
    {"layouts": 5},
    {"layouts": {"d1/kernel": {"tensor": "a", "axes": [0, 1], "gates": None}}},
    {"layouts": {"d1/kernel": {"tensor": "a", "shape": [2, 2], "axes": [0, 7], "gates": None}}},
    {"inputs": 5},
    {"backends": 5},
    {"at": {"d/output": [1, 2]}},
    {"floats": "d"},
    {"signatures": [1]},
]


@pytest.mark.parametrize("entry", BROKEN)
def test_an_entry_of_another_form_is_named(entry):
    (name,) = entry
    with pytest.raises(InputError, match=f"broken artifact: '{name}' of kompakt's note in it is .*; make it again"):
        read_note(json.dumps(entry))
    assert name in FORMS


@pytest.mark.parametrize("text", ["[1]", "5", "{", "\\x00"])
def test_what_is_no_note_is_one_error(text):
    with pytest.raises(InputError, match=r"broken artifact: kompakt's note in it is .*; make it again"):
        read_note(text)


@pytest.mark.parametrize("entry", [{"asked": {"d1/kernel": [[1], 2]}}, {"channels": {"d1/kernel": [99]}}])
def test_a_broken_note_of_a_folder_is_bad_input(exported, entry, tmp_path, capsys):
    small().save(tmp_path / "m.keras")
    np.savez(tmp_path / "x.npz", x_train=X, y_train=X[:, 0], x_test=X, y_test=X[:, 0])
    for target, path in exported.items():
        if target == "tflm" and "channels" in entry:
            continue  # its file has scales, which say where channels are
        files = dict(unpacked(find_target(target).read(path)))
        files["kompakt.json"] = json.dumps({**json.loads(files["kompakt.json"]), **entry}).encode()
        find_target(target).write(tmp_path / target, packed(files))
        given = ["--model", str(tmp_path / "m.keras"), "--data", str(tmp_path / "x.npz")]
        assert main(["verify", str(tmp_path / target), *given]) == 2
        assert "broken artifact: " in capsys.readouterr().err


def test_a_note_without_its_digests_or_none_at_all_is_a_fault(exported):
    for target, path in exported.items():
        place = find_target(target)
        files = dict(unpacked(place.read(path)))
        note = json.loads(files["kompakt.json"])
        del note["sha256"]
        without = {**files, "kompakt.json": json.dumps(note).encode()}
        assert [f.text for f in place.altered(packed(without))] == [
            "the digests of the other files were taken out of it"
        ]
        del files["kompakt.json"]
        assert [f.text for f in place.altered(packed(files))] == ["kompakt's note was taken out of the folder"]


def test_a_broken_note_of_an_onnx_file_is_bad_input(tmp_path):
    onnx = pytest.importorskip("onnx", reason="ONNX is not installed: pip install 'kompakt[onnx]'")
    find_target("onnx").ready()
    path = tmp_path / "m.onnx"
    kp.export(small(), path, target="onnx", verify=X)
    held = onnx.load(path)
    (entry,) = [each for each in held.metadata_props if each.key == "kompakt"]
    for change in ({"layouts": 5}, {"inputs": 5}, {"layouts": {"d/kernel": {"tensor": "d/kernel"}}}):
        entry.value = json.dumps({**json.loads(entry.value), **change})
        path.write_bytes(held.SerializeToString())
        with pytest.raises(InputError, match="broken artifact: "):
            kp.verify_file(path, small(), X)
