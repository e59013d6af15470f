"""Silence what converters print from C++ and Python while they work."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator


class _Silence:
    """The process's streams, turned away while at least one thread wants them to be: they belong to all of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._depth = 0
        self._undo = contextlib.ExitStack()

    def enter(self) -> None:
        """Turn the streams away; for the first that asks."""
        with self._lock:
            if self._depth == 0:
                with contextlib.ExitStack() as stack:
                    _turn_away(stack)
                    self._undo = stack.pop_all()
            self._depth += 1

    def leave(self) -> None:
        """Put them back; by the last that leaves."""
        with self._lock:
            self._depth -= 1
            if self._depth == 0:
                self._undo.close()


_SILENCE = _Silence()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No chatter on stdout or stderr inside, of any thread; errors are raised as ever.

    Set KOMPAKT_DEBUG=1 to see it all.
    """
    if os.environ.get("KOMPAKT_DEBUG"):
        yield
        return
    _SILENCE.enter()
    try:
        yield
    finally:
        _SILENCE.leave()


def _turn_away(stack: contextlib.ExitStack) -> None:
    sink = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115  the stack closes it
    stack.enter_context(warnings.catch_warnings())
    warnings.simplefilter("ignore")
    stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
    stack.callback(logging.disable, logging.root.manager.disable)
    logging.disable(logging.WARNING)
    sys.stderr.flush()
    saved = os.dup(2)
    stack.callback(os.close, saved)
    stack.callback(os.dup2, saved, 2)
    stack.callback(sys.stderr.flush)
    os.dup2(sink.fileno(), 2)
    stack.enter_context(contextlib.redirect_stderr(io.StringIO()))  # a notebook's is no stream of the process
