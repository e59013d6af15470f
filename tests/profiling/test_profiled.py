"""Inputs that are drawn, and what is no artifact."""

import numpy as np
import pytest

from kompakt.errors import InputError
from kompakt.profiling.profiled import drawn, profiled_at
from kompakt.targets.profiler import End


def test_the_same_seed_draws_the_same():
    ends = [End(name="x", shape=(None, 4)), End(name="ids", shape=(3, 2), integers=True)]
    first, again, other = drawn(ends, 1), drawn(ends, 1), drawn(ends, 2)
    assert np.array_equal(first[0], again[0]) and not np.array_equal(first[0], other[0])
    assert np.abs(first[0]).max() <= 1.0 and first[0].dtype == "float32"
    assert not first[1].any() and first[1].shape == (3, 2)  # 0 is in every table


def test_an_open_size_needs_samples():
    with pytest.raises(InputError, match=r"^input 'x' has an open size, \(None, None, 3\): give samples with inputs="):
        drawn([End(name="x", shape=(None, None, 3))], 0)


def test_what_is_no_artifact():
    with pytest.raises(InputError, match=r"^received bytes, expected an Artifact or the path of one"):
        profiled_at(b"TFL3", None, 0)
    with pytest.raises(InputError, match=r"^cannot read nothing\.tflite: No such file"):
        profiled_at("nothing.tflite", None, 0)
