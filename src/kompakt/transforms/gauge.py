"""Hold a weight in other units, so that an optimizer's steps fit it."""

from __future__ import annotations

import math
from typing import Any

import keras

from kompakt.errors import InputError
from kompakt.transform import Tensor, Transform


@keras.saving.register_keras_serializable(package="kompakt")
class Gauge(Transform):
    r"""A constant factor: :math:`w = f v`, where :math:`v` is what training moves. No technique: a change of units.

    Optimizers such as Adam move a weight by about their rate, whatever its size (Kingma & Ba 2015, arXiv:1412.6980,
    section 2.1). A BatchNormalization that is folded can make a kernel a hundred times smaller than the one that was
    trained, as where pixels of 0 to 255 come in: steps of the usual rate destroy it. A factor that is a power of two
    changes no bit of :math:`w`. It is not in the registry: of the laws, the fifth (applied twice is applied once) does
    not hold, and none but :mod:`kompakt.gauges` has a use for it.

    Args:
        factor: more than 0.

    Raises:
        InputError: a factor that is none.

    Example:
        >>> keras.ops.convert_to_numpy(Gauge(0.25)(keras.ops.array([2.0, -4.0]))).tolist()
        [0.5, -1.0]
    """

    def __init__(self, factor: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not (factor > 0 and math.isfinite(factor)):
            raise InputError(f"factor {factor!r}: expected a number above 0")
        self.factor = float(factor)

    def build(self, shape: Any) -> None:
        self.built = True

    def call(self, x: Tensor, training: bool = False) -> Tensor:
        return x * self.factor

    def keep(self) -> Gauge:
        """Nothing: what is baked in has the factor in it."""
        return Gauge()

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "factor": self.factor}
