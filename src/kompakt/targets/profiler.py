"""What a profile wants of a target: its inputs, what it stores, what its operators compute, runs one by one."""

from __future__ import annotations

import importlib
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from kompakt.errors import InputError
from kompakt.isolated import call, end, once
from kompakt.measure import Laps
from kompakt.records_profile import Operators
from kompakt.targets.target import to_time

FIRST = "kompakt.targets.first_run:first_run"


@dataclass(frozen=True, kw_only=True)
class End:
    """An input as the file takes it: its type in NumPy's words and its shape, None for a size that is open.

    Attributes:
        integers: whether numbers in it are places in a table or the like, so that 0 is always one of them.
        bytes: of one number.
    """

    name: str
    shape: tuple[int | None, ...]
    integers: bool = False
    bytes: int = 4

    @property
    def batch(self) -> int:
        """Samples of one run: the fixed size, or 1."""
        return (self.shape[0] or 1) if self.shape else 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Stored:
    """One constant of a file.

    Attributes:
        name: ``layer/kernel`` where that is known. layer: whose it is, by the file alone.
        values: its symbols: integers as they are stored, floats as such. kind: type in the file.
        bytes: that it takes. zero: the symbol that stands for 0.0.
    """

    name: str
    layer: str
    kind: str
    values: np.ndarray
    bytes: int
    zero: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Work:
    """What one operator computes in one run.

    Attributes:
        layer: whose it is, by the file alone. macs: multiply-accumulates, None where they are not known.
        arithmetic: "float32" or "int8", what it multiplies. traffic: bytes of weights, inputs and outputs.
    """

    name: str
    layer: str
    output: str
    macs: int | None
    arithmetic: str = "float32"
    traffic: int = 0


@dataclass(frozen=True, kw_only=True)
class Question:
    """A call of a function in the process of a runtime: see :func:`kompakt.isolated.call`."""

    function: str
    of: str
    arrays: list[np.ndarray]
    values: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class FirstRun:
    """Seconds of a first run and what came before it, and bytes of memory, None where the system does not say."""

    total: float
    runtime: float
    first: float
    growth: int | None
    process: int | None


class Profiler(ABC):
    """Answers for the artifacts of one target. None of its methods writes a file.

    Attributes:
        threads: whether its runtime can be told on how many threads to work.
    """

    threads: ClassVar[bool] = True

    @abstractmethod
    def ends(self, data: bytes) -> Sequence[End]:
        """The inputs, in the order in which arrays are given."""

    @abstractmethod
    def stored(self, data: bytes) -> Sequence[Stored]:
        """Every constant that counts as a weight."""

    def work(self, data: bytes) -> Sequence[Work] | None:
        """The operators in their order; None where the file does not say what they compute."""
        return None

    @abstractmethod
    def laps(self, data: bytes, inputs: Any, *, threads: int = 1, process: str = "") -> Laps:
        """A function that runs the file n times and gives the seconds of each run.

        Args:
            process: a word; those with another one run in another process, which stays until :meth:`end`.
        """

    def end(self, *, threads: int, process: str) -> None:  # noqa: B027  most have nothing to end
        """End the process that :meth:`laps` has begun for this word."""

    @abstractmethod
    def first_run(self, data: bytes, inputs: Any) -> FirstRun:
        """Begin a process, import the runtime, load the file and run it once."""

    def arena(self, data: bytes) -> int | None:
        """Bytes of the arena that the runtime needs, where it has one."""
        return None

    def operators(self, data: bytes, inputs: Any, *, threads: int, rounds: int) -> Operators:
        """Each operator run alone.

        Raises:
            InputError: files of this target cannot be cut.
        """
        raise InputError("operators one by one: only TFLite files can be cut into them")


class ServedProfiler(Profiler):
    """One whose runtime works in a process of :mod:`kompakt.isolated`."""

    @abstractmethod
    def timed(self, data: bytes, inputs: Any, threads: int) -> Question:
        """What runs the file ``times`` times and gives the seconds of each run."""

    @abstractmethod
    def run_once(self, data: bytes, inputs: Any) -> Question:
        """What loads the file and runs it on one batch."""

    def laps(self, data: bytes, inputs: Any, *, threads: int = 1, process: str = "") -> Laps:
        asked = self.timed(data, to_time(inputs), threads)
        word = _word(process, threads)

        def run_times(n: int) -> np.ndarray:
            return call(asked.function, asked.arrays, of=asked.of, process=word, times=n, **asked.values)[0][0]

        return run_times

    def end(self, *, threads: int, process: str) -> None:
        end(_word(process, threads))

    def first_run(self, data: bytes, inputs: Any) -> FirstRun:
        asked = self.run_once(data, inputs)
        start = time.perf_counter()
        _, told = once(FIRST, asked.arrays, of=asked.of, called=asked.function, values=asked.values)
        return FirstRun(total=time.perf_counter() - start, **told)


def _word(process: str, threads: int) -> str:
    """TensorFlow is told the number of its threads once in the life of a process."""
    return f"{process} {threads} threads"


PROFILERS: dict[str, str] = {
    "tflite": "kompakt.targets.profiler_tflite:TFLiteProfiler",
    "tflm": "kompakt.targets.profiler_tflm:TFLMProfiler",
    "tfjs": "kompakt.targets.profiler_tfjs:TFJSProfiler",
    "savedmodel": "kompakt.targets.profiler_savedmodel:SavedModelProfiler",
    "onnx": "kompakt.targets.profiler_onnx:ONNXProfiler",
}
"""Name of a target -> "module:class", imported when it is asked for."""


def find_profiler(target: str) -> Profiler:
    """The profiler of the target called ``target``."""
    module, cls = PROFILERS[target].split(":")
    made: Profiler = getattr(importlib.import_module(module), cls)()
    return made
