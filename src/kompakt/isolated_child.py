"""The other side of :mod:`kompakt.isolated`: the process that answers calls."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import queue
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from kompakt.errors import InputError
from kompakt.isolated_limits import LONGEST
from kompakt.isolated_messages import read, write

GRACE = 5.0
"""Seconds behind the limit of a call after which the process ends, should nobody have ended it."""


def serve(gigabytes: float, folder: str) -> None:
    """Answer calls, until the caller is gone.

    Args:
        gigabytes: of memory that this process may have. folder: its temporary one, which its caller removes; where
            the caller was killed it is removed here.
    """
    _limit(gigabytes)
    questions, answers = os.fdopen(os.dup(0), "rb", buffering=0), os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)  # what libraries read is no question
    os.dup2(2, 1)  # and what they print no answer
    asked: queue.SimpleQueue[tuple[list[np.ndarray], Any]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(questions, asked, folder), daemon=True).start()
    while True:
        arrays, question = asked.get()
        function = function_called(question["function"])
        if "values" in question:
            with _ended_after(question["seconds"] + GRACE):
                found, answer = _answered(function, arrays, question["values"])
            write(answers, answer, found)


def _listen(questions: io.RawIOBase, asked: queue.SimpleQueue[tuple[list[np.ndarray], Any]], folder: str) -> None:
    """Hand questions on. That the pipe ends says that the caller was killed: so does this process, at work or not."""

    def exactly(size: int) -> bytearray:
        data = bytearray(size)
        left = memoryview(data)
        while len(left):
            got = questions.readinto(left)
            if not got:
                raise EOFError
            left = left[got:]
        return data

    try:
        while True:
            asked.put(read(exactly))
    except EOFError:
        shutil.rmtree(folder, ignore_errors=True)
    except BaseException:  # noqa: BLE001  nobody would be left to answer
        traceback.print_exc()
        sys.stderr.flush()
    os._exit(1)


def function_called(name: str) -> Callable[..., Any]:
    """The function called "module:name"."""
    module, function = name.split(":")
    made: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return made


def _answered(
    function: Callable[..., Any], arrays: list[np.ndarray], values: Any
) -> tuple[Sequence[np.ndarray], dict[str, Any]]:
    try:
        found, value = function(arrays, **values)
    except InputError as error:
        return [], {"refused": str(error)}
    except MemoryError:
        sys.stderr.write("out of memory\n")
        sys.stderr.flush()
        os._exit(1)
    except Exception as error:  # noqa: BLE001  it is raised on the other side
        return [], {"error": f"{type(error).__name__}: {error}"}
    return found, {"value": value}


@contextlib.contextmanager
def _ended_after(seconds: float) -> Iterator[None]:
    """Have the system end this process after ``seconds``, even in a library that lets no other thread run."""
    if not hasattr(signal, "setitimer"):  # Windows
        yield
        return
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, min(seconds, LONGEST))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)


def _limit(gigabytes: float) -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    size = int(gigabytes * 2**30)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, (size, size))
