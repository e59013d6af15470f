"""How long work in a process of its own (:mod:`kompakt.isolated`) may take, and how much memory."""

from __future__ import annotations

import os
from dataclasses import dataclass

from kompakt.errors import InputError

SECONDS, GIGABYTES = "KOMPAKT_TIME_LIMIT", "KOMPAKT_MEMORY_LIMIT"
"""Environment variables that set the limits: seconds a call, and gigabytes of a process."""

LONGEST = 1e8
"""Seconds (three years) that stand for more: timers of the system take no more."""


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
