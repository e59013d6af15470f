"""The words of ``cluster_weights``, as tfmot writes them, and as :class:`kompakt.transforms.Cluster` does."""

from __future__ import annotations

import enum
from typing import Any

from kompakt.errors import InputError
from kompakt.spelling import one_of


class CentroidInitialization(enum.StrEnum):
    """Where the centroids start.

    LINEAR: evenly over the range. RANDOM: drawn from it. DENSITY_BASED: at equal shares of the weights.
    KMEANS_PLUS_PLUS: drawn far from each other (Arthur and Vassilvitskii 2007, "k-means++", section 2.2).

    Example:
        >>> start_of(CentroidInitialization.DENSITY_BASED), start_of("linear")
        ('density', 'linear')
    """

    LINEAR = "CentroidInitialization.LINEAR"
    RANDOM = "CentroidInitialization.RANDOM"
    DENSITY_BASED = "CentroidInitialization.DENSITY_BASED"
    KMEANS_PLUS_PLUS = "CentroidInitialization.KMEANS_PLUS_PLUS"


class GradientAggregation(enum.StrEnum):
    """How the gradients of the weights that share a centroid come together in its own: their SUM, or mean (AVG).

    Example:
        >>> gradient_of(GradientAggregation.SUM)
        'sum'
    """

    SUM = "GradientAggregation.SUM"
    AVG = "GradientAggregation.AVG"


_STARTS = {
    "linear": "linear",
    "random": "random",
    "density_based": "density",
    "density": "density",
    "kmeans_plus_plus": "kmeans++",
    "kmeans++": "kmeans++",
}
_GRADIENTS = {"sum": "sum", "avg": "mean", "mean": "mean"}


def start_of(given: Any) -> str:
    """kompakt's word for ``cluster_centroids_init``: a CentroidInitialization, its value or a string of the guides.

    Raises:
        InputError: none of them.
    """
    return _word(given, _STARTS, "cluster_centroids_init")


def gradient_of(given: Any) -> str:
    """kompakt's word for ``cluster_gradient_aggregation``.

    Raises:
        InputError: no such word.
    """
    return _word(given, _GRADIENTS, "cluster_gradient_aggregation")


def _word(given: Any, known: dict[str, str], name: str) -> str:
    text = given.value if isinstance(given, enum.Enum) else given
    word = str(text).rsplit(".", 1)[-1].lower().replace("-", "_")
    if word not in known:
        raise InputError(f"{name}={given!r}: {one_of(word, known)}")
    return known[word]
