"""The command line: what each command prints and writes, its exit codes, and bad input in one line."""

import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers as L

import kompakt as kp
from kompakt import commands
from kompakt.cli import main, parser
from kompakt.data import CALIBRATION, sample_rows
from kompakt.keras_modes import WHY_NOT_TFLITE
from kompakt.recipe import load_recipe, recipe_names, to_dict
from kompakt.records import Artifact, Run, from_json, to_json
from kompakt.targets import TARGETS

COMMANDS = ("demo", "optimize", "export", "verify", "report", "recipes")
X = np.random.default_rng(0).normal(size=(96, 6)).astype("float32")
ARRAYS = {"x_train": X[:64], "y_train": X[:64, :3].argmax(-1), "x_test": X[64:], "y_test": X[64:, :3].argmax(-1)}


def small(*last):
    keras.utils.set_random_seed(0)
    parts = [L.Dense(8, activation="relu", name="hidden"), L.Dense(3, name="logits"), *last]
    return keras.Sequential([keras.Input((6,)), *parts], name="small")


@pytest.fixture(autouse=True)
def as_it_was(tmp_path, monkeypatch):
    """The command line sets variables: put back after each test. Each has its own folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    for name in ("TF_CPP_MIN_LOG_LEVEL", "KERAS_BACKEND", "KOMPAKT_DEBUG"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
        if not os.environ[name]:
            monkeypatch.delenv(name)


def test_a_command_leaves_the_log_as_loud_as_it_was():
    """Logs of whatever ran after it in the same process were lost."""
    loggers = [logging.getLogger(name) for name in ("kompakt", "tensorflow")]
    before = [logger.level for logger in loggers]
    assert main(["recipes"]) == 0 and main(["recipes", "nothing_like_it"]) == 2
    assert [logger.level for logger in loggers] == before


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A folder with a model, data, and an int8 file of the model."""
    folder = tmp_path_factory.mktemp("given")
    model = small()
    model.save(folder / "m.keras")
    np.savez(folder / "d.npz", **ARRAYS)
    kp.export(model, folder / "m.tflite", quantization="int8", calibration=ARRAYS["x_train"])
    small(L.PReLU(name="odd")).save(folder / "odd.keras")
    keras.Sequential([keras.Input((6,)), L.ReLU()], name="bare").save(folder / "bare.keras")
    return folder


@pytest.fixture
def run(capsys):
    """``run(*arguments)``: exit code, standard output, standard error."""

    def call(*arguments):
        try:
            code = main([str(a) for a in arguments])
        except SystemExit as end:
            code = end.code
        out, err = capsys.readouterr()
        return code, out, err

    return call


def child(*arguments, **options):
    """The same in a process of its own, where what a library writes to stderr shows too."""
    command = [sys.executable, "-m", "kompakt", *map(str, arguments)]
    chatty = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "0"}  # the command line is calm all the same
    return subprocess.run(command, capture_output=True, text=True, check=False, env=chatty, **options)


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# Without a model


def test_version(run):
    assert run("--version") == (0, f"kompakt {kp.__version__}\n", "")


def test_no_command_shows_the_help(run):
    code, out, err = run()
    assert (code, err) == (0, "") and out == run("--help")[1]
    assert all(re.search(rf"^    {command} ", out, flags=re.MULTILINE) for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help(run, command):
    code, out, err = run(command, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"usage: kompakt {command} [-h] [--json] [--debug]")
    (options,) = (a.choices[command]._actions for a in parser()._actions if isinstance(a.choices, dict))
    for option in options:
        assert option.help and all(flag in out for flag in option.option_strings)


def test_recipes(run):
    code, out, err = run("recipes")
    assert (code, err) == (0, "")
    listed = [line.split()[0] for line in out.splitlines()[1:] if line[:1].strip()]  # what goes on is indented
    assert listed == recipe_names()


def test_recipes_as_json(run):
    code, out, err = run("recipes", "--json")
    assert (code, err) == (0, "")
    assert [load_recipe(recipe) for recipe in json.loads(out)] == [load_recipe(name) for name in recipe_names()]


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_one_recipe(run, more):
    code, out, err = run("recipes", "pqat_int8", *more)
    assert (code, err) == (0, "") and json.loads(out) == to_dict(load_recipe("pqat_int8"))


LOADED = """
import sys
try:
    from kompakt.cli import main
    main(sys.argv[1:])
except SystemExit:
    pass
heavy = ("tensorflow", "ai_edge_litert", "ai_edge_quantizer", "matplotlib", "keras", "sklearn", "jax", "torch")
print([name for name in heavy if name in sys.modules], file=sys.stderr)
"""


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], [], *([command, "--help"] for command in COMMANDS), ["optimize", "m.keras"]],
    ids=" ".join,
)
def test_nothing_heavy_is_loaded_for(arguments):
    ran = subprocess.run([sys.executable, "-c", LOADED, *arguments], capture_output=True, text=True, check=True)
    assert ran.stderr.splitlines()[-1] == "[]"


