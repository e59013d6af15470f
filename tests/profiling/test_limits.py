"""Rooflines from numbers that are known."""

import dataclasses

import pytest

from kompakt.profiling.limits import roofline, with_bounds
from kompakt.records_profile import Operators, OperatorTime
from kompakt.targets.profiler import Work

PEAK = {"float32": 1e9, "int8": 4e9}


def test_kinds_of_arithmetic_add_up():
    made = roofline({"float32": 10**6, "int8": 4 * 10**6}, 100, 4.0, PEAK.__getitem__, lambda size: 1e9)
    assert made.compute == pytest.approx(2.0) and made.bound == made.compute and made.share == pytest.approx(0.5)
    assert made.peak == PEAK


def test_memory_can_be_the_bound():
    made = roofline({"int8": 10}, 10**6, 2.0, PEAK.__getitem__, lambda size: 1e9)
    assert made.memory == pytest.approx(1.0) and made.bound == made.memory


def test_a_kind_without_work_is_not_measured():
    made = roofline({"int8": 0}, 10, 1.0, {}.__getitem__, lambda size: 1e9)
    assert made.peak == {} and made.compute == 0.0


def test_operators_have_bounds_of_their_own():
    work = [
        Work(name="CONV_2D", layer="a", output="a", macs=4000, arithmetic="int8", traffic=10),
        Work(name="ADD", layer="b", output="b", macs=0, traffic=5000),
        Work(name="WHILE", layer="c", output="c", macs=None, traffic=5000),
    ]
    rows = tuple(OperatorTime(index=i, name=w.name, output=w.output, macs=w.macs, traffic=w.traffic)
                 for i, w in enumerate(work))  # fmt: skip
    found = with_bounds(Operators(rows=rows, sum=1.0, call=0.1, whole=1.0), work, PEAK.__getitem__, lambda size: 1e9)
    assert [row.bound for row in found.rows] == pytest.approx([1e-3, 5e-3, None])
    assert [dataclasses.replace(row, bound=None) for row in found.rows] == list(rows)
