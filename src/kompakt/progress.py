"""One bar on the terminal for what takes long: calibration, rounding that is learned, exports, whole commands."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from kompakt.printable import printable

Report = Callable[[str, float | None], None]
"""``report(what, share)``: what is being done, and the share of the whole that is done, None where it is unknown."""


@contextmanager
def shown(progress: bool | Report, *, lines: bool = False) -> Iterator[Report]:
    """A report that a bar on stderr shows: True. Nothing shows it where there is no terminal, or for False.

    Args:
        progress: or a report to hand on to, of a caller that has a bar already.
        lines: where stderr is a file, a line there for each thing that is begun.

    Example:
        >>> with shown(print) as report:
        ...     report("calibrating", 0.5)
        calibrating 0.5
    """
    if callable(progress):
        yield progress
        return
    console = Console(stderr=True)
    columns = (
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
    )
    seen = progress and (console.is_terminal or console.is_jupyter)
    with Progress(*columns, console=console, transient=True, disable=not seen) as bar:
        task, begun = bar.add_task("starting", total=1.0), ""

        def report(what: str, share: float | None) -> None:
            nonlocal begun
            what = printable(what)
            bar.update(task, description=what, completed=share)
            thing = re.sub(r", \d+%$", "", what)  # a share moves on without a line of its own
            if lines and not console.is_terminal and thing != begun:
                begun = thing
                console.print(f"{share or 0.0:4.0%} {thing}", highlight=False, markup=False, soft_wrap=True)

        yield report


def part(report: Report, start: float, end: float) -> Report:
    """``report`` for a step of several, whose own share moves the whole from ``start`` to ``end``, and never back.

    Example:
        >>> step = part(print, 0.5, 0.75)
        >>> step("converting", 0.5); step("converting", 0.0); step("comparing", None); step("comparing", 1.0)
        converting 0.625
        converting 0.625
        comparing None
        comparing 0.75
    """
    reached = start

    def moved(what: str, share: float | None) -> None:
        nonlocal reached
        if share is not None:
            reached = max(reached, start + (end - start) * share)
        report(what, None if share is None else reached)

    return moved


def in_words(what: str, share: float | None) -> str:
    """A report as a text.

    Example:
        >>> in_words("calibrating", 0.25), in_words("calibrating", None)
        ('calibrating, 25%', 'calibrating')
    """
    return what if share is None else f"{what}, {share:.0%}"
