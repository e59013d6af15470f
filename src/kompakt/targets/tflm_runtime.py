"""TensorFlow Lite Micro, as it is called in a process of its own (:mod:`kompakt.isolated`): arrays in, arrays out.

The runtime is C++ that trusts what it is given: in too small an arena it may end the process rather than raise.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from kompakt.errors import InputError
from kompakt.isolated import Answer
from kompakt.targets.batches import filled, in_batches
from kompakt.targets.laps import lapped

ARENAS = (1 << 20, 1 << 24, 1 << 28)
"""Bytes of arena to try one after the other; all of it is address space alone until it is written."""

REFUSED = re.compile(r"Node (\w+) \(number (\d+)\) failed to (\w+)")
UNKNOWN = re.compile(r"Didn't find op for builtin opcode '(\w+)'|Failed to get registration from op code (\w+)")
TOO_SMALL = re.compile(r"Failed to (?:allocate|resize)[^\n]*|missing: \d+")

STEP = 16
"""Bytes to which an arena is aligned."""


def run(arrays: list[np.ndarray], *, outputs: int) -> Answer:
    """What a file computes, numbers as it stores them: ``outputs`` arrays (samples, ...).

    Args:
        arrays: the bytes of the file, then its inputs, (samples, ...), numbers as it takes them, in its order; they go
            through in its own batch size.

    Raises:
        InputError: the runtime does not take the file, fails in an operator, or takes other inputs.
    """
    data, *inputs = arrays
    interpreter = load(data.tobytes())

    def once(few: list[np.ndarray]) -> list[np.ndarray]:
        invoke(interpreter, few)
        return [np.array(interpreter.get_output(i)) for i in range(outputs)]

    return in_batches(once, inputs, _batch(interpreter)), None


def seconds(arrays: list[np.ndarray], *, times: int) -> Answer:
    """Seconds of each of ``times`` runs of a file on the first of its inputs, and of all.

    These are set anew before each run, as an application has to: the arena's plan has other tensors in their place
    once they are read. That is not timed.
    """
    data, *inputs = arrays
    interpreter = load(data.tobytes())
    batch = _batch(interpreter)
    first = [filled(values[:batch], batch) for values in inputs]
    invoke(interpreter, first)

    def feed() -> None:
        for i, values in enumerate(first):
            interpreter.set_input(values, i)

    return lapped(interpreter.invoke, times, before=feed)


def counted(arrays: list[np.ndarray]) -> Answer:
    """Bytes of the arena that a run takes, as the runtime counts them: mostly the fewest in which it runs."""
    interpreter = load(arrays[0].tobytes())
    with _said() as said:
        interpreter.invoke()
        interpreter.print_allocations()
    total = re.search(r"Arena allocation total (\d+) bytes", said())
    return [], -(-int(total[1]) // STEP) * STEP if total else 1 << 16


def runs_in(arrays: list[np.ndarray], *, arena: int) -> Answer:
    """Load and run a file once in an arena of so many bytes.

    Raises:
        InputError: it does not fit.
    """
    invoke(load(arrays[0].tobytes(), arena), [])
    return [], None


def load(data: bytes, arena: int | None = None) -> Any:
    """An interpreter with all tensors allocated, in an arena of so many bytes or of as many as it takes.

    Raises:
        InputError: the runtime does not take the file.
    """
    from tflite_micro.python.tflite_micro import runtime

    arenas = ARENAS if arena is None else (arena,)
    for size in arenas:
        with _said() as said:
            try:
                return _zeroed(runtime.Interpreter.from_bytes(data, arena_size=size))
            except Exception as error:  # noqa: BLE001  what the binding throws has no class of its own
                failure = error
        text = said()
        if size == arenas[-1] or not TOO_SMALL.search(text):
            break
    raise _refused(text, failure) from None


def _zeroed(interpreter: Any) -> Any:
    """``interpreter``, its inputs zeros: what memory held is no index into a table."""
    with contextlib.suppress(IndexError):
        for i in itertools.count():
            detail = interpreter.get_input_details(i)
            interpreter.set_input(np.zeros(detail["shape"], detail["dtype"]), i)
    return interpreter


def invoke(interpreter: Any, inputs: Sequence[np.ndarray]) -> None:
    """Run once on one batch.

    Raises:
        InputError: an operator fails, or an input has another type or shape.
    """
    with _said() as said:
        try:
            for i, values in enumerate(inputs):
                interpreter.set_input(values, i)
        except (ValueError, IndexError) as error:
            raise InputError(f"input {i} of the file: {str(error).removeprefix('Cannot set tensor: ')}") from None
        try:
            interpreter.invoke()
            return
        except RuntimeError as error:
            failure = error
    raise _refused(said(), failure) from None


def _batch(interpreter: Any) -> int:
    shape = interpreter.get_input_details(0)["shape"]
    return int(shape[0]) if len(shape) else 1


@contextlib.contextmanager
def _said() -> Iterator[Callable[[], str]]:
    """What C++ writes to the process's stderr inside goes to a file; the function gives it, afterwards."""
    text = ""
    with tempfile.TemporaryFile() as sink:
        sys.stderr.flush()
        saved = os.dup(2)
        try:
            os.dup2(sink.fileno(), 2)
            yield lambda: text
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            sink.seek(0)
            text = sink.read().decode(errors="replace")


def _refused(text: str, failure: Exception) -> InputError:
    """What the runtime said, in one line; "operator N" is its place in the file."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    unknown, node = UNKNOWN.search(text), REFUSED.search(text)
    why = lines[-1] if lines else str(failure)
    if unknown:
        why = f"it has no operator {unknown[1] or unknown[2]}"
    elif node:
        before = lines[: next(i for i, line in enumerate(lines) if REFUSED.search(line))]
        reason = re.sub(r"^\S+/(\S+\.cc)(:\d+)?\s+", "", before[-1]) if before else f"it fails to {node[3]}"
        why = f"{node[1]}, operator {node[2]}: {reason}"
    return InputError(f"TensorFlow Lite Micro refuses the file: {why}")
