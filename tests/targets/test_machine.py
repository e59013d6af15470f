"""The limits of the machine: numbers above 0, and more with more threads."""

import numpy as np

from kompakt.targets import bandwidth, machine


def test_the_peak():
    one = machine.peak("int8", 1)
    assert 1e6 < one <= machine.peak("int8", 2)
    assert machine.peak("int8", 1) == one  # of one run of the program there is one


def test_the_bandwidth():
    one = machine.bandwidth(1000, 1)
    assert 1e6 < one <= machine.bandwidth(1000, 2)
    assert machine.bandwidth(1, 1) == one  # both are less than is worth measuring


def test_bytes_are_copied(monkeypatch):
    monkeypatch.setattr(bandwidth, "MOVED", 1 << 16)
    moved = []
    real = np.copyto
    monkeypatch.setattr(np, "copyto", lambda target, source: (moved.append(2 * target.size), real(target, source)))
    arrays, speed = bandwidth.copied([], size=1 << 12, threads=2)
    assert not arrays and speed > 0.0
    assert sum(moved) == bandwidth.READINGS * (1 << 16)
