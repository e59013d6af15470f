"""The process's streams come back, whoever turned them away and in whatever order they leave."""

import logging
import os
import sys
import threading
import warnings

import pytest

from kompakt.targets.quiet import quiet


def state():
    return (
        os.fstat(2),
        sys.stdout,
        logging.root.manager.disable,
        list(warnings.filters),
        len(os.listdir("/proc/self/fd")),
    )


def test_nothing_is_said_inside_and_everything_outside(capfd):
    with quiet():
        print("inside")
        os.write(2, b"inside")
        warnings.warn("inside", stacklevel=1)
    print("after")
    os.write(2, b"after")
    assert capfd.readouterr() == ("after\n", "after")


def test_threads_that_leave_in_another_order_than_they_came(capfd):
    before = state()
    inside = [threading.Event() for _ in range(3)]
    leave = [threading.Event() for _ in range(3)]

    def work(i):
        with quiet():
            inside[i].set()
            leave[i].wait(10)
            os.write(2, b"chatter")

    threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for thread, entered in zip(threads, inside, strict=True):
        thread.start()
        assert entered.wait(10)
    for i in (0, 2, 1):  # the first that came turned the streams away, and leaves first
        leave[i].set()
        threads[i].join(10)
    assert state() == before
    os.write(2, b"after")
    assert capfd.readouterr() == ("", "after")


def test_many_threads_at_once():
    before = state()

    def work():
        for _ in range(50):
            with quiet(), quiet():
                pass

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert state() == before


def test_an_error_is_raised_and_the_streams_come_back():
    before = state()
    with pytest.raises(ValueError, match="mine"), quiet():
        raise ValueError("mine")
    assert state() == before
