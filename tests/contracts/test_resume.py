"""Training that is stopped in the middle and taken up again equals training straight through, on each backend."""

import keras
import numpy as np
import pytest
from keras import layers

import kompakt as kp
from kompakt.attach import attach, finalize
from kompakt.schedules import Iterative, Polynomial
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
