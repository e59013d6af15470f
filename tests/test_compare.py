"""Comparing outputs: hand-made cases, and what must hold of any."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kompakt.compare import LARGEST, agreement, argmax_or_tie, relative_error, zeros_and_distinct
from kompakt.records import to_json

A = np.array([[0.0, 1.0, 2.0], [5.0, 1.0, 2.0], [0.0, 3.0, 2.0], [0.0, 1.0, 9.0]])


def changed(*places):
    found = A.copy()
    for row, column, value in places:
        found[row, column] = value
    return found


def test_equal_outputs_agree_entirely():
    found = agreement([A], [A.copy()], [0.5])
    assert (found.samples, found.argmax, found.max_abs, found.max_lsb, found.exact, found.lsb) == (4, 1, 0, 0, 1, 0.5)
    assert found.reference == "simulation" and found.where == "output" and found.trained_argmax is None


def test_one_value_that_is_off():
    found = agreement([A], [changed((0, 0, 1.0))], [0.25], name="float model")
    assert (found.argmax, found.max_abs, found.max_lsb) == (1.0, 1.0, 4.0)
    assert found.exact == 11 / 12 and found.reference == "float model"


def test_another_largest_output():
    assert agreement([A], [changed((0, 0, 7.0), (3, 1, 9.5))], [None]).argmax == 0.5


def test_a_float_output_has_no_steps():
    found = agreement([A], [changed((0, 0, 1e-7), (1, 1, 1.1))], [None])
    assert found.lsb is None and found.max_lsb is None
    assert found.exact == 11 / 12  # what float32 loses is equal, a tenth is not


def test_half_a_step_is_equal_and_more_is_not():
    assert agreement([A], [A + 0.25], [0.5]).exact == 1.0
    assert agreement([A], [A + 0.26], [0.5]).exact == 0.0


def test_of_several_outputs_the_worst_of_each_counts():
    wrong_top, far_off = changed((0, 0, 2.5)), changed((1, 0, 9.0))
    found = agreement([A, A], [wrong_top, far_off], [1.0, 0.5])
    assert (found.argmax, found.max_abs, found.max_lsb, found.lsb) == (0.75, 4.0, 8.0, 1.0)
    assert agreement([A, A], [wrong_top, far_off], [1.0, None]).max_lsb is None


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_is_never_agreement(bad):
    for reference, found in ((A, changed((3, 0, bad))), (changed((3, 0, bad)), A)):
        result = agreement([reference], [found], [0.5])
        assert result.argmax == 0.75 and result.exact == 11 / 12
        assert result.max_abs == result.max_lsb == LARGEST
    both = agreement([changed((3, 0, bad))], [changed((3, 0, bad))], [None])
    assert both.argmax == 0.75 and both.exact == 11 / 12


def test_an_output_of_another_shape_does_not_agree():
    found = agreement([A], [A[:, :2]], [0.5])
    assert (found.argmax, found.exact, found.max_abs, found.max_lsb) == (0.0, 0.0, LARGEST, LARGEST)
    assert str(LARGEST) in to_json(found)


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_a_single_value_has_no_largest(shape):
    a, b = np.zeros(shape), np.ones(shape)
    assert agreement([a], [b], [1.0]).argmax == 1.0
    b.flat[0] = np.nan
    assert agreement([a], [b], [1.0]).argmax == 0.0


def test_an_output_a_pixel_is_compared_pixel_by_pixel():
    reference = np.stack([A, A])  # 2 samples of 4 pixels of 3 classes
    found = reference.copy()
    found[1, 0, 0] = 7.0
    assert agreement([reference], [found], [None]).argmax == 7 / 8


def test_as_many_outputs_on_both_sides():
    with pytest.raises(ValueError, match="shorter"):
        agreement([A, A], [A], [None])


PAIRS = hnp.arrays(
    "float64", hnp.array_shapes(min_dims=3, max_dims=3, max_side=6), elements=st.integers(-40, 40)
).filter(lambda a: len(a) > 1)


@given(PAIRS, st.sampled_from([0.25, 1.0, None]))
def test_agreement_against_its_definition(pair, step):
    reference, found = pair[0], pair[1]
    result = agreement([reference], [found], [step])
    assert result.max_abs == np.abs(reference - found).max() == agreement([found], [reference], [step]).max_abs
    assert result.exact == (reference == found).mean()
    if reference.shape[-1] > 1:
        assert result.argmax == (reference.argmax(-1) == found.argmax(-1)).mean()
    assert result.max_lsb == (result.max_abs / step if step else None)


@given(PAIRS, st.integers(0, 5))
def test_a_tie_is_the_largest_less_what_counts_as_equal(pair, tie):
    reference, found = pair[0], pair[1]
    result = argmax_or_tie([reference], [found], [tie])
    if reference.shape[-1] < 2:
        assert result == 1.0
        return
    hits = [f[r.argmax()] >= f.max() - tie for r, f in zip(reference, found, strict=True)]
    assert result == np.mean(hits)
    assert result >= agreement([reference], [found], [None]).argmax


def test_a_nan_is_no_tie():
    assert argmax_or_tie([A], [changed((2, 0, np.nan))], [9.0]) == 0.75
    assert argmax_or_tie([A[:, :1]], [np.full((4, 1), np.nan)], [9.0]) == 0.0


@given(hnp.arrays("int8", (3, 4, 5), elements=st.integers(-3, 3)), st.sampled_from([None, 0, 1, 2]), st.integers(-1, 1))
def test_zeros_and_distinct_against_counting(values, axis, zero):
    zeros, distinct = zeros_and_distinct(values, axis, zero)
    assert zeros == sum(int(v) == zero for v in values.ravel())
    slices = [values] if axis is None else [values.take(i, axis) for i in range(values.shape[axis])]
    assert distinct == max(len(set(s.ravel().tolist())) for s in slices)


@given(hnp.arrays("int8", (3, 4, 2, 3), elements=st.integers(-3, 3)), st.sampled_from([(), (-1,), (-2, -1), (1, 0)]))
def test_distinct_values_along_several_axes_against_counting(values, axes):
    kept = [axis % 4 for axis in axes]
    slices: dict = {}
    for index, value in np.ndenumerate(values):
        slices.setdefault(tuple(index[axis] for axis in kept), set()).add(int(value))
    assert zeros_and_distinct(values, axes)[1] == max(map(len, slices.values()))


def test_the_relative_error_is_in_units_of_the_spread():
    r = np.array([[0.0], [4.0]])
    assert relative_error(r, r + 1.0) == 0.5 and agreement([r, r], [r, r + 1.0], [None, None]).relative == 0.5
    assert relative_error(1000.0 + np.zeros(4), 1001.0 + np.zeros(4)) == 1.0 / 50.0  # no spread: a 20th of the size
    assert relative_error(np.zeros(4), np.full(4, 0.25)) == 0.25  # nothing to measure with
    assert relative_error(np.zeros((0, 3)), np.zeros((0, 3))) == 0.0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_relative_error_to_nan_is_the_largest(bad):
    r = np.array([0.0, 1.0])
    assert relative_error(r, np.array([0.0, bad])) == relative_error(np.array([0.0, bad]), r) == LARGEST
    assert relative_error(r, r[:1]) == LARGEST


def test_a_signalling_nan_is_read_without_a_warning():
    signalling = np.array([0x7FA00000], "uint32").view("float32")
    assert relative_error(np.ones(1, "float32"), signalling) == LARGEST


@given(PAIRS, st.sampled_from([0.5, 4.0]))
def test_a_relative_error_has_no_unit(pair, unit):
    one, other = relative_error(pair[0], pair[1]), relative_error(pair[0] * unit, pair[1] * unit)
    assert np.isclose(one, other) or not pair[0].any()
