"""Compare what a file computes with what it should compute. Plain numpy; nothing here runs a model."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from kompakt.records import Agreement

Array = np.ndarray

LARGEST = float(np.finfo("float64").max)
"""Stands for a difference that cannot be computed: a record holds numbers, and infinity is none in JSON."""

LEAST_SPREAD = 1 / 20
"""Of the largest magnitude: the least that an output's spread is taken for."""


def agreement(
    reference: Sequence[Array],
    found: Sequence[Array],
    lsb: Sequence[float | None],
    *,
    name: str = "simulation",
) -> Agreement:
    """How ``found`` agrees with ``reference``, over all outputs of a model: the worst of each.

    A NaN on either side counts as the largest difference there is, never as agreement.

    Args:
        reference, found: one array an output, (samples, ...), float. lsb: step of each output's integer grid.
        name: what the reference is.

    Example:
        >>> a = agreement([np.array([[0.0, 1.0]])], [np.array([[0.0, 0.9]])], [0.1])
        >>> a.argmax, round(a.max_lsb, 3), a.exact
        (1.0, 1.0, 0.5)
    """
    pairs = [
        _one(np.asarray(r, "float64"), np.asarray(f, "float64"), step)
        for r, f, step in zip(reference, found, lsb, strict=True)
    ]
    steps = [min(max_abs / step, LARGEST) for (_, max_abs, _), step in zip(pairs, lsb, strict=True) if step]
    return Agreement(
        samples=len(reference[0]),
        argmax=min(argmax for argmax, _, _ in pairs),
        max_abs=max(max_abs for _, max_abs, _ in pairs),
        exact=min(exact for _, _, exact in pairs),
        lsb=max((step for step in lsb if step), default=None),
        max_lsb=max(steps) if len(steps) == len(pairs) else None,
        reference=name,
        relative=max(map(relative_error, reference, found)),
    )


def relative_error(reference: Array, found: Array) -> float:
    r"""How far ``found`` is from ``reference``, of any one shape, in units of the reference's spread.

    .. math:: \sqrt{mean((f - r)^2)} / \max(std(r), \max|r| / 20)

    The second term is for outputs that hardly change: what float32 loses of 1000.0 is no difference. NaN, or
    another shape, is the largest difference there is.

    Example:
        >>> relative_error(np.array([0.0, 2.0]), np.array([0.5, 2.5]))
        0.5
    """
    with np.errstate(invalid="ignore"):  # a signalling NaN warns when it is cast
        r, f = np.asarray(reference, "float64"), np.asarray(found, "float64")
    if r.shape != f.shape or not (np.isfinite(r) & np.isfinite(f)).all():
        return LARGEST
    if not r.size:
        return 0.0
    error = float(np.sqrt(np.mean((f - r) ** 2)))
    return min(LARGEST, error / (max(float(r.std()), float(np.abs(r).max()) * LEAST_SPREAD) or 1.0))


def has_classes(output: Array) -> bool:
    """Whether an output, (samples, ..., values), has a largest value to agree on.

    Example:
        >>> has_classes(np.zeros((8, 10))), has_classes(np.zeros((8, 1)))
        (True, False)
    """
    return output.ndim >= 2 and output.shape[-1] >= 2


def argmax_or_tie(reference: Sequence[Array], found: Sequence[Array], tie: Sequence[float]) -> float:
    """Share of samples whose largest value in ``reference`` is the largest in ``found`` too, or ``tie`` away from it.

    Example:
        >>> argmax_or_tie([np.array([[0.0, 1.0]])], [np.array([[0.6, 0.5]])], [0.2])
        1.0
    """
    return min(_near_top(np.asarray(r), np.asarray(f), t) for r, f, t in zip(reference, found, tie, strict=True))


def _near_top(reference: Array, found: Array, tie: float) -> float:
    if not has_classes(reference):
        return float(np.isfinite(found).all())
    at = np.take_along_axis(found, reference.argmax(-1)[..., None], -1)[..., 0]
    return float((at >= found.max(-1) - tie).mean())


def _one(reference: Array, found: Array, step: float | None) -> tuple[float, float, float]:
    """(argmax agreement, largest difference, share equal) of one output."""
    if reference.shape != found.shape:
        return 0.0, LARGEST, 0.0
    bad = ~(np.isfinite(reference) & np.isfinite(found))
    difference = np.abs(np.where(bad, LARGEST, reference) - np.where(bad, 0.0, found))
    equal = difference <= (step / 2 if step else 1e-6 * max(1.0, float(np.abs(reference[~bad]).max(initial=0))))
    return _argmax(reference, found, bad), float(difference.max(initial=0.0)), float(equal.mean())


def _argmax(reference: Array, found: Array, bad: Array) -> float:
    if not has_classes(reference):
        return float(not bad.any())
    same = reference.argmax(-1) == found.argmax(-1)
    return float((same & ~bad.any(-1)).mean())


def zeros_and_distinct(values: Array, axes: int | Sequence[int] | None, zero: float = 0.0) -> tuple[int, int]:
    """(values equal to ``zero``, most distinct values in any slice along ``axes``); no axes: in all of them.

    Example:
        >>> zeros_and_distinct(np.array([[0, 1, 2], [0, 0, 1]]), 0)
        (3, 3)
        >>> zeros_and_distinct(np.array([[[0, 1], [2, 3]], [[0, 1], [4, 3]]]), (1, 2))
        (2, 2)
    """
    kept = () if axes is None else (axes,) if isinstance(axes, int) else tuple(axes)
    first = np.moveaxis(values, kept, range(len(kept)))
    rows = first.reshape(math.prod(first.shape[: len(kept)]), -1)
    return int((values == zero).sum()), max(len(np.unique(row)) for row in rows)
