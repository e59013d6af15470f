"""One bar on the terminal for what takes long: calibration, and rounding that is learned."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

Report = Callable[[str, float | None], None]
"""``report(what, share)``: what is being done, and the share of it that is done, None where that is not known."""


@contextmanager
def shown(progress: bool | Report) -> Iterator[Report]:
    """A report that a bar on stderr shows: True. Nothing shows it where there is no terminal, or for False.

    Args:
        progress: or a report to hand on to, of a caller that has a bar already.

    Example:
        >>> with shown(print) as report:
        ...     report("calibrating", 0.5)
        calibrating 0.5
    """
    if callable(progress):
        yield progress
        return
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=24), TimeElapsedColumn())
    seen = progress and (console.is_terminal or console.is_jupyter)
    with Progress(*columns, console=console, transient=True, disable=not seen) as bar:
        now: dict[str, TaskID] = {}

        def report(what: str, share: float | None) -> None:
            if what not in now:
                for task in now.values():
                    bar.remove_task(task)
                now.clear()
                now[what] = bar.add_task(what, total=None if share is None else 1.0)
            bar.update(now[what], completed=share)

        yield report


def in_words(what: str, share: float | None) -> str:
    """A report as a text.

    Example:
        >>> in_words("calibrating", 0.25), in_words("calibrating", None)
        ('calibrating, 25%', 'calibrating')
    """
    return what if share is None else f"{what}, {share:.0%}"
