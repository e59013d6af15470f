"""Schedules in tfmot's words, and a user's own."""

import keras
import numpy as np
import pytest
from keras import layers

from kompakt.errors import InputError
from kompakt.schedules import Constant, Polynomial
from kompakt.tfmot import sparsity as pruning
from kompakt.tfmot.sparsity.schedules import _IN_MEMORY, schedule_of

tfmot = pruning.keras


class Stairs(tfmot.PruningSchedule):
    """A quarter from step 0 on, a half from step 4 on."""

    def __init__(self, top=0.5, frequency=4):
        self.top, self.frequency = top, frequency
        self._validate_sparsity(top, "top")
        self._validate_step(0, -1, frequency, True)

    def __call__(self, step):
        return self._should_prune_in_step(step, 0, -1, self.frequency), self.top / 2 if step < 4 else self.top

    def get_config(self):
        return {"class_name": "Stairs", "config": {"top": self.top, "frequency": self.frequency}}


def model():
    return keras.Sequential([keras.Input((8,)), layers.Dense(8, name="a"), layers.Dense(4, name="b")])


def trained(pruned, steps):
    pruned.compile("sgd", "mse")
    again(pruned, steps)
    return pruned


def again(pruned, steps):
    x, y = np.ones((steps * 4, 8)), np.ones((steps * 4, 4))
    pruned.fit(x, y, batch_size=4, verbose=0, callbacks=[tfmot.UpdatePruningStep()])


def zeros(pruned):
    return [float((w == 0).mean()) for w in tfmot.strip_pruning(pruned).get_weights()[::2]]


def test_a_users_own_drives_the_masks():
    pruned = tfmot.prune_low_magnitude(model(), Stairs())
    assert zeros(pruned) == [0.25, 0.25]
    trained(pruned, 4)
    assert zeros(pruned) == [0.25, 0.25]
    again(pruned, 1)
    assert zeros(pruned) == [0.5, 0.5]


def test_a_users_own_with_keras_ops():
    class Tensors(Stairs):
        def __call__(self, step):
            act, share = super().__call__(step)
            return keras.ops.convert_to_tensor(act), keras.ops.convert_to_tensor(share)

    assert zeros(trained(tfmot.prune_low_magnitude(model(), Tensors()), 5)) == [0.5, 0.5]


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_users_own_is_saved_and_loaded(tmp_path, monkeypatch, suffix):
    pruned = trained(tfmot.prune_low_magnitude(model(), Stairs(0.75)), 4)
    pruned.save(tmp_path / f"m{suffix}")
    monkeypatch.setattr(pruning.schedules, "_IN_MEMORY", {})  # as in a process of its own
    with pytest.raises(TypeError, match=r"'Stairs' is not known here: load the model in keras.saving.custom"):
        keras.models.load_model(tmp_path / f"m{suffix}")
    with tfmot.prune_scope(), keras.saving.custom_object_scope({"Stairs": Stairs}):
        loaded = keras.models.load_model(tmp_path / f"m{suffix}", compile=False)
    assert zeros(loaded) == [0.375, 0.375]
    trained(loaded, 5)
    assert zeros(loaded) == [0.75, 0.75]


@pytest.mark.parametrize("said", [(True, 1.0), (True, -0.1), (True, float("nan")), 0.5, (True, "x"), None])
def test_a_users_own_that_says_something_else(said):
    class Wrong(Stairs):
        def __call__(self, step):
            return said

    with pytest.raises(InputError, match=r"Wrong\(\)\(0\) gave .*: expected \(whether to prune, sparsity"):
        tfmot.prune_low_magnitude(model(), Wrong())


def test_a_users_own_that_would_never_act():
    class Late(Stairs):
        def __call__(self, step):
            return step >= 1000, 0.5

    pruned = tfmot.prune_low_magnitude(model(), Late())
    with pytest.raises(InputError, match="Late would do nothing in the 4 steps"):
        trained(pruned, 4)


def test_class_made_of_ours_that_says_otherwise():
    class Less(tfmot.ConstantSparsity):
        def __call__(self, step):
            return True, 0.25

    assert zeros(trained(tfmot.prune_low_magnitude(model(), Less(0.5, 0)), 2)) == [0.25, 0.25]


