"""The roundings of the runtimes' kernels, against their definitions in whole numbers."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

from kompakt import requantize

SUMS = st.lists(st.integers(-(2**20), 2**20), min_size=1, max_size=20)
MULTIPLIERS = st.floats(1e-6, 0.99)


def fixed(multiplier):
    """(31-bit mantissa, exponent), as TFLite's QuantizeMultiplier."""
    fraction, exponent = np.frexp(multiplier)
    mantissa = int(np.round(fraction * 2.0**31))
    return (mantissa // 2, int(exponent) + 1) if mantissa == 2**31 else (mantissa, int(exponent))


def high(x, mantissa, left):
    """SaturatingRoundingDoublingHighMul of gemmlowp: C's division goes towards zero."""
    product = (x << left) * mantissa
    nudged = product + (2**30 if product >= 0 else 1 - 2**30)
    return nudged // 2**31 if nudged >= 0 else -((-nudged) // 2**31)


def rounded_away(x, right):
    """RoundingDivideByPOT of gemmlowp."""
    mask = (1 << right) - 1
    threshold = (mask >> 1) + (x < 0)
    return (x >> right) + ((x & mask) > threshold)


def run(function, sums):
    return ops.convert_to_numpy(function(ops.array(sums, "float64"))).astype("int64").tolist()


@given(SUMS, MULTIPLIERS)
def test_twice_is_gemmlowps(sums, multiplier):
    mantissa, exponent = fixed(multiplier)
    left, right = max(exponent, 0), max(-exponent, 0)
    assert run(requantize.twice(multiplier), sums) == [rounded_away(high(x, mantissa, left), right) for x in sums]


@given(SUMS, MULTIPLIERS)
def test_twice_with_halves_up_is_ruys(sums, multiplier):
    mantissa, exponent = fixed(multiplier)
    left, right = max(exponent, 0), max(-exponent, 0)
    half = (1 << right) >> 1
    assert run(requantize.twice(multiplier, halves="up"), sums) == [
        (high(x, mantissa, left) + half) >> right for x in sums
    ]


@given(st.lists(st.integers(-(2**15), 2**15 - 1), min_size=1, max_size=20), st.floats(1e-4, 0.5))
def test_nearest_is_one_rounding_of_terms_of_30_bits(terms, multiplier):
    mantissa, exponent = fixed(multiplier)
    shift = 31 - exponent
    sums = [term << 15 for term in terms]
    assert run(requantize.nearest(multiplier), sums) == [(x * mantissa + (1 << (shift - 1))) >> shift for x in sums]


@given(SUMS, MULTIPLIERS)
def test_wide_is_the_64_bit_kernel(sums, multiplier):
    mantissa, exponent = fixed(multiplier)
    cut = (mantissa + (1 << 15)) >> 16 if mantissa < 0x7FFF0000 else 0x7FFF
    shift = 15 - exponent
    assert run(requantize.wide(multiplier), sums) == [(x * cut + (1 << (shift - 1))) >> shift for x in sums]


@given(SUMS, st.integers(1, 1000))
def test_mean_takes_the_count_into_the_multiplier(sums, count):
    mantissa, exponent = fixed(0.37)
    shift = count.bit_length() - 1
    mantissa, exponent = (mantissa << shift) // count, exponent - shift
    left, right = max(exponent, 0), max(-exponent, 0)
    assert run(requantize.mean(0.37, count), sums) == [rounded_away(high(x, mantissa, left), right) for x in sums]


@given(SUMS, MULTIPLIERS)
def test_once_is_a_float32_product(sums, multiplier):
    factor = np.float32(multiplier)
    assert run(requantize.once(factor), sums) == np.rint(np.float32(sums) * factor).astype("int64").tolist()
