"""Several first runs as one record."""

from kompakt.profiling.starts import cold_start, memory
from kompakt.targets.profiler import FirstRun


def first_run(total, growth):
    return FirstRun(total=total, runtime=total / 2, first=total / 4, growth=growth, process=growth)


def test_medians():
    runs = [first_run(1.0, 10), first_run(9.0, 30), first_run(2.0, 20)]
    assert (cold_start(runs).total, cold_start(runs).runtime, cold_start(runs).repeats) == (2000.0, 1000.0, 3)
    assert (memory(runs, 7).growth, memory(runs, 7).process, memory(runs, 7).arena) == (20, 20, 7)


def test_a_system_that_does_not_tell():
    assert memory([first_run(1.0, None)], None).growth is None
