"""Run a function in a process of its own, with a limit on its time and its memory.

A converter or a runtime that crashes, hangs or aborts on a file ends that process, and is one clear error here. The
process stays for the next call, so that what it has imported is imported once.

Arrays and JSON go over its pipes, in NumPy's own format: nothing is pickled. Windows and macOS have no limit of memory.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import numpy as np

from kompakt.errors import InputError
from kompakt.isolated_limits import GIGABYTES as GIGABYTES
from kompakt.isolated_limits import SECONDS as SECONDS
from kompakt.isolated_limits import Limits as Limits
from kompakt.isolated_process import Process

Answer = tuple[list[np.ndarray], Any]
"""Arrays and a JSON value: what a function that is called so takes (as ``arrays, **values``) and gives."""


def call(
    function: str,
    arrays: Sequence[np.ndarray],
    *,
    of: str,
    limits: Limits | None = None,
    process: str = "",
    **values: Any,
) -> Answer:
    """What ``function`` gives for ``arrays`` and ``values``, computed in another process.

    Args:
        function: "module:name" of one that takes and gives an :data:`Answer`. One process serves a module.
        of: what does the work, for errors: "LiteRT".
        limits: of time and memory, by default :meth:`Limits.set`. process: calls with another word have another one.

    Raises:
        InputError: the function raised one, or the process crashed, took too long or too much memory.
        RuntimeError: the function raised another error.

    Example:
        >>> call("kompakt.isolated:echo", [np.arange(3)], of="echo", word="hello")
        ([array([0, 1, 2])], {'word': 'hello'})
    """
    limits = limits or Limits.set()
    question = {"function": function, "values": values, "seconds": limits.seconds}
    while (got := _process_of(function, limits, process)[0].ask(question, arrays, of, limits.seconds)) is None:
        pass  # it ended while this call waited for another's
    return _answer(got, of)


def once(function: str, arrays: Sequence[np.ndarray], *, of: str, **values: Any) -> Answer:
    """As :func:`call`, in a process that is begun for it and ended after it.

    Example:
        >>> once("kompakt.isolated:echo", [], of="echo", word="hello")
        ([], {'word': 'hello'})
    """
    limits = Limits.set()
    process = Process(limits)
    try:
        question = {"function": function, "values": values, "seconds": limits.seconds}
        got = process.ask(question, arrays, of, limits.seconds)
        assert got is not None  # nobody else can have ended it
        return _answer(got, of)
    finally:
        process.end()


def _answer(got: tuple[list[np.ndarray], Any], of: str) -> Answer:
    found, answer = got
    if "refused" in answer:
        raise InputError(answer["refused"])
    if "error" in answer:
        raise RuntimeError(f"{of}: {answer['error']}")
    return found, answer["value"]


def begin(function: str) -> None:
    """Start the process of ``function`` now, so that it imports what it needs while others work."""
    process, new = _process_of(function, Limits.set())
    if new:
        process.warm(function)


def end(process: str) -> None:
    """End the processes that calls with this word have begun: each keeps the memory of its runtime."""
    with _LOCK:
        for key in [key for key in _PROCESSES if key[1] == process and key[-1] == os.getpid()]:
            _PROCESSES.pop(key).end()


def echo(arrays: list[np.ndarray], **values: Any) -> Answer:
    """What was given."""
    return arrays, values


def _process_of(function: str, limits: Limits, word: str = "") -> tuple[Process, bool]:
    """(the process that serves the module of ``function``, whether it is a new one)."""
    word = word or getattr(_LANE, "word", "")
    key = function.split(":")[0], word, limits.gigabytes, os.getpid()
    with _LOCK:
        process = _PROCESSES.get(key)
        if process is not None and process.alive:
            return process, False
        if process is not None:
            process.end_if_idle()
        made = _PROCESSES[key] = Process(limits)
        return made, True


_PROCESSES: dict[tuple[str, str, float, int], Process] = {}
_LOCK = threading.Lock()
_LANE = threading.local()


@contextlib.contextmanager
def lanes(count: int) -> Iterator[Executor]:
    """``count`` threads whose calls go to processes of their own, which are ended behind the block.

    The first one has the process that everyone has, which stays.

    Example:
        >>> with lanes(2) as pool:
        ...     made = pool.map(lambda n: call("kompakt.isolated:echo", [], of="echo", n=n), range(3))
        ...     [answer["n"] for _, answer in made]
        [0, 1, 2]
    """
    words = ["", *(f"lane {i} of {uuid.uuid4()}" for i in range(1, count))]
    left = iter(words)

    def enter() -> None:
        _LANE.word = next(left)

    try:
        with ThreadPoolExecutor(count, initializer=enter) as pool:
            yield pool
    finally:
        with _LOCK:
            for key in [key for key in _PROCESSES if key[1] in words[1:]]:
                _PROCESSES.pop(key).end()


def _end_all() -> None:
    for key, process in _PROCESSES.items():
        if key[-1] == os.getpid():  # a fork has the dictionary, and not the processes
            process.end()


atexit.register(_end_all)
