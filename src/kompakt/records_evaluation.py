"""Facts about how good a model is, alone and beside others: to and from JSON. Nothing here computes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from kompakt.printable import printable
from kompakt.records import APART, Measurement
from kompakt.records_bounds import Amount, Count, Share
from kompakt.records_difference import Difference as Difference


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How good a model or a file is on labelled samples, and how sure that is.

    Attributes:
        thing: path, or name of the model. kind: "keras", or the target whose runtime it ran in.
        samples: how many. labels_sha256: digest of their labels, by which two evaluations of the same ones are known.
        measurements: a metric each, in the order asked, with the interval in which it lies.
        confidence: of the intervals, or None where there are none. seed: of what is drawn.
        seconds: that it took to run.
        notes: what is worth knowing. breaches: what was amiss in the runtime.
        answers: outputs, labels and a value a sample (:class:`kompakt.evaluate.Answered`); not in the JSON.

    Example:
        >>> measured = (Measurement(name="accuracy", value=1.0),)
        >>> found = Evaluation(thing="m", kind="keras", samples=9, measurements=measured)
        >>> found.value("accuracy")
        1.0
    """

    thing: str
    kind: str
    samples: Count
    measurements: tuple[Measurement, ...]
    labels_sha256: str = ""
    confidence: Share | None = None
    seed: int = 0
    seconds: Amount = 0.0
    notes: tuple[str, ...] = ()
    breaches: tuple[str, ...] = ()
    answers: Any = field(default=None, repr=False, compare=False, metadata=APART)

    def value(self, name: str) -> float:
        """The metric called ``name``.

        Raises:
            KeyError: there is none of that name.
        """
        return {m.name: m.value for m in self.measurements}[name]

    @property
    def report(self) -> str:
        """Plain text, one fact a line."""
        lines = [f"{self.thing}: {self.kind}, {self.samples:,} samples"]
        wide = max([9, *(len(m.name) for m in self.measurements)])
        for m in self.measurements:
            known = f"{100 * (self.confidence or 0):g} % interval, {m.interval}"
            sure = f", interval {m.interval}" if m.low is None else f", {known}"
            lines.append(f"  {m.name:<{wide}}  {replace(m, where='').text}{sure if m.interval else ''}")
        lines += [f"  note       {note}" for note in self.notes]
        lines += [f"  BREACH     {breach}" for breach in self.breaches]
        return "\n".join(map(printable, lines))


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One of several models or files that are compared.

    Attributes:
        bytes, gzip_bytes: of what ships. failed: why there is no evaluation.
        difference: from the first one. latency_ratio: of one run, over that of ``Comparison.timed``, None of a Keras
            model, which has no file. latency_spread: half the interquartile range; latency_low, latency_high: where
            the median of very many rounds lies, by 95 %. milliseconds: of one run.

    Example:
        >>> Contender(thing="m.tflite", kind="tflite", failed="outputs are NaN").evaluation is None
        True
    """

    thing: str
    kind: str
    bytes: Count | None = None
    gzip_bytes: Count | None = None
    evaluation: Evaluation | None = None
    failed: str = ""
    difference: Difference | None = None
    latency_ratio: Amount | None = None
    latency_spread: Amount | None = None
    latency_low: Amount | None = None
    latency_high: Amount | None = None
    milliseconds: Amount | None = None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Several models or files on the same samples, each beside the first.

    Attributes:
        metric: that they are compared by. timed: the one that latencies are in relation to, or "".
        data: where the samples are from.

    Example:
        >>> Comparison(metric="accuracy", contenders=()).timed
        ''
    """

    metric: str
    contenders: tuple[Contender, ...]
    samples: Count = 0
    confidence: Share = 0.95
    seed: int = 0
    timed: str = ""
    data: str = ""
