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


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["nothing.tflite"], "kompakt: cannot read nothing.tflite: No such file"),
        (["{}/m.keras"], "not a Keras model: make one of it with kompakt export"),
        (["{}/int8.tflite", "--rounds", "1"], "kompakt: rounds=1: expected 2 or more"),
        (["{}/int8.tflite", "--threads", "0"], "kompakt: threads=[0]: expected whole numbers from 1 on"),
    ],
)
def test_bad_input(run, given, arguments, text):
    code, out, err = run(*[argument.format(given) for argument in arguments])
    assert code == 2 and not out and text in err and err.count("\n") == 1
