"""What every command prints: names of a model or a file do not drive the terminal, and ``--json`` is JSON anywhere."""

import io
import json
import sys

import keras
import numpy as np
import pytest
from keras import layers as L

import kompakt as kp
from kompakt.cli import main
from kompakt.commands import COMMANDS

ODD = "a\x1b[2J\x1b]0;mine\x07\u202e\x9b31m\n<b>[red]größe 重み"
X = np.random.default_rng(0).normal(size=(96, 6)).astype("float32")
ARRAYS = {"x_train": X[:64], "y_train": X[:64, :3].argmax(-1), "x_test": X[64:], "y_test": X[64:, :3].argmax(-1)}
M, T = f"{ODD}.keras".replace("\n", ""), f"{ODD}.tflite".replace("\n", "")
BENCH = ["--rounds", "2", "--threads", "1"]

CALLS = {
    "optimize": [M, "--recipe", "ptq_int8", "--data", "d.npz", "--out", f"{ODD}out"],
    "export": [M, f"out{T}", "--data", "d.npz", "--quantization", "int8"],
    "export all": [M, "everywhere", "--target", "all", "--data", "d.npz"],
    "verify": [T, "--model", M, "--data", "d.npz"],
    "evaluate": [T, "--data", "d.npz"],
    "evaluate Keras": [M, "--data", "d.npz"],
    "compare": [M, T, "--data", "d.npz"],
    "bench": [T, *BENCH, "--model", M, "--operators"],
    "bench two": [T, "other.tflite", *BENCH],
    "inspect": [T],
    "inspect ops": [T, "--ops", "--tensors"],
    "inspect against": [T, "--against", "other.tflite"],
    "inspect analyzer": [T, "--analyzer"],
    "report": ["records"],
    "join": ["both.tflite", f"{ODD}={T}", "b=other.tflite"],
    "sensitivity": [M, "--data", "d.npz", "--bits", "8"],
    "recipes": [],
    "demo": ["--quick"],
}
SLOW = {"export all", "optimize", "demo", "bench two", "compare"}
CASES = [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in CALLS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("odd")
    keras.utils.set_random_seed(0)
    i = keras.Input((6,), name="x")
    hidden = L.Dense(8, activation="relu", name=ODD)(i)
    model = keras.Model(i, L.Dense(3, name="b")(hidden), name=f"model {ODD}")
    model.save(place / M)
    np.savez(place / "d.npz", **ARRAYS)
    kp.export(model, place / T, quantization="int8", calibration=X)
    kp.export(model, place / "other.tflite", verify=X)
    made = {"recipe": ODD, "skipped": [ODD], "applied": [ODD]}
    (place / "records").mkdir()
    (place / "records/records.json").write_text(json.dumps({"title": ODD, "trials": [made], "notes": [ODD]}))
    return place


@pytest.fixture
def call(capsys, monkeypatch, folder):
    """``call(name, *more)``: what a command prints on standard output, and on standard error."""
    monkeypatch.chdir(folder)

    def ran(name, *more):
        code = main([name.split()[0], *CALLS[name], *more])
        out, err = capsys.readouterr()
        assert code in (0, 1), err
        return out, err

    return ran


def test_every_command_is_called_here():
    assert {name.split()[0] for name in CALLS} == set(COMMANDS) - {"view"}  # which runs on: see test_viewer


@pytest.mark.parametrize("name", CASES)
def test_names_do_not_drive_the_terminal(name, call):
    out, err = call(name)
    wrong = {c for c in out + err if not (c.isprintable() or c == "\n")}
    assert out and not wrong


@pytest.mark.parametrize("name", CASES)
def test_json_is_valid_in_ascii(name, call):
    out, _ = call(name, "--json")
    assert out.isascii()
    json.loads(out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))


@pytest.mark.parametrize("name", ["inspect", "evaluate", "report", "sensitivity", "recipes"])
@pytest.mark.parametrize("more", [(), ("--json",)])
def test_an_output_of_ascii_alone(name, more, monkeypatch, folder):
    """PYTHONIOENCODING=ascii: what it has no sign for ended in a traceback."""
    monkeypatch.chdir(folder)
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    assert main([name, *CALLS[name], *more]) == 0
    assert written.getvalue().isascii() and (not more or json.loads(written.getvalue()))
    assert sys.stdout.errors == "strict"