def test_ours_are_kompakts():
    assert schedule_of(tfmot.ConstantSparsity(0.5, 10, 20, 5)) == Constant(0.5, 10, 20, 5)
    assert schedule_of(tfmot.PolynomialDecay(0.1, 0.5, 10, 20)) == Polynomial(0.1, 0.5, 10, 19)  # tfmot counts from 1
    assert schedule_of(Constant(0.5)) == Constant(0.5)


@pytest.mark.parametrize("given", [tfmot.ConstantSparsity(0.5, 1), tfmot.PolynomialDecay(0.1, 0.5, 1, 9, power=2)])
def test_configs(given):
    config = given.get_config()
    assert config["class_name"] == type(given).__name__
    for form in (config, config["config"]):
        assert type(given).from_config(form).get_config() == config


def test_what_a_call_says():
    schedule = tfmot.PolynomialDecay(0.0, 0.8, begin_step=100, end_step=350)
    said = [schedule(keras.ops.convert_to_tensor(step)) for step in (0, 100, 150, 200, 350, 450)]
    assert [bool(act) for act, _ in said] == [False, True, False, True, True, False]
    assert [float(share) for _, share in said] == pytest.approx([0, 0, 0.3904, 0.6272, 0.8, 0.8])
    act, share = tfmot.ConstantSparsity(0.5, 10)(3)
    assert not bool(act) and float(share) == 0.5


def compiled(function):
    """``function`` as the backend compiles it, called with tensors that have no values then."""
    if keras.backend.backend() == "tensorflow":
        return pytest.importorskip("tensorflow").function(function)
    return pytest.importorskip("jax").jit(function)


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="Keras compiles nothing on torch")
@pytest.mark.parametrize(
    "schedule",
    [
        tfmot.ConstantSparsity(0.5, 0),
        tfmot.ConstantSparsity(0.5, 5, 23, 4),
        tfmot.PolynomialDecay(0.25, 0.8, 3, 26, power=2, frequency=5),
    ],
)
def test_a_call_inside_a_compiled_function(schedule):
    call = compiled(lambda step: schedule(step))
    for step in range(35):
        act, share = schedule(step)
        found = call(keras.ops.convert_to_tensor(step))
        assert bool(found[0]) == bool(act) and float(found[1]) == pytest.approx(float(share), abs=1e-6), step


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: tfmot.ConstantSparsity(1.0, 0), r"ConstantSparsity\(target_sparsity=1.0\): expected a share"),
        (
            lambda: tfmot.ConstantSparsity(0.5, -1),
            r"ConstantSparsity\(begin_step=-1, frequency=100\): expected begin_step",
        ),
        (lambda: tfmot.ConstantSparsity(0.5, 5, 4), r"ConstantSparsity\(begin_step=5, end_step=4\): would never act"),
        (lambda: tfmot.ConstantSparsity(0.5, 1.5), r"ConstantSparsity\(begin_step=1.5\): expected a whole number"),
        (lambda: tfmot.ConstantSparsity(0.5, 0, frequency=0), "frequency=0"),
        (lambda: tfmot.PolynomialDecay(0.0, 0.5, 0, -1), r"PolynomialDecay\(end_step=-1\): expected a step"),
        (
            lambda: tfmot.PolynomialDecay(0.0, 0.5, begin_step=5, end_step=5),
            r"PolynomialDecay\(begin_step=5, end_step=5\): expected an end after the begin",
        ),
        (
            lambda: tfmot.PolynomialDecay(0.0, 0.5, 5, 4),
            r"PolynomialDecay\(begin_step=5, end_step=4\): would never act",
        ),
        (lambda: tfmot.PolynomialDecay(0.0, 0.5, 0, 7, power=0), r"PolynomialDecay\(power=0\): expected more than 0"),
        (lambda: tfmot.PolynomialDecay(0.0, 1.5, 0, 7), "final_sparsity=1.5"),
    ],
)
def test_what_is_refused(make, text):
    with pytest.raises(ValueError, match=text):
        make()


def test_it_acts_from_step_0_on():
    assert bool(tfmot.ConstantSparsity(0.5, 0)(0)[0])


def test_short_training_with_the_default_schedule_prunes():
    assert zeros(trained(tfmot.prune_low_magnitude(model()), 3)) == [0.5, 0.5]


def test_classes_in_memory_are_known_by_where_they_are():
    tfmot.prune_low_magnitude(model(), Stairs())
    assert _IN_MEMORY[f"{Stairs.__module__}:Stairs"] is Stairs
