"""How sure a measured number is: intervals by bootstrap, and a test of two classifiers. Plain numbers in and out.

Efron 1979, "Bootstrap Methods: Another Look at the Jackknife"; the bias-corrected and accelerated one (BCa) is of
Efron 1987, "Better Bootstrap Confidence Intervals". SciPy does both.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

Array = np.ndarray[Any, Any]

RESAMPLES = 2000
"""How often the samples are drawn anew for the interval of a mean."""

ROW_RESAMPLES = 500
"""The same where the metric has to be computed anew each time."""

FEW = 10
"""Samples, of all or of a class, or right or wrong answers, below which nothing is known of how they spread.

The interval of a share is then the exact one; other metrics have none."""

JACKKNIFED = 200
"""Parts that are left out in turn, one at a time, to know the skewness of a metric."""

COMMON = 60
"""Samples of a class from which on no resample lacks it: its probability is below exp(-60)."""

MOST_BCA = 2000
"""Samples up to which the bootstrap is corrected for bias and skewness, which takes n x n numbers."""

AT_ONCE = 20_000_000
"""Numbers drawn at once: 160 MB."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Where a number lies with a given confidence, and how that was found."""

    low: float
    high: float
    how: str


@dataclass(frozen=True, kw_only=True)
class NoInterval:
    """Why nothing can be said of how sure a number is.

    Example:
        >>> rows_interval(lambda rows: 1.0, 1).why
        'too few samples'
    """

    why: str


