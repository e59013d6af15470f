"""Which of two is faster comes out the right way round."""

import dataclasses

import keras
import numpy as np
import pytest

import kompakt as kp
from kompakt.profiling import pairs
from kompakt.profiling.profiled import profiled_at


class Known:
    """A profiler whose runs take as long as it is told."""

    def __init__(self, seconds):
        self.seconds, self.ended = seconds, 0

    def laps(self, data, inputs, *, threads=1, process=""):
        return lambda n: np.full(n, self.seconds)

    def end(self, *, threads=1, process=""):
        self.ended += 1


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    for name, width in (("small", 4), ("large", 1024)):
        layers = [keras.layers.Dense(width, activation="relu") for _ in range(4)]
        kp.export(keras.Sequential([keras.Input((64,)), *layers, keras.layers.Dense(3)]), folder / f"{name}.tflite")
    return folder / "small.tflite", folder / "large.tflite"


def test_the_first_over_the_second(files):
    """A ratio turned upside down passed every test."""
    side = profiled_at(files[0], None, 0)
    fast, slow = Known(0.002), Known(0.004)
    found = pairs.in_pairs(
        dataclasses.replace(side, path="fast", profiler=fast),
        dataclasses.replace(side, path="slow", profiler=slow),
        rounds=6,
    )
    assert (found.path, found.other) == ("fast", "slow")
    assert (found.ratio, found.low, found.high) == (0.5, 0.5, 0.5)
    assert (found.milliseconds, found.other_milliseconds) == (2.0, 4.0)
    assert fast.ended == slow.ended == pairs.SITTINGS


@pytest.mark.slow
def test_a_large_model_takes_longer_and_one_as_long_as_itself(files):
    small, large = files
    assert kp.compare_latency(small, large, rounds=9).high < 1
    assert kp.compare_latency(large, small, rounds=9).low > 1
    assert 0.7 < kp.compare_latency(large, large, rounds=9).ratio < 1.4
    x = np.random.default_rng(0).normal(size=(32, 64)).astype("float32")
    found = kp.compare_models([str(large), str(small)], (x, np.arange(32) % 3)).contenders[1]
    assert found.latency_ratio < 1 and found.latency_high < 1
