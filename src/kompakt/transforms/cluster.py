"""Weight sharing: replace each weight by the nearest value of a small codebook."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from numbers import Real
from typing import Any

import keras
import numpy as np
from keras import ops

from kompakt.axes import along_channels, channels_back, channels_first
from kompakt.centroids import attend_centroids, nearest_centroid, share_values
from kompakt.codebook import STARTS, starting_codebook
from kompakt.errors import InputError
from kompakt.records import Encoding
from kompakt.schedules import is_whole
from kompakt.summaries import Assigned, Count, Fact
from kompakt.transform import Tensor, Transform

GRADIENTS = ("mean", "sum")


@keras.saving.register_keras_serializable(package="kompakt")
class Cluster(Transform):
    r"""At most ``clusters`` distinct values: :math:`w' = c_{a(w)}`, :math:`a(w) = \arg\min_j |w - c_j|`.

    Han, Mao and Dally 2016, "Deep Compression", arXiv:1510.00149, section 3. The gradient reaches the weight
    straight through, and each centroid as the mean over its members. Assignments follow the weights at every
    step; nothing has to be driven.

    With ``soft`` the centroids are no parameters: a training step attends to them and takes their means, as in
    DKM (see :func:`kompakt.centroids.attend_centroids`), so that the gradient of the weights knows of the
    clustering. The weights used in training are then mixtures of centroids. Outside training, and in
    ``finalize``, each is the nearest centroid, as without ``soft``. A training step holds
    ``iterations * clusters`` floats a weight.

    Args:
        clusters: number of values; None keeps the values that are there ("keep"): those of the tensor, or of
            each channel where the channels share none.
        start: of the codebook: "kmeans++", "linear", "density" or "random" (see :mod:`kompakt.codebook`).
        per_channel: a codebook for each output channel rather than one for the tensor.
        pin_zero: one centroid is 0 and stays 0; None pins where the tensor already has zeros.
        gradient: of a centroid: "mean" of its members' or their "sum" (section 3.3 of the paper, which diverges
            with plain gradient descent: a centroid's step grows with the number of its members).
        soft: temperature of the differentiable assignment, as a share of the mean distance between neighbouring
            centroids; 0.1 is a start. None assigns each weight to the nearest centroid in training too.
        iterations: of attention a training step, with ``soft``.
        members: weights that a centroid's mean gradient is taken over in one step. A larger tensor with one
            codebook is gone through in turns, a block of its rows a step, as a batch goes through the data: each
            weight counts once a round, and a step costs the less. None takes all of them at every step.
        seed: for "kmeans++" and "random".
        asked: the values that an earlier Cluster was asked for, which this one keeps.

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
        gradient: str = "mean",
        soft: float | None = None,
        iterations: int = 5,
        members: int | None = 2**16,
        seed: int = 0,
        asked: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if clusters is not None and not is_whole(clusters):
            raise InputError(f"clusters {clusters!r}: expected a whole number of values")
        if clusters is not None and clusters < 2:
            raise InputError(f"clusters {clusters}: expected at least 2 values")
        if start not in STARTS:
            raise InputError(f"start {start!r}: expected one of {', '.join(STARTS)}")
        if gradient not in GRADIENTS:
            raise InputError(f"gradient {gradient!r}: expected one of {', '.join(GRADIENTS)}")
        for name, flag in (("per_channel", per_channel), ("pin_zero", pin_zero)):
            if not isinstance(flag, (bool, np.bool_, type(None))):
                raise InputError(f"{name} {flag!r}: expected True or False")
        if soft is not None and not (isinstance(soft, Real) and not isinstance(soft, bool) and soft > 0.0):
            raise InputError(f"soft {soft!r}: expected a temperature above 0, such as 0.1, or None")
        if not is_whole(iterations) or iterations < 1:
            raise InputError(f"iterations {iterations!r}: expected a whole number from 1")
        if members is not None and (not is_whole(members) or members < 1):
            raise InputError(f"members {members!r}: expected a whole number from 1, or None for all")
        self.clusters: int | None = None if clusters is None else int(clusters)
        self.asked = asked
        self.start = start
        self.per_channel = bool(per_channel)
        self.pin_zero = pin_zero
        self.gradient = gradient
        self.soft = soft
        self.iterations = iterations
        self.members = members
        self.seed = seed

    def build(self, shape: Sequence[int]) -> None:
        channels = int(np.prod([shape[a] for a in self._axis], dtype=int))
        table = {"shape": (channels, self.clusters)}
        moves = self.soft is None and not self.frozen
        self.centroids = self.add_weight(**table, initializer="zeros", trainable=moves, name="centroids")
        # 1 where a centroid may move: a pinned zero may not.
        self.movable = self.add_weight(**table, initializer="ones", trainable=False, name="movable")
        self.turns = self._turns(shape)
        if self.turns > 1:
            self.turn = self.add_weight(shape=(), initializer="zeros", dtype="int", trainable=False, name="turn")
        self.built = True

    def _turns(self, shape: Sequence[int]) -> int:
        """Steps that a centroid's gradient takes to go through a tensor of ``shape``."""
        size = int(np.prod(shape, dtype=int))
        if self.members is None or size <= self.members or self.per_channel or self.gradient == "sum" or self.soft:
            return 1
        rows, least = size // int(shape[-1]), -(-size // self.members)
        return next((turns for turns in range(least, 2 * least) if rows % turns == 0), 1)

    @property
    def _axis(self) -> tuple[int, ...]:
        return (self.axis or ()) if self.per_channel else ()

    def prepare(self, value: Tensor, axis: Sequence[int]) -> None:
        self.axis = tuple(axis) if self.axis is None else self.axis
        values = ops.convert_to_numpy(value)
        if self.pin_zero is None:
            self.pin_zero = bool((values == 0).any())
        books = self._present(value) if self.clusters is None else self._started(value, self.clusters)
        self.clusters = self.clusters or max(2, *(len(book) for book in books))
        super().prepare(value, axis)
        # Where a channel has fewer values than clusters its largest one fills the row.
        table = np.stack([np.pad(book, (0, self.clusters - len(book)), mode="edge") for book in books])
        self.centroids.assign(table)
        if self.pin_zero:
            self.movable.assign((table != 0).astype("float32"))

    def _started(self, value: Tensor, clusters: int) -> list[Any]:
        """A codebook a channel."""
        rows = ops.convert_to_numpy(channels_first(value, self._axis))
        pinned = bool(self.pin_zero)
        return [starting_codebook(row, clusters, self.start, pin_zero=pinned, seed=self.seed) for row in rows]

    def _present(self, value: Tensor) -> list[Any]:
        """The distinct values: of the tensor, or of each channel where no two have the same.

        Shared by a tensor, a value is in many channels, until a BatchNormalization is folded into them: then each
        has the values times a factor of its own.
        """
        whole = np.unique(ops.convert_to_numpy(value))
        books = [np.unique(row) for row in ops.convert_to_numpy(channels_first(value, self.axis or ()))]
        apart = 2 * np.count_nonzero(whole) > sum(np.count_nonzero(book) for book in books)
        few = self.asked is not None and len(whole) <= self.asked
        self.per_channel = self.per_channel or bool(apart and not few and max(map(len, books)) < len(whole))
        return books if self.per_channel else [whole]

    def call(self, x: Tensor, training: bool = False) -> Tensor:
        if training and self.soft is not None and not self.frozen:
            return self._attend(x, self.soft)
        table = self._table(self.centroids * self.movable, x.shape)
        if self.frozen or self.soft is not None:
            table = ops.stop_gradient(table)
        if self.turns == 1:
            return share_values(x, table, mean=self.gradient == "mean")
        turn = ops.cast(self.turn, "int32")
        if training and not self.frozen:
            self.turn.assign((turn + 1) % self.turns)
        return share_values(x, table, turn=turn, turns=self.turns)

    def _table(self, centroids: Tensor, shape: Sequence[int]) -> Tensor:
        """(clusters, ...) ascending, broadcastable against a tensor of ``shape``."""
        return along_channels(ops.sort(ops.transpose(centroids), axis=0), shape, self._axis)

    def _attend(self, x: Tensor, soft: float) -> Tensor:
        """Mixtures of centroids; the centroids that the attention settles on are kept for the next step."""
        start = self.centroids * self.movable
        gap = (ops.max(start, axis=-1) - ops.min(start, axis=-1)) / (start.shape[-1] - 1.0)
        rows = channels_first(x, self._axis)
        mixed, centroids = attend_centroids(
            rows, start, self.movable, temperature=soft * gap, iterations=self.iterations
        )
        self.centroids.assign(ops.stop_gradient(centroids))
        # What a mask has cut stays cut: a pinned zero is no mixture.
        mixed = mixed * ops.cast(rows != 0, mixed.dtype) if self.pin_zero else mixed
        return channels_back(mixed, x.shape, self._axis)

    def freeze(self) -> None:
        super().freeze()
        if self.built:
            self.centroids.trainable = False

    def keep(self) -> Cluster:
        return Cluster(
            pin_zero=self.pin_zero,
            gradient=self.gradient,
            members=self.members,
            seed=self.seed,
            asked=self.asked or self.clusters,
        )

    def describe(self, value: Tensor, so_far: Encoding) -> Encoding:
        return dataclasses.replace(so_far, palette=self.asked or self.clusters)

    def summaries(self, value: Tensor | None) -> dict[str, Fact]:
        """How many values there are (in a channel, where each has its own), and which weight has which."""
        if value is None:
            return {}
        table = self._table(self.centroids * self.movable, value.shape)
        index = ops.convert_to_numpy(nearest_centroid(ops.cast(value, "float32"), table))
        rows = ops.convert_to_numpy(channels_first(ops.convert_to_tensor(index), self._axis))
        books = np.sort(ops.convert_to_numpy(self.centroids * self.movable), axis=-1)
        used = (len(np.unique(book[np.unique(row)])) for book, row in zip(books, rows, strict=True))
        return {"distinct": Count(max(used)), "cluster_change": Assigned(index)}

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "clusters": self.clusters,
            "start": self.start,
            "per_channel": self.per_channel,
            "pin_zero": self.pin_zero,
            "gradient": self.gradient,
            "soft": self.soft,
            "iterations": self.iterations,
            "members": self.members,
            "seed": self.seed,
            "asked": self.asked,
        }
