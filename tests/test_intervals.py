"""Intervals against what is known of distributions, and McNemar's test against tables."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from kompakt.intervals import (
    FEW,
    MOST_BCA,
    Interval,
    NoInterval,
    is_share,
    mcnemar,
    mean_interval,
    paired_interval,
    rows_interval,
)


def rights(samples, both, only_first, only_second):
    """(first, second): 1 where right, of a table of four counts."""
    first = np.zeros(samples)
    second = np.zeros(samples)
    first[: both + only_first] = 1
    second[:both] = 1
    second[both + only_first : both + only_first + only_second] = 1
    return first, second


@pytest.mark.parametrize(
    ("only_first", "only_second", "p"),
    [
        (121, 59, 4e-6),  # these by vassarstats.net, with which statsmodels tests its own
        (70, 59, 0.378688),
        (80, 59, 0.089452),
        (30, 60, 0.00206),
        (10, 30, 0.002221),
        (10, 10, 1.0),
        (11, 1, 0.006348),  # mlxtend's user guide, McNemar's test, scenario A
        (6, 0, 2 * 0.5**6),
        (0, 0, 1.0),
    ],
)
def test_mcnemar_on_tables(only_first, only_second, p):
    found = mcnemar(*rights(400, 150, only_first, only_second))
    assert found[:2] == (only_first, only_second) and found[2] == pytest.approx(p, abs=1e-6)


@given(st.integers(0, 30), st.integers(0, 30))
def test_mcnemar_is_the_binomial_tail_of_the_samples_that_differ(b, c):
    least = sum(math.comb(b + c, k) for k in range(min(b, c) + 1)) / 2 ** (b + c)
    assert mcnemar(*rights(100, 20, b, c))[2] == pytest.approx(min(1.0, 2 * least))


@given(st.integers(0, FEW - 1), st.integers(0, FEW - 1))
def test_the_exact_paired_interval_leaves_out_0_where_mcnemar_tells_apart(b, c):
    if b + c >= FEW:
        return
    found = paired_interval(*rights(60, 30, b, c))
    assert (not found.low <= 0 <= found.high) == (mcnemar(*rights(60, 30, b, c))[2] < 0.05)
    assert found.low <= (c - b) / 60 <= found.high


def test_no_difference_seen_is_not_no_difference():
    right = np.ones(100)
    found = paired_interval(right, right)
    assert found.low == -found.high and found.high == pytest.approx(1 - 0.025**0.01)


def coverage(draw, interval, true, times):
    hits = [interval(*draw()) for _ in range(times)]
    return np.mean([each.low <= true <= each.high for each in hits])


@pytest.mark.parametrize("share", [0.6, 0.9, 0.98])
def test_the_interval_of_a_share_holds_it_as_often_as_it_says(share):
    rng = np.random.default_rng(7)
    found = coverage(
        lambda: ((rng.random(300) < share).astype(float),), lambda v: mean_interval(v, resamples=400), share, 200
    )
    assert found >= 0.91  # 0.95 less 2.6 standard errors of 200 trials


@pytest.mark.parametrize(("samples", "least"), [(300, 0.90), (MOST_BCA + 1, 0.90)])
def test_the_interval_of_a_skewed_mean_holds_it_as_often_as_it_says(samples, least):
    rng = np.random.default_rng(8)
    found = coverage(lambda: (rng.exponential(size=samples),), lambda v: mean_interval(v, resamples=300), 1.0, 100)
    assert found >= least


@pytest.mark.parametrize(("worse", "better"), [(0.002, 0.002), (0.02, 0.0), (0.05, 0.03)])
def test_the_interval_of_a_difference_holds_it_as_often_as_it_says(worse, better):
    rng = np.random.default_rng(9)

    def draw():
        u = rng.random(300)
        first = np.where(u < worse, 1.0, np.where(u < worse + better, 0.0, u < 0.9))
        return first, np.where(u < worse, 0.0, np.where(u < worse + better, 1.0, u < 0.9))

    assert coverage(draw, paired_interval, better - worse, 120) >= 0.90


def test_a_pair_is_surer_than_two_intervals():
    """Of two that answer nearly the same, the difference is known better than either."""
    rng = np.random.default_rng(3)
    first = rng.exponential(size=500)
    second = first + rng.normal(0.01, 0.01, 500)
    alone, apart = mean_interval(first), paired_interval(first, second)
    assert apart.high - apart.low < (alone.high - alone.low) / 20 and apart.low > 0


def test_the_same_seed_gives_the_same_and_another_another():
    values = np.random.default_rng(0).exponential(size=100)
    assert mean_interval(values, seed=1) == mean_interval(values, seed=1) != mean_interval(values, seed=2)
    ends = [rows_interval(lambda rows: float(np.median(values[rows])), 100, seed=s, resamples=50) for s in (1, 1, 2)]
    assert ends[0] == ends[1] != ends[2]


def test_more_confidence_is_a_wider_interval():
    values = np.random.default_rng(0).exponential(size=100)
    narrow, wide = (mean_interval(values, confidence=c) for c in (0.8, 0.99))
    assert wide.low < narrow.low < values.mean() < narrow.high < wide.high


def test_few_wrong_answers_are_counted_exactly():
    found = mean_interval(np.ones(50))
    assert found.low == pytest.approx(0.025 ** (1 / 50)) and found.high == 1.0
    assert "Clopper-Pearson" in found.how


@pytest.mark.parametrize("samples", [0, 1])
def test_one_sample_has_no_interval(samples):
    assert mean_interval(np.ones(samples)) == NoInterval(why="too few samples")
    assert paired_interval(np.ones(samples), np.ones(samples)) == NoInterval(why="too few samples")
    assert rows_interval(lambda rows: 1.0, samples) == NoInterval(why="too few samples")


def test_a_statistic_that_is_none_on_some_resample_has_no_interval():
    found = rows_interval(lambda rows: float("nan"), 10, resamples=3)
    assert found == NoInterval(why="some resamples have no such number")


def test_resamples_that_are_all_alike_say_nothing():
    assert rows_interval(lambda rows: 1.0, 10, resamples=3) == NoInterval(why="every resample has the same value")


def auc(yes, scores):
    """Mann-Whitney's share of pairs that are in order."""
    ranks, positives = stats.rankdata(scores), yes.sum()
    return (ranks[yes].sum() - positives * (positives + 1) / 2) / (positives * (len(yes) - positives))


