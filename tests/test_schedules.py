"""Schedules: their values, the steps at which they act, and what they refuse."""

import dataclasses
import itertools

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kompakt as kp
from kompakt.errors import InputError
from kompakt.schedules import SCHEDULES, Constant, Cosine, Iterative, OneShot, Polynomial, Schedule, from_config

SHARES = st.floats(0, 1)


@st.composite
def schedules(draw):
    begin = draw(st.integers(0, 500))
    span, frequency = draw(st.integers(1, 500)), draw(st.integers(1, 200))
    kind = draw(st.sampled_from(sorted(SCHEDULES)))
    if kind == "OneShot":
        return OneShot(draw(SHARES), begin=begin)
    if kind == "Iterative":
        return Iterative(draw(SHARES), rounds=draw(st.integers(1, 6)), begin=begin, every=frequency)
    if kind == "Cosine":
        return Cosine(draw(SHARES), draw(SHARES), begin=begin, end=begin + span, frequency=frequency)
    if kind == "Constant":
        end = draw(st.sampled_from([-1, begin + span]))
        return Constant(draw(SHARES), begin=begin, end=end, frequency=frequency)
    power = draw(st.floats(0.5, 6))
    return Polynomial(draw(SHARES), draw(SHARES), begin=begin, end=begin + span, power=power, frequency=frequency)


def test_every_schedule_is_tested_here():
    assert set(SCHEDULES) == {"Constant", "Polynomial", "Cosine", "OneShot", "Iterative"}


@given(schedules())
def test_round_trip(schedule):
    assert from_config(schedule.to_config()) == schedule


@given(schedules(), st.integers(0, 1200))
def test_it_acts_every_frequency_steps_between_begin_and_end_and_at_the_end(schedule, step):
    end = schedule.end if schedule.end >= 0 else 10**9
    wanted = step in range(schedule.begin, end + 1, schedule.frequency) or step == schedule.end
    assert schedule.acts(step) == wanted


@given(schedules(), st.integers(0, 1200))
def test_every_value_is_a_share(schedule, step):
    assert 0.0 <= schedule(step) <= 1.0


@given(schedules(), st.integers(0, 1200), st.integers(0, 1200))
def test_the_last_act_is_the_last_step_that_acts(schedule, first, last):
    acting = [step for step in range(first, last + 1) if schedule.acts(step)]
    assert schedule.last_act(first, last) == (acting[-1] if acting else None)


@given(SHARES, st.integers(1, 6), st.integers(0, 300), st.integers(1, 100))
def test_iterative_takes_the_same_share_of_what_is_left_each_round(final, rounds, begin, every):
    schedule = Iterative(final, rounds=rounds, begin=begin, every=every)
    left = [1.0, *(1.0 - schedule(begin + r * every) for r in range(rounds))]
    assert left[-1] == pytest.approx(1.0 - final)
    for before, after in itertools.pairwise(left):
        assert after == pytest.approx(before * (1.0 - final) ** (1.0 / rounds), abs=1e-9)


def test_constant():
    schedule = Constant(0.5, begin=10)
    assert [schedule(step) for step in (0, 9, 10, 10**6)] == [0.0, 0.0, 0.5, 0.5]


def test_polynomial_by_hand():
    r"""Zhu and Gupta's cubic: 0.8 - 0.8 (1 - t)^3 at quarters."""
    schedule = Polynomial(0.0, 0.8, begin=100, end=500)
    found = [schedule(step) for step in (0, 100, 200, 300, 400, 500, 900)]
    assert found == pytest.approx([0.0, 0.0, 0.8 - 0.8 * 27 / 64, 0.7, 0.8 - 0.8 / 64, 0.8, 0.8])


@given(SHARES, SHARES, st.integers(1, 200), st.floats(0.5, 6))
def test_a_polynomial_never_turns_back(initial, final, span, power):
    schedule = Polynomial(initial, final, begin=0, end=span, power=power)
    values = [schedule(step) for step in range(span + 1)]
    assert values == sorted(values, reverse=initial > final)
    assert values[0] == pytest.approx(initial) and values[-1] == final


def test_they_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Constant(0.5).value = 0.6


