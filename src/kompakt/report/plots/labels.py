"""Where the labels of points go, so that none covers another, a marker or a line."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

MARKER = 7.5
"""Diameter of a marker."""
NEAR = 15.0
"""A label farther than this from its marker needs a line to it."""


class Box(NamedTuple):
    """A rectangle in points, from the lower left corner of the figure."""

    left: float
    bottom: float
    right: float
    top: float

    def overlaps(self, other: Box) -> bool:
        """Whether the two share any area.

        Example:
            >>> Box(0, 0, 2, 2).overlaps(Box(1, 1, 3, 3)), Box(0, 0, 1, 1).overlaps(Box(1, 0, 2, 1))
            (True, False)
        """
        return (
            self.left < other.right and other.left < self.right and self.bottom < other.top and other.bottom < self.top
        )

    def inside(self, frame: Box) -> bool:
        """Whether ``frame`` holds all of this.

        Example:
            >>> Box(1, 1, 2, 2).inside(Box(0, 0, 3, 3))
            True
        """
        return (
            frame.left <= self.left
            and self.right <= frame.right
            and frame.bottom <= self.bottom
            and self.top <= frame.top
        )


def merge_labels(places: Sequence[tuple[float, float]], labels: Sequence[str]) -> dict[tuple[float, float], list[str]]:
    """Labels by place; markers that the eye can't tell apart share the first one's.

    Example:
        >>> merge_labels([(10, 10), (11, 10), (50, 10)], ["a", "b", "c"])
        {(10, 10): ['a', 'b'], (50, 10): ['c']}
    """
    groups: dict[tuple[float, float], list[str]] = {}
    for place, label in zip(places, labels, strict=True):
        near = next((known for known in groups if math.dist(known, place) < MARKER / 2), place)
        groups.setdefault(near, []).append(label)
    return groups


def place_labels(
    anchors: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    frame: Box,
    lines: Sequence[Box] = (),
    unnamed: Sequence[tuple[float, float]] = (),
) -> tuple[Box, ...]:
    """A box for each label, near its anchor, inside ``frame`` and clear of markers and other labels.

    The nearest free place on growing rings round the anchor is taken, off the ``lines`` and one whose leader
    crosses no label if there is one. Where nothing is free, the label goes right of its anchor and overlaps.
    ``unnamed``: markers that have no label; none covers them either.

    Example:
        >>> place_labels([(50, 50)], [(20, 10)], Box(0, 0, 100, 100))[0].left > 50
        True
    """
    taken = [_around(x, y, MARKER / 2 + 1) for x, y in (*anchors, *unnamed)]
    placed: list[Box] = []
    for anchor, size in zip(anchors, sizes, strict=True):
        candidates = list(_candidates(anchor, size))
        free = [box for box in candidates if box.inside(frame) and not _hits([box], taken)]
        free = [box for box in free if not _hits([box], lines)] or free
        clear = (box for box in free if not _hits(_leader(anchor, box), placed))
        box = next(clear, (free or candidates)[0])
        placed.append(box)
        taken += [box, *_leader(anchor, box)]
    return tuple(placed)


def near_end(anchor: tuple[float, float], box: Box) -> tuple[float, float]:
    """Where the line from a marker meets its label.

    Example:
        >>> near_end((0, 5), Box(20, 0, 60, 10))
        (20, 5)
    """
    x = min(max(anchor[0], box.left), box.right)
    return x, min(max(anchor[1], box.bottom + 2), box.top - 2)


_RINGS = (8.0, 15.0, 24.0, 36.0, 50.0, 66.0, 84.0, 104.0, 128.0, 156.0)
_ANGLES = (0, 180, 90, 270, 30, 330, 150, 210, 60, 300, 120, 240)


def _candidates(anchor: tuple[float, float], size: tuple[float, float]) -> Iterable[Box]:
    width, height = size
    for ring in _RINGS:
        for angle in _ANGLES:
            dx, dy = ring * math.cos(math.radians(angle)), ring * math.sin(math.radians(angle))
            # The label hangs on its near edge, so that a ring means the same on all sides.
            left = anchor[0] + dx - width * (0.5 if abs(dx) < 0.01 else dx < 0)
            bottom = anchor[1] + dy - height * (1 - math.sin(math.radians(angle))) / 2
            yield Box(left, bottom, left + width, bottom + height)


def _hits(boxes: Iterable[Box], others: Sequence[Box]) -> bool:
    return any(box.overlaps(other) for box in boxes for other in others)


def _around(x: float, y: float, radius: float) -> Box:
    return Box(x - radius, y - radius, x + radius, y + radius)


def _leader(anchor: tuple[float, float], box: Box) -> list[Box]:
    """The line from an anchor to its label, as small boxes."""
    end = near_end(anchor, box)
    count = int(math.dist(anchor, end) // 4)
    shares = [step / count for step in range(1, count)]
    return [_around(anchor[0] + (end[0] - anchor[0]) * t, anchor[1] + (end[1] - anchor[1]) * t, 1) for t in shares]
