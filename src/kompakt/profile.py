"""``kp.profile``: what an artifact costs on this machine, beside what it could cost at the least."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras

from kompakt.cost import LayerCost, layer_costs
from kompakt.errors import InputError
from kompakt.files import gzip_bytes
from kompakt.profiling.limits import macs_by_kind, roofline, with_bounds
from kompakt.profiling.pairs import alone, in_pairs
from kompakt.profiling.profiled import Profiled, profiled_at
from kompakt.profiling.related import check_related
from kompakt.profiling.rows import layer_rows
from kompakt.profiling.starts import cold_start, first_runs, memory
from kompakt.progress import Report, shown
from kompakt.records import Artifact
from kompakt.records_profile import LatencyRatio, Operators, Profile, Timing
from kompakt.schedules import is_whole
from kompakt.targets.machine import bandwidth, peak

ROUNDS, PAIRED = 15, 30
"""Readings of a latency, and of a ratio of two."""


def profile(
    artifact: Artifact | str | Path,
    *,
    inputs: Any = None,
    model: keras.Model | None = None,
    threads: int | Sequence[int] | None = None,
    rounds: int = ROUNDS,
    operators: bool = False,
    seed: int = 0,
    progress: bool | Report = False,
) -> Profile:
    """Measure an artifact of any target in its own runtime, and compute what it could cost at the least.

    Latency is that of single runs of one batch after a warm-up. Cold start and memory are those of processes begun for
    them. Weights are counted as symbols: their entropy is what a code of single symbols needs (Shannon 1948). What the
    machine could do (Williams et al. 2009) is measured in the same run, with one large product of matrices and by
    copying. What a target's runtime does not allow is in ``missing``, a line each.

    Args:
        artifact: of :func:`kompakt.export`, or the path of one.
        inputs: samples in the structure of the model; numbers at random where there are none.
        model: where the parameters and multiply-accumulates of layers come from; the file's operators without.
        threads: a number of them or several, by default 1 and as many as there are cores.
        rounds: readings of the latency. operators: time each operator of a TFLite file alone, too.
        seed: of random inputs. progress: show a bar, or a report to hand on to.

    Raises:
        InputError: the artifact is missing or broken, takes other inputs, is none of ``model``, or its runtime is not
            installed.

    Example:
        >>> import tempfile, kompakt as kp
        >>> m = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="d")])
        >>> made = kp.export(m, tempfile.mkdtemp() + "/m.tflite")
        >>> found = kp.profile(made, threads=[1], rounds=2)
        >>> found.macs, found.layers[0].layer, found.latency[0].median > 0
        (12, 'd', True)
    """
    counts = _checked(threads, rounds)
    with shown(progress) as report:
        report("reading the file", 0.0)
        profiled = profiled_at(artifact, inputs, seed)
        sitting = _Sitting(profiled, None if model is None else layer_costs(model), rounds, seed)
        if model is not None:
            sitting.check(model)
        if inputs is None:
            sitting.notes.append(f"inputs are random numbers, seed {seed}")
        return sitting.profile(counts, operators, report)


class _Sitting:
    """One artifact under measurement. What it finds out on the way that must not be silent goes into its lists."""

    def __init__(self, profiled: Profiled, costs: Sequence[LayerCost] | None, rounds: int, seed: int) -> None:
        self.profiled, self.costs, self.rounds, self.seed = profiled, costs, rounds, seed
        self.notes: list[str] = []
        self.missing: list[str] = []
        self.work = profiled.profiler.work(profiled.data)
        self.stored = profiled.profiler.stored(profiled.data)

    def check(self, model: keras.Model) -> None:
        """Raise where the artifact is none of ``model``; note where that cannot be told."""
        note = check_related(model, self.profiled.ends, self.stored, self.profiled.path)
        self.notes += [note] if note else []

    def profile(self, threads: Sequence[int], operators: bool, report: Report) -> Profile:
        profiled = self.profiled
        report("timing runs", 0.1)
        times = [self._timing(n) for n in self._possible(threads)]
        report("starting it afresh", 0.4)
        starts = first_runs(profiled)
        found = memory(starts, profiled.profiler.arena(profiled.data))
        if found.growth is None:
            self.missing.append("peak memory: this system does not tell it")
        report("reading weights", 0.6)
        rows = layer_rows(self.costs, self.work, self.stored)
        held = sum(each.bytes for each in self.stored)
        report("measuring the machine", 0.7)
        macs = self._macs_of_a_run()
        roofs = [self._roofline(macs, held, each) for each in times] if macs else []
        report("timing operators", 0.8)
        return Profile(
            path=profiled.path,
            target=profiled.target,
            machine=machine(),
            batch=profiled.batch,
            bytes=profiled.bytes,
            gzip_bytes=sum(map(gzip_bytes, profiled.shipped)),
            weight_bytes=held,
            other_bytes=profiled.bytes - held,
            entropy_bytes=sum(row.bound for row in rows.layers),
            table_bytes=rows.table_bytes,
            macs=self._macs_of_a_sample(),
            parameters=sum(row.parameters for row in rows.layers),
            latency=tuple(times),
            cold_start=cold_start(starts),
            memory=found,
            layers=rows.layers,
            rooflines=tuple(roofs),
            operators=self._operators(threads[0]) if operators else None,
            seed=self.seed,
            notes=tuple(self.notes),
            missing=tuple(self.missing),
        )

    def _possible(self, threads: Sequence[int]) -> Sequence[int]:
        if self.profiled.profiler.threads or set(threads) == {1}:
            return threads
        self.missing.append(f"latency on several threads: the runtime of {self.profiled.target} works on one")
        return (1,)

    def _timing(self, threads: int) -> Timing:
        return alone(self.profiled, threads=threads, rounds=self.rounds)

    def _macs_of_a_run(self) -> dict[str, int]:
        """Kind of arithmetic -> multiply-accumulates of one run; {} where nothing is known of them."""
        unknown = sorted({each.name for each in self.work or () if each.macs is None})
        if self.work is not None and not (unknown and self.costs is not None):
            if unknown:
                self.notes.append(f"multiply-accumulates in {', '.join(unknown)} are not counted: give the model")
            return macs_by_kind(self.work)
        if self.costs is None:
            self.missing.append(f"multiply-accumulates: the files of {self.profiled.target} do not say; give the model")
            return {}
        return {"float32": self.profiled.batch * sum(cost.macs or 0 for cost in self.costs)}

    def _macs_of_a_sample(self) -> int | None:
        if self.costs is not None:
            unknown = [cost.layer for cost in self.costs if cost.macs is None]
            if unknown:
                self.notes.append(f"multiply-accumulates are not known of {', '.join(unknown)}")
            return sum(cost.macs or 0 for cost in self.costs)
        return None if self.work is None else sum(each.macs or 0 for each in self.work) // self.profiled.batch

    def _roofline(self, macs: dict[str, int], held: int, each: Timing) -> Any:
        return roofline(
            macs,
            held + self.profiled.input_bytes,
            each.minimum,
            partial(peak, threads=each.threads),
            partial(bandwidth, threads=each.threads),
            threads=each.threads,
        )

    def _operators(self, threads: int) -> Operators | None:
        profiled, work = self.profiled, self.work
        try:
            found = profiled.profiler.operators(profiled.data, profiled.inputs, threads=threads, rounds=self.rounds)
        except InputError as error:
            self.missing.append(str(error))
            return None
        return with_bounds(found, work or (), partial(peak, threads=threads), partial(bandwidth, threads=threads))


def compare_latency(
    artifact: Artifact | str | Path,
    other: Artifact | str | Path,
    *,
    inputs: Any = None,
    threads: int = 1,
    rounds: int = PAIRED,
    seed: int = 0,
) -> LatencyRatio:
    """Latency of ``artifact`` over that of ``other``, run in turn, each in a process of its own, begun three times.

    They may be of different targets. A reading is the median of its runs. The machine may become slower meanwhile: both
    do.

    Args:
        inputs: samples that both take; numbers at random, for each its own, where there are none.
        threads: on which each works, where its runtime can be told. rounds: readings of each.

    Raises:
        InputError: as :func:`kompakt.profile`.

    Example:
        >>> import tempfile, kompakt as kp
        >>> m = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="d")])
        >>> made = kp.export(m, tempfile.mkdtemp() + "/m.tflite")
        >>> found = kp.compare_latency(made, made, rounds=4)
        >>> found.low <= found.ratio <= found.high
        True
    """
    (count,) = _checked([threads], rounds)
    sides = [profiled_at(each, inputs, seed) for each in (artifact, other)]
    return in_pairs(*sides, threads=count, rounds=rounds)


def _checked(threads: int | Sequence[int] | None, rounds: int) -> tuple[int, ...]:
    """Numbers of threads, each once.

    Raises:
        InputError: one is no number above 0, or there are fewer than 2 rounds.
    """
    if not is_whole(rounds) or rounds < 2:
        raise InputError(f"rounds={rounds!r}: expected a whole number from 2 on, such as {ROUNDS}")
    given: Any = [threads] if is_whole(threads) else (1, cores()) if threads is None else threads
    counts = tuple(given) if isinstance(given, (list, tuple)) else ()
    if not counts or any(not is_whole(n) or n < 1 for n in counts):
        raise InputError(f"threads={threads!r}: expected whole numbers from 1 on, such as [1, {cores()}]")
    return tuple(dict.fromkeys(counts))


def cores() -> int:
    """Cores that this process may work on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        return os.cpu_count() or 1


def machine() -> str:
    """System, processor and cores, in words."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{platform.system()} {platform.machine()}, {name}, {cores()} cores"
