"""A Quantizer on a site, as a Transform that calls it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kompakt.errors import InputError
from kompakt.records import Encoding
from kompakt.tfmot.quantization.quantizers import Quantizer
from kompakt.transform import Tensor, Transform


@keras.saving.register_keras_serializable(package="kompakt")
class OwnQuantizer(Transform):
    """Calls a :class:`Quantizer` of the user's, whose variables live here.

    No file can hold what it does. A weight's numbers that come of it are stored, on the 8-bit grid that follows it;
    of an activation the file has that grid alone. Both are said in the Artifact.

    Args:
        quantizer: not shared with other sites. on_weights: whether it is on a weight.

    Example:
        >>> from kompakt.tfmot.quantization.quantizers import LastValueQuantizer
        >>> own = OwnQuantizer(LastValueQuantizer(8, False, True, True))
        >>> own.prepare(ops.array([[0.504, -1.27]]), (-1,))
        >>> [round(float(v), 3) for v in own(ops.array([[0.504, -1.27]]), training=True)[0]]
        [0.5, -1.27]
    """

    def __init__(self, quantizer: Quantizer, *, on_weights: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.quantizer = quantizer
        self.on_weights = bool(on_weights)

    def add_weight(self, *args: Any, **kwargs: Any) -> Any:
        """As Keras', or with the name first, as Keras 2 had it and tfmot's guides write it."""
        if args and isinstance(args[0], str):
            kwargs, args = {"name": args[0], **kwargs}, args[1:]
        if not args:
            kwargs["shape"] = kwargs.get("shape") or ()
        return super().add_weight(*args, **kwargs)

    def build(self, shape: Sequence[int]) -> None:
        made = self.quantizer.build(tuple(shape) if self.on_weights else None, "tensor", self)
        self.held = dict(made or {})
        self.built = True

    def call(self, x: Tensor, training: bool = False) -> Tensor:
        y = self.quantizer(x, training, weights=self.held)
        if tuple(y.shape) != tuple(x.shape):
            raise InputError(
                f"{self._name_of()} made {tuple(y.shape)} of a tensor of {tuple(x.shape)}: its __call__ has to keep "
                "the shape"
            )
        return ops.cast(y, x.dtype)

    def keep(self) -> OwnQuantizer:
        return OwnQuantizer(self.quantizer, on_weights=self.on_weights)

    def own_classes(self) -> tuple[type, ...]:
        return (type(self.quantizer),)

    def describe(self, value: Tensor, so_far: Encoding) -> Encoding:
        name = self._name_of()
        if self.on_weights:
            said = f"{name}, a Quantizer of your own, made these numbers; the file stores them on the grid after it"
        else:
            said = f"{name}, a Quantizer of your own, is not in the file: the grid after it is"
        return dataclasses.replace(so_far, shortfall=said)

    def _name_of(self) -> str:
        return type(self.quantizer).__name__

    def get_config(self) -> dict[str, Any]:
        written = keras.saving.serialize_keras_object(self.quantizer)
        return {**super().get_config(), "quantizer": written, "on_weights": self.on_weights}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> OwnQuantizer:
        return cls(**{**config, "quantizer": keras.saving.deserialize_keras_object(config["quantizer"])})
