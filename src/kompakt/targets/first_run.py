"""A first run and its memory, measured from inside a process that was begun for it (:func:`kompakt.isolated.once`)."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from kompakt.isolated import Answer
from kompakt.isolated_child import function_called


def first_run(arrays: list[np.ndarray], *, called: str, values: dict[str, Any]) -> Answer:
    """Import the module of ``called``, a "module:name", call it, and tell how long each took, and how much memory.

    Returns:
        {"runtime": seconds of the import, "first": of the call, "growth": bytes of memory that the call took at the
        most beyond what there was before it, "process": bytes of the whole process at the most}.
    """
    begin = time.perf_counter()
    function = function_called(called)
    imported = time.perf_counter()
    before = resident()
    reset_peak()
    function(arrays, **values)
    end = time.perf_counter()
    peak = peak_resident()
    return [], {
        "runtime": imported - begin,
        "first": end - imported,
        "growth": None if peak is None or before is None else max(0, peak - before),
        "process": peak,
    }


def resident(process: int | str = "self") -> int | None:
    """Bytes of memory that a process has now; None where the system does not say."""
    return _status(process, "VmRSS")


def peak_resident(process: int | str = "self") -> int | None:
    """Bytes of memory that a process had at the most since :func:`reset_peak`."""
    return _status(process, "VmHWM")


def reset_peak(process: int | str = "self") -> None:
    """Count the peak anew, where the system can: proc(5), ``clear_refs``."""
    with contextlib.suppress(OSError):
        Path(f"/proc/{process}/clear_refs").write_text("5")


def _status(process: int | str, name: str) -> int | None:
    if sys.platform != "linux":
        return None
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
    except (OSError, StopIteration, ValueError):
        return None
