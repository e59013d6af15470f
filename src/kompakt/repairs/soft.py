"""A layer whose weight is between rounded down and rounded up, as AdaRound trains it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from kompakt.attach import Overlay
from kompakt.numerics import best_step, fake_quantize, integer_limits, own_reach
from kompakt.sites import weight_slots

Tensor = Any
Layer = Any

LOW, HIGH = -0.1, 1.1
"""Gamma and zeta of the rectified sigmoid: it reaches 0 and 1 at finite values."""

FIRST, LAST = 20.0, 2.0
"""Exponents of the regularizer at its start and at its end."""

WARM_UP = 0.2
"""Share of the steps in which nothing pulls towards 0 or 1."""

PULL = 0.5
"""Weight of the regularizer's mean, beside a reconstruction error that is 1 where weights are rounded to nearest."""

AT_ONCE = 128
"""Samples that an error is measured on at once."""


def rectified_sigmoid(v: Tensor) -> Tensor:
    r""":math:`h(V) = clip(\sigma(V) (\zeta - \gamma) + \gamma, 0, 1)`, Nagel et al. 2020, equation (23).

    Example:
        >>> [round(float(h), 3) for h in rectified_sigmoid(ops.array([-9.0, 0.0, 9.0]))]
        [0.0, 0.5, 1.0]
    """
    return ops.clip(ops.sigmoid(v) * (HIGH - LOW) + LOW, 0.0, 1.0)


def sharpness(share: Tensor) -> tuple[Tensor, Tensor]:
    """(exponent, weight) of the regularizer after a ``share`` (0..1) of the steps: from 20 to 2 along a cosine.

    Example:
        >>> [tuple(float(x) for x in sharpness(ops.array(share))) for share in (0.1, 0.2, 1.0)]
        [(20.0, 0.0), (20.0, 0.5), (2.0, 0.5)]
    """
    done = ops.maximum(share - WARM_UP, 0.0) / (1.0 - WARM_UP)
    exponent = LAST + 0.5 * (FIRST - LAST) * (1.0 + ops.cos(done * np.pi))
    return exponent, ops.where(share < WARM_UP, 0.0, PULL)


def round_to_grid(weight: np.ndarray, scale: np.ndarray, bits: int) -> np.ndarray:
    """``weight`` on the symmetric grid of ``scale``, rounded to nearest: what ``FakeQuant`` makes of it."""
    on_grid = fake_quantize(weight, scale, np.zeros_like(scale), bits, symmetric=True)
    return np.array(ops.convert_to_numpy(on_grid))


def own_scale(weight: np.ndarray, bits: int, axis: Sequence[int]) -> np.ndarray:
    """The scale of each channel's own reach, float32, broadcastable: that of ``FakeQuant`` without a range."""
    return np.asarray(ops.convert_to_numpy(own_reach(ops.convert_to_tensor(weight), axis)), "float32") / np.float32(
        integer_limits(bits, symmetric=True)[1]
    )


def best_scale(weight: np.ndarray, bits: int, axis: Sequence[int]) -> np.ndarray:
    """The scale of each channel with the least squared error, as float32 of :func:`kompakt.numerics.best_step`.

    Nagel et al. 2020, section 5, who take the same for their weights.

    Example:
        >>> w = np.array([[1.0], *[[0.6]] * 20], "float32")  # one 1.0 is given up for twenty times 0.6
        >>> round(float(best_scale(w, 2, (-1,))[0, 0]), 2)
        0.62
    """
    return np.asarray(ops.convert_to_numpy(best_step(ops.convert_to_tensor(weight), bits, axis)), "float32")


@dataclass(frozen=True, kw_only=True)
class Steps:
    """Steps of Adam: ``count`` of them, each on ``batch_size`` samples."""

    count: int
    batch_size: int
    learning_rate: float


class SoftRounding(keras.Model):  # type: ignore[misc]
    r"""``layer`` with a weight between two points of its grid.

    .. math:: \tilde{W} = s \cdot clip(\lfloor W / s \rfloor + h(V), q_{min}, q_{max})

    Args:
        layer: with one weight at ``slot``, a copy of its own.
        weight: its float values. scale: broadcasts against it. bits: of the symmetric grid.
    """

    def __init__(self, layer: Layer, slot: str, weight: np.ndarray, scale: np.ndarray, bits: int) -> None:
        super().__init__()
        self.inner = layer
        self.inner.trainable = False
        self.variable = weight_slots(self.inner)[slot][1]
        self.scale, self.limits = scale, integer_limits(bits, symmetric=True)
        self.free = (weight != 0).astype("float32")  # zeros of pruning stay
        steps = np.clip(weight / scale, *self.limits)
        self.floor = np.floor(steps)
        part_of_step = np.clip(steps - self.floor, 1e-4, 1.0 - 1e-4)
        start = -np.log((HIGH - LOW) / (part_of_step - LOW) - 1.0)
        self.up = self.add_weight(shape=weight.shape, name="up", initializer="zeros")
        self.up.assign(start)
        self.share = self.add_weight(shape=(), name="share", initializer="zeros", trainable=False)
        self.advance = 0.0
        self.norm = 1.0

    def learn(
        self,
        x: np.ndarray,
        y: np.ndarray,
        steps: Steps,
        random: np.random.Generator,
        *,
        norm: float,
        tick: Callable[[], None],
    ) -> None:
        """Train the roundings to make ``y`` of ``x``; ``norm``: the mean squared error that counts as 1."""
        self.advance, self.norm = 1.0 / steps.count, norm
        self.compile(optimizer=keras.optimizers.Adam(steps.learning_rate), loss=self._error)
        size = min(steps.batch_size, len(x))
        for _ in range(steps.count):
            chosen = random.choice(len(x), size, replace=False)
            self.train_on_batch(x[chosen], y[chosen])
            tick()

    def _error(self, y: Tensor, made: Tensor) -> Tensor:
        return ops.mean(ops.square(y - made)) / self.norm

    def call(self, x: Tensor, training: bool = False) -> Tensor:
        h = rectified_sigmoid(self.up)
        if training:
            exponent, pull = sharpness(self.share)
            self.add_loss(pull * ops.mean(self.free * (1.0 - ops.power(ops.abs(2.0 * h - 1.0), exponent))))
            self.share.assign(self.share + self.advance)
        return self._run(x, ops.clip(self.floor + self.free * h, *self.limits) * self.scale)

    def _run(self, x: Tensor, weight: Tensor) -> Tensor:
        with Overlay([(self.variable, ops.cast(weight, self.variable.dtype))]):
            return self.inner(x)

    def hard(self) -> np.ndarray:
        """The weight with each value rounded the way that it was nearer to."""
        up = np.asarray(ops.convert_to_numpy(self.up)) >= 0
        steps = np.clip(self.floor + self.free * up, *self.limits)
        return (steps * self.scale).astype("float32")

    def errors(self, x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Mean squared error of each output channel (the last axis) with ``weight``, float64."""
        total, values = 0.0, ops.convert_to_tensor(weight)
        for i in range(0, len(x), AT_ONCE):
            made = ops.convert_to_numpy(self._run(ops.convert_to_tensor(x[i : i + AT_ONCE]), values))
            gap = np.square(np.asarray(made, "float64") - y[i : i + AT_ONCE])
            total = total + gap.reshape(-1, gap.shape[-1]).sum(axis=0)
        return np.asarray(total) * y.shape[-1] / y.size
