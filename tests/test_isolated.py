"""What a process of its own does where the work in it fails, hangs, or takes all the memory."""

import os
import signal
import sys
import threading
import time

import numpy as np
import pytest

from kompakt.errors import InputError
from kompakt.isolated import Limits, begin, call, end, lanes, once

HERE = "badly"

BADLY = """
import ctypes, os, signal, sys, time
from kompakt.errors import InputError
kept = []

def abort(arrays): os.abort()
def segfault(arrays): ctypes.string_at(0)
def leave(arrays):
    sys.stderr.write("I give up\\n"); sys.stderr.flush(); os._exit(3)
def hang(arrays): time.sleep(60)
def refuse(arrays): raise InputError("not this one")
def fail(arrays): raise KeyError("shape")
def fill(arrays): kept.append(bytearray(3 << 30)); return [], None
def talk(arrays, word):
    print("noise"); sys.stdout.flush(); return arrays, word
def pid(arrays): return [], os.getpid()
"""


@pytest.fixture(scope="module", autouse=True)
def badly(tmp_path_factory):
    folder = tmp_path_factory.mktemp("badly")
    (folder / "badly.py").write_text(BADLY)
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(folder), before)))
    yield
    os.environ.pop("PYTHONPATH") if before is None else os.environ.update(PYTHONPATH=before)


def asked(name, *arrays, seconds=20.0, gigabytes=1.0, **values):
    limits = Limits(seconds=seconds, gigabytes=gigabytes)
    return call(f"{HERE}:{name}", arrays, of="the runtime", limits=limits, **values)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("abort", r"^the runtime crashed: its process was ended by SIGABRT; the file is damaged"),
        ("segfault", r"^the runtime crashed: its process was ended by SIGSEGV; the file is damaged"),
        ("leave", r"^the runtime crashed: its process ended with code 3 \(I give up\); the file is damaged"),
        ("refuse", r"^not this one$"),
    ],
)
def test_an_end_of_the_process_is_one_error(name, text):
    with pytest.raises(InputError, match=text):
        asked(name)
    assert asked("talk", word="again")[1] == "again"


def test_a_hang_is_stopped_in_time():
    start = time.monotonic()
    with pytest.raises(InputError, match=r"^the runtime had not finished after 1\.5 s and was stopped; .*TIME_LIMIT="):
        asked("hang", seconds=1.5)
    assert time.monotonic() - start < 15.0
    assert asked("talk", word="again")[1] == "again"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux limits the memory of a process so")
def test_too_much_memory_is_one_error():
    with pytest.raises(InputError, match=r"^the runtime ran out of memory .* may have 1 GB, set KOMPAKT_MEMORY_LIMIT="):
        asked("fill")


def test_a_defect_is_no_fault_of_the_user():
    with pytest.raises(RuntimeError, match=r"^the runtime: KeyError: 'shape'$"):
        asked("fail")


def test_arrays_go_over_and_back_and_what_is_printed_is_no_answer():
    rng = np.random.default_rng(0)
    given = [rng.random((3, 0, 2)), np.array(4, "int64"), rng.random(1 << 20).astype("float16"), np.zeros(2, "bool")]
    found, word = asked("talk", *given, word={"ä": [1, None]})
    assert word == {"ä": [1, None]}
    for one, other in zip(given, found, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def test_objects_are_never_pickled():
    with pytest.raises(ValueError, match="pickle"):
        asked("talk", np.array([object()]), word="")


def test_one_process_serves_a_module():
    assert asked("pid")[1] == asked("pid")[1] != os.getpid()


def test_a_process_that_was_killed_between_calls_is_replaced():
    before = asked("pid")[1]
    os.kill(before, signal.SIGKILL)
    time.sleep(0.5)
    assert asked("pid")[1] != before


@pytest.mark.parametrize("value", ["0", "-1", "soon", "inf", "nan"])
def test_limits_of_the_environment(monkeypatch, value):
    monkeypatch.setenv("KOMPAKT_TIME_LIMIT", value)
    with pytest.raises(InputError, match=rf"^KOMPAKT_TIME_LIMIT='{value}': expected a number over 0, such as 1800$"):
        begin("kompakt.isolated:echo")


def test_lanes_have_processes_of_their_own_which_end_with_them():
    with lanes(3) as pool:
        together = threading.Barrier(3, timeout=60)

        def pid(_):
            together.wait()  # each thread takes one
            return call(f"{HERE}:pid", [], of="badly")[1]

        found = set(pool.map(pid, range(3)))
    assert len(found) == 3
    stays = call(f"{HERE}:pid", [], of="badly")[1]
    assert stays in found
    for pid in found - {stays}:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_process_for_one_call_is_new_and_ended():
    pids = [once(f"{HERE}:pid", [], of="the runtime")[1] for _ in range(2)]
    assert len({*pids, asked("pid")[1]}) == 3
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)


def test_a_process_for_one_call_is_ended_by_an_error_too():
    with pytest.raises(InputError, match="not this one"):
        once(f"{HERE}:refuse", [], of="the runtime")


def test_processes_of_a_word_are_ended():
    pid = call(f"{HERE}:pid", [], of="the runtime", process="side")[1]
    other = call(f"{HERE}:pid", [], of="the runtime", process="other side")[1]
    end("side")
    assert not os.path.exists(f"/proc/{pid}") and os.path.exists(f"/proc/{other}")
    assert call(f"{HERE}:pid", [], of="the runtime", process="side")[1] != pid
    end("side")
    end("other side")
    end("nothing of that name")
