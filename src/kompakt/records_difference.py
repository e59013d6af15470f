"""How two models or files differ on the same samples: to and from JSON. Nothing here computes."""

from __future__ import annotations

from dataclasses import dataclass

from kompakt.records_bounds import Count, Share


@dataclass(frozen=True, kw_only=True)
class EvaluationDifference:
    """How much better or worse ``second`` is than ``first`` on the same samples, and whether that may be chance.

    Attributes:
        metric: its name. value: of the second minus that of the first. low, high: the interval of it, or None.
            interval: how it was found, or why there is none.
        p: of McNemar's exact test that both are equally good; None where the metric is not right or wrong.
        only_first, only_second: samples that only one has right, or None.
        agreed: share of samples with the same largest output; None where there are no classes.
        told_apart: whether chance is an unlikely reason, at ``confidence``.

    Example:
        >>> same = EvaluationDifference(first="a", second="b", metric="accuracy", value=0.0, samples=9, confidence=0.95)
        >>> same.told_apart
        False
    """

    first: str
    second: str
    metric: str
    value: float
    samples: Count
    confidence: Share
    low: float | None = None
    high: float | None = None
    interval: str = ""
    p: Share | None = None
    only_first: Count | None = None
    only_second: Count | None = None
    agreed: Share | None = None
    told_apart: bool = False
    verdict: str = ""
