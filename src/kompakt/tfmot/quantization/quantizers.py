"""``tfmot.quantization.keras.quantizers``: how a tensor is put on a grid, as one says it in a QuantizeConfig."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import keras
from keras import ops

from kompakt.errors import InputError
from kompakt.transforms.moving import evened, moved

Tensor = Any

MOMENTUM = 0.99
"""Share of the old range that a step keeps; tfmot's 0.999 lags a thousand steps behind."""


class Quantizer(ABC):
    """How one tensor is quantized. A subclass of yours is called in training as it is.

    What a file cannot hold of it is said where it is exported: the file stores the numbers that come out on its own
    8-bit grid.

    Example:
        >>> class Clipped(Quantizer):
        ...     def build(self, tensor_shape, name, layer):
        ...         return {}
        ...     def __call__(self, inputs, training, weights, **kwargs):
        ...         return ops.clip(inputs, -1.0, 1.0)
        ...     def get_config(self):
        ...         return {}
        >>> ops.convert_to_numpy(Clipped()(ops.array([2.0]), False, {})).tolist()
        [1.0]
    """

    @abstractmethod
    def build(self, tensor_shape: Any, name: str, layer: Any) -> Mapping[str, Any] | None:
        """The variables needed, made with ``layer.add_weight``: name -> variable."""

    @abstractmethod
    def __call__(self, inputs: Tensor, training: bool, weights: Mapping[str, Any], **kwargs: Any) -> Tensor:
        """``inputs`` quantized, of the same shape; ``weights`` is what :meth:`build` returned.

        On JAX Keras' ``ops.clip(inputs, 0.0, weights["range_var"])`` fails in training, for it takes no variable as a
        bound: write ``ops.clip(inputs, 0.0, ops.convert_to_tensor(weights["range_var"]))``.
        """

    @abstractmethod
    def get_config(self) -> dict[str, Any]:
        """The arguments of ``__init__``."""

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Quantizer:
        """The quantizer of a config."""
        return cls(**config)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.get_config() == other.get_config()

    def __hash__(self) -> int:
        return hash((type(self), repr(sorted(self.get_config().items()))))


class _Ranged(Quantizer):
    """A quantizer whose range comes from what it sees. It has none before that: what comes in goes out unchanged."""

    ranges: ClassVar[str] = "moving_average"
    momentum: ClassVar[float] = MOMENTUM

    def __init__(self, num_bits: int, per_axis: bool, symmetric: bool, narrow_range: bool) -> None:
        self.num_bits = checked_bits(num_bits)
        self.per_axis = per_axis
        self.symmetric = symmetric
        self.narrow_range = narrow_range

    def build(self, tensor_shape: Any, name: str, layer: Any) -> Mapping[str, Any]:
        shape = (int(tensor_shape[-1]),) if self.per_axis and tensor_shape is not None else ()
        made = {"shape": shape, "initializer": "zeros", "trainable": False}
        return {f"{end}_var": layer.add_weight(name=f"{name}_{end}", **made) for end in ("min", "max")}

    def __call__(self, inputs: Tensor, training: bool, weights: Mapping[str, Any], **kwargs: Any) -> Tensor:
        low, high = weights["min_var"], weights["max_var"]
        if training:
            for variable, value in zip((low, high), self._next(inputs, low, high), strict=True):
                variable.assign(value)
        low, high = ops.convert_to_tensor(low), ops.convert_to_tensor(high)
        return _on_grid(inputs, low, high, self.num_bits, narrow=self.narrow_range)

    def _next(self, inputs: Tensor, low: Any, high: Any) -> tuple[Tensor, Tensor]:
        """The range after a batch: it holds 0, and is as wide on both sides where it is symmetric."""
        axes = tuple(range(len(inputs.shape) - 1)) if self.per_axis else None
        least, most = ops.minimum(ops.min(inputs, axis=axes), 0.0), ops.maximum(ops.max(inputs, axis=axes), 0.0)
        if self.symmetric and self.narrow_range:
            most = ops.maximum(most, -least)
            least = -most
        elif self.symmetric:
            least, most = evened(least, most, self.num_bits)
        return self._moved(ops.stop_gradient(least), ops.stop_gradient(most), low, high)

    def _moved(self, least: Tensor, most: Tensor, low: Any, high: Any) -> tuple[Tensor, Tensor]:
        keep = ops.where(high > low, self.momentum, 0.0)
        return moved(low, least, keep), moved(high, most, keep)

    def get_config(self) -> dict[str, Any]:
        return {
            "num_bits": self.num_bits,
            "per_axis": self.per_axis,
            "symmetric": self.symmetric,
            "narrow_range": self.narrow_range,
        }


@keras.saving.register_keras_serializable(package="kompakt")
class LastValueQuantizer(_Ranged):
    """On the range that the tensor has in this step, as weights are.

    Args:
        num_bits: 2 to 16. per_axis: a range for each index of the last axis. symmetric: 0 is in the middle.
        narrow_range: without the lowest integer.

    Example:
        >>> quantizer = LastValueQuantizer(num_bits=8, per_axis=False, symmetric=True, narrow_range=True)
        >>> held = quantizer.build((2,), "w", keras.layers.Layer())
        >>> y = quantizer(ops.array([0.504, -1.27]), True, held)
        >>> [round(float(v), 3) for v in y], round(float(held["max_var"]), 3)
        ([0.5, -1.27], 1.27)
    """

    momentum = 0.0


