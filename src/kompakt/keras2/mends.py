"""What was mended in a model of Keras 2, told once for all layers that it was done to."""

from __future__ import annotations

SHOWN = 8
"""So many names stand in a line."""


class Mends:
    """Mends by what was done, each with the layers that it was done to, in the order in which they come.

    Example:
        >>> mends = Mends()
        >>> for name in ("a", "b"):
        ...     mends.add(name, "key 'time_major' (False) left out")
        >>> mends.lines()
        ["a, b: key 'time_major' (False) left out"]
    """

    def __init__(self) -> None:
        self._layers: dict[str, list[str]] = {}

    def add(self, layer: str, what: str) -> None:
        """Note that ``what`` was done to ``layer``."""
        names = self._layers.setdefault(what, [])
        if layer not in names:
            names.append(layer)

    def lines(self) -> list[str]:
        """One line for each kind of mend; of many layers the first names and how many more."""
        return [f"{_named(names)}: {what}" for what, names in self._layers.items()]


def _named(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
