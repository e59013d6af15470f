"""How ``optimize`` tells what it does: a share of the whole for each part of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Report = Callable[[str, float], None]
"""``report(what, done)``: what is being done, and the share of the recipe done so far, 0..1."""


def silent(_what: str, _done: float | None) -> None:
    """A report that nobody reads."""


def part(report: Report, index: int, count: int) -> Report:
    """A report of one of ``count`` equal parts.

    Example:
        >>> part(lambda what, done: print(what, done), 1, 2)("training", 0.5)
        training 0.75
    """
    return lambda what, done: report(what, (index + done) / count)


@dataclass(frozen=True, kw_only=True)
class StageReport:
    """A report of stage number ``index`` of ``count``, which takes ``share`` of what ``report`` tells.

    Example:
        >>> told = StageReport(report=lambda what, done: print(what, done), recipe="qat", index=1, count=2, share=0.5)
        >>> told(0.5)
        qat: stage 2 of 2, training 0.75
    """

    report: Report
    recipe: str
    index: int
    count: int
    share: float

    def __call__(self, done: float, words: str = "") -> None:
        words = words or ("starting" if done == 0.0 else "training")
        what = f"{self.recipe}: stage {self.index + 1} of {self.count}, {words}"
        self.report(what, self.share * (self.index + done))
