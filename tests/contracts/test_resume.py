"""Training that is stopped in the middle and taken up again equals training straight through, on each backend."""

import keras
import numpy as np
import pytest
from keras import layers

import kompakt as kp
from kompakt.attach import attach, finalize
from kompakt.counted import Counted
from kompakt.schedules import Iterative, OneShot, Polynomial
from kompakt.sites import sites
from kompakt.transforms import Cluster

EPOCHS, BATCH = 4, 8


def data():
    random = np.random.default_rng(0)
    return random.normal(size=(40, 8, 8, 2)).astype("float32"), random.integers(0, 3, 40)


def plain():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            layers.Conv2D(6, 3, use_bias=False, name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.ReLU(name="relu"),
            layers.Flatten(name="flatten"),
            layers.Dense(3, name="dense"),
        ]
    )


def everywhere(make):
    model = plain()
    return attach(model, {site.name: [make()] for site in sites(model) if site.variable is not None})


def pruned(model):
    # Every second step from the 3rd to the 17th of 20: the training stops in the middle of it.
    return kp.prune(model, 0.75, schedule=Polynomial(0.0, 0.75, begin=2, end=16, frequency=2))


CASES = {
    "prune, scheduled": lambda: pruned(plain()),
    "prune, in rounds that rewind": lambda: kp.prune(plain(), schedule=Iterative(0.75, 3, 4, 5), rewind=2),
    "prune, scores of the gradient": lambda: kp.prune(
        plain(), 0.75, schedule=Polynomial(0.0, 0.75, begin=2, end=16, frequency=2), score="movement", scope="global"
    ),
    "cluster": lambda: kp.cluster(plain(), 4),
    "cluster, in turns": lambda: everywhere(lambda: Cluster(4, members=60)),
    "cluster, soft": lambda: kp.cluster(plain(), 4, soft=0.2),
    "cluster, channels": lambda: kp.cluster(plain(), 3, per_channel=True, start="density"),
    "QAT": lambda: kp.quantize(plain()),
    "QAT, calibrated": lambda: kp.quantize(plain(), calibration=data()[0]),
    "QAT, steps learned": lambda: kp.quantize(plain(), calibration=data()[0], ranges="lsq"),
    "PCQAT": lambda: kp.quantize(kp.cluster(kp.prune(plain(), 0.6), 5), calibration=data()[0]),
}


def compiled(model):
    model.compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def fit(model, epochs, first=0, callbacks=()):
    x, y = data()
    driven = [*callbacks, kp.callbacks.Update()]
    model.fit(x, y, batch_size=BATCH, epochs=epochs, initial_epoch=first, shuffle=False, verbose=0, callbacks=driven)
    return model


def check_same(found, wanted):
    """Weights, state, optimizer, and what is baked."""
    assert int(found.optimizer.iterations) == int(wanted.optimizer.iterations) == EPOCHS * len(data()[0]) // BATCH
    for a, b in zip(found.weights, wanted.weights, strict=True):
        assert np.allclose(values(a), values(b), rtol=1e-4, atol=1e-5), a.path
    for a, b in zip(found.optimizer.variables, wanted.optimizer.variables, strict=True):
        assert np.allclose(values(a), values(b), rtol=1e-3, atol=1e-5), a.path
    for a, b in zip(finalize(found)[0].get_weights(), finalize(wanted)[0].get_weights(), strict=True):
        assert np.allclose(a, b, rtol=1e-4, atol=1e-5)
    assert finalize(found)[1].keys() == finalize(wanted)[1].keys()


def values(variable):
    return np.array(keras.ops.convert_to_numpy(variable))