WHOLE = 'expected a whole number of steps; shares of the training are for recipes, with "unit": "share"'
NEVER = "would never act, expected end >= begin, or -1 for no end"
ROUNDS = "expected both whole and 1 or more (every is in steps)"
STEPS = "expected begin >= 0 and frequency >= 1 (steps are batches)"


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Constant(1.5), "Constant: received 1.5, expected a share from 0 to 1"),
        (lambda: Constant(-0.1), "Constant: received -0.1, expected a share from 0 to 1"),
        (lambda: Constant(float("nan")), "Constant: received nan, expected a share from 0 to 1"),
        (lambda: Constant("0.5"), "Constant: received '0.5', expected a share from 0 to 1"),
        (lambda: Constant(True), "Constant: received True, expected a share from 0 to 1"),
        (lambda: Constant(0.5, begin=10, end=5), f"Constant(begin=10, end=5): {NEVER}"),
        (lambda: Constant(0.5, begin=0, end=-2), f"Constant(begin=0, end=-2): {NEVER}"),
        (lambda: OneShot(0.5, begin="1"), f"OneShot(begin='1'): {WHOLE}"),
        (lambda: OneShot(0.5, begin=True), f"OneShot(begin=True): {WHOLE}"),
        (lambda: Iterative(0.5, rounds=2, begin="1", every=2), f"Iterative(begin='1'): {WHOLE}"),
        (lambda: Iterative(0.5, rounds=2.5, begin=1, every=2), f"Iterative(rounds=2.5, every=2): {ROUNDS}"),
        (lambda: Iterative(0.5, rounds=2, begin=1, every="2"), f"Iterative(rounds=2, every='2'): {ROUNDS}"),
        (lambda: Iterative(0.5, rounds=0, begin=1, every=2), f"Iterative(rounds=0, every=2): {ROUNDS}"),
        (lambda: Constant(0.5, begin=-1), f"Constant(begin=-1, frequency=100): {STEPS}"),
        (lambda: Constant(0.5, frequency=0), f"Constant(begin=0, frequency=0): {STEPS}"),
        (lambda: Constant(0.5, begin=0.5), f"Constant(begin=0.5): {WHOLE}"),
        (lambda: Polynomial(0, 1, begin=0, end=0.6), f"Polynomial(end=0.6): {WHOLE}"),
        (lambda: Polynomial(0, 1, begin=0, end=9, frequency="9"), f"Polynomial(frequency='9'): {WHOLE}"),
        (lambda: Polynomial(0, 2, begin=0, end=9), "Polynomial: received 2, expected a share from 0 to 1"),
        (lambda: Polynomial(-1, 0, begin=0, end=9), "Polynomial: received -1, expected a share from 0 to 1"),
        (lambda: Polynomial(0, 1, begin=9, end=9), "Polynomial(begin=9, end=9): expected end > begin"),
        (
            lambda: Polynomial(0, 1, begin=0, end=9, power=-3),
            "Polynomial(power=-3): expected more than 0, 3 is usual",
        ),
        (
            lambda: Polynomial(0, 1, begin=0, end=9, power="3"),
            "Polynomial(power='3'): expected more than 0, 3 is usual",
        ),
        (
            lambda: Polynomial(0, 1, begin=0, end=9, power=float("inf")),
            "Polynomial(power=inf): expected more than 0, 3 is usual",
        ),
        (
            lambda: from_config({"name": "Linear"}),
            "unknown schedule 'Linear'; known: Constant, Polynomial, Cosine, OneShot, Iterative",
        ),
        (
            lambda: from_config({"name": ["x"]}),
            "unknown schedule ['x']; known: Constant, Polynomial, Cosine, OneShot, Iterative",
        ),
        (
            lambda: from_config({"value": 1}),
            "unknown schedule None; known: Constant, Polynomial, Cosine, OneShot, Iterative",
        ),
    ],
)
def test_what_is_refused(make, text):
    with pytest.raises(InputError) as caught:
        make()
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"name": "Constant"}, "schedule Constant: .*missing 1 required positional argument: 'value'"),
        ({"name": "Constant", "value": 0.5, "begins": 3}, "schedule Constant: .*unexpected keyword argument 'begins'"),
        ({"name": "Constant", "value": "half"}, "Constant: received 'half', expected a share from 0 to 1$"),
    ],
)
def test_a_config_that_does_not_fit(config, text):
    with pytest.raises(InputError, match=f"^{text}"):
        from_config(config)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Halves(Schedule):
    """A user's own: half of what is left at each step."""

    most: float = 0.75
    begin: int = 0
    end: int = 4
    frequency: int = 1

    def __call__(self, step):
        return min(self.most, 1.0 - 0.5 ** (1 + step))


def test_a_schedule_of_ones_own_prunes_is_saved_and_loaded(tmp_path):
    """It was refused as soon as the model was copied, which attaching does."""
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16, name="d")])
    pruned = kp.prune(model, schedule=Halves(most=0.625))
    pruned.compile("sgd", "mse")
    x, y = np.ones((64, 8)), np.ones((64, 16))
    pruned.fit(x, y, batch_size=8, callbacks=[kp.callbacks.Update()], verbose=0)
    pruned.save(tmp_path / "m.keras")
    plain, _ = kp.finalize(keras.saving.load_model(tmp_path / "m.keras"))
    assert (np.asarray(plain.get_layer("d").kernel) == 0.0).mean() == 0.625


def test_a_schedule_of_ones_own_is_not_taken_for_another_of_its_name():
    given = type("Constant", (Halves,), {"__module__": "somebody"})()
    assert given.to_config()["name"] == "somebody.Constant"
    assert type(from_config(given.to_config())) is type(given)


def test_a_schedule_whose_class_is_not_defined_here():
    with pytest.raises(InputError) as caught:
        from_config({"name": "away.Linear"})
    assert str(caught.value) == (
        "unknown schedule 'away.Linear'; known: Constant, Polynomial, Cosine, OneShot, Iterative; import away first"
    )
