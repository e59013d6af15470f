"""Distillation in recipes and on the command line, from two float models to a verified file."""

import json

import keras
import numpy as np
import pytest
from keras import layers as L

import kompakt as kp
from kompakt.cli import main
from kompakt.recipe import load_recipe, to_dict

TERM = {"name": "hints", "student_layer": "a", "teacher_layer": "a", "weight": 0.1}
STAGE = {"distill": {"losses": ["soft_targets", TERM], "temperature": 2.0}, "train": 1.0}


def net(width, seed=0):
    keras.utils.set_random_seed(seed)
    parts = [L.Dense(width, activation="relu", name="a"), L.Dense(3, name="b")]
    return keras.Sequential([keras.Input((6,), name="x"), *parts], name=f"net{width}")


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A folder with a student, a teacher that knows, and data."""
    folder = tmp_path_factory.mktemp("distil")
    x = np.random.default_rng(0).normal(size=(400, 6)).astype("float32")
    y = (x[:, :3] * x[:, 3:]).argmax(-1)
    teacher = net(64, seed=1)
    teacher.compile(keras.optimizers.Adam(1e-2), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    teacher.fit(x[:300], y[:300], epochs=20, verbose=0)
    net(8).save(folder / "student.keras")
    teacher.save(folder / "teacher.keras")
    np.savez(folder / "d.npz", x_train=x[:300], y_train=y[:300], x_test=x[300:], y_test=y[300:])
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", ["distill", "distill_qat_int8", "distill_pqat_int8"])
def test_a_recipe_to_a_verified_file(name, given, tmp_path):
    student, teacher = (keras.models.load_model(given / f"{who}.keras") for who in ("student", "teacher"))
    before = [model.get_weights() for model in (student, teacher)]
    run = kp.optimize(student, str(given / "d.npz"), name, tmp_path, teacher=teacher, epochs=4)
    trial = run.trials[-1]
    assert trial.artifact.breaches == () and (tmp_path / f"{name}.tflite").exists()
    assert "soft_targets" in trial.history and "student_loss" in trial.history
    told = [line for line in trial.applied if line.startswith("distill soft_targets from net64 (643 parameters")]
    assert len(told) == len([s for s in load_recipe(name).stages if s.distill])
    assert any("the teacher's are logits" in line for line in trial.applied)
    for model, held in zip((student, teacher), before, strict=True):
        assert all(map(np.array_equal, model.get_weights(), held))
    if "pqat" in name:
        assert trial.artifact.zeros > 0.7


@pytest.mark.slow
def test_terms_of_layers_in_a_recipe(given, tmp_path):
    student, teacher = (keras.models.load_model(given / f"{who}.keras") for who in ("student", "teacher"))
    recipe = {"name": "mine", "epochs": 2, "stages": [STAGE]}
    run = kp.optimize(student, str(given / "d.npz"), recipe, tmp_path, teacher=teacher)
    assert {"hints", "soft_targets"} <= set(run.trials[-1].history)
    assert load_recipe(to_dict(load_recipe(recipe))) == load_recipe(recipe)


@pytest.mark.slow
def test_schedules_in_shares_of_the_training(given, tmp_path, monkeypatch):
    student, teacher = (keras.models.load_model(given / f"{who}.keras") for who in ("student", "teacher"))
    rise = {"name": "Polynomial", "initial": 0.0, "final": 0.6, "begin": 0.0, "end": 0.5, "power": 1.0, "unit": "share"}
    stage = {"distill": {"alpha": rise, "losses": [{**TERM, "weight": rise}]}, "train": 1.0}
    recipe = {"name": "mine", "epochs": 4, "stages": [stage]}
    seen, step = [], kp.distillation.model.Distillation.set_step

    def watched(model, at):
        step(model, at)
        seen.append(np.asarray(model.factors, "float64").round(3).tolist())

    monkeypatch.setattr(kp.distillation.model.Distillation, "set_step", watched)
    kp.optimize(student, str(given / "d.npz"), recipe, tmp_path, teacher=teacher, batch_size=30)  # 40 steps
    assert seen[0] == [0.0, 0.0] and [0.3, 0.3] in seen and seen[-20:] == [[0.6, 0.6]] * 20
    assert load_recipe(to_dict(load_recipe(recipe))) == load_recipe(recipe)


@pytest.mark.slow
def test_another_teacher_is_another_trial(given, tmp_path):
    student, teacher = (keras.models.load_model(given / f"{who}.keras") for who in ("student", "teacher"))
    recipe = {"name": "mine", "epochs": 1, "stages": [{"distill": {}, "train": 1.0}]}
    said = []
    for each in (teacher, teacher, net(32)):
        kp.optimize(
            student, str(given / "d.npz"), recipe, tmp_path, teacher=each, report=lambda what, _: said.append(what)
        )
        said.append("end")
    runs = " ".join(said).split("end")
    assert ["mine: taken up" in run for run in runs[:3]] == [False, True, False]


@pytest.mark.slow
def test_a_stage_that_is_taken_up_says_what_taught_it(given, tmp_path):
    student, teacher = (keras.models.load_model(given / f"{who}.keras") for who in ("student", "teacher"))
    recipe = {"name": "mine", "epochs": 2, "stages": [{"distill": {}, "train": 0.5}, {"distill": {}, "train": 0.5}]}
    options = {"data": str(given / "d.npz"), "recipe": recipe, "teacher": teacher}

    def stop(what, _):
        if "stage 2 of 2, training" in what:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kp.optimize(student, out=tmp_path / "a", report=stop, **options)
    assert list((tmp_path / "a" / "trials").glob("mine-*-0.keras"))
    resumed, straight = (kp.optimize(student, out=tmp_path / name, **options).trials[-1] for name in "ab")
    assert resumed.applied == straight.applied and len(straight.applied) == 4
    assert resumed.artifact.sha256 == straight.artifact.sha256


@pytest.mark.slow
def test_on_the_command_line(given, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ["optimize", str(given / "student.keras"), "--teacher", str(given / "teacher.keras")]
    command += ["--recipe", "distill_qat_int8", "--data", str(given / "d.npz"), "--out", "out", "--epochs", "4"]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "distill_qat_int8" in out and (tmp_path / "out" / "distill_qat_int8.tflite").exists()
    held = json.loads((tmp_path / "out" / "records.json").read_text())
    assert held["trials"][-1]["artifact"]["quantization"] == "int8"


BAD = {
    "no teacher": ("distill_qat_int8", None, "recipe 'distill_qat_int8': it distils, and needs a teacher"),
    "a teacher for nothing": ("ptq_int8", "teacher", "teacher: none of the recipes float, ptq_int8 distils; choose"),
    "no training": ({"distill": {}}, "teacher", "'distill' is how a stage trains, and this one has no 'train'"),
    "an unknown option": ({"distill": {"temprature": 2}, "train": 1}, "teacher", "nearest: 'temperature'"),
    "an unknown loss": ({"distill": {"losses": ["kl"]}, "train": 1}, "teacher", "losses has 'kl': expected any of"),
    "an unknown option of a loss": (
        {"distill": {"losses": [{"name": "hints", "weigth": 0.1}]}, "train": 1},
        "teacher",
        "losses, hints: unknown option 'weigth'; nearest: 'weight'",
    ),
    "a cold temperature": ({"distill": {"temperature": 0}, "train": 1}, "teacher", "temperature=0): expected a number"),
    "too much": ({"distill": {"alpha": 1.5}, "train": 1}, "teacher", "alpha=1.5: expected a share from 0 to 1"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case, given, tmp_path, capsys):
    recipe, teacher, text = BAD[case]
    if isinstance(recipe, dict):
        (tmp_path / "r.json").write_text(json.dumps({"name": "mine", "epochs": 1, "stages": [recipe]}))
        recipe = str(tmp_path / "r.json")
    command = ["optimize", str(given / "student.keras"), "--recipe", recipe, "--data", str(given / "d.npz")]
    command += ["--out", str(tmp_path / "out")] + (["--teacher", str(given / "teacher.keras")] if teacher else [])
    assert main(command) == 2
    err = capsys.readouterr().err
    assert text in err and err.count("\n") == 1
