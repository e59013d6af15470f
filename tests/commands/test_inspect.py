"""``kompakt inspect``: what it prints, and that nothing in a file reaches the terminal as it is."""

import json

import keras
import numpy as np
import pytest

import kompakt as kp
from kompakt.changes import ArtifactDifference
from kompakt.cli import main
from kompakt.contents import Contents
from kompakt.records import from_json
from kompakt.targets.tflite_file import TFLiteFile

L = keras.layers
X = np.random.default_rng(0).normal(size=(64, 6)).astype("float32")
WEIRD = "a\x1b[2J\x1b]0;mine\x07\u202e\x9b31m\n<b>[red]"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("files")
    keras.utils.set_random_seed(0)
    i = keras.Input((6,), name="x")
    model = keras.Model(i, L.Dense(3, name="b")(L.Dense(5, activation="relu", name="a")(i)))
    kp.export(model, place / "float.tflite", verify=X)
    kp.export(model, place / "int8.tflite", quantization="int8", calibration=X)
    file = TFLiteFile((place / "float.tflite").read_bytes())
    file.rename(lambda index: f"{WEIRD}{index}")
    file.put_metadata(WEIRD, WEIRD)
    file.put_metadata("kompakt", json.dumps({"quantization": WEIRD, "versions": {WEIRD: WEIRD}}))
    for signature in file.model.signatureDefs:
        signature.signatureKey = WEIRD.encode()
    file.name_ends("inputs", {"x": WEIRD})
    (place / "weird.tflite").write_bytes(file.pack())
    return place


@pytest.fixture
def run(capsys, monkeypatch, folder):
    """``run(*arguments)``: exit code, standard output, standard error, in the folder, 80 columns wide."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "80")

    def call(*arguments):
        code = main(["inspect", *arguments])
        return code, *capsys.readouterr()

    return call


def test_a_summary(run):
    code, out, err = run("int8.tflite")
    assert code == 0 and err == ""
    for text in ("int8.tflite: tflite, ", "FULLY_CONNECTED", "1 RELU", "a/kernel", "b/output", "quantization   int8"):
        assert text in out
    assert max(map(len, out.splitlines())) <= 80


def test_operators_and_tensors_are_chosen(run):
    _, operators, _ = run("int8.tflite", "--ops")
    _, tensors, _ = run("int8.tflite", "--tensors")
    assert "2 operators" in operators and "tensors" not in operators and "+ RELU" in operators
    assert "zero -128" in tensors and "operators" not in tensors
    assert run("int8.tflite", "--ops", "--tensors")[1] == operators + tensors


def test_json_is_the_record(run, folder):
    assert from_json(Contents, run("int8.tflite", "--json")[1]) == kp.inspect("int8.tflite")
    found = from_json(ArtifactDifference, run("float.tflite", "--against", "int8.tflite", "--json")[1])
    assert found == kp.difference("float.tflite", "int8.tflite")


def test_a_difference(run):
    code, out, _ = run("float.tflite", "--against", "int8.tflite")
    assert code == 0 and "FLOAT32" in out and "differ, by up" in out
    assert "no difference" in run("float.tflite", "--against", "float.tflite")[1]


def test_a_target_holds_for_every_view(run, folder):
    """``--target`` was ignored with ``--against`` and ``--analyzer``."""
    (folder / "other.bin").write_bytes((folder / "int8.tflite").read_bytes())
    assert "FULLY_CONNECTED" in run("other.bin", "--analyzer", "--target", "tflite")[1]
    assert "no difference" in run("other.bin", "--against", "int8.tflite", "--target", "tflite")[1]
    for options in ((), ("--against", "float.tflite"), ("--analyzer",)):
        code, out, err = run("int8.tflite", *options, "--target", "onnx")
        assert code == 2 and out == "" and err.count("\n") == 1
        assert run("int8.tflite", *options, "--target", "coreml")[2].startswith(
            "kompakt: target 'coreml': expected one"
        )


def test_the_analyzer(run):
    assert "Your TFLite model has '1' subgraph(s)" in run("int8.tflite", "--analyzer")[1]
    assert "GPU delegate" in json.loads(run("int8.tflite", "--analyzer", "--gpu", "--json")[1])["analyzer"]


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--ops",),
        ("--tensors",),
        ("--against", "float.tflite"),
        ("--analyzer",),
        ("--json",),
        ("--analyzer", "--json"),
    ],
)
def test_names_do_not_drive_the_terminal(options, run):
    code, out, err = run("weird.tflite", *options)
    assert code == 0 and err == ""
    assert all(c.isprintable() or c == "\n" for c in out)
    if "--analyzer" not in options:  # which takes out what does not print
        assert r"\x1b" in out or r"\u001b" in out


def test_a_web_model_of_another_program_with_such_names(run, folder):
    """Halves of characters come out of JSON, and could not be printed at all."""
    (folder / "web").mkdir(exist_ok=True)
    odd = WEIRD + "\ud800"
    kernel = {"name": odd, "op": "Const", "attr": {"dtype": {"type": "DT_FLOAT"}}}
    given = {"name": "x", "op": "Placeholder", "attr": {"dtype": {"type": "DT_FLOAT"}, "shape": {"shape": {}}}}
    made = {"name": "y", "op": odd, "input": ["x", odd, "^x"], "attr": {odd: {"s": odd}, "list": {"list": {"i": 3}}}}
    end = {"dtype": "DT_FLOAT", "tensorShape": {}}
    whole = {
        "format": "graph-model",
        "modelTopology": {"node": [kernel, given, made]},
        "signature": {"inputs": {odd: {"name": "x", **end}}, "outputs": {odd: {"name": "y", **end}}},
        "weightsManifest": [{"paths": ["w.bin"], "weights": [{"name": odd, "shape": [2], "dtype": "float32"}]}],
    }
    (folder / "web/model.json").write_text(json.dumps(whole))
    (folder / "web/w.bin").write_bytes(np.array([1, 2], "float32").tobytes())
    for options in ((), ("--ops",), ("--tensors",), ("--json",), ("--against", "int8.tflite")):
        code, out, err = run("web", *options)
        assert code == 0 and err == ""
        assert all(c.isprintable() or c == "\n" for c in out)
    assert run("web", "--json")[1].isascii()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("none.tflite",), "cannot read none.tflite"),
        (("int8.tflite", "--against", "float.tflite", "--ops"), "--against shows something else than --ops: give one"),
        (("int8.tflite", "--analyzer", "--tensors"), "--analyzer shows something else than --tensors: give one"),
        (("int8.tflite", "--gpu"), "--gpu goes with --analyzer"),
        (("int8.tflite", "--target", "coreml"), "expected one of tflite"),
    ],
)
def test_bad_input_is_one_line(arguments, said, run):
    code, out, err = run(*arguments)
    assert code == 2 and out == "" and said in err and err.count("\n") == 1


def test_what_an_error_says_of_a_file_is_escaped(run, folder):
    name = "odd\x1b[2J.tflite"
    (folder / name).write_bytes(b"1234")
    code, _, err = run(name)
    assert code == 2 and r"odd\x1b[2J.tflite: not a TFLite file" in err and "\x1b" not in err
