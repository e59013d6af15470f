"""``optimize``: what it leaves behind, what it takes up again, and that it changes nothing that it was given."""

import json
import re
import shutil
import sys

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from keras import layers as L

import kompakt as kp
from kompakt.errors import InputError
from kompakt.records import Run, from_json

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(96, 6)).astype("float32")
Y = X[:, :3].argmax(-1)
RECIPE = {
    "name": "small",
    "epochs": 2,
    "stages": [
        {
            "rules": [
                {
                    "transforms": [
                        {
                            "name": "Prune",
                            "sparsity": 0.5,
                            "schedule": {"name": "Polynomial", "initial": 0.0, "final": 0.5, "unit": "share"},
                        }
                    ]
                }
            ],
            "train": 1,
        },
        {"quantize": "int8", "train": 1},
    ],
    "quantization": "int8",
}
PTQ = {"name": "ptq", "stages": [{"quantize": "int8"}], "quantization": "int8"}


class Stop(BaseException):
    """Like an interrupt, it is nobody's to catch."""


class Log(list):
    """A report that remembers, and that stops the run at the first of some words."""

    def __init__(self, stop=()):
        super().__init__()
        self.stop = stop

    def __call__(self, what, done):
        assert 0.0 <= done <= 1.0
        self.append((what, done))
        if any(word in what for word in self.stop):
            raise Stop

    @property
    def taken_up(self):
        return [what.split(":")[0] for what, _ in self if "taken up" in what]


def tiny(activation="relu"):
    keras.utils.set_random_seed(0)
    parts = [L.Dense(8, activation=activation, name="a"), L.Dropout(0.2, seed=1, name="drop"), L.Dense(3, name="b")]
    return keras.Sequential([keras.Input((6,), name="x"), *parts], name="tiny")


SPLITS = {"x_train": slice(64), "y_train": slice(64), "x_test": slice(64, None), "y_test": slice(64, None)}


def arrays(x=X, y=Y):
    return {name: (x if name[0] == "x" else y)[part] for name, part in SPLITS.items()}


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def contents(folder):
    return {name: (folder / name).read_bytes() for name in names(folder)}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """(folder, run, report) of the small recipe, straight through."""
    folder, log = tmp_path_factory.mktemp("finished"), Log()
    return folder, kp.optimize(tiny(), arrays(), RECIPE, folder, report=log), log


# What it leaves behind


def test_the_files_and_the_records(finished):
    folder, run, _ = finished
    assert names(folder) == ["float.tflite", "records.json", "small.tflite", "trials/float.json", "trials/small.json"]
    assert from_json(Run, (folder / "records.json").read_text()) == run
    assert [trial.recipe for trial in run.trials] == ["float", "small"]
    assert run.title == "tiny: small" and run.seed == 0 and run.data == "arrays in memory"
    assert run.artifact.path == str(folder / "small.tflite") and run.artifact.breaches == ()
    assert (folder / "small.tflite").stat().st_size == run.artifact.bytes


