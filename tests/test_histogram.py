"""Histograms of weights: every value counted once, where it belongs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import kompakt as kp
from kompakt.histogram import PARTS, weight_histogram


@given(hnp.arrays(st.sampled_from(["int8", "uint8", "int16", "int32"]), st.integers(1, 200)))
def test_every_integer_is_counted_in_its_part(values):
    found = weight_histogram(values)
    assert found.integers and len(found.counts) == PARTS and sum(found.counts) == values.size
    each = (found.high - found.low + 1) / PARTS
    expected = np.bincount(((values.astype("float64") - found.low) // each).astype(int), minlength=PARTS)
    assert found.counts == tuple(expected)


@given(hnp.arrays("float32", st.integers(1, 50), elements=st.floats(-1e6, 1e6, width=32)))
def test_every_float_is_counted(values):
    found = weight_histogram(values)
    assert not found.integers and sum(found.counts) == values.size
    assert (found.low, found.high) == (values.min(), values.max())


def test_four_bits_have_a_part_for_each_value():
    found = weight_histogram(np.arange(-8, 8, dtype="int8"), bits=4)
    assert (found.low, found.high, found.counts) == (-8, 7, (1,) * 16)


@pytest.mark.parametrize("values", [np.array([]), np.array([np.nan, np.inf]), np.array([], "int8")])
def test_nothing_to_count_is_none(values):
    assert weight_histogram(values) is None


def test_what_is_not_finite_is_left_out():
    assert sum(weight_histogram(np.array([0.0, 1.0, np.nan, -np.inf])).counts) == 2


@pytest.mark.parametrize(("mode", "parts", "low"), [("int8", 64, -128), ("w4a8", 16, -8)])
def test_an_export_records_the_integers_that_the_file_stores(tmp_path, mode, parts, low):
    import keras

    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16, name="a"), keras.layers.Dense(4, name="b")])
    x = np.random.default_rng(0).normal(size=(32, 8)).astype("float32")
    made = kp.export(model, tmp_path / "m.tflite", quantization=mode, calibration=x)
    fact = next(site for site in made.sites if site.site == "a/kernel")
    assert fact.histogram.integers and fact.histogram.low == low and len(fact.histogram.counts) == parts
    assert sum(fact.histogram.counts) == fact.size == 128
