"""Entropy against what is known of it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kompakt.profiling.symbols import bound, counts, entropy, zeros


def test_of_equal_shares():
    assert entropy(np.full(256, 7)) == pytest.approx(8.0)
    assert entropy(np.array([5])) == 0.0 and entropy(np.array([], int)) == 0.0


def test_the_example_of_a_biased_coin():
    """Shannon 1948, section 7: for p = 0.1, H = 0.469 bits."""
    assert entropy(np.array([1, 9])) == pytest.approx(0.469, abs=5e-4)


def test_symbols_are_bit_patterns():
    values = np.array([0.0, -0.0, np.nan, np.nan, 1.0], "float32")
    assert sorted(counts(values).tolist()) == [1, 1, 1, 2]
    assert counts(values.astype("float16")).sum() == 5
    assert zeros(values) == 2


def test_a_view_that_is_not_contiguous():
    assert sorted(counts(np.arange(12, dtype="float32").reshape(3, 4).T[:, 1:]).tolist()) == [1] * 8


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=40))
def test_the_bound_lies_between_nothing_and_plain_numbers(given_counts):
    occurrences = np.array(given_counts)
    plain = occurrences.sum() * np.ceil(np.log2(max(2, len(occurrences)))) / 8
    assert 0 <= bound(occurrences) <= np.ceil(plain)


def test_an_optimal_code_of_halves_reaches_the_bound():
    """Shares of 1/2, 1/4, 1/8, 1/8 have codes of 1, 2, 3 and 3 bits."""
    occurrences = np.array([400, 200, 100, 100])
    assert bound(occurrences) == (400 * 1 + 200 * 2 + 200 * 3) // 8