MISTAKES = {
    "optimize no.keras --recipe ptq_int8 --data d.npz": "model file no.keras does not exist",
    "optimize m.keras --recipe ptq_int9 --data d.npz": "recipe 'ptq_int9': no recipe",
    "optimize m.keras --recipe ptq_int8 --data no.npz": "data file no.npz does not exist",
    "optimize m.keras --recipe ptq_int8 --data d.npz --target tfl": "--target 'tfl': expected one of",
    "optimize m.keras --recipe distill --data d.npz --teacher no.keras": "model file no.keras does not exist",
    "export no.keras m.tflite": "model file no.keras does not exist",
    "export m.keras m.tflite --target tfl": "--target 'tfl': expected one of",
    "export m.keras m.bin": "m.bin: say for which device",
    "export m.keras out --target tflite": "out: the target 'tflite' writes .tflite files; name it *.tflite",
    "export m.keras m.tflite --quantization int9": "quantization='int9': expected one of float",
    "export m.keras m.onnx --quantization w4a8": "quantization='w4a8': expected one of float, int8",
    "export m.keras m.tflite --quantization int8": "--data is missing",
    "export m.keras m.tflite --data d.npz --rule head": "--rule 'head': expected",
    "verify no.tflite --model m.keras --data d.npz": "cannot read no.tflite",
    "verify m.tflite --model no.keras --data d.npz": "model file no.keras does not exist",
    "verify m.tflite --model m.keras --data no.npz": "data file no.npz does not exist",
    "evaluate no.tflite --data d.npz": "cannot read no.tflite",
    "evaluate no.keras --data d.npz": "model file no.keras does not exist",
    "compare m.tflite no.tflite --data d.npz": "cannot read no.tflite",
    "bench m.tflite no.tflite": "cannot read no.tflite",
    "bench m.tflite --model no.keras": "model file no.keras does not exist",
    "inspect no.tflite": "cannot read no.tflite",
    "inspect m.tflite --against no.tflite": "cannot read no.tflite",
    "inspect m.tflite --gpu": "--gpu goes with --analyzer",
    "view no.tflite": "cannot read no.tflite",
    "join o.tflite a=m.tflite b=no.tflite": "cannot read no.tflite",
    "join o.tflite m.tflite": "'m.tflite': expected NAME=FILE",
    "sensitivity no.keras --data d.npz": "model file no.keras does not exist",
    "sensitivity m.keras --data words": "data 'words': no such file or folder",
    "recipes ptq_int9": "recipe 'ptq_int9': no recipe",
    "report no.json": "no.json: cannot read it",
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_cheap_mistake_is_told_before_anything_heavy_is_loaded(mistake, tmp_path):
    """Keras and TensorFlow took their seconds first."""
    for name in ("m.keras", "d.npz"):
        with zipfile.ZipFile(tmp_path / name, "w"):
            pass
    (tmp_path / "m.tflite").write_bytes(b"")
    ran = subprocess.run(
        [sys.executable, "-c", LOADED, *mistake.split()], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    told, loaded = ran.stderr.splitlines()
    assert told.startswith(f"kompakt: {MISTAKES[mistake]}") and loaded == "[]"


def test_every_command_is_among_these_mistakes():
    assert {mistake.split()[0] for mistake in MISTAKES} == {*commands.COMMANDS} - {"demo"}


def test_a_report_needs_no_keras(tmp_path):
    (tmp_path / "records.json").write_text(to_json(Run(title="t", trials=())))
    ran = subprocess.run(
        [sys.executable, "-c", LOADED, "report", "."], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert "report: report.html" in ran.stdout and not {"keras", "tensorflow"} & set(eval(ran.stderr))


def test_nothing_heavy_is_loaded_by_the_import():
    code = "import kompakt, sys; print({m.split('.')[0] for m in sys.modules if 'site-packages' in str(getattr("
    code += "sys.modules[m], '__file__', ''))} - {'kompakt'})"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found = eval(ran.stdout)
    assert not found & {"tensorflow", "ai_edge_litert", "matplotlib", "keras", "numpy", "sklearn", "jax", "torch"}


@pytest.mark.slow
def test_listing_recipes_loads_no_converter():
    ran = subprocess.run([sys.executable, "-c", LOADED, "recipes"], capture_output=True, text=True, check=True)
    assert not set(eval(ran.stderr.splitlines()[-1])) & {"ai_edge_litert", "ai_edge_quantizer"}


@pytest.mark.slow
def test_a_reader_that_has_enough_is_no_error():
    ran = subprocess.run(
        f"{sys.executable} -m kompakt recipes --json | head -n 1; exit ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.stdout, ran.stderr) == ("[\n", "") and ran.returncode in (0, 141)


# export and verify


@pytest.mark.slow
def test_export_and_verify(run, given, tmp_path):
    code, out, err = run("export", given / "m.keras", "new/m.tflite", "--data", given / "d.npz")
    assert (code, err) == (0, "") and names(tmp_path) == ["new/m.tflite"]
    assert out.startswith("new/m.tflite: tflite, float, float32 I/O\n") and "\n  agreement  argmax 1.0000 " in out

    code, out, err = run("verify", "new/m.tflite", "--model", given / "m.keras", "--data", given / "d.npz")
    assert (code, err) == (0, "")
    assert "argmax 1.0000 with the float model on 32 samples" in out and "BREACH" not in out


def test_export_as_json(run, given):
    options = ("--quantization", "int8", "--io", "uint8", "--json")
    code, out, err = run("export", given / "m.keras", "m.tflite", "--data", given / "d.npz", *options)
    artifact = from_json(Artifact, out)
    assert (code, err) == (0, "")
    assert (artifact.quantization, artifact.io, artifact.agreement.samples) == ("int8", "uint8", 32)
    assert artifact.bytes == os.path.getsize("m.tflite")


def test_verify_as_json(run, given):
    code, out, err = run(
        "verify", given / "m.tflite", "--model", given / "m.keras", "--data", given / "d.npz", "--json"
    )
    artifact = from_json(Artifact, out)
    assert (code, err) == (0, "") and artifact.breaches == () and artifact.quantization == "int8"


@pytest.mark.slow
def test_a_breach_at_export(run, given, tmp_path):
    command = ("export", given / "odd.keras", "m.tflite", "--quantization", "int8", "--data", given / "d.npz")
    code, out, err = run(*command)
    assert (code, out) == (1, "") and names(tmp_path) == []
    assert re.fullmatch(
        r"kompakt: not verified: m\.tflite: float operator in an int8 file: PRELU \(odd/output\); .*\n", err
    )
    code, out, err = run(*command, "--on-breach", "warn")
    assert (code, err) == (1, "") and names(tmp_path) == ["m.tflite"]
    assert "\n  BREACH     float operator in an int8 file: PRELU (odd/output)\n" in out


@pytest.mark.slow
def test_repairs_at_export(run, given, tmp_path):
    command = ("export", given / "m.keras", "m.tflite", "--quantization", "w4a8", "--data", given / "d.npz", "--json")
    held = []
    for more in ((), ("--repair", "adaround", "--repair", "bias")):
        assert run(*command, *more)[0] == 0
        held.append((tmp_path / "m.tflite").read_bytes())
    model, data = keras.models.load_model(given / "m.keras"), np.load(given / "d.npz")
    samples, words = sample_rows(data["x_train"], CALIBRATION), ("adaround", "bias")
    kp.export(model, "same.tflite", quantization="w4a8", calibration=samples, verify=data["x_test"], repairs=words)
    assert held[0] != held[1] == (tmp_path / "same.tflite").read_bytes()
    # Weights and biases were moved on purpose: the seal says that they are as they were written.
    assert run("verify", "m.tflite", "--model", given / "m.keras", "--data", given / "d.npz")[0] == 0


def spoil_kernel(data):
    """The file with the kernel of the last layer turned round."""
    from kompakt.targets.tflite_file import TFLiteFile

    file = TFLiteFile(data)
    kernel = file.named("logits/kernel")
    buffer = file.model.buffers[file.graph.tensors[kernel.index].buffer]
    buffer.data = np.frombuffer(kernel.values[::-1].tobytes(), "uint8")
    return file.pack()


def test_which_layer_hurts(given, run):
    code, out, err = run("sensitivity", given / "m.keras", "--data", given / "d.npz", "--json")
    rows = json.loads(out)
    assert (code, err) == (0, "") and {"hidden", "logits"} <= {row["layer"] for row in rows}
    assert [error["bits"] for row in rows for error in row["errors"] if row["layer"] == "logits"] == [8, 4]
    code, out, err = run("sensitivity", given / "m.keras", "--data", given / "d.npz", "--bits", "4")
    assert (code, err) == (0, "") and "4 bits" in out and "logits" in out
    code, out, err = run("sensitivity", given / "m.keras", "--data", given / "d.npz", "--bits", "1")
    assert (code, out) == (2, "") and err.startswith("kompakt: bits=") and err.count("\n") == 1


def test_classes_of_ones_own_are_imported(given, tmp_path, monkeypatch):
    (tmp_path / "own_layers.py").write_text(
        "import keras\n"
        "@keras.saving.register_keras_serializable('own')\n"
        "class Twice(keras.layers.Layer):\n"
        "    def call(self, x):\n"
        "        return 2.0 * x\n"
    )
    (tmp_path / "make.py").write_text(
        "import keras, own_layers\n"
        "keras.Sequential([keras.Input((6,)), own_layers.Twice(), keras.layers.Dense(4)]).save('own.keras')\n"
    )
    subprocess.run([sys.executable, "make.py"], cwd=tmp_path, check=True, capture_output=True)
    ran = child("export", "own.keras", "own.tflite", cwd=tmp_path)
    assert ran.returncode == 2 and "'Twice', which is not known here" in ran.stderr and "--import MODULE" in ran.stderr
    ran = child("export", "own.keras", "own.tflite", "--import", "own_layers", cwd=tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "")
    ran = child("export", "own.keras", "own.tflite", "--import", "none_such", cwd=tmp_path)
    assert ran.returncode == 2 and re.match(r"kompakt: --import none_such: cannot import it \(.*\n$", ran.stderr)


def test_float_modes_need_no_data(given, run, tmp_path):
    code, out, err = run("export", given / "m.keras", tmp_path / "m.tflite", "--quantization", "float16")
    assert (code, err) == (0, "") and "note       compared on random inputs" in out
    for asked in (["--quantization", "int8"], ["--rule", "logits=float"], ["--repair", "bias"]):
        code, out, err = run("export", given / "m.keras", tmp_path / "other.tflite", *asked)
        assert (code, out) == (2, "") and err.startswith("kompakt: --data is missing: ") and err.count("\n") == 1
    assert names(tmp_path) == ["m.tflite"]


def test_the_bits_of_each_layer_are_chosen_under_a_limit(given, run, tmp_path):
    asked = ("export", given / "m.keras", tmp_path / "m.tflite", "--data", given / "d.npz", "--max-drop")
    code, out, err = run(*asked, "1")
    assert (code, err) == (0, "") and out.startswith("all layers in int8 score ")
    said = " ".join(out.split())  # a long path wraps the line
    assert "4-bit weights" in said and ": tflite, mixed, float32 I/O" in said
    code, out, err = run(*asked, "1", "--json")
    assert (code, err) == (0, "") and from_json(Artifact, out).quantization == "mixed"
    code, out, err = run(*asked, "-1")
    assert (code, out) == (2, "") and err.startswith("kompakt: max_drop=-1.0") and err.count("\n") == 1
    code, out, err = run(*asked[:3], "--max-drop", "1")
    assert (code, out) == (2, "") and err.startswith("kompakt: --data is missing: ")


@pytest.mark.slow
def test_a_spoiled_file(given, tmp_path):
    (tmp_path / "m.tflite").write_bytes(spoil_kernel((given / "m.tflite").read_bytes()))
    ran = child("verify", "m.tflite", "--model", given / "m.keras", "--data", given / "d.npz")
    assert (ran.returncode, ran.stderr) == (1, "")
    assert re.search(
        r"^  BREACH     argmax agreement with the float model 0\.\d{4}, expected at least 0\.95$",
        ran.stdout,
        flags=re.M,
    )


def test_the_file_of_another_model(run, given):
    other = keras.Sequential([keras.Input((6,)), L.Dense(5)])
    kp.export(other, "m.tflite")
    for more in ((), ("--json",)):
        code, out, err = run("verify", "m.tflite", "--model", given / "m.keras", "--data", given / "d.npz", *more)
        assert (code, out) == (2, "")
        assert err.endswith("a sample, the model's (3,): give the model that the file was made from\n")


def test_the_agreement_demanded_may_be_less(run, given, tmp_path):
    (tmp_path / "m.tflite").write_bytes(spoil_kernel((given / "m.tflite").read_bytes()))
    command = ("verify", "m.tflite", "--model", given / "m.keras", "--data", given / "d.npz")
    asked = "argmax agreement with the float model"
    code, out, _ = run(*command)
    assert code == 1 and asked in out
    code, out, _ = run(*command, "--least-argmax", "0")
    assert (
        code == 1 and asked not in out and "logits/kernel" in out
    )  # less is demanded; what was spoiled is named all the same


# optimize


@pytest.mark.slow
def test_optimize(run, given, tmp_path):
    command = ("optimize", given / "m.keras", "--recipe", "ptq_int8", "--data", given / "d.npz", "--out", "out")
    code, out, err = run(*command)
    assert (code, err) == (0, "")
    assert out.startswith("small: ptq_int8") and re.search(r"^ ptq_int8 ", out, flags=re.M)
    assert out.endswith("Files in out, report: out/report.html\n")
    assert names(tmp_path / "out") == [
        "float.tflite",
        "ptq_int8.tflite",
        "records.json",
        "report.html",
        "trials/float.json",
        "trials/ptq_int8.json",
    ]

    code, out, err = run(*command, "--json")  # and taken up
    assert (code, err) == (0, "")
    held = from_json(Run, out)
    assert held == from_json(Run, (tmp_path / "out" / "records.json").read_text())
    assert [trial.recipe for trial in held.trials] == ["float", "ptq_int8"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_quick_demo(tmp_path):
    ran = child("demo", "--quick", "--out", "demo", "--json")
    assert ran.returncode == 0
    assert all(re.match(r" *\d+% ", line) for line in ran.stderr.splitlines())  # what is begun, a line each
    assert " 30% float: measuring" in ran.stderr and ran.stderr.count("calibrating") == 3
    assert " 95% which layers are sensitive" in ran.stderr
    held = from_json(Run, ran.stdout)
    assert from_json(Run, (tmp_path / "demo" / "records.json").read_text()) == held
    assert {row.layer for row in held.sensitivity} >= {"conv1", "logits"}
    assert [trial.recipe for trial in held.trials] == ["float", "ptq_int8", "qat_int8", "pcqat_int8"]
    assert {f"{trial.recipe}.tflite" for trial in held.trials} <= set(names(tmp_path / "demo"))
    assert {"digits.keras", "digits.npz", "records.json", "report.html"} <= set(names(tmp_path / "demo"))
    page = (tmp_path / "demo" / "report.html").read_text()
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page)  # self-contained
    start = held.trials[0].value("accuracy_file")
    for trial in held.trials[1:]:
        assert trial.artifact.breaches == () and trial.artifact.census.float_tensors == ()
        assert trial.artifact.agreement.argmax >= 0.99 and trial.artifact.agreement.max_lsb <= 2.0
    assert held.trials[2].value("accuracy_file") >= start - 0.005
    kept = [fact for fact in held.trials[3].artifact.sites if fact.asked_palette]
    assert len(kept) >= 4 and all(fact.distinct <= 16 for fact in kept)
    pruned = [fact for fact in kept if fact.asked_zeros]  # all but the first layer and the last
    assert len(pruned) == 3 and all(fact.zeros >= fact.asked_zeros >= fact.size * 0.74 for fact in pruned)


# Bad input: one line, exit code 2


def spoiled(change):
    """Names of arrays -> those of the data, some of them changed."""
    return {**ARRAYS, **change}


def some_nan():
    x = ARRAYS["x_train"].copy()
    x[2, 3] = np.nan
    return x


NPZ = {
    "lacking.npz": {name: array for name, array in ARRAYS.items() if name != "y_test"},
    "shape.npz": spoiled({"x_train": X[:64, :5], "x_test": X[64:, :5]}),
    "nan.npz": spoiled({"x_train": some_nan()}),
    "empty.npz": spoiled({"x_train": X[:0], "y_train": np.zeros(0, int)}),
    "classes.npz": spoiled({"y_train": ARRAYS["y_train"] + 5}),
}
OPTIMIZE = "optimize {m} --recipe ptq_int8 --data {d}"
EXPORT = "export {m} m.tflite --data {d}"
INT8 = "export {m} m.tflite --quantization int8 --data {d}"
VERIFY = "verify {t} --model {m} --data {d}"
NO_LAYER = (
    "the model 'bare' has no layer to quantize: expected at least one Dense, convolution, embedding or recurrent layer"
)
BAD = {
    # models
    "missing model": (
        "export no.keras m.tflite --data {d}",
        "model file no.keras does not exist; give the path of a .keras or .h5 file",
    ),
    "missing model, optimize": (
        "optimize no.keras --recipe ptq_int8 --data {d}",
        "model file no.keras does not exist; give the path of a .keras or .h5 file",
    ),
    "missing model, verify": (
        "verify {t} --model no.keras --data {d}",
        "model file no.keras does not exist; give the path of a .keras or .h5 file",
    ),
    "no Keras file": (
        "export text.keras m.tflite --data {d}",
        "text.keras: not a .keras file (a zip with config.json and weights); save the model with "
        "model.save('name.keras')",
    ),
    "cut short": (
        "export short.keras m.tflite --data {d}",
        "short.keras: not a .keras file (a zip with config.json and weights); save the model with "
        "model.save('name.keras')",
    ),
    "a folder for a file": (
        "export {m} out --target tflite",
        "out: the target 'tflite' writes .tflite files; name it *.tflite",
    ),
    "a file for a folder": (
        "export {m} out.h5 --target tfjs",
        "out.h5: the target 'tfjs' writes a folder; name it without '.h5'",
    ),
    "a file for all": (
        "export {m} out.tflite --target all",
        "out.tflite: the target 'all' writes a folder; name it without '.tflite'",
    ),
    "nothing to quantize": ("export {bare} m.tflite --quantization int8 --data {d}", NO_LAYER),
    "nothing to quantize, optimize": ("optimize {bare} --recipe qat_int8 --data {d}", NO_LAYER),
    # data
    "missing data": (
        "export {m} m.tflite --data no.npz",
        "data file no.npz does not exist; give the path of an .npz file, a folder of images by class, or "
        "package.module:function",
    ),
    "no data": (
        "export {m} m.tflite --quantization int8",
        "--data is missing: integer modes, rules, repairs and --max-drop need samples of real input",
    ),
    "no data, optimize": (
        "optimize {m} --recipe ptq_int8",
        "the following arguments are required: --data; see kompakt optimize --help",
    ),
    "no data, verify": (
        "verify {t} --model {m}",
        "the following arguments are required: --data; see kompakt verify --help",
    ),
    **{
        f"a name is lacking, {start.split()[0]}": (
            start.replace("{d}", "lacking.npz"),
            "lacking.npz: lacks y_test; it has x_train, y_train, x_test, expected x_train, y_train, x_test, y_test "
            "and perhaps x_val, y_val",
        )
        for start in (OPTIMIZE, EXPORT, VERIFY)
    },
    **{
        f"wrong shape, {start.split()[0]}": (
            start.replace("{d}", "shape.npz"),
            "shape.npz: x_train has samples of shape (5,), the model takes samples of shape (6,); reshape the "
            "samples, or give other data",
        )
        for start in (OPTIMIZE, EXPORT, VERIFY)
    },
    "NaN": (
        EXPORT.replace("{d}", "nan.npz"),
        "nan.npz: x_train: 1 of 384 values are NaN or infinite, the first at (2, 3); expected finite numbers: "
        "clean the data, kompakt never replaces a value",
    ),
    "empty calibration data": (
        INT8.replace("{d}", "empty.npz"),
        "empty.npz: x_train: is empty (shape (0, 6)); expected at least one sample along the first axis",
    ),
    "other classes": (
        OPTIMIZE.replace("{d}", "classes.npz"),
        "classes.npz: y_train: has labels from 5 to 7, the model has 3 outputs; "
        "expected whole class numbers from 0 to 2",
    ),
    # recipes
    "unknown recipe": (
        "optimize {m} --recipe ptq_int4 --data {d}",
        "recipe 'ptq_int4': no recipe and no file of that name; nearest: 'ptq_int8'",
    ),
    "unknown recipe to show": (
        "recipes qat_int",
        "recipe 'qat_int': no recipe and no file of that name; nearest: 'qat_int8'",
    ),
    "mistyped key": (
        "optimize {m} --recipe typo.json --data {d}",
        "typo.json: unknown key 'stage'; nearest: 'stages'",
    ),
    "a rule that matches nothing": (
        "optimize {m} --recipe rule.json --data {d}",
        "no site matches 'conv*'; known: hidden/kernel, logits/kernel",
    ),
    # files
    "unwritable folder": (
        "optimize {m} --recipe ptq_int8 --data {d} --out text.keras/out",
        "cannot write to the folder text.keras/out: Not a directory; choose a folder you may write to",
    ),
    "unwritable folder, tensorboard": (
        "optimize {m} --recipe ptq_int8 --data {d} --tensorboard text.keras/logs",
        "cannot write to the folder text.keras/logs: Not a directory; choose a folder you may write to",
    ),
    "unwritable folder, export": (
        "export {m} text.keras/m.tflite --data {d}",
        "cannot write to the folder text.keras: File exists; choose a folder you may write to",
    ),
    "unwritable folder, demo": (
        "demo --out text.keras/out",
        "cannot write to the folder text.keras/out: Not a directory; choose a folder you may write to",
    ),
    "missing file to verify": (
        "verify no.tflite --model {m} --data {d}",
        "cannot read no.tflite: No such file or directory; give the path of an exported file or folder",
    ),
    "no file to verify": (
        "verify text.keras --model {m} --data {d}",
        f"text.keras: expected an artifact of one of {', '.join(TARGETS)}, not a Keras model: make one of it with "
        "kompakt export",
    ),
    # options
    "unknown option": (f"{EXPORT} --seed 3", "unrecognized arguments: --seed 3; see kompakt --help"),
    "an option without its value": (
        f"{EXPORT} --io",
        "argument --io: expected one argument; see kompakt export --help",
    ),
    "unknown mode": (
        f"{EXPORT} --quantization int9",
        "quantization='int9': expected one of float, float16, dynamic_int8, weight_only_int8, int8, w4a8, int16x8, "
        "mixed; nearest: 'int8'",
    ),
    "a mode of Keras itself": (
        f"{EXPORT} --quantization keras_int8",
        f"quantization='keras_int8': of kompakt.quantize and of target='savedmodel'. {WHY_NOT_TFLITE}",
    ),
    "unknown type": (
        f"{INT8} --io int16",
        "io='int16': inputs and outputs of int8 files are int8 or uint8 or float32",
    ),
    "a rule that is none": (
        f"{INT8} --rule head",
        "--rule 'head': expected LAYERS=WHAT, such as 'head*=float' or 'conv1=4'",
    ),
    "an unknown repair": (
        f"{INT8} --repair rounding",
        "repairs has 'rounding': expected any of batchnorm, equalize, adaround, bias",
    ),
    "a rule for no layer": (
        f"{INT8} --rule nix=float",
        "rules: 'nix' matches no layer and no weight; known: hidden, logits",
    ),
    "integer inputs of a float file": (
        f"{EXPORT} --io int8",
        "io='int8': inputs and outputs of float files are float32",
    ),
    "unknown on-breach": (f"{EXPORT} --on-breach ignore", "on_breach='ignore': expected one of raise, warn"),
    "negative epochs": (f"{OPTIMIZE} --epochs -1", "epochs=-1: expected 0 or more"),
    "no number of epochs": (
        f"{OPTIMIZE} --epochs many",
        "argument --epochs: invalid int value: 'many'; see kompakt optimize --help",
    ),
    "no batch": (f"{OPTIMIZE} --batch-size 0", "batch_size=0: expected 1 or more"),
    "negative seed": (
        f"{OPTIMIZE} --seed -1",
        "argument --seed: '-1': expected a whole number from 0 to 2147483647; see kompakt optimize --help",
    ),
    "seed of the demo": (
        "demo --seed x",
        "argument --seed: 'x': expected a whole number from 0 to 2147483647; see kompakt demo --help",
    ),
    "agreement that no file has": (f"{VERIFY} --least-argmax 1.5", "least_argmax=1.5: expected a share from 0 to 1"),
}


@pytest.fixture
def bad_files(given, tmp_path):
    """The files that the commands of ``BAD`` name, in the working folder; and the words that stand for good ones."""
    for name, arrays in NPZ.items():
        np.savez(name, **arrays)
    (tmp_path / "text.keras").write_text("no model")
    (tmp_path / "short.keras").write_bytes((given / "m.keras").read_bytes()[:-40])
    (tmp_path / "typo.json").write_text('{"name": "mine", "stage": []}')
    rule = {"sites": "conv*", "transforms": [{"name": "Prune", "sparsity": 0.5}]}
    (tmp_path / "rule.json").write_text(json.dumps({"name": "mine", "stages": [{"rules": [rule]}]}))
    return {"m": "m.keras", "d": "d.npz", "t": "m.tflite", "bare": "bare.keras"}


def command(text, given, words):
    return [word.format(**{key: given / name for key, name in words.items()}) for word in text.split()]


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case, run, given, bad_files):
    arguments, text = BAD[case]
    assert run(*command(arguments, given, bad_files)) == (2, "", f"kompakt: {text}\n")


def test_an_unknown_command(run):
    code, out, err = run("optimise")
    assert (code, out) == (2, "")
    assert re.fullmatch(r"kompakt: argument COMMAND: invalid choice: 'optimise' .*; see kompakt --help\n", err)


@pytest.mark.long(quick=1)
@pytest.mark.parametrize("case", ["unwritable folder", "nothing to quantize, optimize", "no data"])
def test_bad_input_is_one_line_in_a_process_of_its_own(case, given, bad_files):
    """Nothing that a framework or a progress bar writes comes along."""
    arguments, text = BAD[case]
    ran = child(*command(arguments, given, bad_files))
    assert (ran.returncode, ran.stdout, ran.stderr) == (2, "", f"kompakt: {text}\n")


def test_debug_shows_where_it_was(run, given):
    Path("no.keras").write_text("no zip")
    code, out, err = run("export", "no.keras", "m.tflite", "--data", given / "d.npz", "--debug")
    assert (code, out) == (2, "")
    lines = err.splitlines()
    assert lines[0] == "Traceback (most recent call last):" and any("in check_model_path" in line for line in lines)
    assert lines[-1].startswith("kompakt: no.keras: not a .keras file")


def test_a_lambda_runs_only_for_who_trusts_the_file(run, given):
    keras.Sequential([keras.Input((6,)), L.Dense(3), L.Lambda(lambda x: x * 2.0)]).save("l.keras")
    arguments = ("export", "l.keras", "m.tflite", "--data", given / "d.npz")
    assert run(*arguments) == (
        2,
        "",
        "kompakt: l.keras: holds a Lambda layer, whose code would run here; where you trust the file, give --trust "
        "(in Python safe=False)\n",
    )
    assert run(*arguments, "--trust")[0] == 0


# Ctrl-C

INTERRUPTED = "kompakt: interrupted\n"
TAKEN_UP = "kompakt: interrupted; the same command takes up what was finished\n"


@pytest.mark.parametrize(
    "raised",
    ["KeyboardInterrupt()", "RuntimeError('KeyboardInterrupt: <EMPTY MESSAGE>\\n\\nAt:\\n  a.py(3): f')"],
    ids=["as it is", "as pybind11 says it"],
)
def test_an_interrupt_has_a_code_of_its_own(raised, run, given, tmp_path, monkeypatch):
    (tmp_path / "interrupts.py").write_text(f"def load():\n    raise {raised}\n")
    monkeypatch.delitem(sys.modules, "interrupts", raising=False)
    assert run("export", given / "m.keras", "m.tflite", "--data", "interrupts:load") == (130, "", INTERRUPTED)


THREE_STAGES = {
    "name": "three",
    "epochs": 2,
    "stages": [
        {"rules": [{"transforms": [{"name": "Prune", "sparsity": 0.5}]}], "train": 1},
        {"quantize": "int8", "train": 1},
    ],
    "quantization": "int8",
}


@pytest.mark.slow
def test_ctrl_c_leaves_no_half_file_and_the_same_command_goes_on(given, tmp_path):
    """Interrupted once its first stage is finished; the second run takes that up, and ends as one straight through."""
    model = keras.Sequential([keras.Input((6,)), L.Dense(8, activation="relu"), L.Dropout(0.3), L.Dense(3)])
    model.save("m.keras")
    (tmp_path / "three.json").write_text(json.dumps(THREE_STAGES))
    arguments = ("optimize", "m.keras", "--recipe", "three.json", "--data", given / "d.npz", "--out", "out")
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-m", "kompakt", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
    )
    while not list(out.glob("trials/*-0.keras")):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    printed, errors = process.communicate(timeout=120)

    assert (process.returncode, printed) == (130, ""), errors
    assert errors == TAKEN_UP
    (stage,) = (path.stem for path in out.glob("trials/*-0.keras"))
    assert names(out) == sorted(["float.tflite", "trials/float.json", f"trials/{stage}.keras", f"trials/{stage}.json"])
    keras.saving.load_model(out / "trials" / f"{stage}.keras")
    float_file = (out / "float.tflite").stat()
    (out / "trials" / f"{stage}.json").write_text('{"loss": [123.0]}')  # a curve that nobody trained: taken up or not

    ran = child(*arguments, "--json")
    assert (ran.returncode, ran.stderr) == (0, "")
    history = from_json(Run, ran.stdout).trials[1].history["loss"]
    assert len(history) == 2 and history[0] == 123.0
    assert (out / "float.tflite").stat().st_mtime_ns == float_file.st_mtime_ns
    straight = kp.optimize(kp.load_model("m.keras"), given / "d.npz", "three.json", "straight")
    assert straight.artifact.sha256 == from_json(Run, ran.stdout).artifact.sha256
    assert names(out) == sorted([*names(tmp_path / "straight"), "report.html"])


@pytest.mark.slow
def test_a_model_whose_only_input_is_in_a_list(given, run, tmp_path):
    """MLPerf's ResNet-8 is one: ``keras.Model([x], y)`` takes the one array of an .npz."""
    x = keras.Input((6,), name="input_1")
    keras.Model([x], L.Dense(3, activation="softmax")(x)).save(tmp_path / "listed.keras")
    printed = ""
    for command, *words in (
        ("export", tmp_path / "m.tflite", "--quantization", "int8"),
        ("sensitivity",),
        ("optimize", "--recipe", "qat_int8", "--recipe", "ptq_w4a8", "--epochs", "1", "--out", tmp_path / "o"),
    ):
        code, printed, err = run(command, tmp_path / "listed.keras", *words, "--data", given / "d.npz")
        assert code == 0, err
    assert "qat_int8" in printed and "ptq_w4a8" in printed
