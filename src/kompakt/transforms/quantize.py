"""Quantization in simulation: put a tensor on the integer grid a deployed file will use."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kompakt.errors import InputError
from kompakt.numerics import (
    WIDE,
    best_step,
    fake_quantize,
    fake_quantize_learned,
    fake_quantize_weight,
    inside_grid,
    integer_limits,
    own_reach,
    quantize,
    scale_from_range,
)
from kompakt.records import Encoding
from kompakt.summaries import Fact, Moving, Number, Share, histogram
from kompakt.transform import Tensor, Transform
from kompakt.transforms.moving import evened, moved, moved_grid

RANGES = ("minmax", "moving_average", "all_values", "lsq")
"""How training treats a range."""


@keras.saving.register_keras_serializable(package="kompakt")
class FakeQuant(Transform):
    r"""Quantize and dequantize: :math:`x' = s (clip(round(x/s + z), q_{min}, q_{max}) - z)`.

    Jacob et al. 2018, arXiv:1712.05877, sections 2.1 and 3; straight-through gradient inside the range, zero
    outside. Weights take a symmetric narrow grid (no lowest integer) with one scale a channel, from their own
    minimum and maximum at every step; activations an asymmetric grid with one scale (16 bits: symmetric, as
    runtimes have it), whose range starts from
    calibration (or, failing that, from the first training batch, never from a guess) and then follows a moving
    average of each batch's minimum and maximum.

    With "lsq" the step is learned, of weights and activations: :math:`s = s_0 e^\theta`, which is positive and of
    which an optimizer's step moves a share; :math:`s_0` is from the weight (:func:`best_step`) or from
    calibration. Activations learn their zero point too, :math:`z = z_0 + \delta`. The gradients of s and z are
    multiplied by :math:`1 / \sqrt{N q_{max}}`, N the values that share the step (of an activation: in one sample).
    Esser et al. 2020, arXiv:1902.08153; Bhalgat et al. 2020 (LSQ+), arXiv:2004.09576.

    Args:
        bits: 2..16.
        symmetric: narrow symmetric grid (weights) or asymmetric (activations).
        ranges: "minmax" (weights: of the tensor now; activations: of all that was seen in calibration, then
            fixed), "moving_average" (activations: keeps following in training), "all_values" (activations: widens
            to hold every training batch) or "lsq" (learned).
        momentum: share of the old range kept a training step.
        low, high: a range given in advance, which stays (such as softmax's 0..1). What is outside is clipped.
        mode: what the file that this is for is called, e.g. "w4a8".
        per_tensor: of weights: all channels have one range. A file still has a scale a channel, all of them alike.
        even: of activations: the range reaches as far below 0 as above, so that the zero point is 0.
        in_training: False leaves the tensor as it is in training, where activations are only watched; outside
            training, and in the file, it is on its grid all the same.

    Example:
        >>> quant = FakeQuant(8, symmetric=True)
        >>> w = ops.array([[0.5, -1.27], [0.004, 0.1]])
        >>> quant.prepare(w, (-1,))
        >>> ops.convert_to_numpy(ops.round(quant(w) * 1e4)).tolist()
        [[5000.0, -12700.0], [39.0, 1000.0]]
    """

    def __init__(
        self,
        bits: int = 8,
        *,
        symmetric: bool = True,
        ranges: str = "minmax",
        momentum: float = 0.99,
        low: float | None = None,
        high: float | None = None,
        mode: str | None = None,
        per_tensor: bool = False,
        even: bool = False,
        in_training: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not 2 <= bits <= 16:
            raise InputError(f"bits {bits}: expected 2 to 16")
        if ranges not in RANGES:
            raise InputError(f"ranges {ranges!r}: expected one of {', '.join(RANGES)}")
        if not 0.0 <= momentum < 1.0:
            raise InputError(f"momentum {momentum}: expected a share from 0 to below 1")
        if (low is None) != (high is None):
            raise InputError(f"low={low}, high={high}: give both ends of the range or neither")
        if even and ranges == "lsq":
            raise InputError("even=True with ranges='lsq': a zero point that is learned is not 0; leave one out")
        self.bits = bits
        self.symmetric = symmetric
        self.ranges = ranges
        self.momentum = momentum
        self.low, self.high = low, high
        self.mode = mode
        self.per_tensor = bool(per_tensor)
        self.even = bool(even)
        self.in_training = bool(in_training)
        self.calibrating: str | Callable[[Tensor], None] | None = None
        """A method of :meth:`observe`, or what looks at each batch instead; not saved."""
        self.active = True
        """Off: the tensor passes as it is; not saved."""

    @property
    def on_weights(self) -> bool:  # type: ignore[override]
        """A weight is its own calibration; an activation has to be seen."""
        return self.symmetric

    @property
    def centered(self) -> bool:
        """The grid is symmetric about 0: of a weight, or of a 16-bit activation."""
        return self.symmetric or self.bits == WIDE

    @property
    def fixed(self) -> bool:
        """The range was given in advance."""
        return self.low is not None

    @property
    def own_axes(self) -> tuple[int, ...]:
        """The axes along which there is a range each."""
        return () if self.per_tensor else self.axis or ()

    @property
    def learns(self) -> bool:
        """The step is learned."""
        return self.ranges == "lsq" and not self.fixed

    def build(self, shape: Sequence[int]) -> None:
        state = {"shape": self._state_shape(shape), "trainable": False}
        if self.learns:
            learned = {**state, "trainable": not self.frozen}
            self.log_step = self.add_weight(initializer="zeros", name="log_step", **learned)
            learned["trainable"] = not (self.frozen or self.centered)
            self.shift = self.add_weight(initializer="zeros", name="shift", **learned)
        self.range_min = self.add_weight(initializer="zeros", name="range_min", **state)
        self.range_max = self.add_weight(initializer="zeros", name="range_max", **state)
        self.seen = self.add_weight(shape=(), initializer="zeros", trainable=False, name="seen")
        self.built = True
        if self.fixed:
            self.set_range(self.low, self.high)

    def _state_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """One value a channel, with the rank of the tensor; () for an activation."""
        kept = {a % len(shape) for a in self.own_axes} if shape else set()
        return tuple(int(n) if a in kept else 1 for a, n in enumerate(shape)) if self.on_weights else ()

    def set_range(self, low: Any, high: Any) -> None:
        """Use ``[low, high]`` from now on (until training moves it)."""
        self.range_min.assign(ops.broadcast_to(low, self.range_min.shape))
        self.range_max.assign(ops.broadcast_to(high, self.range_max.shape))
        self.seen.assign(1.0)
        if self.learns:
            self.log_step.assign(ops.zeros(self.log_step.shape))
            self.shift.assign(ops.zeros(self.shift.shape))

    def forget(self) -> None:
        """Go back to before anything was seen: the next that is observed is the first."""
        self.set_range(0.0, 0.0)
        self.seen.assign(0.0)

    def prepare(self, value: Tensor, axis: Sequence[int]) -> None:
        super().prepare(value, axis)
        if self.learns and self.on_weights:
            reach = best_step(value, self.bits, self.own_axes) * integer_limits(self.bits, symmetric=True)[1]
            self.set_range(-reach, reach)

    def range_now(self) -> tuple[float, float]:
        """(low, high) of an activation's grid; meaningless before anything was seen."""
        if not self.learns:
            low, high = ops.convert_to_tensor(self.range_min), ops.convert_to_tensor(self.range_max)
            if self.even and not self.centered:
                low, high = evened(low, high, self.bits)
            return float(low), float(high)
        scale, zero_point = self._scale()
        least, most = integer_limits(self.bits, symmetric=self.centered)
        step, zero = (float(ops.convert_to_numpy(t)) for t in (scale, zero_point))
        return (-most if self.centered else least - zero) * step, (most - zero) * step

    def _scale(self) -> tuple[Tensor, Tensor]:
        """(scale, zero point) of the grid now; the zero point is a whole number."""
        scale, zero_point = self._steps(ops.convert_to_tensor(self.range_min), ops.convert_to_tensor(self.range_max))
        if not self.learns:
            return scale, zero_point
        scale, zero_point = self._learned(scale, zero_point)
        return scale, ops.round(zero_point)

    def _steps(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """(scale, zero point) of the grid that covers a range."""
        if self.even and not self.centered:
            low, high = evened(low, high, self.bits)
        return scale_from_range(low, high, self.bits, symmetric=self.centered)

    def _learned(self, scale: Tensor, zero_point: Tensor) -> tuple[Tensor, Tensor]:
        """What training has made of the start; the zero point not yet rounded."""
        least, most = integer_limits(self.bits, symmetric=self.centered)
        step, shift = ops.convert_to_tensor(self.log_step), ops.convert_to_tensor(self.shift)
        return scale * ops.exp(step), ops.clip(zero_point + shift, least, most)

    def _on_learned(self, x: Tensor) -> Tensor:
        low, high = ops.convert_to_tensor(self.range_min), ops.convert_to_tensor(self.range_max)
        scale, zero_point = self._learned(*scale_from_range(low, high, self.bits, symmetric=self.centered))
        if self.frozen:
            scale, zero_point = ops.stop_gradient(scale), ops.stop_gradient(zero_point)
        sizes = x.shape if self.on_weights else x.shape[1:]
        shared = math.prod(int(n) for n in sizes if n is not None) / math.prod(self.log_step.shape)
        most = integer_limits(self.bits, symmetric=self.centered)[1]
        gain = 1.0 / math.sqrt(max(shared, 1.0) * most)
        return fake_quantize_learned(x, scale, zero_point, self.bits, symmetric=self.centered, gain=gain)

    def call(self, x: Tensor, training: bool = False) -> Tensor:
        if not self.active:
            return x
        x32 = ops.cast(x, "float32")
        if self.calibrating:
            if callable(self.calibrating):
                self.calibrating(x32)
            else:
                self.observe(x32, self.calibrating)
            return x
        if self.learns:
            on_grid = self._on_learned(x32)
            return on_grid if self.on_weights else ops.cast(ops.where(self.seen > 0, on_grid, x32), x.dtype)
        if training and not self.in_training:
            if self._moves:
                self._follow(x32)
            return x
        if self.on_weights:
            if not (self.frozen or self.fixed):
                return fake_quantize_weight(x32, self.bits, self.own_axes)
            return self._grid(x32, self.range_min, self.range_max)
        if training and self._moves:
            return ops.cast(self._follow(x32), x.dtype)
        on_grid = self._grid(x32, self.range_min, self.range_max)
        return ops.cast(on_grid if self.fixed else ops.where(self.seen > 0, on_grid, x32), x.dtype)

    @property
    def _moves(self) -> bool:
        """Whether a training batch moves the range."""
        follows = self.ranges in ("moving_average", "all_values")
        return follows and not (self.on_weights or self.frozen or self.fixed)

    def _follow(self, x: Tensor) -> Tensor:
        """The batch ``x`` on the grid of the range that it has moved."""
        if self.ranges == "all_values":
            self.observe(ops.stop_gradient(x))
            return self._grid(x, self.range_min, self.range_max)
        keep = ops.where(self.seen > 0, self.momentum, 0.0)
        batch = ops.stop_gradient(x)
        low, high, scale, zero_point = moved_grid(self.bits, self.centered, self.even)(
            ops.cast(self.range_min, "float32"),
            ops.cast(self.range_max, "float32"),
            ops.min(batch),
            ops.max(batch),
            keep,
        )
        self.range_min.assign(low)
        self.range_max.assign(high)
        self.seen.assign(self.seen + 1.0)
        return fake_quantize(x, scale, zero_point, self.bits, symmetric=self.centered)

    def _grid(self, x: Tensor, low: Tensor, high: Tensor) -> Tensor:
        scale, zero_point = self._steps(low, high)
        return fake_quantize(x, scale, zero_point, self.bits, symmetric=self.centered)

    def observe(self, x: Tensor, method: str = "minmax") -> None:
        """Take a batch ``x`` into the range.

        "minmax" widens it to hold ``x``; "moving_average" makes it the mean of the batches' minima and maxima,
        which an outlier in one batch moves little (all batches count alike).
        """
        if self.fixed or self.on_weights:
            return
        if method == "moving_average":
            self._move(x, self.seen / (self.seen + 1.0))
            return
        low, high = ops.min(x), ops.max(x)
        first = self.seen == 0
        self.range_min.assign(ops.where(first, low, ops.minimum(self.range_min, low)))
        self.range_max.assign(ops.where(first, high, ops.maximum(self.range_max, high)))
        self.seen.assign(self.seen + 1.0)

    def _move(self, x: Tensor, keep: Tensor) -> None:
        """Range := ``keep`` of the old one and the rest of the batch's."""
        self.range_min.assign(moved(self.range_min, ops.min(x), keep))
        self.range_max.assign(moved(self.range_max, ops.max(x), keep))
        self.seen.assign(self.seen + 1.0)

    def freeze(self) -> None:
        super().freeze()
        self.calibrating = None
        if self.learns and self.built:
            self.log_step.trainable = self.shift.trainable = False

    def finish(self, value: Tensor) -> None:
        if self.on_weights and not (self.frozen or self.learns or self.fixed):
            reach = own_reach(value, self.own_axes)
            self.set_range(-reach, reach)

    def describe(self, value: Tensor, so_far: Encoding) -> Encoding:
        if not ops.convert_to_numpy(self.seen) > 0:
            raise InputError(
                "an activation's range was never measured: pass calibration= to quantize, call kompakt.calibrate, or "
                "fit the model"
            )
        scale, zero_point = self._scale()
        scales, zeros = ops.convert_to_numpy(scale).ravel(), ops.convert_to_numpy(zero_point).ravel()
        if self.on_weights and self.per_tensor:
            channels = math.prod(int(value.shape[a]) for a in self.axis or ())
            scales, zeros = np.repeat(scales, channels), np.repeat(zeros, channels)
        return dataclasses.replace(
            so_far,
            bits=self.bits,
            scale=tuple(float(s) for s in scales),
            zero_point=tuple(int(z) for z in zeros),
            axis=self.axis or () if self.on_weights else (),
            symmetric=self.centered,
        )

    def summaries(self, value: Tensor | None) -> dict[str, Fact]:
        """The scale and how it moves, an activation's range, and of values the share clipped and their integers."""
        if not self.on_weights and not ops.convert_to_numpy(self.seen) > 0:
            later = {"scale": Number(None), "range_low": Number(None), "range_high": Number(None)}
            return {**later, **({} if value is None else {"clipping": Share(None)})}
        scale, zero_point = self._scale_for(value)
        steps = ops.convert_to_numpy(scale)
        told: dict[str, Fact] = {"scale": Number(float(steps.mean())), "scale_change": Moving(steps)}
        if not self.on_weights:
            low, high = self.range_now()
            told |= {"range_low": Number(low), "range_high": Number(high)}
        return told if value is None else {**told, **self._told_of(ops.cast(value, "float32"), scale, zero_point)}

    def _told_of(self, x: Tensor, scale: Tensor, zero_point: Tensor) -> dict[str, Fact]:
        inside = inside_grid(x, scale, zero_point, self.bits, symmetric=self.centered)
        integers = quantize(x, scale, zero_point, self.bits, symmetric=self.centered)
        clipped = 1.0 - float(ops.convert_to_numpy(inside).mean())
        return {"clipping": Share(clipped), "grid": histogram(ops.convert_to_numpy(integers))}

    def _scale_for(self, value: Tensor | None) -> tuple[Tensor, Tensor]:
        """(scale, zero point) that ``value`` meets: a weight without a learned step has that of its own reach."""
        if value is None or not self.on_weights or self.learns or self.frozen or self.fixed:
            return self._scale()
        reach = own_reach(ops.cast(value, "float32"), self.own_axes)
        return scale_from_range(-reach, reach, self.bits, symmetric=True)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "bits": self.bits,
            "symmetric": self.symmetric,
            "ranges": self.ranges,
            "momentum": self.momentum,
            "low": self.low,
            "high": self.high,
            "mode": self.mode,
            "per_tensor": self.per_tensor,
            "even": self.even,
            "in_training": self.in_training,
        }
