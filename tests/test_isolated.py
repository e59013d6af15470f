"""What a process of its own does where the work in it fails, hangs, or takes all the memory."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import kompakt
from kompakt.errors import InputError
from kompakt.isolated import Limits, begin, call, end, lanes, once

HERE = "badly"
ROOT = str(Path(kompakt.__file__).parents[1])

BADLY = """
import ctypes, os, pathlib, signal, sys, tempfile, time
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
def keep(arrays):
    kept.append(tempfile.TemporaryDirectory()); return [], kept[-1].name
def leave_pid(path):
    pathlib.Path(path + ".new").write_text(f"{os.getpid()} {tempfile.mkdtemp()}"); os.replace(path + ".new", path)
def spin(arrays, path):
    leave_pid(path)
    while True: pass
def hold(arrays, path):
    leave_pid(path)
    ctypes.PyDLL(None).sleep(300)  # no other thread of Python's runs
"""

CALLER = """
import sys
from kompakt.isolated import Limits, call
function, path = sys.argv[1:]
call(f"badly:{function}", [], of="the runtime", limits=Limits(seconds=2.0), path=path)
"""

CAREFUL = """
import os, sys
from pathlib import Path
sys.path.append(sys.argv[1])
os.environ["PYTHONPATH"] += sys.argv[2]
from kompakt.isolated import call
assert call("plugged:word", [], of="it")[1] == "found"
assert not Path("ran").exists(), Path("ran").read_text()
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


def test_one_that_waits_for_a_call_that_hangs_is_served():
    begun = threading.Event()
    errors = []

    def hang():
        begun.set()
        with pytest.raises(InputError, match=r"had not finished after 1\.5 s"):
            asked("hang", seconds=1.5)
        errors.append(None)

    first = threading.Thread(target=hang)
    asked("pid")
    first.start()
    begun.wait()
    time.sleep(0.5)
    assert asked("talk", word="mine")[1] == "mine"
    first.join()
    assert errors == [None]


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="Windows stops no processes")
def test_the_limit_of_time_counts_what_is_sent():
    os.kill(asked("pid")[1], signal.SIGSTOP)
    start = time.monotonic()
    with pytest.raises(InputError, match=r"^the runtime had not finished after 1 s and was stopped"):
        asked("talk", np.zeros(16 << 20, "uint8"), word="", seconds=1.0)
    assert time.monotonic() - start < 10.0


def test_no_limit_is_too_long():
    assert asked("talk", word="", seconds=1e300)[1] == ""


@pytest.mark.parametrize("how", ["hang", "abort", "killed"])
def test_temporary_files_go_with_the_process(how):
    folder = Path(asked("keep")[1])
    assert folder.is_dir()
    if how == "killed":
        os.kill(asked("pid")[1], signal.SIGKILL)
        time.sleep(0.5)
        asked("pid")
    else:
        with pytest.raises(InputError):
            asked(how, seconds=1.0)
    assert not folder.exists()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads what Linux says of processes")
@pytest.mark.parametrize(("function", "seconds"), [("spin", 4.0), pytest.param("hold", 15.0, marks=pytest.mark.slow)])
def test_a_process_does_not_outlive_a_caller_that_is_killed(function, seconds, tmp_path):
    command, places = [sys.executable, "-c", CALLER, function, str(tmp_path / "pid")], {"TMPDIR": str(tmp_path)}
    caller = subprocess.Popen(command, env={**os.environ, **places})
    _until(lambda: (tmp_path / "pid").exists(), 30.0)
    caller.kill()
    caller.wait()
    pid, folder = (tmp_path / "pid").read_text().split()
    _until(lambda: not _runs(int(pid)), seconds)
    if function == "spin":
        assert not Path(folder).exists()


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _until(true, seconds: float) -> None:
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.05)


@pytest.mark.parametrize("end", ["", os.pathsep], ids=["", "an empty place in PYTHONPATH"])
def test_nothing_is_imported_from_the_folder_that_one_is_in(tmp_path, end):
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
    for name in ("random", "numpy", "onnx", "kompakt", "json", "importlib"):
        (here / f"{name}.py").write_text(f"open('ran', 'a').write('{name} ')")
    (there / "plugged.py").write_text("import random, onnx\ndef word(arrays): return [], 'found'")
    (there / "onnx.py").write_text("")  # where there is none
    command = [sys.executable, "-P", "-c", CAREFUL, str(there), end]
    subprocess.run(command, cwd=here, env={**os.environ, "PYTHONPATH": ROOT}, check=True)
