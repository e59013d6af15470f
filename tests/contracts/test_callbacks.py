"""Which training steps the schedules see, and what is refused before the first of them."""

import keras
import numpy as np
import pytest
from keras import layers

import kompakt as kp
from kompakt import testing as laws
from kompakt.attach import finalize
from kompakt.errors import InputError
from kompakt.schedules import Constant, Iterative, OneShot, Polynomial

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
STEPS, BATCH = 20, 4
"""Of an epoch."""


def pruned(schedule, optimizer="sgd", at_once=1, **options):
    if at_once > 1 and keras.backend.backend() == "torch":
        pytest.skip("Keras runs one step at a time on torch")
    model = kp.prune(laws.toy_model(), schedule=schedule, **options)
    model.compile(optimizer, LOSS, steps_per_execution=at_once)
    return model


def fit(model, epochs=1, **options):
    x, y = laws.toy_data(STEPS * BATCH)
    callback = kp.callbacks.Update()
    model.fit(x, y, batch_size=BATCH, epochs=epochs, shuffle=False, verbose=0, callbacks=[callback], **options)
    return callback


def kernels(model):
    """Of the plain model."""
    return [keras.ops.convert_to_numpy(layer.kernel) for layer in finalize(model)[0].layers if hasattr(layer, "kernel")]


@pytest.mark.parametrize("at_once", [1, 3, 10, 20])
def test_steps_that_keras_runs_at_once_are_all_counted(at_once):
    model = pruned(Polynomial(0.0, 0.75, begin=0, end=70, power=1.0, frequency=1), at_once=at_once)
    assert fit(model, 4).step == 80
    assert finalize(model)[1]["conv/kernel"].zeros == 54


@pytest.mark.parametrize("at_once", [1, 10, 20])
def test_what_is_due_inside_the_last_execution_acts(at_once):
    model = pruned(OneShot(0.5, begin=15), at_once=at_once)
    fit(model)
    assert finalize(model)[1]["conv/kernel"].zeros == 36


def test_rounds_and_their_rewinding_act_between_steps_that_are_run_at_once():
    model = pruned(Iterative(0.75, rounds=2, begin=4, every=8), keras.optimizers.SGD(0.0), 8, rewind=2)
    before = kernels(model)
    fit(model)
    encodings = finalize(model)[1]
    assert encodings["conv/kernel"].zeros == 54 and not encodings["conv/kernel"].shortfall
    # Nothing was learned, so what is left is what was there at the beginning.
    for was, now in zip(before, kernels(model), strict=True):
        assert np.array_equal(np.where(now == 0, was, now), was)


def test_steps_in_a_loop_of_ones_own():
    model = pruned(Constant(0.5, begin=3, frequency=1))
    update = kp.callbacks.Update()
    update.set_model(model)
    update.on_train_begin()
    for step in range(4):
        assert finalize(model)[1]["conv/kernel"].zeros == 0
        update.on_train_batch_begin(step)
    update.on_train_end()
    assert finalize(model)[1]["conv/kernel"].zeros == 36


def test_a_schedule_that_begins_after_the_epochs_that_are_left():
    model = pruned(OneShot(0.5, begin=60))
    with pytest.raises(InputError, match="would do nothing in the 40 steps of this training"):
        fit(model, 4, initial_epoch=2)
    fit(model, 4)
    assert finalize(model)[1]["conv/kernel"].zeros == 36


def test_rewinding_to_a_step_that_was_before_this_training():
    optimizer = keras.optimizers.SGD(0.0)
    other = laws.toy_model()
    other.compile(optimizer, LOSS)
    x, y = laws.toy_data(BATCH * 5)
    other.fit(x, y, batch_size=BATCH, verbose=0)
    model = kp.prune(other, schedule=Iterative(0.75, rounds=2, begin=6, every=5), rewind=2)
    again = keras.optimizers.SGD(0.0)
    model.compile(again, LOSS)
    again.iterations.assign(optimizer.iterations)
    with pytest.raises(InputError) as caught:
        fit(model)
    assert str(caught.value) == (
        "rewind=2: this training starts at step 5, and the weights of that step were not kept: give a rewind= from "
        "5 to the schedule's begin, or compile with a new optimizer"
    )


@pytest.mark.parametrize(
    ("optimizer", "found"),
    [
        (lambda: keras.optimizers.SGD(0.1, gradient_accumulation_steps=4), "gradient_accumulation_steps"),
        (lambda: keras.optimizers.SGD(0.1, use_ema=True), "use_ema"),
        (
            lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1)),
            "a loss scale that changes (compile with auto_scale_loss=False)",
        ),
    ],
)
def test_optimizers_that_change_the_gradients_that_a_score_gathers(optimizer, found):
    schedule = Polynomial(0.0, 0.75, begin=2, end=16, frequency=2)
    with pytest.raises(InputError) as caught:
        fit(pruned(schedule, optimizer(), score="movement"))
    assert str(caught.value) == (
        "score 'movement' is gathered from the gradients of each step, which the optimizer changes by "
        f"{found}: leave that out, or give score='l1'"
    )
    fit(pruned(schedule, optimizer(), score="l1"))


def test_a_layer_that_is_not_to_be_trained_is_not():
    model = laws.toy_model()
    model.get_layer("conv").trainable = False
    shared = kp.cluster(model, 4)
    assert not any("conv" in weight.path for weight in shared.trainable_variables)
    shared.compile(keras.optimizers.SGD(1.0), LOSS)
    before = kernels(shared)[0]
    fit(shared)
    assert np.array_equal(kernels(shared)[0], before)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    "work",
    [
        lambda model: kp.prune(model, 0.5),
        lambda model: kp.cluster(model, 4),
        lambda model: kp.shrink(model, 0.9, round_to=1),
    ],
    ids=["prune", "cluster", "shrink"],
)
def test_weights_that_are_not_finite(work, bad):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(8, name="a"), layers.Dense(8, name="b"), layers.Dense(2)])
    kernel = np.ones((8, 8), "float32")
    kernel[0, :3] = bad
    model.get_layer("b").kernel.assign(kernel)
    with pytest.raises(InputError) as caught:
        work(model)
    text = "b/kernel: 3 of 64 values are NaN or infinite; go back to weights from before them"
    assert str(caught.value) == text
