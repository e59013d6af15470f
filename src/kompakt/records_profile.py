"""Immutable facts of a profile: what an artifact costs, and what it could cost at the least. Nothing here computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kompakt.records_bounds import Amount, Count


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Milliseconds of one run, after a warm-up, on so many threads.

    Attributes:
        runs: how many were timed, each by itself. spread: half the interquartile range.
        p95: 95 % of the runs took at most this.
    """

    threads: Count
    runs: Count
    minimum: Amount
    median: Amount
    p95: Amount
    spread: Amount


@dataclass(frozen=True, kw_only=True)
class ColdStart:
    """Milliseconds from nothing to the first output, in a process begun for it; the median of several.

    Attributes:
        total: from the start of the process on. runtime: of it, importing the runtime. first: of it, loading the file
            and the first inference; the rest is the process and what is sent to it. repeats: processes begun.
    """

    total: Amount
    runtime: Amount
    first: Amount
    repeats: Count


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes of memory in a process begun for it; None where the system does not say.

    Attributes:
        growth: at the most while the file was loaded and run once, beyond what the process had with its runtime
            imported. The file itself is in it once. process: at the most, of the whole process, Python with it.
        arena: of TensorFlow Lite Micro, the smallest in which the file runs.
    """

    growth: int | None = None
    process: Count | None = None
    arena: Count | None = None


@dataclass(frozen=True, kw_only=True)
class LayerProfile:
    """What one layer is made of, in the model and in the file.

    Attributes:
        layer: of the model; of the file (the name of a weight or of an operator's result) where no model was given.
        parameters: of the layer; where no model was given, the values that the file stores for it.
        macs: multiply-accumulates for one sample, None where they are not known.
        stored: values in the file. bytes: that they take there.
        zeros: of them. distinct: different values in its largest tensor.
        entropy: bits a value that its symbols carry. bound: bytes that they take at that.
    """

    layer: str
    kind: str
    parameters: Count = 0
    macs: Count | None = None
    stored: Count = 0
    bytes: Count = 0
    zeros: Count = 0
    distinct: Count = 0
    entropy: Amount = 0.0
    bound: Count = 0

    @property
    def bits(self) -> float | None:
        """Bits that a value takes in the file; None where the file stores none.

        Example:
            >>> LayerProfile(layer="a", kind="Dense", stored=10, bytes=10).bits
            8.0
        """
        return 8 * self.bytes / self.stored if self.stored else None


@dataclass(frozen=True, kw_only=True)
class Roofline:
    """What this machine could do at the best, measured in the same run, and what follows for one run of the file.

    Williams, Waterman and Patterson 2009, "Roofline: an insightful visual performance model for multicore
    architectures", section 3:

    .. math:: t \\ge \\max(macs / peak, bytes / bandwidth)

    Attributes:
        macs: kind of arithmetic ("float32", "int8") -> multiply-accumulates of one run of the file.
        peak: kind -> multiply-accumulates a second, of a large matrix product in LiteRT.
        traffic: bytes that have to be read once: weights and inputs.
        bandwidth: bytes a second, of copying as many bytes as ``traffic``, from whichever cache they fit into.
        compute, memory: milliseconds that follow from each. measured: the fastest run.
    """

    threads: Count
    macs: Mapping[str, Count]
    peak: Mapping[str, Amount]
    traffic: Count
    bandwidth: Amount
    compute: Amount
    memory: Amount
    measured: Amount

    @property
    def bound(self) -> float:
        """Milliseconds that one run takes at the least."""
        return max(self.compute, self.memory)

    @property
    def share(self) -> float:
        """The bound over the fastest run: 1 is all that the machine can do."""
        return self.bound / self.measured if self.measured else 0.0


@dataclass(frozen=True, kw_only=True)
class OperatorTime:
    """One operator, cut out of the file and run alone.

    Attributes:
        index: place in the file. name: of the operator. output: name of what it makes. macs: of one run, or None.
        traffic: bytes of its weights, inputs and outputs. milliseconds: the median over the rounds; spread: half the
            interquartile range. bound: milliseconds by the roofline, None where ``macs`` are not known.
        missing: why there is no time, or "".
    """

    index: int
    name: str
    output: str
    macs: Count | None = None
    traffic: Count = 0
    milliseconds: Amount | None = None
    spread: Amount | None = None
    bound: Amount | None = None
    missing: str = ""


@dataclass(frozen=True, kw_only=True)
class Operators:
    """The operators of a file one by one, and together, each timed once a round in turn with the whole file.

    Attributes:
        sum: milliseconds of all of them. call: of them, what one call costs whatever is computed, for each once.
        whole: of the file, in the same rounds. note: what is worth knowing, or "".
    """

    rows: tuple[OperatorTime, ...]
    sum: float
    call: float
    whole: float
    threads: int = 1
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What an artifact costs in its own runtime on this machine, and its physical limits beside that.

    Attributes:
        batch: samples of one run. latency: one row for each number of threads.
        bytes, gzip_bytes: of the artifact. weight_bytes, other_bytes: of it, the stored weights and all else.
        entropy_bytes: of the weights at the entropy of their symbols; table_bytes: of a table of all symbols.
        macs: for one sample, without those of rows that are not known. parameters: values in all rows.
        missing: what could not be measured and why, a line each. notes: what is worth knowing.
    """

    path: str
    target: str
    machine: str
    batch: Count
    bytes: Count
    gzip_bytes: Count
    weight_bytes: Count
    other_bytes: int
    entropy_bytes: Count
    table_bytes: Count
    macs: Count | None
    parameters: Count
    latency: tuple[Timing, ...] = ()
    cold_start: ColdStart | None = None
    memory: Memory = Memory()
    layers: tuple[LayerProfile, ...] = ()
    rooflines: tuple[Roofline, ...] = ()
    operators: Operators | None = None
    seed: int = 0
    notes: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    def timing(self, threads: int) -> Timing | None:
        """The latency on so many threads, or None."""
        return next((t for t in self.latency if t.threads == threads), None)


@dataclass(frozen=True, kw_only=True)
class LatencyRatio:
    """Latency of one artifact over another's, run in turn.

    Attributes:
        ratio: median over the rounds of (this / other); below 1 is faster. spread: half the interquartile range.
        low, high: where the median of very many rounds lies, with 95 % confidence.
        milliseconds, other_milliseconds: median of each side.
    """

    path: str
    other: str
    threads: Count
    rounds: Count
    ratio: Amount
    spread: Amount
    low: float
    high: float
    milliseconds: Amount
    other_milliseconds: Amount


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What ``kompakt bench`` found: a profile a file, and the ratio of each but the first to the first."""

    profiles: tuple[Profile, ...]
    ratios: tuple[LatencyRatio, ...] = ()
