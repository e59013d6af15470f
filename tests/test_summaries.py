"""Numbers made of what transforms tell."""

import numpy as np
import pytest

from kompakt.summaries import BUCKETS, Assigned, Histogram, Moving, Number, Share, histogram, pool


def test_changes_need_something_before():
    for fact in (Assigned(np.array([True])), Moving(np.array([1.0]))):
        assert fact.since(None) is None and fact.since(fact) == 0.0
    assert Number(None).since(Number(1.0)) is None and Share(0.5).since(None) == 0.5


def test_a_fine_grid_is_shown_in_few_buckets():
    rng = np.random.default_rng(0)
    integers = rng.integers(-32768, 32768, 5000)
    found = histogram(integers)
    buckets = found.buckets()
    assert len(buckets) <= BUCKETS and buckets[:, 2].sum() == 5000
    assert np.array_equal(buckets[1:, 0], buckets[:-1, 1]) and buckets[0, 0] == integers.min() - 0.5
    for left, right, count in buckets[[0, 100, -1]]:
        assert count == ((integers > left) & (integers < right)).sum()


def test_a_histogram_of_nothing_and_of_one_integer():
    assert histogram(np.zeros((0, 3))).buckets().tolist() == [[-0.5, 0.5, 0.0]]
    assert histogram(np.full((2, 3), 7.0)).buckets().tolist() == [[6.5, 7.5, 6.0]]
    assert isinstance(histogram(np.ones(1)), Histogram)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([("mean", 0.2, 0), ("mean", 0.4, 0)], None),
        ([("", 0.2, 5)], None),
        ([("mean", 0.2, 5), ("largest", 3.0, 5)], None),
        ([("mean", float("nan"), 5), ("mean", 0.1, 5)], float("nan")),
    ],
)
def test_what_has_no_number_together(found, expected):
    assert pool(found) == pytest.approx(expected, nan_ok=True) if expected is not None else pool(found) is None


def test_what_is_not_finite_is_in_no_part():
    found = histogram(np.array([np.nan, 1.0, np.inf, 3.0]))
    assert found.least == 1 and found.counts.tolist() == [1, 0, 1]
    assert histogram(np.full(4, np.nan)).counts.tolist() == [0]