class Stops(keras.callbacks.Callback):
    """The process ends in the middle of an epoch."""

    def __init__(self, step):
        super().__init__()
        self.left = step

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def straight():
    """case -> the model that was trained straight through, made once; it is only read."""
    held = {}

    def get(case):
        if case not in held:
            held[case] = fit(compiled(CASES[case]()), EPOCHS)
        return held[case]

    return get


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_saved_and_loaded_in_the_middle(case, straight, tmp_path):
    half = fit(compiled(CASES[case]()), 2)
    # A comparison of two models that never train would pass, too.
    assert any(not np.allclose(values(a), values(b)) for a, b in zip(half.weights, straight(case).weights, strict=True))
    half.save(tmp_path / "half.keras")
    loaded = keras.saving.load_model(tmp_path / "half.keras")
    check_same(fit(loaded, EPOCHS, first=2), straight(case))


@pytest.mark.long(quick=1)
@pytest.mark.parametrize("case", CASES)
def test_interrupted_and_restored_by_keras_own_callback(case, straight, tmp_path):
    stopped = compiled(CASES[case]())
    # In the third epoch: what was done of it is lost, the first two are in the backup.
    calls = [keras.callbacks.BackupAndRestore(tmp_path / "backup"), Stops(13)]
    with pytest.raises(KeyboardInterrupt):
        fit(stopped, EPOCHS, callbacks=calls)
    again = compiled(CASES[case]())
    fit(again, EPOCHS, callbacks=[keras.callbacks.BackupAndRestore(tmp_path / "backup")])
    check_same(again, straight(case))


def test_the_schedule_goes_on_where_it_stopped(tmp_path):
    zeros = []
    for epochs in (2, EPOCHS):
        model = fit(compiled(pruned(plain())), epochs)
        zeros.append(finalize(model)[1]["dense/kernel"].zeros)
        model.save(tmp_path / "model.keras")
    assert 0 < zeros[0] < zeros[1] == int(0.75 * 648 + 0.5)


# --- the optimizer is a new one


class SaveAt(keras.callbacks.ModelCheckpoint):
    """Keras' own, in the middle of epochs."""

    def __init__(self, path, every):
        super().__init__(str(path), save_freq=every, save_weights_only=str(path).endswith(".weights.h5"))


def sgd(model, at_once=1):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01), loss, steps_per_execution=at_once)
    return model


def with_new_optimizer(path, at_once=1):
    if path.name.endswith(".weights.h5"):
        model = pruned(plain())
        model.load_weights(path)
    else:
        model = keras.saving.load_model(path, compile=False)
    return sgd(model, at_once)


def next_step(model):
    """The first that is counted where training goes on."""
    update = kp.callbacks.Update()
    update.set_model(model)
    update.on_train_begin()
    update.on_train_batch_begin(0)
    update.on_train_end()
    return update.step - 1