def mean_interval(
    values: Array, *, confidence: float = 0.95, seed: int = 0, resamples: int = RESAMPLES, share: bool = True
) -> Interval | NoInterval:
    """The interval of the mean of ``values``, one a sample.

    Samples are drawn with putting back. Of values that are all 0 or 1, with fewer than 10 of either, it is the exact
    one of a share (Clopper and Pearson 1934): a bootstrap of 50 right answers of 50 would say that no error can be.

    Args:
        share: False for values that are none, though they may all be 0 or 1: an error of 0.

    Returns:
        NoInterval of fewer than two samples; where they are no shares of fewer than :data:`FEW`: of three values a
        bootstrap takes the largest for the end of what there is.

    Example:
        >>> found = mean_interval(np.repeat([1.0, 0.0], [90, 10]))
        >>> round(found.low, 2), round(found.high, 2), found.how
        (0.83, 0.95, 'BCa bootstrap, 2000 resamples')
        >>> mean_interval(np.ones(50)).how
        'exact interval of a share (Clopper-Pearson)'
        >>> mean_interval(np.array([0.5, 0.7, 0.1])).why
        'only 3 samples, fewer than 10'
    """
    values = np.asarray(values, "float64").ravel()
    if len(values) > 1 and share and is_share(values) and min(values.sum(), len(values) - values.sum()) < FEW:
        found = stats.binomtest(int(values.sum()), len(values)).proportion_ci(confidence, method="exact")
        return Interval(low=float(found.low), high=float(found.high), how="exact interval of a share (Clopper-Pearson)")
    if len(values) < FEW or (values == values[0]).all():
        return _without_spread(values)
    bca = len(values) <= MOST_BCA
    found = stats.bootstrap(
        (values,),
        np.mean,
        vectorized=True,
        confidence_level=confidence,
        n_resamples=resamples,
        batch=max(1, AT_ONCE // len(values)),
        method="BCa" if bca else "percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    how = f"{'BCa' if bca else 'percentile'} bootstrap, {resamples} resamples"
    return _finite(float(found.low), float(found.high), how)


def rows_interval(
    statistic: Callable[[Array], float],
    samples: int,
    *,
    held: Array | None = None,
    confidence: float = 0.95,
    seed: int = 0,
    resamples: int = ROW_RESAMPLES,
) -> Interval | NoInterval:
    r"""The interval of what ``statistic`` makes of samples, given their numbers: for metrics that are no mean.

    The BCa bootstrap, with quantiles expanded for few samples (Hesterberg 2015, "What Teachers Should Know About the
    Bootstrap", of percentiles), as a bootstrap takes their spread for narrower than it is:

    .. math:: z = \pm \sqrt{n / (n - 1)} \cdot t_{\alpha / 2, n - 1}

    with n the samples of the rarest class. A resample that lacks a class, where an AUC or a recall is undefined, is
    drawn anew. Drawing within classes (the stratified bootstrap: Carpenter and Bithell 2000, "Bootstrap confidence
    intervals: when, which, what?") would not need that, but it takes the shares of the classes for known, which they
    are not of a random sample: the interval of a precision would be too narrow.

    Args:
        held: (samples, classes) of bool, which classes a sample has; of each at least :data:`FEW` samples must have
            it. None where there are no classes.

    Returns:
        NoInterval of fewer than :data:`FEW` samples, of all or of a class, where a resample has no such number, and
        where all have the same one, of which a bootstrap would say that no other value can be.

    Example:
        >>> values = np.arange(100.0)
        >>> found = rows_interval(lambda rows: float(np.median(values[rows])), 100)
        >>> found.low < 49.5 < found.high
        True
        >>> rows_interval(lambda rows: 1.0, 100, held=np.arange(100)[:, None] < [3, 100]).why
        'only 3 samples of a class, fewer than 10'
    """
    least = samples if held is None or not held.size else int(held.sum(0).min())
    if least < FEW:
        return _too_few(least, "" if held is None or samples < 2 else " of a class")
    rng = np.random.default_rng(seed)
    rare = held if least < COMMON else None
    found = [statistic(_drawn(rng, samples, rare)) for _ in range(resamples)]
    if not np.isfinite(found).all():
        return NoInterval(why="some resamples have no such number")
    if min(found) == max(found):
        return NoInterval(why="every resample has the same value")
    parts = np.array_split(rng.permutation(samples), min(samples, JACKKNIFED))
    without = np.array([statistic(np.setdiff1d(np.arange(samples), part)) for part in parts])
    shares = bca_shares(np.array(found), statistic(np.arange(samples)), without, expanded(confidence, least))
    low, high = np.quantile(found, shares)
    return Interval(low=float(low), high=float(high), how=f"expanded BCa bootstrap, {resamples} resamples")


def bca_shares(found: Array, value: float, without: Array, tail: float) -> tuple[float, float]:
    r"""The shares of resamples that lie below the ends of an interval (BCa: Efron 1987).

    .. math:: \Phi\left(z_0 + \frac{z_0 + z}{1 - a (z_0 + z)}\right)

    Args:
        found: of the resamples. value: of the samples. without: of all samples but a part, a number a part: by these
            the acceleration a is known; where one is none it is 0. tail: the share at each end without corrections.

    Example:
        >>> found = np.arange(101.0)
        >>> [round(share, 3) for share in bca_shares(found, 50.0, found, 0.025)]
        [0.025, 0.975]
    """
    below = ((found < value).mean() + (found <= value).mean()) / 2  # half of those that are the same
    bias = stats.norm.ppf(np.clip(below, 0.5 / len(found), 1 - 0.5 / len(found)))
    apart = without.mean() - without
    square = float((apart**2).sum())
    accelerated = float((apart**3).sum()) / (6 * square**1.5) if math.isfinite(square) and square else 0.0
    ends = bias + stats.norm.ppf([tail, 1 - tail])
    low, high = stats.norm.cdf(bias + ends / (1 - accelerated * ends))
    return float(low), float(high)


def _drawn(rng: np.random.Generator, samples: int, held: Array | None) -> Array:
    """Numbers of samples, drawn with putting back until every class is there; with ten of each hardly ever twice."""
    while True:
        rows = rng.integers(0, samples, samples)
        if held is None or held[rows].any(0).all():
            return rows


def expanded(confidence: float, samples: int) -> float:
    """The share of resamples to leave out at each end, so that few samples are not taken for surer than they are.

    Example:
        >>> round(expanded(0.95, 10), 4), round(expanded(0.95, 100_000), 4)
        (0.0086, 0.025)
    """
    far = stats.t.ppf((1 + confidence) / 2, samples - 1) * math.sqrt(samples / (samples - 1))
    return float(stats.norm.cdf(-far))


def paired_interval(
    first: Array, second: Array, *, confidence: float = 0.95, share: bool = True
) -> Interval | NoInterval:
    r"""The interval of the mean of ``second`` minus that of ``first``, values of the same samples.

    It is that of Student's t (Student 1908, "The Probable Error of a Mean") of the differences d of n samples:

    .. math:: \bar d \pm t_{\alpha / 2, n - 1} \cdot s_d / \sqrt{n}

    Where both are equally good, the differences are as often above 0 as below, for which it is right; a bootstrap told
    such two apart in 5 to 20 % of trials with 10 to 60 samples. Of what is right or wrong it is

    .. math:: (2 p - 1) \cdot q

    with the exact intervals (Clopper and Pearson 1934) of q, the share of samples that differ, and of p, the share of
    these that the second has right. It leaves out 0 where McNemar's exact test tells the two apart, and only
    there; a bootstrap is too short where few samples differ (of none it would say that there is no difference).

    Args:
        share: False for values that are not right or wrong, though they may all be 0 or 1.

    Returns:
        NoInterval as :func:`mean_interval`.

    Example:
        >>> right = np.ones(450)
        >>> found = paired_interval(right, right)
        >>> round(found.low, 4), round(found.high, 4)
        (-0.0082, 0.0082)
        >>> errors = np.linspace(0.0, 1.0, 20)
        >>> paired_interval(errors, errors**2).how
        "Student's t interval of the differences"
    """
    first, second = np.asarray(first, "float64").ravel(), np.asarray(second, "float64").ravel()
    if len(first) > 1 and share and is_share(first) and is_share(second):
        better, apart = int((second > first).sum()), int((second != first).sum())
        differ = stats.binomtest(apart, len(first)).proportion_ci(confidence, method="exact")
        of_these = stats.binomtest(better, apart).proportion_ci(confidence, method="exact") if apart else None
        low, high = (-1.0, 1.0) if of_these is None else (2 * of_these.low - 1, 2 * of_these.high - 1)
        return Interval(
            low=float(low * (differ.high if low < 0 else differ.low)),
            high=float(high * (differ.high if high > 0 else differ.low)),
            how="exact intervals of the shares that differ (Clopper-Pearson)",
        )
    apart_by = second - first
    if len(apart_by) < FEW or (apart_by == apart_by[0]).all():
        return _without_spread(apart_by)
    middle = float(apart_by.mean())
    half = float(stats.t.ppf((1 + confidence) / 2, len(apart_by) - 1) * stats.sem(apart_by))
    return _finite(middle - half, middle + half, "Student's t interval of the differences")


def is_share(values: Array) -> bool:
    """Whether all ``values`` are 0 or 1: right or wrong.

    Example:
        >>> is_share(np.array([0.0, 1.0])), is_share(np.array([0.5, 1.0]))
        (True, False)
    """
    return bool(((values == 0) | (values == 1)).all())


def mcnemar(first: Array, second: Array) -> tuple[int, int, float]:
    """(samples that only ``first`` has right, only ``second``, the exact p value that they are equally good).

    McNemar 1947, "Note on the Sampling Error of the Difference Between Correlated Proportions or Percentages"; exact by
    the binomial distribution: of the samples that only one has right each would have a half.

    Args:
        first, second: 1 where the classifier is right, 0 where it is wrong, a sample each.

    Example:
        >>> mcnemar(np.array([1, 1, 1, 1, 1, 1, 0]), np.array([0, 0, 0, 0, 0, 0, 0]))
        (6, 0, 0.03125)
    """
    a, b = np.asarray(first) > 0.5, np.asarray(second) > 0.5
    only_first, only_second = int((a & ~b).sum()), int((~a & b).sum())
    apart = only_first + only_second
    p = float(stats.binomtest(only_first, apart, 0.5).pvalue) if apart else 1.0
    return only_first, only_second, min(p, 1.0)


def _too_few(samples: int, of: str = "") -> NoInterval:
    few = f"only {samples} sample{'s' * (samples != 1)}{of}, fewer than {FEW}"
    return NoInterval(why=few if samples > 1 or of else "too few samples")


def _without_spread(values: Array) -> Interval | NoInterval:
    """Of too few values, or of one that all have."""
    same = "the same value at every sample"
    return (
        _too_few(len(values)) if len(values) < FEW else Interval(low=float(values[0]), high=float(values[0]), how=same)
    )


def _finite(low: float, high: float, how: str) -> Interval | NoInterval:
    if math.isfinite(low) and math.isfinite(high):
        return Interval(low=low, high=high, how=how)
    return NoInterval(why="its ends are no numbers")
