"""Which layers get which precision, so that a score is held at the fewest bytes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

NARROW = 4
"""Weight bits of a layer that can do with less."""


EVERY = "*"
"""The rule for all layers."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A layer whose precision can be chosen.

    Attributes:
        weights: how many it has. sqnr_8, sqnr_4: dB at the output with only this layer in 8 bits, or 4-bit weights.
        narrow: 4-bit weights take fewer bytes in its file.
    """

    layer: str
    weights: int
    sqnr_8: float
    sqnr_4: float
    narrow: bool = True


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What was chosen, and why, a line each.

    Attributes:
        rules: of :func:`kompakt.quantize`. saved: bytes of weights less than with all layers in int8; below 0: more.
    """

    rules: dict[str, Any]
    score: float
    saved: int = 0
    why: tuple[str, ...] = field(default=())


def choose(candidates: Sequence[Candidate], score: Callable[[dict[str, Any]], float], floor: float) -> Choice:
    """The rules that keep ``score(rules) >= floor`` with the fewest bytes that were found.

    First as few layers as do are raised: to 16-bit activations, the most sensitive first, then to float. Then as
    many as can be get 4-bit weights, those first that make the least noise for each byte they save. How many is
    found by bisection, which takes it that more layers never score better; what comes after the first that fails is
    tried once more one by one.

    Example:
        >>> layers = [Candidate(layer=n, weights=100, sqnr_8=40.0, sqnr_4=d) for n, d in (("a", 30.0), ("b", 10.0))]
        >>> choose(layers, lambda rules: 1.0 - 0.3 * ("b" in rules), 0.9).rules
        {'a': 4}
    """
    seen: dict[str, float] = {}

    def scored(rules: dict[str, Any]) -> float:
        key = repr(sorted(rules.items()))
        if key not in seen:
            seen[key] = score(rules)
        return seen[key]

    rules, why = _raised(candidates, scored, floor)
    rules, more = _narrowed(candidates, scored, floor, rules)
    why = [*why, *more, f"{len(seen)} assignments were scored"]
    return Choice(rules=rules, score=scored(rules), saved=_saved(candidates, rules), why=tuple(why))


def _saved(candidates: Sequence[Candidate], rules: Mapping[str, Any]) -> int:
    """Bytes of weights that ``rules`` take less than int8: half a byte a 4-bit weight, and three more a float."""
    of = {NARROW: 1, "float": -6}
    return sum(each.weights * of.get(rules.get(each.layer, rules.get(EVERY)), 0) // 2 for each in candidates)


def _raised(
    candidates: Sequence[Candidate], scored: Callable[[dict[str, Any]], float], floor: float
) -> tuple[dict[str, Any], list[str]]:
    start = scored({})
    if start >= floor:
        return {}, [f"all layers in int8 score {start:.4f}, at least {floor:.4f} is asked"]
    lines = [f"all layers in int8 score {start:.4f}, under the {floor:.4f} that is asked"]
    order = sorted(candidates, key=lambda each: each.sqnr_8)
    rules: dict[str, Any] = {}
    for what in ("int16x8", "float"):
        every = {**rules, EVERY: what}
        if what == "int16x8" and scored(every) < floor:
            lines.append(f"all in int16x8 score {scored(every):.4f}")
            rules = every
            continue

        count = _fewest(len(order) + 1, functools.partial(_holds, scored, floor, order, rules, what))
        raised = order[:count]
        lines += [f"{each.layer}: {what}, alone in 8 bits it makes noise at {each.sqnr_8:.1f} dB" for each in raised]
        lines += [f"every layer: {what}"] if count > len(order) else []
        return _with_raised(order, rules, what, count), lines
    return rules, lines


def _with_raised(order: Sequence[Candidate], base: dict[str, Any], what: str, count: int) -> dict[str, Any]:
    """``base``, with the first ``count`` layers raised; one more than there are stands for all layers of the model."""
    raised = [EVERY] if count > len(order) else [each.layer for each in order[:count]]
    return {**base, **dict.fromkeys(raised, what)}


def _holds(
    scored: Callable[[dict[str, Any]], float],
    floor: float,
    order: Sequence[Candidate],
    base: dict[str, Any],
    what: str,
    count: int,
) -> bool:
    return scored(_with_raised(order, base, what, count)) >= floor


def _fewest(most: int, holds: Callable[[int], bool]) -> int:
    """The smallest number up to ``most`` that holds, where all larger ones do."""
    low, high = 0, most
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return high


def _narrowed(
    candidates: Sequence[Candidate],
    scored: Callable[[dict[str, Any]], float],
    floor: float,
    rules: dict[str, Any],
) -> tuple[dict[str, Any], list[str]]:
    if rules.get(EVERY) == "float":
        return rules, []
    free = [each for each in candidates if each.narrow and each.layer not in rules]
    order = sorted(free, key=lambda each: (10.0 ** (-each.sqnr_4 / 10.0) / max(each.weights, 1), each.layer))

    def with_narrow(chosen: Sequence[Candidate]) -> dict[str, Any]:
        return {**rules, **{each.layer: NARROW for each in chosen}}

    count = len(order) - _fewest(len(order), lambda k: scored(with_narrow(order[: len(order) - k])) >= floor)
    chosen, left = order[:count], []
    for each in order[count:]:
        if scored(with_narrow([*chosen, each])) >= floor:
            chosen.append(each)
        else:
            left.append(each)
    lines = [
        f"{each.layer}: 4-bit weights, {each.weights // 2} bytes less, noise at {each.sqnr_4:.1f} dB" for each in chosen
    ]
    lines += [f"{each.layer}: stays in 8 bits, with 4 the score falls under {floor:.4f}" for each in left]
    return with_narrow(chosen), lines
