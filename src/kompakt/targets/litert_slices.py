"""Several TFLite files timed in turn, in one process of LiteRT."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from kompakt.errors import InputError
from kompakt.isolated import Answer
from kompakt.targets.laps import lapped
from kompakt.targets.litert import load

PROBES = 5


def alternated(arrays: list[np.ndarray], *, inputs: Sequence[int], threads: int, rounds: int, seconds: float) -> Answer:
    """Seconds of one run, (rounds, files), NaN for a file that LiteRT does not run; and why, a text for each file.

    Files take turns, forwards in one round and backwards in the next. A reading is the median of its runs: one that the
    system interrupts for another program counts as one.

    Args:
        arrays: the bytes of a file and its inputs, numbers as it stores them, then the next. inputs: how many each has.
        seconds: that a reading takes about.
    """
    loaded, refused = [], []
    for data, given in _files(arrays, inputs):
        try:
            loaded.append(_ready(data, given, threads))
            refused.append("")
        except (InputError, ValueError, RuntimeError) as error:
            loaded.append(None)
            refused.append(str(error).strip().splitlines()[0][:200])
    counts = [0 if each is None else _enough(each, seconds) for each in loaded]
    found = np.full((rounds, len(loaded)), np.nan)
    for turn in range(rounds):
        order = range(len(loaded)) if turn % 2 == 0 else reversed(range(len(loaded)))
        for i in order:
            if loaded[i] is not None:
                found[turn, i] = np.median(_laps(loaded[i], counts[i]))
    return [found], refused


def _files(arrays: list[np.ndarray], inputs: Sequence[int]) -> list[tuple[bytes, list[np.ndarray]]]:
    found, start = [], 0
    for count in inputs:
        found.append((arrays[start].tobytes(), arrays[start + 1 : start + 1 + count]))
        start += 1 + count
    return found


def _ready(data: bytes, given: Sequence[np.ndarray], threads: int) -> Any:
    interpreter = load(data, threads=threads)
    for detail, values in zip(interpreter.get_input_details(), given, strict=True):
        interpreter.set_tensor(detail["index"], values.astype(detail["dtype"], copy=False))
    interpreter.invoke()
    return interpreter


def _laps(interpreter: Any, times: int) -> np.ndarray:
    return lapped(interpreter.invoke, times)[0][0]


def _enough(interpreter: Any, seconds: float) -> int:
    return max(1, round(seconds / max(float(_laps(interpreter, PROBES).min()), 1e-9)))
