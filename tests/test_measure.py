"""Latency ratios from timers whose answers are known."""

import itertools

import numpy as np
import pytest

from kompakt.measure import half_iqr, in_turn, median_interval, ratio_of, timing, typical


class Clock:
    """A timer that takes ``seconds`` a run (the next of several, in turn) and writes down what it was asked."""

    def __init__(self, *seconds, asked=None, name=""):
        self.seconds = itertools.cycle(seconds)
        self.asked = [] if asked is None else asked
        self.name = name

    def __call__(self, count):
        self.asked.append((self.name, count))
        return count * next(self.seconds)


def latency_ratio(this, other, *, rounds=15, seconds=0.02):
    return ratio_of(*in_turn(this, other, rounds=rounds, seconds=seconds))


def test_the_ratio_and_the_milliseconds():
    found = latency_ratio(Clock(0.001), Clock(0.004))
    assert found.ratio == pytest.approx(0.25) and found.spread == pytest.approx(0.0)
    assert found.milliseconds == pytest.approx(1.0) and found.other == pytest.approx(4.0)


def test_the_sides_take_turns_after_a_warm_up():
    asked = []
    latency_ratio(Clock(0.001, asked=asked, name="a"), Clock(0.004, asked=asked, name="b"), rounds=4, seconds=0.02)
    assert asked[:6] == [("a", 1)] * 3 + [("b", 1)] * 3
    assert asked[6:] == [("a", 20), ("b", 5), ("b", 5), ("a", 20)] * 2  # each goes first in every other round


def test_a_run_longer_than_a_reading_is_run_once():
    asked = []
    latency_ratio(Clock(3.0, asked=asked), Clock(5.0), rounds=2, seconds=0.02)
    assert asked == [("", 1)] * 5


def test_a_timer_that_reads_zero_at_first_does_not_divide_by_it():
    found = latency_ratio(Clock(0.0, 0.0, 0.0, 0.002, 0.002), Clock(0.001), rounds=2)
    assert found.ratio == pytest.approx(2.0)


def test_one_reading_that_was_disturbed_changes_nothing():
    """Medians: of 15 rounds one is a hundred times as long."""
    noisy = Clock(*[0.001] * 9, 0.1, *[0.001] * 20)
    found = latency_ratio(noisy, Clock(0.001), rounds=15)
    assert found.ratio == pytest.approx(1.0) and found.spread == pytest.approx(0.0)


def test_the_spread_is_half_the_distance_of_the_quartiles():
    three_and_rounds = [1.0] * 3 + [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    found = latency_ratio(Clock(*three_and_rounds), Clock(1.0), rounds=7)
    assert found.ratio == 4.0 and found.spread == 2.0  # quartiles 2 and 6


def test_a_slower_machine_cancels_out():
    """Both sides slow down threefold half way through: the ratio does not see it."""
    slow = [1e-3] * 3 + [1e-3] * 7 + [3e-3] * 8
    fast = [2e-3] * 3 + [2e-3] * 7 + [6e-3] * 8
    found = latency_ratio(Clock(*slow), Clock(*fast), rounds=15)
    assert found.ratio == pytest.approx(0.5) and found.spread == pytest.approx(0.0)


def test_the_interval_is_that_of_the_sign_test():
    """Of 30 values the 10th smallest and largest: a fair coin shows 9 heads or fewer with a chance of 2.1 %."""
    values = [float(n) for n in range(1, 31)]
    assert median_interval(values) == (10.0, 21.0)
    assert median_interval(values[::-1]) == (10.0, 21.0)
    assert median_interval([3.0]) == (3.0, 3.0)
    assert median_interval([1.0, 2.0, 3.0]) == (1.0, 3.0)  # too few for 95 %: all of them


@pytest.mark.parametrize("count", [6, 15, 30, 101])  # with fewer than 6 no interval is as sure
def test_the_interval_holds_the_median_as_often_as_it_says(count):
    draws = np.random.default_rng(count).exponential(size=(2000, count))
    intervals = [median_interval(row.tolist()) for row in draws]
    inside = np.mean([low <= np.log(2) <= high for low, high in intervals])
    assert inside >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / 2000)


def test_the_interval_of_a_ratio():
    found = latency_ratio(Clock(*[1.0] * 3, *range(1, 31)), Clock(1.0), rounds=30)
    assert (found.low, found.high) == (10.0, 21.0)


def test_each_run_is_a_reading():
    laps = itertools.cycle([0.001] * 19 + [0.1])
    found = timing(lambda n: np.array([next(laps) for _ in range(n)]), threads=2, rounds=5, seconds=0.02)
    assert (found.threads, found.runs) == (2, 100)
    assert (found.minimum, found.median) == pytest.approx((1.0, 1.0))
    assert found.spread == pytest.approx(0.0) and 1.0 <= found.p95 <= 100.0


def test_one_value_has_no_spread():
    assert half_iqr([2.0]) == 0.0


def test_a_run_that_was_interrupted_changes_nothing():
    laps = lambda n: np.array([0.001] * (n - 1) + [1.0]) if n > 2 else np.full(n, 0.001)  # noqa: E731
    assert typical(laps)(10) == pytest.approx(0.01)
    assert latency_ratio(typical(laps), typical(laps), rounds=4).ratio == 1.0
