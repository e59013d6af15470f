"""Run a function in a process of its own, with a limit on its time and its memory.

A converter or a runtime that crashes, hangs or aborts on a file ends that process, and is one clear error here. The
process stays for the next call, so that what it has imported is imported once.

Arrays and JSON go over its pipes, in NumPy's own format: nothing is pickled. Windows and macOS have no limit of memory.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import io
import json
import os
import selectors
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from kompakt.errors import InputError

Answer = tuple[list[np.ndarray], Any]
"""Arrays and a JSON value: what a function that is called so takes (as ``arrays, **values``) and gives."""

HEAD = struct.Struct("<QQ")
"""Before each message: bytes of its JSON, and of its arrays."""

CHUNK = 1 << 20
SECONDS, GIGABYTES = "KOMPAKT_TIME_LIMIT", "KOMPAKT_MEMORY_LIMIT"
"""Environment variables that set the limits: seconds a call, and gigabytes of a process."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How long one call may take, and how much memory its process may have."""

    seconds: float = 1800.0
    gigabytes: float = 16.0

    @classmethod
    def set(cls) -> Limits:
        """The usual ones, or those of the environment.

        Raises:
            InputError: a variable is no positive number.
        """
        return cls(seconds=_number(SECONDS, cls.seconds), gigabytes=_number(GIGABYTES, cls.gigabytes))


def _number(name: str, usual: float) -> float:
    text = os.environ.get(name, "")
    try:
        value = float(text or usual)
    except ValueError:
        value = -1.0
    if not 0.0 < value < float("inf"):
        raise InputError(f"{name}={text!r}: expected a number over 0, such as {usual:g}")
    return value


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
    server, _ = _process_of(function, limits, process)
    return _answer_of(server, function, arrays, of, limits.seconds, values)


def once(function: str, arrays: Sequence[np.ndarray], *, of: str, **values: Any) -> Answer:
    """As :func:`call`, in a process that is begun for it and ended after it.

    Example:
        >>> once("kompakt.isolated:echo", [], of="echo", word="hello")
        ([], {'word': 'hello'})
    """
    limits = Limits.set()
    server = _Process(limits)
    try:
        return _answer_of(server, function, arrays, of, limits.seconds, values)
    finally:
        server.end()


def _answer_of(
    server: _Process, function: str, arrays: Sequence[np.ndarray], of: str, seconds: float, values: Any
) -> Answer:
    found, answer = server.ask({"function": function, "values": values}, arrays, of, seconds)
    if "refused" in answer:
        raise InputError(answer["refused"])
    if "error" in answer:
        raise RuntimeError(f"{of}: {answer['error']}")
    return found, answer["value"]


def begin(function: str) -> None:
    """Start the process of ``function`` now, so that it imports what it needs while others work."""
    process, new = _process_of(function, Limits.set())
    if new:
        process.send({"function": function}, [])


def end(process: str) -> None:
    """End the processes that calls with this word have begun: each keeps the memory of its runtime."""
    with _LOCK:
        for key in [key for key in _PROCESSES if key[1] == process and key[-1] == os.getpid()]:
            _PROCESSES.pop(key).end()


def echo(arrays: list[np.ndarray], **values: Any) -> Answer:
    """What was given."""
    return arrays, values


def _process_of(function: str, limits: Limits, word: str = "") -> tuple[_Process, bool]:
    """(the process that serves the module of ``function``, whether it is a new one)."""
    word = word or getattr(_LANE, "word", "")
    key = function.split(":")[0], word, limits.gigabytes, os.getpid()
    with _LOCK:
        process = _PROCESSES.get(key)
        if process is not None and process.alive:
            return process, False
        if process is not None:
            process.end()
        made = _PROCESSES[key] = _Process(limits)
        return made, True


_PROCESSES: dict[tuple[str, str, float, int], _Process] = {}
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


