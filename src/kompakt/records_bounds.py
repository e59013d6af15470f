"""What numbers of a record may be: types with bounds, and what holds between fields. Reading checks it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from kompakt.errors import InputError


@dataclass(frozen=True)
class Bound:
    """Stands in an ``Annotated`` type: the least and the largest value.

    Example:
        >>> Bound(0, 1).text, Bound(0).text
        ('from 0 to 1', '0 or more')
    """

    low: float
    high: float = math.inf

    @property
    def text(self) -> str:
        """The bound in words."""
        return f"{self.low:g} or more" if self.high == math.inf else f"from {self.low:g} to {self.high:g}"


Count = Annotated[int, Bound(0)]
"""How many: samples, bytes, values."""

Amount = Annotated[float, Bound(0)]
"""What cannot be negative: a time, a distance, a spread."""

Share = Annotated[float, Bound(0, 1)]
"""Of a whole."""

Bits = Annotated[int, Bound(1, 64)]
"""Width of a number."""

LARGEST = 2**63 - 1
"""Of whole numbers: no file has more bytes, and what shows them may compute in 64 bits."""

IN_ORDER = (("low", "high"), ("zeros", "size"), ("minimum", "median"), ("median", "p95"))
"""Fields of which the first is at most the second, in every record that has both."""

MEASURED = {
    r"accuracy(_.*)?": Bound(0, 1),
    r"latency_.*|.*_spread|.*_seconds|seconds|arena(_.*)?|uncompressed": Bound(0),
}
"""Name of a measurement of a trial or an artifact -> what its value and interval may be."""


def check_number(value: float, where: str, bound: Bound | None = None) -> None:
    """Raise where a number is none that can be worked with, or is out of its bound.

    Raises:
        InputError: so it is.

    Example:
        >>> try:
        ...     check_number(-1, "Artifact.bytes", Bound(0))
        ... except InputError as error:
        ...     print(error)
        Artifact.bytes: received -1, expected 0 or more
    """
    if isinstance(value, int) and abs(value) > LARGEST:
        raise InputError(f"{where}: received a whole number of {len(str(abs(value)))} digits, expected one of 64 bits")
    if not math.isfinite(value):
        raise InputError(f"{where}: received {value}, expected a finite number")
    if bound is not None and not bound.low <= value <= bound.high:
        raise InputError(f"{where}: received {value}, expected {bound.text}")


def check_text(value: str, where: str) -> None:
    r"""Raise where a text holds half of a character, which no file and no page can.

    Raises:
        InputError: so it does.

    Example:
        >>> try:
        ...     check_text("a\ud800", "Run.title")
        ... except InputError as error:
        ...     print(error)
        Run.title: holds half of a character ('\ud800'), expected text
    """
    half = re.search("[\ud800-\udfff]", value)
    if half:
        raise InputError(f"{where}: holds half of a character ({half[0]!r}), expected text")


def check_together(values: Mapping[str, Any], where: str) -> None:
    """Raise where fields of one record contradict each other.

    Raises:
        InputError: so they do.

    Example:
        >>> try:
        ...     check_together({"low": 0.9, "high": 0.1}, "Measurement")
        ... except InputError as error:
        ...     print(error)
        Measurement: received low 0.9 and high 0.1, expected low at most as large as high
    """
    for first, second in IN_ORDER:
        one, other = values.get(first), values.get(second)
        if isinstance(one, (int, float)) and isinstance(other, (int, float)) and one > other:
            raise InputError(
                f"{where}: received {first} {one} and {second} {other}, expected {first} at most as large as {second}"
            )


def check_measured(values: Mapping[str, Any], where: str) -> None:
    """Raise where a measurement that kompakt named has a value that none of its name has.

    Raises:
        InputError: so it has.

    Example:
        >>> try:
        ...     check_measured({"name": "accuracy_litert", "value": 97.5}, "Measurement")
        ... except InputError as error:
        ...     print(error)
        Measurement.value: received 97.5, expected from 0 to 1 of accuracy_litert
    """
    bound = next((each for name, each in MEASURED.items() if re.fullmatch(name, values["name"])), None)
    for key in ("value", "low", "high"):
        value = values.get(key)
        if bound is not None and value is not None and not bound.low <= value <= bound.high:
            raise InputError(f"{where}.{key}: received {value}, expected {bound.text} of {values['name']}")