def precision(yes, scores):
    return yes[scores > 1].mean() if (scores > 1).any() else 0.0


def recall(yes, scores):
    return (scores[yes] > 1).mean() if yes.any() else 0.0


def of_two_classes(rng, samples, share):
    """(yes, scores): two normal distributions 2 apart, as AUC sees a fair classifier."""
    yes = rng.random(samples) < share
    return yes, rng.normal(size=samples) + 2 * yes


def true_value(metric, share):
    found, false = stats.norm.sf(1 - 2), stats.norm.sf(1)
    if metric is precision:
        return share * found / (share * found + (1 - share) * false)
    return found if metric is recall else stats.norm.cdf(2 / 2**0.5)


@pytest.mark.parametrize("metric", [auc, precision, recall])
@pytest.mark.parametrize("positives", [3, 9])
def test_few_positives_have_no_interval(metric, positives):
    yes = np.arange(100) < positives
    scores = np.random.default_rng(0).normal(size=100) + 2 * yes
    held = np.stack([yes, ~yes], axis=1)
    found = rows_interval(lambda rows: metric(yes[rows], scores[rows]), 100, held=held)
    assert found == NoInterval(why=f"only {positives} samples of a class, fewer than 10")


def test_no_resample_lacks_a_class():
    yes = np.arange(1000) < FEW
    seen = []

    def count(rows):
        seen.append(yes[rows].sum())
        return float(seen[-1])

    rows_interval(count, 1000, held=np.stack([yes, ~yes], axis=1), resamples=20_000)
    assert min(seen[:20_000]) >= 1


@pytest.mark.slow
@pytest.mark.parametrize("metric", [auc, precision, recall])
@pytest.mark.parametrize(("samples", "share"), [(100, 0.12), (100, 0.2), (100, 0.5), (1000, 0.03)])
def test_the_interval_of_a_metric_that_is_no_mean_holds_it_as_often_as_it_says(metric, samples, share):
    rng, hits = np.random.default_rng(10), []
    while len(hits) < 200:
        yes, scores = of_two_classes(rng, samples, share)
        held = np.stack([yes, ~yes], axis=1)
        found = rows_interval(lambda rows, y=yes, s=scores: metric(y[rows], s[rows]), samples, held=held, resamples=400)
        if isinstance(found, Interval):
            hits.append(found.low <= true_value(metric, share) <= found.high)
    assert np.mean(hits) >= 0.91  # 0.95 less 2.6 standard errors of 200 trials


def test_the_same_value_everywhere_is_a_point():
    found = mean_interval(np.full(10, 0.5))
    assert (found.low, found.high) == (0.5, 0.5) and is_share(np.array([0, 1])) and not is_share(np.array([0.5]))


@pytest.mark.parametrize("samples", [2, 3, 9])
def test_of_few_samples_nothing_is_known_of_a_mean(samples):
    """A bootstrap of two told any two regressors apart that happened to differ the same way twice."""
    values = np.linspace(0.1, 0.7, samples)
    said = NoInterval(why=f"only {samples} samples, fewer than 10")
    assert mean_interval(values) == paired_interval(values, values**2) == said
    assert rows_interval(lambda rows: float(np.median(values[rows])), samples) == said
    assert isinstance(mean_interval(np.ones(samples)), Interval)  # of a share the exact one is known


@pytest.mark.parametrize("samples", [10, 15, 30, 100])
@pytest.mark.parametrize("error", [np.square, np.abs, lambda e: np.exp(1.5 * e)])
def test_two_that_are_equally_good_are_seldom_told_apart(samples, error):
    """By bootstrap up to 20 % of them were, where 5 % are meant; here up to 7.3 % in 600 may be chance."""
    rng = np.random.default_rng(11)
    noise = 0.5 * rng.normal(size=(600, 1, samples))
    pairs = error(noise + rng.normal(size=(600, 2, samples)))
    found = [paired_interval(*pair, share=False) for pair in pairs]
    assert np.mean([not each.low <= 0.0 <= each.high for each in found]) <= 0.073


def test_the_same_difference_everywhere_is_a_point():
    found = paired_interval(np.full(12, 0.25), np.full(12, 0.75))
    assert (found.low, found.high, found.how) == (0.5, 0.5, "the same value at every sample")