class _Process:
    """A process that waits for calls, one at a time."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.lock = threading.Lock()
        self.said = tempfile.TemporaryFile()  # noqa: SIM115  as long as the process
        self.heard = 0
        root = str(Path(__file__).parents[1])
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        environment = {**os.environ, "PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "kompakt.isolated", str(limits.gigabytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if os.environ.get("KOMPAKT_DEBUG") else self.said,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the caller, who ends it
        )

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def ask(self, question: Any, arrays: Sequence[np.ndarray], of: str, seconds: float) -> tuple[list[np.ndarray], Any]:
        """The answer; the process is ended where there is none, whatever the reason."""
        with self.lock:
            ends = time.monotonic() + seconds
            self.heard = os.fstat(self.said.fileno()).st_size
            try:
                self.send(question, arrays)
                return self._receive(ends)
            except TimeoutError:
                self.end()
                raise InputError(
                    f"{of} had not finished after {seconds:g} s and was stopped; give it longer with "
                    f"{SECONDS}=SECONDS, or a smaller file"
                ) from None
            except (EOFError, BrokenPipeError):
                death = self._death()
                self.end()
                raise InputError(f"{of} {death}") from None
            except BaseException:
                self.end()
                raise

    def send(self, question: Any, arrays: Sequence[np.ndarray]) -> None:
        assert self.process.stdin is not None
        _write(self.process.stdin, question, arrays)

    def _receive(self, ends: float) -> tuple[list[np.ndarray], Any]:
        sizes = HEAD.unpack(self._read(HEAD.size, ends))
        texts = [self._read(size, ends) for size in sizes]
        return _arrays(texts[1]), json.loads(texts[0])

    def _read(self, size: int, ends: float) -> bytes:
        assert self.process.stdout is not None
        parts: list[bytes] = []
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while size:
                if not selector.select(max(0.0, ends - time.monotonic())):
                    raise TimeoutError
                part = os.read(self.process.stdout.fileno(), min(size, CHUNK))
                if not part:
                    raise EOFError
                parts.append(part)
                size -= len(part)
        return b"".join(parts)

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

    def end(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.said):
            with contextlib.suppress(OSError):
                assert pipe is not None
                pipe.close()


def _end_all() -> None:
    for key, process in _PROCESSES.items():
        if key[-1] == os.getpid():  # a fork has the dictionary, and not the processes
            process.end()


atexit.register(_end_all)


def _write(stream: IO[bytes], value: Any, arrays: Sequence[np.ndarray]) -> None:
    buffer = io.BytesIO()
    for array in arrays:
        np.save(buffer, array, allow_pickle=False)
    text, packed = json.dumps(value).encode(), buffer.getvalue()
    stream.write(HEAD.pack(len(text), len(packed)))
    stream.write(text)
    stream.write(packed)
    stream.flush()


def _arrays(data: bytes) -> list[np.ndarray]:
    buffer, found = io.BytesIO(data), []
    while buffer.tell() < len(data):
        found.append(np.load(buffer, allow_pickle=False))
    return found


def _serve(gigabytes: float) -> None:
    """Answer calls until there are no more."""
    _limit(gigabytes)
    questions, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no answer
    while head := questions.read(HEAD.size):
        sizes = HEAD.unpack(head)
        asked = json.loads(questions.read(sizes[0]))
        arrays = _arrays(questions.read(sizes[1]))
        function = function_called(asked["function"])
        if "values" in asked:
            found, answer = _answered(function, arrays, asked["values"])
            _write(answers, answer, found)


def function_called(name: str) -> Callable[..., Answer]:
    """The function called "module:name"."""
    module, function = name.split(":")
    made: Callable[..., Answer] = getattr(importlib.import_module(module), function)
    return made


def _answered(function: Callable[..., Answer], arrays: list[np.ndarray], values: Any) -> Answer:
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


def _limit(gigabytes: float) -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    size = int(gigabytes * 2**30)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, (size, size))


if __name__ == "__main__":
    _serve(float(sys.argv[1]))
