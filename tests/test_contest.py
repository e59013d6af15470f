"""Several models and files on the same samples."""

import json

import keras
import numpy as np
import pytest
from keras import layers as L

import kompakt as kp
from kompakt.cli import main
from kompakt.contest import compare_models
from kompakt.errors import InputError, VerificationError
from kompakt.records import from_json, to_json
from kompakt.records_evaluation import Comparison, Evaluation

X = np.random.default_rng(0).normal(size=(200, 6)).astype("float32")
Y = X[:, :3].argmax(-1)
DATA = {"x_train": X[:9], "y_train": Y[:9], "x_test": X, "y_test": Y}


def model(name, shift=0.0):
    """Right on all samples, or with a ``shift`` of one class on fewer."""
    made = keras.Sequential([keras.Input((6,)), L.Dense(3, name="logits")], name=name)
    made.set_weights([np.eye(6, 3), np.array([shift, 0, 0])])
    return made


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with models, data, and files of them."""
    folder = tmp_path_factory.mktemp("files")
    model("good").save(folder / "good.keras")
    bad = model("bad")
    bad.get_layer("logits").kernel.assign(np.full((6, 3), np.nan))
    bad.save(folder / "bad.keras")
    np.savez(folder / "d.npz", **DATA)
    kp.export(model("good"), folder / "good.tflite", verify=X)
    kp.export(model("worse", 1.0), folder / "worse.tflite", verify=X)
    return folder


@pytest.fixture(autouse=True)
def there(files, monkeypatch):
    monkeypatch.chdir(files)
    monkeypatch.setenv("COLUMNS", "130")
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    monkeypatch.setenv("KERAS_BACKEND", keras.backend.backend())


def test_each_beside_the_first(files):
    found = compare_models([model("m"), "good.tflite", "worse.tflite"], (X, Y))
    first, same, worse = found.contenders
    assert first.difference is None and first.bytes is None and first.latency_ratio is None
    assert same.difference.verdict == "good.tflite is as accurate as m: both are right on the same samples"
    assert same.bytes == (files / "good.tflite").stat().st_size > same.gzip_bytes > 0
    assert worse.difference.told_apart and worse.difference.value == pytest.approx(
        worse.evaluation.value("accuracy") - first.evaluation.value("accuracy")
    )
    assert found.timed == "good.tflite" and same.latency_ratio == 1.0
    assert 0.2 < worse.latency_low <= worse.latency_ratio <= worse.latency_high < 5
    assert worse.milliseconds > 0 and same.milliseconds > 0
    assert (found.samples, found.metric, found.data) == (200, "accuracy", "arrays in memory")
    assert from_json(Comparison, to_json(found)) == found


def test_models_alone_are_not_timed():
    found = compare_models([model("a"), model("b", 1.0)], (X, Y))
    assert found.timed == "" and all(row.latency_ratio is None for row in found.contenders)


def test_one_file_is_timed_alone():
    found = compare_models([model("a"), "good.tflite"], (X, Y))
    assert found.timed == "" and found.contenders[1].milliseconds > 0 and found.contenders[1].latency_ratio is None


def test_outputs_that_are_nan_are_told_in_their_row_and_of_the_first_an_error():
    bad = keras.models.load_model("bad.keras")
    found = compare_models([model("a"), bad], (X, Y))
    assert found.contenders[1].failed.startswith("bad: the outputs of 200 of 200 samples are NaN")
    assert found.contenders[1].evaluation is None and found.contenders[1].difference is None
    with pytest.raises(VerificationError, match="bad: the outputs"):
        compare_models([bad, model("a")], (X, Y))


@pytest.mark.parametrize(
    ("things", "data", "message"),
    [
        (["good.tflite"], (X, Y), "received 1 to compare, expected two or more"),
        ("good.tflite", (X, Y), "received 1 to compare, expected two or more"),
        (["good.tflite", "none.tflite"], (X, Y), "cannot read none.tflite"),
        (["good.tflite", "worse.tflite"], iter([(X, Y)]), "a generator is read once"),
        (["good.tflite", "worse.tflite"], (X[:, :5], Y), "takes 6 a sample, received 5"),
    ],
)
def test_what_cannot_be_compared(things, data, message):
    with pytest.raises(InputError, match=message):
        compare_models(things, data)


def run(capsys, *words):
    code = main(list(words))
    told = capsys.readouterr()
    return code, told.out, told.err


def test_the_command_evaluate(capsys):
    code, out, err = run(capsys, "evaluate", "good.tflite", "--data", "d.npz", "--threads", "2", "--batch-size", "64")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "good.tflite: tflite, 200 samples"
    assert out.splitlines()[1].split() == [
        "accuracy", "1", "[0.9817,", "1]", "(tflite)", "95", "%", "interval,", "exact", "interval", "of", "a", "share",
        "(Clopper-Pearson)",
    ]  # fmt: skip


def test_the_command_evaluate_as_json(capsys):
    words = ["evaluate", "good.keras", "--data", "d.npz", "--metric", "accuracy", "--seed", "3", "--json"]
    code, out, _ = run(capsys, *words, "--metric", "SparseTopKCategoricalAccuracy", "--confidence", "0.9")
    found = from_json(Evaluation, out)
    assert code == 0 and found.value("SparseTopKCategoricalAccuracy") == 1.0 and found.kind == "keras"
    assert (found.seed, found.confidence) == (3, 0.9)


def test_the_command_compare(capsys):
    code, out, err = run(capsys, "compare", "good.keras", "good.tflite", "worse.tflite", "--data", "d.npz")
    assert (code, err) == (0, "")
    rows = {line.split()[0]: line.split() for line in out.splitlines() if line.startswith((" good", " worse"))}
    assert rows["good.keras"][1] == "keras" and rows["good.tflite"][4:7] == ["100.00", "+0.00", "1"]
    assert rows["worse.tflite"][6].endswith("*")
    assert "worse.tflite is" in out and "which is more than chance explains" in out


def test_the_command_compare_as_json(capsys):
    words = ["compare", "good.keras", "worse.tflite", "--data", "d.npz", "--json", "--no-latency"]
    code, out, _ = run(capsys, *words)
    assert code == 0 and from_json(Comparison, out).timed == "" and "answers" not in out
    assert json.loads(out)["contenders"][1]["difference"]["told_apart"] is True


def test_the_command_compare_of_one_that_gives_nan(capsys):
    code, out, _ = run(capsys, "compare", "good.keras", "bad.keras", "--data", "d.npz")
    assert code == 1 and "FAILED bad.keras: the outputs of 200 of 200 samples are NaN" in " ".join(out.split())
    code, _, err = run(capsys, "evaluate", "bad.keras", "--data", "d.npz")
    assert code == 1 and err.startswith("kompakt: not verified: bad.keras: the outputs") and err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["evaluate", "none.tflite", "--data", "d.npz"], "cannot read none.tflite"),
        (["evaluate", "good.tflite", "--data", "none.npz"], "data file none.npz does not exist"),
        (["evaluate", "good.tflite"], "the following arguments are required: --data"),
        (["evaluate", "good.tflite", "--data", "d.npz", "--metric", "acuracy"], "metric 'acuracy': Keras has none"),
        (["evaluate", "good.tflite", "--data", "d.npz", "--threads", "0"], "threads=0"),
        (["evaluate", "good.tflite", "--data", "d.npz", "--confidence", "1"], "confidence=1.0: expected a share"),
        (["compare", "good.tflite", "--data", "d.npz"], "received 1 to compare, expected two or more"),
        (["compare", "good.tflite", "d.npz", "--data", "d.npz"], "d.npz: expected an artifact of one of"),
    ],
)
def test_bad_input_is_one_line(capsys, words, message):
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "") and message in err and err.count("\n") == 1