FORMATS = ["m.keras", "m.h5", "m.weights.h5"]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_steps_since_the_schedule_acted_are_counted(name, tmp_path):
    model = kp.prune(plain(), schedule=Polynomial(0.25, 0.75, begin=0, end=16, frequency=8))
    for _ in range(4):  # 4 of 5 steps
        x, y = data()
        sgd(model).fit(x, y, batch_size=BATCH, verbose=0, callbacks=[kp.callbacks.Update()])
        model.save_weights(tmp_path / name) if name.endswith(".weights.h5") else model.save(tmp_path / name)
        fresh = kp.prune(plain(), schedule=Polynomial(0.25, 0.75, begin=0, end=16, frequency=8))
        if name.endswith(".weights.h5"):
            fresh.load_weights(tmp_path / name)
            model = fresh
        else:
            model = keras.saving.load_model(tmp_path / name, compile=False)
    assert next_step(sgd(model)) == 20
    found = finalize(model)[1]["dense/kernel"]
    assert found.zeros == int(0.75 * 648 + 0.5) and not found.shortfall


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("first", ["update", "checkpoint"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_saved_by_keras_own_callback_in_the_middle_of_an_epoch(name, first, tmp_path):
    calls = [SaveAt(tmp_path / name, 3), Stops(5)]
    update = kp.callbacks.Update()
    calls = [update, *calls] if first == "update" else [*calls, update]
    x, y = data()
    with pytest.raises(KeyboardInterrupt):
        sgd(pruned(plain())).fit(x, y, batch_size=BATCH, verbose=0, callbacks=calls)
    again = with_new_optimizer(tmp_path / name)
    assert next_step(again) == 3
    fit(again, 3)
    assert next_step(sgd(again)) == 4 + 15


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_saved_between_steps_that_run_at_once(name, tmp_path):
    if keras.backend.backend() == "torch":
        pytest.skip("Keras runs one step at a time on torch")
    calls = [kp.callbacks.Update(), SaveAt(tmp_path / name, 2), Stops(2)]
    x, y = data()
    with pytest.raises(KeyboardInterrupt):
        sgd(pruned(plain()), 2).fit(x, y, batch_size=BATCH, verbose=0, callbacks=calls)
    again = with_new_optimizer(tmp_path / name, 2)
    assert next_step(again) == 4
    assert int(fit(again, 1).optimizer.iterations) == 5 and next_step(sgd(again)) == 5 + 5


def test_what_was_due_between_steps_that_run_at_once_is_made_up_for(tmp_path):
    if keras.backend.backend() == "torch":
        pytest.skip("Keras runs one step at a time on torch")
    model = sgd(kp.prune(plain(), schedule=OneShot(0.5, begin=3)), 5)
    x, y = data()
    calls = [SaveAt(tmp_path / "m.keras", 5), kp.callbacks.Update()]  # saved before step 3 has acted
    model.fit(x, y, batch_size=BATCH, verbose=0, callbacks=calls)
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert int(loaded.optimizer.iterations) == 5 and finalize(loaded)[1]["dense/kernel"].zeros == 0
    assert next_step(loaded) == 5
    assert finalize(loaded)[1]["dense/kernel"].zeros == 324


def test_steps_with_gradients_that_are_gathered_are_all_counted(tmp_path):
    model = pruned(plain())
    model.compile(keras.optimizers.SGD(0.01, gradient_accumulation_steps=5), "sparse_categorical_crossentropy")
    fit(model, 2).save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert int(loaded.optimizer.iterations) == 2 and next_step(loaded) == 10


def test_weights_alone_that_are_handed_on_have_the_count():
    model, other = fit(sgd(pruned(plain())), 1), pruned(plain())
    other.set_weights(model.get_weights())
    assert next_step(sgd(other)) == 5
    assert next_step(sgd(keras.models.clone_model(model))) == 0  # a clone has new weights


def test_a_training_that_was_broken_off_goes_on_with_a_new_optimizer():
    model = sgd(pruned(plain()))
    with pytest.raises(KeyboardInterrupt):
        fit(model, 2, callbacks=[Stops(7)])
    assert next_step(sgd(model)) == 7


def test_weights_that_are_loaded_bring_their_own_count(tmp_path):
    model = sgd(pruned(plain()))
    fit(model, 1).save_weights(tmp_path / "early.weights.h5")
    with pytest.raises(KeyboardInterrupt):
        fit(model, 4, callbacks=[Stops(7)])
    model = sgd(model)
    model.load_weights(tmp_path / "early.weights.h5")
    model.save(tmp_path / "m.keras")
    assert next_step(with_new_optimizer(tmp_path / "m.keras")) == 5


@pytest.mark.parametrize("name", ["m.keras", "m.weights.h5"])
def test_a_file_from_before_steps_were_counted(name, tmp_path, monkeypatch):
    with monkeypatch.context() as before:
        before.setattr(Counted, "build_steps", lambda self: None)
        old = fit(sgd(pruned(plain())), 2)
        weights = [values(each) for each in old.weights]
        old.save(tmp_path / name) if name == "m.keras" else old.save_weights(tmp_path / name)
    found = with_new_optimizer(tmp_path / name)
    assert [values(each).tolist() for each in found.weights if not each.path.endswith("/steps")] == [
        each.tolist() for each in weights
    ]
    assert next_step(found) == 9  # the schedule acted at step 8, and that step was made, too
    if name == "m.keras":
        assert next_step(keras.saving.load_model(tmp_path / name)) == 10
