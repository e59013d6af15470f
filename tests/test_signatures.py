"""Several signatures in one TFLite file: what is shared, what each computes, what is verified later."""

import json

import keras
import numpy as np
import pytest

import kompakt as kp
from kompakt.cli import main
from kompakt.errors import InputError, VerificationError
from kompakt.records import to_json
from kompakt.targets import find_target
from kompakt.targets.tflite_file import TFLiteFile
from kompakt.targets.tflite_signatures import joined, names_of, taken_out

L = keras.layers
X = np.random.default_rng(0).normal(size=(48, 8, 8, 3)).astype("float32")


@pytest.fixture(scope="module")
def models():
    """A picture to classes, the same to features, and words with a loop and a table to a number."""
    keras.utils.set_random_seed(0)
    i = keras.Input((8, 8, 3), name="image")
    h = L.Dense(64, activation="relu", name="body")(L.Flatten(name="flat")(L.Conv2D(16, 3, name="conv")(i)))
    words = keras.Input((6,), dtype="int32", name="words")
    number = L.Dense(1, name="number")(L.LSTM(8, name="memory")(L.Embedding(30, 8, name="table")(words)))
    return {
        "classify": keras.Model(i, L.Dense(5, name="head")(h), name="classify"),
        "features": keras.Model(i, h, name="features"),
        "words": keras.Model(words, number, name="words"),
    }


@pytest.fixture(scope="module")
def files(models, tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    words = np.random.default_rng(1).integers(0, 30, (16, 6)).astype("int32")
    for name, model in models.items():
        kp.export(model, folder / f"{name}.tflite", verify=words if name == "words" else X)
    return {name: folder / f"{name}.tflite" for name in models}


def test_each_signature_computes_what_its_file_does(files, tmp_path):
    made = kp.join_signatures(files, tmp_path / "all.tflite", verify={"classify": X, "features": X})
    assert made.signatures == ("classify", "features", "words")
    assert made.samples == (48, 48, 16)
    data = (tmp_path / "all.tflite").read_bytes()
    assert names_of(data) == ["classify", "features", "words"]
    assert made.bytes == len(data)
    assert json.loads(to_json(made))["apart"] == sum(path.stat().st_size for path in files.values())


def test_weights_in_common_are_stored_once(files):
    both = joined({name: files[name].read_bytes() for name in ("classify", "features")})
    body = 4 * (6 * 6 * 16 * 64)
    assert len(both) < sum(files[name].stat().st_size for name in ("classify", "features")) - 0.9 * body


def test_what_is_taken_out_is_what_was_put_in(files):
    place = find_target("tflite")
    data = joined({name: path.read_bytes() for name, path in files.items()})
    for name, path in files.items():
        part, own = taken_out(data, name), path.read_bytes()
        assert place.altered(part) == []
        assert place.note(part) == place.note(own)
        assert place.census(part) == place.census(own)
        assert names_of(part) == [name]


@pytest.mark.slow
def test_integer_files_of_other_modes_join_too(models, tmp_path):
    parts = {"classify": "int8", "features": "w4a8"}
    for name, mode in parts.items():
        kp.export(models[name], tmp_path / f"{name}.tflite", quantization=mode, calibration=X, on_breach="raise")
    files = {name: tmp_path / f"{name}.tflite" for name in parts}
    kp.join_signatures(files, tmp_path / "both.tflite", verify=dict.fromkeys(parts, X))
    found = kp.verify_file(tmp_path / "both.tflite", models["classify"], X, signature="classify", least_argmax=0.9)
    assert found.breaches == ()
    assert found.quantization == "int8"


def test_a_signature_is_verified_later(models, files, tmp_path):
    path = tmp_path / "both.tflite"
    kp.join_signatures({name: files[name] for name in ("features", "classify")}, path)
    assert kp.verify_file(path, models["classify"], X, signature="classify").breaches == ()
    with pytest.raises(InputError, match="the file has the signatures features, classify: say which with signature="):
        kp.verify_file(path, models["classify"], X)
    with pytest.raises(InputError, match="signature 'other': the file has 'features', 'classify'"):
        kp.verify_file(path, models["classify"], X, signature="other")


def test_a_change_in_the_joined_file_is_named(models, files, tmp_path):
    path = tmp_path / "both.tflite"
    kp.join_signatures({name: files[name] for name in ("features", "classify")}, path)
    file = TFLiteFile(path.read_bytes())
    part = next(p for p in file.parts() if p.named("head/kernel") is not None)
    part.put(part.named("head/kernel").index, 2 * part.named("head/kernel").values)
    path.write_bytes(file.pack())
    assert kp.verify_file(path, models["features"], X, signature="features").breaches == ()
    assert "head/kernel" in kp.verify_file(path, models["classify"], X, signature="classify").breaches[0]


def test_what_was_changed_since_it_was_written_is_not_joined(files, tmp_path):
    file = TFLiteFile(files["classify"].read_bytes())
    file.put(file.named("head/kernel").index, 2 * file.named("head/kernel").values)
    changed = tmp_path / "changed.tflite"
    changed.write_bytes(file.pack())
    with pytest.raises(InputError, match="changed since it was written: head/kernel"):
        kp.join_signatures({"a": changed, "b": files["features"]}, tmp_path / "both.tflite")
    assert not (tmp_path / "both.tflite").exists()


def test_a_signature_that_computes_something_else_is_not_written(files, tmp_path, monkeypatch):
    """The joining is spoiled on purpose: the second file's numbers go under the first one's name."""
    monkeypatch.setattr(
        "kompakt.signatures.joined",
        lambda parts: joined({name: parts["features" if name == "again" else name] for name in parts}),
    )
    keras.utils.set_random_seed(5)
    i = keras.Input((8, 8, 3), name="image")
    other = keras.Model(i, L.Dense(64, activation="relu", name="body")(L.Flatten(name="f")(i)), name="other")
    kp.export(other, tmp_path / "other.tflite", verify=X)
    with pytest.raises(VerificationError, match="signature 'again': output 0 differs by up to"):
        kp.join_signatures(
            {"features": files["features"], "again": tmp_path / "other.tflite"}, tmp_path / "both.tflite"
        )
    assert not (tmp_path / "both.tflite").exists()


def test_bad_input_is_one_error(files, tmp_path):
    with pytest.raises(InputError, match="expected two or more, name of a signature -> file"):
        kp.join_signatures({"a": files["classify"]}, tmp_path / "x.tflite")
    with pytest.raises(InputError, match="verify: there is no signature 'zzz'; there are classify, features, words"):
        kp.join_signatures(files, tmp_path / "x.tflite", verify={"zzz": X})
    both = tmp_path / "both.tflite"
    kp.join_signatures({name: files[name] for name in ("features", "classify")}, both)
    with pytest.raises(InputError, match=r"signature 'b': expected a file with one signature, this one has \['feat"):
        kp.join_signatures({"a": files["words"], "b": both}, tmp_path / "x.tflite")


def test_the_command(files, tmp_path, capsys):
    out = str(tmp_path / "both.tflite")
    assert main(["join", out, f"a={files['classify']}", f"b={files['features']}"]) == 0
    said = capsys.readouterr().out
    assert "a: equal to its own file in every bit, 16 random samples" in said
    assert main(["join", out, "a.tflite"]) == 2
    assert "'a.tflite': expected NAME=FILE, each name once" in capsys.readouterr().err
