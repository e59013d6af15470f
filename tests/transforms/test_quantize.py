"""FakeQuant: learned steps, their gradients, and what of them the file has. Runs on each backend."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers, ops

import kompakt as kp
from kompakt.attach import attach, finalize, transforms_of
from kompakt.errors import InputError
from kompakt.numerics import best_step, integer_limits
from kompakt.transforms import FakeQuant

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(128, 6)).astype("float32")
Y = (X[:, 0] > 0).astype("int32") + (X[:, 1] > 0)


def values(tensor):
    return np.array(ops.convert_to_numpy(tensor))


def small():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [keras.Input((6,), name="x"), layers.Dense(16, "relu", name="a"), layers.Dense(3, name="b")]
    )


def trained(model, steps=4, rate=1e-2):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss)
    model.fit(X, Y, batch_size=32, epochs=steps, shuffle=False, verbose=0)
    return model


def one_step(quant, x):
    """The gradients of sum(quant(x)) by plain descent: (of x, of the logarithm of the step, of the zero point)."""
    inner = layers.Dense(x.shape[1], use_bias=False, name="d")
    site = "d/kernel" if quant.on_weights else "d/output"
    model = keras.Sequential([keras.Input(x.shape[:1] if quant.on_weights else x.shape[1:]), inner])
    inner.kernel.assign(x if quant.on_weights else np.eye(x.shape[1]))
    attached = attach(model, {site: [quant]})
    (_, inside), *_ = transforms_of(attached)
    if not quant.on_weights:
        inside.set_range(-1.0, 2.0)
    before = [values(inside.log_step), values(inside.shift)]
    data = np.eye(x.shape[0], dtype="float32") if quant.on_weights else x
    attached.compile(keras.optimizers.SGD(1.0), lambda _, p: ops.sum(p))
    attached.fit(data, np.zeros(len(data)), batch_size=len(data), verbose=0)
    return inside, [b - values(a) for b, a in zip(before, (inside.log_step, inside.shift), strict=True)]


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_the_gradient_of_a_weights_step_is_that_of_the_paper(bits):
    w = RANDOM.normal(size=(40, 3)).astype("float32")
    most = integer_limits(bits, symmetric=True)[1]
    step = values(best_step(ops.convert_to_tensor(w), bits, (-1,)))
    _, (found, _) = one_step(FakeQuant(bits, ranges="lsq"), w)
    v = w / step
    inside = np.abs(v) <= most + 0.5
    level = np.clip(np.round(v), -most, most)
    to_step = (level - np.where(inside, v, 0.0)).sum(0, keepdims=True)
    wanted = to_step / np.sqrt(40 * most) * step  # by the chain rule: the step is exp of what is learned
    assert np.allclose(found, wanted, rtol=1e-3, atol=1e-5)


def test_the_gradients_of_an_activations_step_and_zero_point_are_those_of_the_paper():
    x = RANDOM.normal(size=(8, 5)).astype("float32") * 2
    _, (to_log, to_zero) = one_step(FakeQuant(4, symmetric=False, ranges="lsq"), x)
    step, zero = 3.0 / 15, -8 + 5
    v = x / step
    shifted = v + zero
    inside = (shifted >= -8.5) & (shifted <= 7.5)
    level = np.clip(np.round(shifted), -8, 7) - zero
    gain = 1 / np.sqrt(5 * 7)
    assert to_log == pytest.approx((level - np.where(inside, v, 0.0)).sum() * gain * step, rel=1e-3)
    assert to_zero == pytest.approx(-step * (~inside).sum() * gain, rel=1e-3)


@pytest.mark.slow
@given(st.integers(2, 8), st.integers(0, 1000), st.sampled_from([1e-4, 1.0, 1e3]))
@settings(max_examples=30, deadline=None)
def test_a_step_starts_above_zero_and_no_worse_than_that_of_the_largest_weight(bits, seed, size):
    w = (np.random.default_rng(seed).normal(size=(30, 4)) * size).astype("float32")
    w[:, 3] = 0.0
    most = integer_limits(bits, symmetric=True)[1]
    step = values(best_step(ops.convert_to_tensor(w), bits, (-1,)))
    assert (step > 0).all()

    def error(step):
        return ((w - np.clip(np.round(w / step), -most, most) * step) ** 2).sum(0)[:3]

    reach = np.abs(w).max(0)[:3]
    whole = error(np.append(reach, reach.max()) / most)
    assert (error(step[0]) <= whole * 1.001 + 1e-12).all()


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("zeros", [0.0, 0.5])
def test_of_few_bits_a_learned_step_starts_with_less_error_than_the_papers(bits, zeros):
    w = RANDOM.normal(size=(400, 1)).astype("float32")
    w[: int(400 * zeros)] = 0.0
    found = values(best_step(ops.convert_to_tensor(w), bits, (-1,))).item()
    most = integer_limits(bits, symmetric=True)[1]
    assert 0.2 * np.abs(w).max() / most < found < np.abs(w).max() / most

    def error(step):
        return ((w - np.clip(np.round(w / step), -most, most) * step) ** 2).sum()

    paper = 2 * np.abs(w).mean() / most**0.5
    assert error(found) <= min(error(paper * s) for s in np.linspace(0.2, 3.0, 57)) * 1.05 and error(found) < error(
        paper
    )


@pytest.mark.long(quick=1)
@pytest.mark.parametrize("rate", [0.01, 10.0])
def test_steps_stay_positive_and_move(rate):
    quantized = kp.quantize(small(), calibration=X, ranges="lsq")
    trained(quantized, steps=1, rate=rate)
    learned = [t for _, t in transforms_of(quantized) if t.learns]
    assert len(learned) >= 5
    moved = [float(np.abs(values(t.log_step)).max()) for t in learned]
    assert all(m > 0 for m in moved)
    assert all((values(t._scale()[0]) > 0).all() for t in learned)


@pytest.mark.slow
def test_zeros_of_pruned_weights_stay_zeros():
    quantized = kp.quantize(kp.prune(small(), 0.5, sites="*/kernel"), calibration=X, ranges="lsq")
    plain, encodings = finalize(trained(quantized))
    for name in ("a", "b"):
        kernel = plain.get_layer(name).get_weights()[0]
        assert (kernel == 0).sum() >= kernel.size // 2 and encodings[f"{name}/kernel"].zeros >= kernel.size // 2


@pytest.mark.long(quick=1)
@pytest.mark.parametrize("mode", ["int8", "w4a8", "int16x8", "dynamic_int8"])
def test_the_file_has_the_learned_steps_and_agrees(mode, tmp_path):
    calibration = None if mode == "dynamic_int8" else X
    quantized = trained(kp.quantize(small(), mode, calibration=calibration, ranges="lsq"))
    artifact = kp.export(quantized, tmp_path / "m.tflite", verify=X)
    assert artifact.breaches == ()
    encodings = finalize(quantized)[1]
    (wanted,) = (t for name, t in transforms_of(quantized) if name == "b/kernel")
    assert encodings["b/kernel"].scale == pytest.approx(values(wanted._scale()[0]).ravel().tolist())
    assert len(encodings["b/kernel"].scale) == 3


@pytest.mark.slow
def test_learned_steps_are_saved_and_loaded(tmp_path):
    quantized = trained(kp.quantize(small(), calibration=X, ranges="lsq"))
    quantized.save(tmp_path / "m.keras")
    loaded = kp.load_model(tmp_path / "m.keras")
    assert np.array_equal(loaded.predict(X, verbose=0), quantized.predict(X, verbose=0))
    assert kp.get_ranges(loaded) == kp.get_ranges(quantized)


@pytest.mark.slow
def test_a_range_that_is_set_is_where_learning_goes_on():
    quantized = trained(kp.quantize(small(), calibration=X, ranges="lsq"))
    kp.set_ranges(quantized, {"b/output": (-8.0, 7.9375)})
    assert finalize(quantized)[1]["b/output"].scale == pytest.approx((0.0625,))
    assert kp.get_ranges(quantized)["b/output"] == pytest.approx((-8.0, 7.9375))


def test_a_frozen_step_does_not_move():
    quantized = kp.quantize(small(), calibration=X, ranges="lsq")
    for _, transform in transforms_of(quantized):
        transform.freeze()
    trained(quantized)
    assert all(not values(t.log_step).any() for _, t in transforms_of(quantized) if t.learns)


def test_what_cannot_be_learned_is_one_line():
    with pytest.raises(InputError, match=r"ranges='lsq' learns from where calibration starts it: give calibration="):
        kp.quantize(small(), ranges="lsq")
    with pytest.raises(InputError, match="ranges 'lsqq': expected one of minmax, moving_average, all_values, lsq"):
        kp.quantize(small(), ranges="lsqq", calibration=X)


@pytest.mark.slow
def test_learned_steps_of_two_bits_do_better_than_those_of_the_largest_weight():
    def loss(ranges):
        model = trained(small(), steps=20)
        quantized = kp.quantize(model, rules={"*": 2}, calibration=X, ranges=ranges)
        trained(quantized, steps=20)
        return quantized.evaluate(X, Y, verbose=0)

    assert loss("lsq") < loss("minmax")


@pytest.mark.parametrize("mode", ["int8", "dynamic_int8", "weight_only_int8"])
@pytest.mark.parametrize(
    ("option", "text"),
    [
        ({"ranges": "bogus"}, "ranges 'bogus': expected one of minmax, moving_average, all_values, lsq"),
        ({"momentum": 1.5}, "momentum 1.5: expected a share from 0 to below 1"),
    ],
)
def test_ranges_and_momentum_are_checked_in_every_mode(mode, option, text):
    with pytest.raises(InputError) as caught:
        kp.quantize(small(), mode, **option)
    assert str(caught.value) == text


def test_one_range_for_a_tensor_is_told_as_a_scale_a_channel_all_alike():
    quant = FakeQuant(8, per_tensor=True)
    w = np.array([[0.5, -12.7], [0.04, 1.0]], "float32")
    inner = layers.Dense(2, use_bias=False, name="d")
    model = keras.Sequential([keras.Input((2,)), inner])
    inner.kernel.assign(w)
    plain, stored = finalize(attach(model, {"d/kernel": [quant]}))
    assert np.allclose(stored["d/kernel"].scale, [0.1, 0.1]) and stored["d/kernel"].axis == (-1,)
    assert np.allclose(values(plain.layers[0].kernel), [[0.5, -12.7], [0.0, 1.0]], atol=1e-5)


@pytest.mark.parametrize("ranges", ["minmax", "lsq"])
def test_one_range_for_a_tensor_trains_and_is_saved(ranges, tmp_path):
    model = attach(small(), {"a/kernel": [FakeQuant(4, per_tensor=True, ranges=ranges)]})
    model = trained(model)
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    assert np.array_equal(again.predict(X, verbose=0), model.predict(X, verbose=0))
    plain, stored = finalize(model)
    assert len(set(stored["a/kernel"].scale)) == 1 and len(np.unique(values(plain.layers[0].kernel))) <= 15


def test_a_weight_with_a_given_range_is_clipped_and_learns_inside_it():
    quant = FakeQuant(8, low=-0.5, high=0.5)
    w = ops.array([[0.25, 3.0]])
    quant.prepare(w, (-1,))
    assert np.allclose(values(quant(w)), [[0.25, 0.5]], atol=0.5 / 127)
    model = attach(small(), {"a/kernel": [FakeQuant(8, low=-0.1, high=0.1)]})
    plain, stored = finalize(trained(model))
    assert np.allclose(stored["a/kernel"].scale, 0.1 / 127)
    assert np.abs(values(plain.layers[0].kernel)).max() <= 0.1 + 1e-6


def test_an_even_range_has_its_zero_point_at_0():
    quant = FakeQuant(8, symmetric=False, ranges="moving_average", even=True)
    quant.build(())
    quant(ops.array([-0.5, 1.27]), training=True)
    assert np.allclose(quant.range_now(), [-1.28, 1.27])
    assert quant.describe(ops.zeros(()), kp.Encoding()).zero_point == (0,)
    assert np.allclose(values(quant(ops.array([-2.0, 0.504]))), [-1.28, 0.5], atol=1e-5)
    with pytest.raises(InputError, match="even=True with ranges='lsq'"):
        FakeQuant(8, symmetric=False, ranges="lsq", even=True)


def test_a_range_of_all_values_only_widens_and_only_in_training():
    quant = FakeQuant(8, symmetric=False, ranges="all_values")
    quant.build(())
    for batch in ([-1.0, 2.0], [-3.0, 1.0]):
        quant(ops.array(batch), training=True)
    assert quant.range_now() == (-3.0, 2.0)
    quant(ops.array([9.0]))
    assert quant.range_now() == (-3.0, 2.0)
    assert kp.get_ranges(trained(kp.quantize(small(), ranges="all_values")))["x_grid/output"] == pytest.approx(
        (float(X.min()), float(X.max()))
    )


@pytest.mark.parametrize("symmetric", [True, False])
def test_what_is_not_rounded_in_training_is_watched_and_rounded_afterwards(symmetric):
    quant = FakeQuant(4, symmetric=symmetric, ranges="minmax" if symmetric else "moving_average", in_training=False)
    x = ops.linspace(-1.0, 1.0, 101)[:, None]
    quant.prepare(x, ())
    assert np.array_equal(values(quant(x, training=True)), values(x))
    assert len(np.unique(values(quant(x)))) <= 16
    if not symmetric:
        assert quant.range_now() == (-1.0, 1.0)


def test_what_is_new_of_a_grid_is_in_its_config():
    quant = FakeQuant(8, symmetric=False, ranges="all_values", even=True, in_training=False)
    assert FakeQuant.from_config(quant.get_config()).get_config() == quant.get_config()
