"""One process of :mod:`kompakt.isolated`, as its caller has it: started, asked, ended."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kompakt.errors import InputError
from kompakt.isolated_limits import GIGABYTES, LONGEST, SECONDS, Limits
from kompakt.isolated_messages import read, write

START = """
import importlib.util, json, sys
path, root = json.loads(sys.argv.pop(1))
sys.path += [place for place in path if place not in sys.path]
spec = importlib.util.spec_from_file_location("kompakt", root + "/__init__.py", submodule_search_locations=[root])
sys.modules["kompakt"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["kompakt"])
from kompakt.isolated_child import serve
serve(float(sys.argv[1]), sys.argv[2])
"""
"""What the process runs: this very kompakt, whatever else is installed. What only the caller can import comes last, and
nothing comes from the folder that the user is in: a file of its that is called onnx.py is not onnx."""


def _command(gigabytes: float, folder: str) -> list[str]:
    path = [os.path.abspath(place) for place in sys.path if place]
    root = str(Path(__file__).parent)
    return [sys.executable, "-P", "-c", START, json.dumps([path, root]), str(gigabytes), folder]


def python_path() -> str:
    """``PYTHONPATH`` without its empty places, which stand for the folder that the user is in."""
    return os.pathsep.join(filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)))


def _environment(folder: str) -> dict[str, str]:
    places = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), folder)
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    return {**os.environ, **places, **quiet, "PYTHONPATH": python_path()}


class Process:
    """A process that waits for calls, one at a time."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.lock = threading.Lock()
        self.ended = False
        self.said = tempfile.TemporaryFile()  # noqa: SIM115  as long as the process
        self.heard = 0
        self.folder = tempfile.mkdtemp(prefix="kompakt-")  # here, as a process that is killed removes nothing
        self.process = subprocess.Popen(
            _command(limits.gigabytes, self.folder),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if os.environ.get("KOMPAKT_DEBUG") else self.said,
            env=_environment(self.folder),
            start_new_session=True,  # Ctrl-C is for the caller, who ends it
        )

    @property
    def alive(self) -> bool:
        """Whether it takes calls."""
        return not self.ended and self.process.poll() is None

    def ask(
        self, question: Any, arrays: Sequence[np.ndarray], of: str, seconds: float
    ) -> tuple[list[np.ndarray], Any] | None:
        """The answer, or None where the process was ended before it could be asked.

        The process is ended where there is none, whatever the reason.
        """
        with self.lock:
            if self.ended:
                return None
            self.heard = os.fstat(self.said.fileno()).st_size
            with _Limit(self.process, seconds) as limit:
                try:
                    self._send(question, arrays)
                    return read(self._exactly)
                except (EOFError, OSError):
                    reason = self._late(of, seconds) if limit.passed else f"{of} {self._death()}"
                    self.end()
                    raise InputError(reason) from None
                except BaseException:
                    self.end()
                    raise

    def warm(self, function: str) -> None:
        """Have it import what ``function`` needs, unless it is at work already."""
        if self.lock.acquire(blocking=False):
            try:
                with contextlib.suppress(OSError):  # the call that comes will say why it died
                    self._send({"function": function}, [])
            finally:
                self.lock.release()

    def _send(self, question: Any, arrays: Sequence[np.ndarray]) -> None:
        assert self.process.stdin is not None
        write(self.process.stdin, question, arrays)

    def _exactly(self, size: int) -> bytes:
        assert self.process.stdout is not None
        data = self.process.stdout.read(size)
        if len(data) < size:
            raise EOFError
        return data

    @staticmethod
    def _late(of: str, seconds: float) -> str:
        return (
            f"{of} had not finished after {seconds:g} s and was stopped; give it longer with {SECONDS}=SECONDS, or a "
            "smaller file"
        )

    def _death(self) -> str:
        """How the process ended, in words."""
        code = self.process.wait()
        self.said.seek(self.heard)
        lines = self.said.read().decode(errors="replace").strip().splitlines()
        last = f" ({lines[-1][:200]})" if lines else ""
        memory = f"; it may have {self.limits.gigabytes:g} GB, set {GIGABYTES}=GIGABYTES for more"
        if "alloc" in last or "memory" in last.lower():
            return f"ran out of memory{last}{memory}"
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        return f"crashed: its process {how}{last}; the file is damaged, or made of what this runtime cannot take"

    def end_if_idle(self) -> None:
        """Clear up after it, unless a call is at it, which will."""
        if self.lock.acquire(blocking=False):
            try:
                self.end()
            finally:
                self.lock.release()

    def end(self) -> None:
        """Kill it, and remove its temporary files."""
        self.ended = True
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.said):
            with contextlib.suppress(OSError):
                assert pipe is not None
                pipe.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class _Limit:
    """A process is killed after ``seconds``: who waits for its pipes, to write or to read, then goes on."""

    def __init__(self, process: subprocess.Popen[bytes], seconds: float) -> None:
        self.process = process
        self.passed = False
        self.timer = threading.Timer(min(seconds, LONGEST), self._pass)
        self.timer.daemon = True

    def _pass(self) -> None:
        self.passed = True
        self.process.kill()

    def __enter__(self) -> _Limit:
        self.timer.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.timer.cancel()
        self.timer.join()
        if self.passed:
            self.process.wait()