@keras.saving.register_keras_serializable(package="kompakt")
class MovingAverageQuantizer(_Ranged):
    """On a moving average of the ranges of training batches, which starts from the first.

    Args:
        num_bits: 2 to 16. per_axis: a range for each index of the last axis. symmetric: 0 is in the middle.
        narrow_range: without the lowest integer.

    Example:
        >>> quantizer = MovingAverageQuantizer(num_bits=8, per_axis=False, symmetric=False, narrow_range=False)
        >>> held = quantizer.build(None, "x", keras.layers.Layer())
        >>> for top in (1.0, 2.0):
        ...     _ = quantizer(ops.array([0.0, top]), True, held)
        >>> round(float(held["max_var"]), 4)
        1.01
    """


@keras.saving.register_keras_serializable(package="kompakt")
class AllValuesQuantizer(_Ranged):
    """On a range that holds everything seen in training.

    Args:
        num_bits: 2 to 16. per_axis: a range for each index of the last axis. symmetric: 0 is in the middle.
        narrow_range: without the lowest integer.

    Example:
        >>> quantizer = AllValuesQuantizer(num_bits=8, per_axis=False, symmetric=False, narrow_range=False)
        >>> held = quantizer.build(None, "x", keras.layers.Layer())
        >>> for top in (2.0, 1.0):
        ...     _ = quantizer(ops.array([0.0, top]), True, held)
        >>> float(held["max_var"])
        2.0
    """

    ranges = "all_values"

    def _moved(self, least: Tensor, most: Tensor, low: Any, high: Any) -> tuple[Tensor, Tensor]:
        return ops.minimum(least, low), ops.maximum(most, high)


@keras.saving.register_keras_serializable(package="kompakt")
class FixedQuantizer(Quantizer):
    """On a range given in advance, of ``num_bits`` (tfmot computed with 8 whatever was asked).

    Args:
        num_bits: 2 to 16. init_min, init_max: the range. narrow_range: without the lowest integer.

    Raises:
        InputError: an empty range.

    Example:
        >>> quantizer = FixedQuantizer(num_bits=8, init_min=-1.28, init_max=1.27, narrow_range=False)
        >>> [round(float(v), 2) for v in quantizer(ops.array([0.504, 3.0]), False, {})]
        [0.5, 1.27]
    """

    def __init__(self, num_bits: int, init_min: float, init_max: float, narrow_range: bool) -> None:
        if not init_min < init_max:
            raise InputError(f"init_min={init_min}, init_max={init_max}: expected the lower end first")
        self.num_bits = checked_bits(num_bits)
        self.init_min = init_min
        self.init_max = init_max
        self.narrow_range = narrow_range

    def build(self, tensor_shape: Any, name: str, layer: Any) -> Mapping[str, Any]:
        return {}

    def __call__(self, inputs: Tensor, training: bool, weights: Mapping[str, Any], **kwargs: Any) -> Tensor:
        low, high = (ops.convert_to_tensor(end, "float32") for end in (self.init_min, self.init_max))
        return _on_grid(inputs, low, high, self.num_bits, narrow=self.narrow_range)

    def get_config(self) -> dict[str, Any]:
        return {
            "num_bits": self.num_bits,
            "init_min": self.init_min,
            "init_max": self.init_max,
            "narrow_range": self.narrow_range,
        }


QUANTIZERS: Sequence[type[Quantizer]] = (
    LastValueQuantizer,
    MovingAverageQuantizer,
    AllValuesQuantizer,
    FixedQuantizer,
)


def checked_bits(bits: Any) -> int:
    """``bits``, of a quantizer.

    Example:
        >>> checked_bits(4)
        4
    """
    if isinstance(bits, bool) or not isinstance(bits, int) or not 2 <= bits <= 16:
        raise InputError(f"num_bits={bits!r}: expected a whole number from 2 to 16")
    return bits


def is_known(quantizer: Quantizer) -> bool:
    """Whether it computes as one of tfmot's own does, so that kompakt's grids take its place.

    Example:
        >>> class Mine(FixedQuantizer):
        ...     def __init__(self):
        ...         super().__init__(8, -1.0, 1.0, False)
        >>> is_known(Mine())
        True
    """
    kind = type(quantizer)
    return any(
        issubclass(kind, known) and kind.__call__ is known.__call__ and kind.build is known.build
        for known in QUANTIZERS
    )


def _on_grid(x: Tensor, low: Tensor, high: Tensor, bits: int, *, narrow: bool) -> Tensor:
    """``x`` on the grid of a range; as it is where there is none yet."""
    known = high > low
    axis = len(x.shape) - 1 if len(low.shape) else None
    ends = ops.where(known, low, -1.0), ops.where(known, high, 1.0)
    rounded = keras.quantizers.fake_quant_with_min_max_vars(x, *ends, bits, narrow_range=narrow, axis=axis)
    return ops.where(known, rounded, x)