def test_what_was_measured_and_done(finished):
    _, run, _ = finished
    small = run.trials[1]
    assert [m.name for m in small.measurements] == [
        "accuracy_keras",
        "accuracy_file",
        "latency_ms",
        "latency_ratio",
        "latency_ratio_spread",
    ]
    assert (run.trials[0].value("latency_ratio"), run.trials[0].value("latency_ratio_spread")) == (1.0, 0.0)
    assert abs(small.value("accuracy_keras") - small.value("accuracy_file")) <= 1 / 32
    schedule = "Polynomial(initial=0.0, final=0.5, unit=share)"
    assert small.applied == (
        f"Prune(sparsity=0.5, schedule={schedule}) on *: a/kernel, b/kernel",
        "quantize int8: a/kernel, b/kernel",
    )
    assert small.skipped == () and small.seconds > 0
    assert [len(curve) for curve in small.history.values()] == [2]
    assert all(fact.zeros >= fact.asked_zeros == fact.size // 2 for fact in small.artifact.sites)


def test_each_number_says_where_it_is_from_and_how_sure_it_is(finished):
    _, run, _ = finished
    for trial in run.trials:
        by_keras, by_file, latency = trial.measurements[:3]
        assert (by_keras.where, by_file.where) == ("Keras", "LiteRT") and latency.where.startswith("LiteRT, 1 thread")
        for each in (by_keras, by_file):
            assert 0.0 <= each.low <= each.value <= each.high <= 1.0 and each.interval
    ratio = run.trials[1].measurement("latency_ratio")
    assert ratio.low <= ratio.value <= ratio.high and ratio.interval == "sign test turned round, 95 %"


def test_a_trial_is_beside_the_float_file(finished):
    """As :func:`kompakt.compare_evaluations` has it of the two files."""
    folder, run, _ = finished
    assert run.trials[0].difference is None
    data = (arrays()["x_test"], arrays()["y_test"])
    before, after = (kp.evaluate(folder / name, data) for name in ("float.tflite", "small.tflite"))
    wanted, found = kp.compare_evaluations(before, after), run.trials[1].difference
    assert (found.first, found.second, found.samples) == ("float", "small", 32)
    names = ("value", "low", "high", "p", "only_first", "only_second", "told_apart", "agreed")
    assert [getattr(found, name) for name in names] == [getattr(wanted, name) for name in names]
    assert found.value == pytest.approx(run.trials[1].value("accuracy_file") - run.trials[0].value("accuracy_file"))


def test_a_record_from_before_differences_gets_one(finished, tmp_path):
    folder, run, _ = finished
    copy = shutil.copytree(folder, tmp_path / "copy")
    record = copy / "trials" / "small.json"
    known = json.loads(record.read_text())
    del known["trial"]["difference"]
    record.write_text(json.dumps(known))
    log = Log(stop=("exporting", "starting"))
    again = kp.optimize(tiny(), arrays(), RECIPE, copy, report=log)
    assert log.taken_up == ["float", "small"] and again.trials[1].difference == run.trials[1].difference
    assert json.loads(record.read_text())["trial"]["difference"]["second"] == "small"


def test_a_new_trial_is_beside_a_float_file_that_was_taken_up(finished, tmp_path):
    copy = shutil.copytree(finished[0], tmp_path / "copy")
    (copy / "small.tflite").unlink()
    log = Log()
    again = kp.optimize(tiny(), arrays(), RECIPE, copy, report=log)
    assert log.taken_up == ["float"] and again.trials[1].difference == finished[1].trials[1].difference


def test_the_report_tells_how_far_it_is(finished):
    _, _, log = finished
    done = [share for _, share in log]
    assert done == sorted(done)
    words = [what for what, _ in log]
    assert words[0] == "float: exporting and verifying" and words[-1] == "small: measuring"
    assert "small: stage 1 of 2, starting" in words and "small: stage 2 of 2, training" in words


def test_the_model_and_the_data_are_left_as_they_were(finished, tmp_path):
    model, data = tiny(), arrays()
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    weights = [w.copy() for w in model.get_weights()]
    copies = {name: array.copy() for name, array in data.items()}
    kp.optimize(model, data, PTQ, tmp_path)

    assert all(np.array_equal(a, b) for a, b in zip(weights, model.get_weights(), strict=True))
    assert model.optimizer.iterations == 0 and [type(layer) for layer in model.layers] == [L.Dense, L.Dropout, L.Dense]
    assert list(data) == list(copies) and all(np.array_equal(data[name], copies[name]) for name in data)


# Taking up


def test_finished_trials_are_taken_up(finished):
    folder, run, _ = finished
    log = Log(stop=("exporting", "starting"))
    again = kp.optimize(tiny(), arrays(), RECIPE, folder, report=log)
    assert log.taken_up == ["float", "small"] and again.trials == run.trials


def taken_up(folder, model=None, data=None, recipe=RECIPE, **options):
    """The trials in ``folder`` that a run would take up; it is stopped at the first that it would carry out."""
    log, before = Log(stop=("exporting", "starting")), contents(folder)
    with pytest.raises(Stop):
        kp.optimize(model or tiny(), data or arrays(), recipe, folder, report=log, **options)
    assert contents(folder) == before
    return log.taken_up


def shaken():
    model = tiny()
    model.get_layer("b").bias.assign([0.0, 0.0, 1e-3])
    return model


def changed(name):
    data = arrays()
    data[name] = data[name].copy()
    data[name][3] = 2 - 2 * (data[name][3] > 0)  # of a class, another
    return data


@pytest.mark.parametrize(
    "change",
    [
        {"model": shaken},
        {"model": lambda: tiny("tanh")},
        *({"data": lambda name=name: changed(name)} for name in arrays()),
        {"seed": 1},
        {"batch_size": 16},
        {"epochs": 3},
        {"loss": "mse"},
        {"resume": False},
    ],
    ids=["weights", "activation", *arrays(), "seed", "batch size", "epochs", "loss", "restart"],
)
def test_what_was_made_from_something_else_is_not_taken_up(finished, change):
    made = {key: value() if callable(value) else value for key, value in change.items()}
    assert taken_up(finished[0], **made) == []


@pytest.mark.parametrize(
    "change", [{"io": "uint8"}, {"stages": [{**RECIPE["stages"][0], "learning_rate": 1e-4}, RECIPE["stages"][1]]}]
)
def test_a_changed_recipe_is_not_taken_up(finished, change):
    assert taken_up(finished[0], recipe={**RECIPE, **change}) == ["float"]


def spoil_file(folder):
    (folder / "small.tflite").write_bytes(b"TFL3")


def remove_file(folder):
    (folder / "small.tflite").unlink()


def spoil_record(text):
    return lambda folder: (folder / "trials" / "small.json").write_text(text)


@pytest.mark.parametrize(
    "spoil",
    [spoil_file, remove_file, *map(spoil_record, ["", "[]", "{}", '{"key": "x", "trial": {"recipe": 3}}', '{"tri'])],
)
def test_a_spoiled_file_or_record_is_not_taken_up(finished, spoil, tmp_path):
    copy = shutil.copytree(finished[0], tmp_path / "copy")
    spoil(copy)
    assert taken_up(copy) == ["float"]


def test_a_run_that_was_interrupted_goes_on_to_the_same_file(finished, tmp_path):
    folder, run, _ = finished
    with pytest.raises(Stop):
        kp.optimize(tiny(), arrays(), RECIPE, tmp_path, report=Log(stop=("stage 2 of 2, training",)))
    held = names(tmp_path)
    stage = [name for name in held if re.fullmatch(r"trials/small-[0-9a-f]{16}-0\.(keras|json)", name)]
    assert len(stage) == 2 and sorted([*stage, "float.tflite", "trials/float.json"]) == held

    log = Log()
    again = kp.optimize(tiny(), arrays(), RECIPE, tmp_path, report=log)
    words = [what for what, _ in log]
    assert log.taken_up == ["float"]
    assert "small: stage 1 of 2, training" not in words and "small: stage 2 of 2, training" in words
    assert (tmp_path / "small.tflite").read_bytes() == (folder / "small.tflite").read_bytes()
    assert again.trials[1].history == run.trials[1].history and again.trials[1].applied == run.trials[1].applied
    assert again.trials[1].artifact.sha256 == run.trials[1].artifact.sha256
    assert names(tmp_path) == names(folder)  # what was needed to go on is gone


def test_a_breach_leaves_no_file_and_no_record(tmp_path):
    model = keras.Sequential([keras.Input((6,)), L.Dense(3), L.PReLU(name="odd")])
    with pytest.raises(kp.VerificationError, match="PRELU"):
        kp.optimize(model, arrays(), PTQ, tmp_path)
    assert names(tmp_path) == ["float.tflite", "trials/float.json"]


# Kinds of labels and models


def flat(units, activation=None):
    keras.utils.set_random_seed(0)
    parts = [L.Dense(8, activation="relu"), L.Dense(units, activation=activation)]
    return keras.Sequential([keras.Input((6,)), *parts])


def test_regression(tmp_path):
    recipe = {"name": "qat", "epochs": 1, "stages": [{"quantize": "int8", "train": 1}], "quantization": "int8"}
    run = kp.optimize(flat(1), arrays(y=X @ np.arange(6.0)), recipe, tmp_path)
    for trial in run.trials:
        found = {m.name: m for m in trial.measurements}
        assert found["metric_file"].where == "mean absolute error" and found["metric_file"].unit == "lower"
        assert found["metric_file"].value == pytest.approx(found["metric_keras"].value, rel=0.05)
        assert found["metric_keras"].low < found["metric_keras"].value < found["metric_keras"].high
    assert list(run.trials[1].history) == ["loss"]
    beside = run.trials[1].difference
    assert (beside.metric, beside.p) == ("mean absolute error", None) and beside.low <= beside.value <= beside.high


@pytest.mark.parametrize(
    ("model", "labels"),
    [
        (lambda: flat(3, "softmax"), np.eye(3)[Y]),
        (lambda: flat(1, "sigmoid"), Y % 2),
        (lambda: flat(1), (Y % 2)[:, None].astype("float32")),
    ],
    ids=["one-hot", "binary", "binary logits"],
)
def test_accuracy_of_other_labels(model, labels, tmp_path):
    built, data = model(), arrays(y=labels)
    (trial,) = kp.optimize(built, data, "float", tmp_path).trials
    outputs = built.predict(data["x_test"], verbose=0)
    if outputs.shape[-1] > 1:
        wanted = (outputs.argmax(-1) == labels[64:].argmax(-1)).mean()
    else:
        level = 0.5 if built.layers[-1].activation is keras.activations.sigmoid else 0.0
        wanted = ((outputs[:, 0] > level) == labels[64:].ravel()).mean()
    assert trial.value("accuracy_keras") == wanted == trial.value("accuracy_file")
    for metrics in (None, "accuracy"):  # one meaning of accuracy
        assert kp.evaluate(built, (data["x_test"], data["y_test"]), metrics=metrics).value("accuracy") == wanted


def test_logits_that_look_like_probabilities_are_judged_as_logits(tmp_path):
    """A file does not say what its one output is; the model that it is made of does."""
    built = flat(1)
    kernel, bias = built.layers[-1].get_weights()
    built.layers[-1].set_weights([0.01 * np.abs(kernel), bias + 0.2])  # 0..1, and all of class 1
    data = arrays(y=Y % 2)
    (trial,) = kp.optimize(built, data, "float", tmp_path).trials
    assert trial.value("accuracy_keras") == (data["y_test"] == 1).mean() == trial.value("accuracy_file")


@pytest.mark.parametrize("labels", [Y % 2 == 0, np.array(Y % 2, "int64")], ids=["bool", "int64"])
def test_yes_or_no_of_every_type(labels, tmp_path):
    built, data = flat(1, "sigmoid"), arrays(y=labels)
    (trial,) = kp.optimize(built, data, "float", tmp_path).trials
    wanted = ((built.predict(data["x_test"], verbose=0)[:, 0] > 0.5) == labels[64:]).mean()
    assert trial.value("accuracy_keras") == wanted == trial.value("accuracy_file")


class Own(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.hidden, self.head = L.Dense(8, activation="relu"), L.Dense(3)

    def call(self, x):
        return self.head(self.hidden(x))


def test_a_subclassed_model(tmp_path):
    model = Own(name="own")
    model(X[:1])
    run = kp.optimize(model, arrays(), PTQ, tmp_path)
    assert run.artifact.quantization == "int8" and run.trials[1].value("accuracy_file") is not None
    log = Log()
    assert kp.optimize(model, arrays(), PTQ, tmp_path, report=log).trials == run.trials
    assert log.taken_up == ["float", "ptq"]


@pytest.mark.long(quick=1)
@pytest.mark.parametrize("as_mapping", [True, False])
def test_several_inputs(as_mapping, tmp_path):
    keras.utils.set_random_seed(0)
    b, a = keras.Input((2,), name="b"), keras.Input((4,), name="a")
    outputs = L.Dense(3)(L.Concatenate()([a, b]))
    model = keras.Model({"a": a, "b": b} if as_mapping else [b, a], outputs)
    x = {"a": X[:, :4], "b": X[:, 4:]}
    data = {name: Y[part] if name[0] == "y" else {k: v[part] for k, v in x.items()} for name, part in SPLITS.items()}
    recipe = {"name": "qat", "epochs": 1, "stages": [{"quantize": "int8", "train": 1}], "quantization": "int8"}
    run = kp.optimize(model, data, recipe, tmp_path)
    assert run.artifact.breaches == ()
    assert abs(run.trials[1].value("accuracy_keras") - run.trials[1].value("accuracy_file")) <= 1 / 32


# What was asked and not done is named, or refused


@pytest.mark.slow
def test_a_recipe_without_its_training_says_so(tmp_path):
    run = kp.optimize(tiny(), arrays(), RECIPE, tmp_path, epochs=0)
    small = run.trials[1]
    assert small.skipped == (
        "stage 1: not trained, there are 0 epochs",
        "stage 2: not trained, there are 0 epochs",
    )
    assert all(fact.zeros >= fact.size // 2 for fact in small.artifact.sites)  # and it is pruned all the same


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"epochs": -1}, "epochs=-1: expected 0 or more"),
        ({"batch_size": 0}, "batch_size=0: expected 1 or more"),
        ({"seed": -1}, "seed=-1: expected a whole number from 0 to 2147483647"),
        ({"seed": 2**31}, "seed=2147483648: expected a whole number from 0 to 2147483647"),
        (
            {"recipe": {**PTQ, "name": "float"}},
            "recipe 'float': the name of the file that others are compared with; give it another",
        ),
        ({"recipe": "ptq_int4"}, "recipe 'ptq_int4': no recipe and no file of that name; nearest: 'ptq_int8'"),
        (
            {"data": arrays(y=Y + 1)},
            "arrays in memory: y_train: has labels from 1 to 3, the model has 3 outputs; "
            "expected whole class numbers from 0 to 2",
        ),
        (
            {"data": arrays(X[:, :5])},
            "arrays in memory: x_train has samples of shape (5,), the model takes samples of shape (6,); "
            "reshape the samples, or give other data",
        ),
        ({"model": L.Dense(3)}, "received Dense, expected a keras.Model"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_cannot_be_used(options, text, tmp_path):
    given = {"model": tiny(), "data": arrays(), "recipe": PTQ, **options}
    with pytest.raises(InputError) as caught:
        kp.optimize(given.pop("model"), given.pop("data"), given.pop("recipe"), tmp_path / "out", **given)
    assert str(caught.value) == text and not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError) as caught:
        kp.optimize(tiny(), arrays(), PTQ, tmp_path / "file" / "out")
    assert str(caught.value) == (
        f"cannot write to the folder {tmp_path / 'file' / 'out'}: Not a directory; choose a folder you may write to"
    )


@pytest.mark.slow
def test_sorted_data_is_calibrated_on_all_of_it(tmp_path):
    """A folder of images is sorted by class: its first 512 samples are of one."""
    few = np.where(np.arange(1200) < 700, 0.01, 1.0)[:, None].astype("float32") * X[:1].repeat(1200, 0)
    data = {**arrays(), "x_train": few, "y_train": np.arange(1200) % 3}
    kp.optimize(tiny(), data, PTQ, tmp_path)
    interpreter = Interpreter(str(tmp_path / "ptq.tflite"))
    scale, _ = interpreter.get_input_details()[0]["quantization"]
    assert scale > 0.95 * np.ptp(np.append(X[:1], 0.0)) / 255


# What an earlier run left


@pytest.mark.slow
def test_the_trials_of_other_recipes_stay_in_the_records(finished, tmp_path):
    folder = shutil.copytree(finished[0], tmp_path / "copy")
    run = kp.optimize(tiny(), arrays(), PTQ, folder)
    assert [trial.recipe for trial in run.trials] == ["float", "small", "ptq"]
    assert not set(run.artifact.notes) & set(run.trials[-1].skipped)  # else a report says them twice
    assert run.artifact.path == str(folder / "ptq.tflite")
    assert from_json(Run, (folder / "records.json").read_text()) == run
    (note,) = run.notes
    assert note.startswith("small is of an earlier run on the same model and data (seed 0; command: ")

    (folder / "small.tflite").unlink()
    assert [trial.recipe for trial in kp.optimize(tiny(), arrays(), PTQ, folder).trials] == ["float", "ptq"]


@pytest.mark.slow
def test_the_trials_of_another_model_do_not(finished, tmp_path):
    folder = shutil.copytree(finished[0], tmp_path / "copy")
    assert [trial.recipe for trial in kp.optimize(shaken(), arrays(), PTQ, folder).trials] == ["float", "ptq"]


@pytest.mark.slow
def test_a_damaged_stage_is_trained_again_and_old_ones_are_swept(finished, tmp_path):
    for options in ({}, {"epochs": 3}):
        with pytest.raises(Stop):
            kp.optimize(tiny(), arrays(), RECIPE, tmp_path, report=Log(stop=("stage 2 of 2, training",)), **options)
    stages = sorted(path for path in (tmp_path / "trials").glob("small-*.keras"))
    assert len(stages) == 2
    for path in stages:
        path.write_bytes(path.read_bytes()[:-200])
    log = Log()
    run = kp.optimize(tiny(), arrays(), RECIPE, tmp_path, report=log)
    assert "small: stage 1 of 2, training" in [what for what, _ in log] and run.artifact.breaches == ()
    assert names(tmp_path) == names(finished[0])


@pytest.mark.slow
def test_validation_data_is_looked_at_and_decides_the_key(tmp_path):
    data = {**arrays(), "x_val": X[:16], "y_val": Y[:16]}
    recipe = {"name": "qat", "epochs": 2, "stages": [{"quantize": "int8", "train": 1}], "quantization": "int8"}
    run = kp.optimize(tiny(), data, recipe, tmp_path)
    assert [(name, len(curve)) for name, curve in run.trials[1].history.items()] == [("loss", 2), ("val_loss", 2)]
    assert taken_up(tmp_path, data={**data, "y_val": Y[16:32]}, recipe=recipe) == []


@pytest.mark.slow
def test_epochs_are_those_of_all_stages_together(tmp_path):
    run = kp.optimize(tiny(), arrays(), RECIPE, tmp_path / "three", epochs=3)
    assert [len(curve) for curve in run.trials[1].history.values()] == [3] and run.trials[1].skipped == ()
    run = kp.optimize(tiny(), arrays(), RECIPE, tmp_path / "one", epochs=1)
    assert run.trials[1].skipped == ("trained for 2 epochs, not 1: each stage that trains takes one at least",)


def test_a_model_without_weights_is_refused_before_anything_is_written(tmp_path):
    bare = keras.Sequential([keras.Input((6,)), L.ReLU()], name="bare")
    data = arrays(y=X)
    for recipe, what in ((PTQ, "layer to quantize"), (RECIPE, "weights to work on")):
        with pytest.raises(InputError, match=f"the model 'bare' has no {what}: expected at least one Dense"):
            kp.optimize(bare, data, recipe, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_recipe_for_another_place(tmp_path):
    """A folder is what it writes there; it is taken up again, and shown beside the files of other targets."""
    given = (tiny(), arrays(), PTQ, tmp_path)
    kp.optimize(*given)
    run = kp.optimize(*given, target="savedmodel")
    assert [trial.recipe for trial in run.trials] == ["float", "ptq", "ptq_savedmodel"]
    made = run.trials[-1]
    assert made.artifact.target == "savedmodel" and made.artifact.breaches == ()
    assert (tmp_path / "ptq_savedmodel" / "saved_model.pb").is_file()
    judged = next(m for m in made.measurements if m.name == "accuracy_file")
    assert 0.0 <= judged.low <= judged.value <= judged.high <= 1.0 and judged.interval
    assert made.value("accuracy_file") == pytest.approx(made.value("accuracy_keras"))
    assert made.value("latency_ms") > 0 and made.value("latency_ratio") is None
    assert judged.where == "TensorFlow" and made.measurement("latency_ms").where == "TensorFlow, 1 thread"
    assert made.difference.first == "float" and made.difference.p is not None
    log = Log()
    again = kp.optimize(*given, target="savedmodel", report=log)
    assert again.trials[-1] == made
    assert any("ptq_savedmodel: taken up" in what for what, _ in log)
    (tmp_path / "ptq_savedmodel" / "saved_model.pb").write_bytes(b"spoiled")
    log = Log()
    kp.optimize(*given, target="savedmodel", report=log)
    assert not any("ptq_savedmodel: taken up" in what for what, _ in log)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (
            {"target": "tfjs"},
            r"recipe 'ptq': quantization='int8', target='tfjs': expected one of float, float16, uint8, uint16",
        ),
        (
            {"target": "savedmodel", "quantization": "float", "sparse": True},
            r"recipe 'ptq': quantization='float', target='savedmodel': it has no sparse storage; leave 'sparse' out",
        ),
        ({"io": "int16"}, r"io='int16': inputs and outputs of int8 files are int8 or uint8 or float32"),
    ],
)
def test_what_a_target_has_not_is_told_before_training(change, error, tmp_path):
    log = Log()
    with pytest.raises(InputError, match=error):
        kp.optimize(tiny(), arrays(), {**PTQ, **change}, tmp_path, report=log)
    assert log == []


@pytest.mark.slow
def test_training_is_written_for_tensorboard_and_is_the_same(finished, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    _, run, _ = finished
    watched = kp.optimize(tiny(), arrays(), RECIPE, tmp_path / "out", tensorboard=tmp_path / "logs")
    assert watched.artifact.sha256 == run.artifact.sha256
    for stage, site in {"stage_1": "sparsity/a/kernel", "stage_2": "clipping/a/kernel"}.items():
        read = EventAccumulator(str(tmp_path / "logs" / "small" / stage)).Reload()
        assert [event.step for event in read.Tensors(site)] == [0, 2]  # an epoch each
        assert [event.step for event in read.Tensors("fit/loss")] == [2]
    assert "clipping/a/output" in read.Tags()["tensors"]


def test_tensorboard_is_missed_before_training(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(InputError, match=r"TensorBoard is not installed: pip install 'kompakt\[tensorboard\]'"):
        kp.optimize(
            tiny(), {"x_train": X, "y_train": Y, "x_test": X, "y_test": Y}, RECIPE, tmp_path, tensorboard="logs"
        )
    assert not list(tmp_path.iterdir())
