"""Weight sharing: replace each weight by the nearest value of a small codebook."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import keras
import numpy as np
from keras import ops

from kompakt.errors import InputError
from kompakt.numerics import channels_back, channels_first, nearest_centroid
from kompakt.records import Encoding
from kompakt.transform import Tensor, Transform

STARTS = ("linear", "kmeans++")


@keras.saving.register_keras_serializable(package="kompakt")
class Cluster(Transform):
    r"""At most ``clusters`` distinct values: :math:`w' = c_{a(w)}`, :math:`a(w) = \arg\min_j |w - c_j|`.

    Han, Mao and Dally 2016, "Deep Compression", arXiv:1510.00149, section 3. The gradient reaches the weight
    straight through, and each centroid as the *mean* over its members (their section 3.3 sums, which diverges
    with plain SGD). Assignments follow the weights at every step; nothing has to be driven.

    Args:
        clusters: number of values; None keeps the values that are there ("keep"), per channel.
        start: "linear" (evenly over the range; section 3.2) or "kmeans++" (Arthur and Vassilvitskii 2007).
        per_channel: a codebook for each output channel rather than one for the tensor.
        pin_zero: one centroid is 0 and stays 0; None pins where the tensor already has zeros.
        seed: for "kmeans++". asked: the values that an earlier Cluster was asked for, which this one keeps.

    Example:
        >>> cluster = Cluster(2, start="linear")
        >>> w = ops.array([[-1.0, -0.9], [0.8, 1.0]])
        >>> cluster.prepare(w, (-1,))
        >>> ops.convert_to_numpy(cluster(w)).tolist()
        [[-1.0, -1.0], [1.0, 1.0]]
    """

    def __init__(
        self,
        clusters: int | None = None,
        *,
        start: str = "kmeans++",
        per_channel: bool = False,
        pin_zero: bool | None = None,
        seed: int = 0,
        asked: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if clusters is not None and (not isinstance(clusters, Integral) or isinstance(clusters, bool)):
            raise InputError(f"clusters {clusters!r}: expected a whole number of values")
        if clusters is not None and clusters < 2:
            raise InputError(f"clusters {clusters}: expected at least 2 values")
        if start not in STARTS:
            raise InputError(f"start {start!r}: expected one of {', '.join(STARTS)}")
        self.clusters: int | None = None if clusters is None else int(clusters)
        self.asked = asked
        self.start = start
        self.per_channel = bool(per_channel or clusters is None)
        self.pin_zero = pin_zero
        self.seed = seed

    def build(self, shape: Sequence[int]) -> None:
        channels = int(np.prod([shape[a] for a in self._axis], dtype=int))
        self.centroids = self.add_weight(shape=(channels, self.clusters), initializer="zeros", name="centroids")
        # 1 where a centroid may move: a pinned zero may not.
        self.movable = self.add_weight(
            shape=(channels, self.clusters), initializer="ones", trainable=False, name="movable"
        )
        self.built = True

    @property
    def _axis(self) -> tuple[int, ...]:
        return (self.axis or ()) if self.per_channel else ()

    def prepare(self, value: Tensor, axis: Sequence[int]) -> None:
        self.axis = tuple(axis) if self.axis is None else self.axis
        rows = ops.convert_to_numpy(channels_first(value, self._axis))
        if self.pin_zero is None:
            self.pin_zero = bool((rows == 0).any())
        if self.clusters is None:
            books = [np.unique(row) for row in rows]
            self.clusters = max(2, *(len(book) for book in books))
        else:
            books = [self._codebook(row) for row in rows]
        super().prepare(value, axis)
        table = np.stack([np.pad(book, (0, self.clusters - len(book)), mode="edge") for book in books])
        self.centroids.assign(table)
        if self.pin_zero:
            self.movable.assign((table != 0).astype("float32"))

    def _codebook(self, values: np.ndarray) -> np.ndarray:
        """Ascending start values for one channel, at most ``clusters``; fewer where there are fewer values."""
        assert self.clusters is not None
        present = np.unique(values)
        if len(present) <= self.clusters:
            return present
        free = self.clusters - 1 if self.pin_zero else self.clusters
        if self.start == "linear":
            book = np.linspace(present[0], present[-1], free)
        else:
            book = self._kmeans(values[values != 0] if self.pin_zero else values, free)
        return np.unique(np.append(book, 0.0) if self.pin_zero else book).astype("float32")

    def _kmeans(self, values: np.ndarray, k: int) -> np.ndarray:
        from sklearn.cluster import KMeans

        if len(np.unique(values)) <= k:
            return np.unique(values)
        found = KMeans(k, init="k-means++", n_init=1, random_state=self.seed).fit(values.reshape(-1, 1))
        return np.sort(found.cluster_centers_.ravel())

    def call(self, x: Tensor, training: bool = False) -> Tensor:
        rows = channels_first(x, self._axis)
        centroids = self.centroids * self.movable
        order = ops.argsort(ops.stop_gradient(centroids), axis=-1)
        centroids = ops.take_along_axis(centroids, order, axis=-1)
        fixed = ops.stop_gradient(centroids)
        index = nearest_centroid(ops.stop_gradient(rows), fixed)
        if training and not self.frozen:
            centroids = self._mean_gradient(centroids, index)
        chosen = ops.take_along_axis(centroids, index, axis=-1)
        # The value is the centroid's alone; the weight adds nothing but its gradient.
        return channels_back(chosen, x.shape, self._axis) + (x - ops.stop_gradient(x))

    @staticmethod
    def _mean_gradient(centroids: Tensor, index: Tensor) -> Tensor:
        """The same values, with the gradient (a sum over the members) divided by the number of members."""
        offset = ops.expand_dims(ops.arange(centroids.shape[0]) * centroids.shape[1], -1)
        flat = ops.reshape(index + ops.cast(offset, index.dtype), (-1,))
        size = int(centroids.shape[0]) * int(centroids.shape[1])
        members = ops.segment_sum(ops.ones_like(flat, dtype="float32"), flat, num_segments=size)
        share = 1.0 / ops.maximum(ops.reshape(members, centroids.shape), 1.0)
        slow = centroids * share
        return ops.stop_gradient(centroids - slow) + slow

    def keep(self) -> Cluster:
        return Cluster(pin_zero=self.pin_zero, seed=self.seed, asked=self.asked or self.clusters)

    def describe(self, value: Tensor, so_far: Encoding) -> Encoding:
        return dataclasses.replace(so_far, palette=self.asked or self.clusters)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "clusters": self.clusters,
            "start": self.start,
            "per_channel": self.per_channel,
            "pin_zero": self.pin_zero,
            "seed": self.seed,
            "asked": self.asked,
        }
