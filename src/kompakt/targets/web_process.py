"""A Node process that answers a line of JSON with a line of JSON, under a limit of time and of memory."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from kompakt.errors import InputError
from kompakt.isolated import GIGABYTES, SECONDS, Limits
from kompakt.targets.web_packages import node


class NodeProcess:
    """``node SCRIPT ARGUMENTS``, ended when it is not used any more.

    Args:
        limits: of a request's time, and of the process's memory (JavaScript's own everywhere, all of it on Linux); by
            default those of :mod:`kompakt.isolated`.
    """

    def __init__(self, script: Path, *arguments: str, limits: Limits | None = None) -> None:
        self.limits = limits or Limits.set()
        self._errors = tempfile.TemporaryFile(mode="w+", encoding="utf-8", errors="replace")  # noqa: SIM115  _end does it
        megabytes = self._megabytes = int(self.limits.gigabytes * 1024)
        env = {key: value for key, value in os.environ.items() if key != "NODE_OPTIONS"}
        self._child = subprocess.Popen(
            [node(), f"--max-old-space-size={megabytes}", str(script), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            encoding="utf-8",
            env=env,
        )
        assert self._child.stdin is not None and self._child.stdout is not None
        self._answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._turn = threading.Lock()
        threading.Thread(target=_read, args=(self._child.stdout, self._answers), daemon=True).start()
        self._finalizer = weakref.finalize(self, _end, self._child, self._errors)

    @property
    def alive(self) -> bool:
        """Whether it waits for requests."""
        return self._finalizer.alive and self._child.poll() is None

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._child.pid

    def ask(self, **request: Any) -> dict[str, Any]:
        """The answer to ``request``. Threads take turns; the time of each begins with its turn.

        Raises:
            InputError: it is an error, or there is none: the process crashed, hangs or takes too much memory.
        """
        with self._turn:
            try:
                answer = json.loads(self._answer_to(json.dumps(request) + "\n"))
            except BaseException:  # an answer that still comes is not that to the next request
                self.close()
                raise
        if "error" in answer:
            raise InputError(str(answer["error"])[:500])
        return dict(answer)

    def close(self) -> None:
        """End the process."""
        self._finalizer()

    def _answer_to(self, line: str) -> str:
        if not self._finalizer.alive:
            raise InputError("Node was ended at an earlier request that it did not answer; begin anew")
        until = time.monotonic() + self.limits.seconds
        # In a thread: a process that hangs reads nothing, and what does not fit into the pipe would wait for ever.
        threading.Thread(target=_write, args=(self._child.stdin, line), daemon=True).start()
        return self._line(until)

    def _line(self, until: float) -> str:
        while True:
            with contextlib.suppress(queue.Empty):
                line = self._answers.get(timeout=0.1)
                if line is None:
                    raise InputError(self._how_it_died(until))
                return line
            used = _megabytes(self._child.pid)
            if used > self._megabytes:
                self.close()
                raise InputError(
                    f"Node was stopped: it took {used} MB of memory, more than {self._megabytes} ({GIGABYTES} sets it)"
                )
            if time.monotonic() > until:
                self.close()
                raise InputError(
                    f"Node was stopped: it gave no answer within {self.limits.seconds:g} s ({SECONDS} sets it)"
                )

    def _how_it_died(self, until: float) -> str:
        try:
            code = self._child.wait(max(until - time.monotonic(), 1.0))
        except subprocess.TimeoutExpired:
            self.close()
            return "Node was stopped: it closed its output without an answer, and did not end"
        self._errors.seek(0)
        said = [line.strip() for line in self._errors.read().splitlines() if line.strip()]
        cause = next((line for line in said if re.match(r"\w*Error\b|FATAL", line)), "".join(said[-1:]))
        self.close()
        return f"Node died (exit status {code}): {cause[:300] or 'it said nothing'}"


@contextlib.contextmanager
def node_process(script: Path, *arguments: str, limits: Limits | None = None) -> Iterator[NodeProcess]:
    """A process that is ended behind the block."""
    process = NodeProcess(script, *arguments, limits=limits)
    try:
        yield process
    finally:
        process.close()


def _write(stream: TextIO, line: str) -> None:
    with contextlib.suppress(ValueError, OSError):  # where it has died the missing answer says so
        stream.write(line)
        stream.flush()


def _read(stream: TextIO, answers: queue.SimpleQueue[str | None]) -> None:
    """Until the process ends, or what it has started and left behind: to close the stream would wait for these too."""
    with contextlib.suppress(ValueError, OSError), stream:
        for line in stream:
            answers.put(line)
    answers.put(None)


def _end(child: subprocess.Popen[str], errors: Any) -> None:
    child.kill()
    child.wait()
    for stream in (child.stdin, errors):
        with contextlib.suppress(OSError):
            stream.close()  # type: ignore[union-attr]


def _megabytes(pid: int) -> int:
    """Memory of a process; 0 where the system does not say (then Node's own limit is all there is)."""
    if sys.platform != "linux":
        return 0
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") // 2**20
