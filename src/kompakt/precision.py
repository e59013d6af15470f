"""How many bits the weights and the activations of a layer have, in each mode of ``quantize``."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Integral
from typing import Any

from kompakt.errors import InputError

FEWEST_BITS, MOST_BITS = 2, 8
"""Of a weight that is integer in a file."""

USUAL_BITS = 8
"""Of weights and activations in an integer file: weights of fewer may cost accuracy, as was asked."""


@dataclass(frozen=True, kw_only=True)
class Precision:
    """Bits of the weights and of the activations of a layer, None for float."""

    weights: int | None
    activations: int | None

    @property
    def integer(self) -> bool:
        """Whether the layer computes in integers in its file."""
        return self.activations is not None


FLOAT = Precision(weights=None, activations=None)

PRECISIONS: dict[str, Precision] = {
    "float": FLOAT,
    "int8": Precision(weights=8, activations=8),
    "w4a8": Precision(weights=4, activations=8),
    "int16x8": Precision(weights=8, activations=16),
    "dynamic_int8": Precision(weights=8, activations=None),
    "weight_only_int8": Precision(weights=8, activations=None),
}
"""Mode -> what it makes of every layer."""

MIXED = "mixed"
"""Mode of a file whose layers have several precisions."""

INTEGER = ("int8", "w4a8", "int16x8")
"""Modes in which a whole file computes in integers."""

GRIDDED = (*INTEGER, MIXED)
"""Modes whose files have activations on integer grids."""

RULES = ("float", *INTEGER)
"""What a rule may make of a layer, by name."""


def of_rule(value: Any) -> Precision:
    """The precision that a rule names: a mode, or a number of weight bits (with int8 activations, by itself).

    In :func:`kompakt.assignment.assign` a number changes the weights alone: activations stay those of the mode.

    Raises:
        InputError: neither.

    Example:
        >>> of_rule("int16x8").activations, of_rule(4).weights
        (16, 4)
    """
    if isinstance(value, str) and value in RULES:
        return PRECISIONS[value]
    if isinstance(value, Integral) and not isinstance(value, bool) and FEWEST_BITS <= int(value) <= MOST_BITS:
        return Precision(weights=int(value), activations=8)
    close = difflib.get_close_matches(str(value), RULES, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise InputError(
        f"a rule says {value!r}: expected {', '.join(RULES)}, or {FEWEST_BITS} to {MOST_BITS} for the bits of its "
        f"weights{hint}"
    )


def mode_of(weights: Iterable[int | None], activations: Iterable[int | None]) -> str:
    """The mode of a model with these bits: one that has them all, else "mixed".

    Example:
        >>> mode_of([8, 8], [8]), mode_of([8, 4], [8]), mode_of([8], [])
        ('int8', 'mixed', 'dynamic_int8')
    """
    held, ranges = set(weights), set(activations)
    for name in ("int8", "int16x8", "w4a8"):
        known = PRECISIONS[name]
        if held <= {known.weights} and ranges == {known.activations}:
            return name
    return MIXED if ranges else "dynamic_int8"
