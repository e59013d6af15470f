"""``kompakt bench``: what it prints, and bad input in one line."""

import json

import keras
import numpy as np
import pytest
from keras import layers as L

import kompakt as kp
from kompakt.cli import main
from kompakt.records import from_json
from kompakt.records_profile import Bench

X = np.random.default_rng(0).normal(size=(96, 6)).astype("float32")
ARRAYS = {"x_train": X[:64], "y_train": X[:64, :3].argmax(-1), "x_test": X[64:], "y_test": X[64:, :3].argmax(-1)}
QUICK = ("--rounds", "2", "--threads", "1")


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    folder = tmp_path_factory.mktemp("given")
    parts = [L.Dense(8, activation="relu", name="hidden"), L.Dense(3, name="logits")]
    model = keras.Sequential([keras.Input((6,)), *parts], name="small")
    model.save(folder / "m.keras")
    np.savez(folder / "d.npz", **ARRAYS)
    for mode in ("float", "int8"):
        kp.export(model, folder / f"{mode}.tflite", quantization=mode, calibration=X)
    (folder / "web").mkdir()
    (folder / "web/model.json").write_text("{}")
    return folder


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        code = main(["bench", *map(str, arguments)])
        return code, *capsys.readouterr()

    return call


def test_a_file(run, given):
    code, out, err = run(given / "int8.tflite", *QUICK, "--model", given / "m.keras", "--data", given / "d.npz")
    assert code == 0 and not err
    assert max(map(len, out.splitlines())) <= 80
    words = [line.split() for line in out.splitlines()]
    assert ["hidden", "56", "48"] in [line[:3] for line in words]
    assert "72 MACs a sample, 83 parameters" in out and "random" not in out


def test_operators(run, given):
    code, out, _ = run(given / "float.tflite", *QUICK, "--operators")
    assert code == 0 and "whole file" in out and "note: inputs are random numbers, seed 0" in out
    rows = [line.split()[:3] for line in out.splitlines() if line.startswith("FULLY_CONNECTED")]
    assert [macs for _, _, macs in rows] == ["48", "24"]


def test_the_records(run, given):
    code, out, err = run(given / "float.tflite", given / "int8.tflite", *QUICK, "--json")
    assert code == 0 and not err
    bench = from_json(Bench, out)
    assert [p.target for p in bench.profiles] == ["tflite", "tflite"]
    (ratio,) = bench.ratios
    assert (ratio.path, ratio.other) == (str(given / "int8.tflite"), str(given / "float.tflite"))
    assert ratio.rounds == 2 and json.loads(out)["profiles"][0]["macs"] == 72


def test_several_files(run, given):
    code, out, _ = run(given / "float.tflite", given / "int8.tflite", *QUICK)
    assert code == 0 and "latency / first" in out
    assert [line.split()[0] for line in out.splitlines() if line.startswith(("float", "int8"))][:2] == [
        "float.tflite",
        "int8.tflite",
    ]


def other(shape=(6,), sizes=(8, 3), names=("hidden", "logits")):
    parts = [L.Dense(size, name=name) for size, name in zip(sizes, names, strict=True)]
    return keras.Sequential([keras.Input(shape), *parts], name="other")


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (other(shape=(7,)), "the model takes (7), the file (6)"),
        (other(shape=(3, 6)), "the model takes (3, 6), the file (6)"),
        (other(sizes=(9, 5)), "hidden/kernel has 48 values in the file, 54 in the model"),
        (other(sizes=(9, 5), names=("a", "b")), "the file has no weight of 54 values, as a/kernel of the model"),
    ],
    ids=["inputs", "dimensions", "sizes", "names"],
)
@pytest.mark.parametrize("mode", ["float", "int8"])
def test_a_model_that_the_file_does_not_come_from_is_refused(run, given, tmp_path, model, mode, text):
    """Its parameters and multiply-accumulates were shown as those of the file."""
    model.save(tmp_path / "other.keras")
    code, out, err = run(given / f"{mode}.tflite", *QUICK, "--model", "other.keras")
    file = given / f"{mode}.tflite"
    assert (code, out) == (2, "")
    assert err == f"kompakt: {file}: is not made of this model: {text}; give the model it came from\n"


def test_a_model_whose_layers_are_called_otherwise_is_noted(run, given, tmp_path):
    other(names=("a", "b")).save(tmp_path / "other.keras")
    code, out, _ = run(given / "float.tflite", *QUICK, "--model", "other.keras")
    assert code == 0 and "cannot be told by names" in " ".join(out.split())


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["nothing.tflite"], "kompakt: cannot read nothing.tflite: No such file"),
        (["{}/web"], "{}/web: model.json has the format None"),
        (["{}/m.keras"], "not a Keras model: make one of it with kompakt export"),
        (["{}/int8.tflite", "--rounds", "1"], "kompakt: rounds=1: expected a whole number from 2 on"),
        (["{}/int8.tflite", "--threads", "0"], "kompakt: threads=[0]: expected whole numbers from 1 on"),
    ],
)
def test_bad_input(run, given, arguments, text):
    code, out, err = run(*[argument.format(given) for argument in arguments])
    assert code == 2 and not out and text.format(given) in err and err.count("\n") == 1
