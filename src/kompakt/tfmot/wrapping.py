"""Single layers that get a transform, as tfmot wraps them: at once where they are built, else when they are."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from kompakt.attach import Transformed, wrap_layer
from kompakt.errors import InputError
from kompakt.graph import copy_layer
from kompakt.sites import attachable_slots, weight_slots
from kompakt.transform import Chain, Transform

log = logging.getLogger("kompakt")

Layer = Any


@keras.saving.register_keras_serializable(package="kompakt")
class TransformedLater(Transformed):
    """A layer that is built by its first call, and gets a transform then; from there on it is a Transformed.

    Args:
        layer: not built; it becomes part of this one. transform: what each of its tensors gets a copy of.
        chains: of a layer that was built before it was written.

    Raises:
        InputError: (in the first call) none of the tensors can have the transform, or their values are not there yet.

    Example:
        >>> from kompakt.transforms import Prune
        >>> layer = TransformedLater(keras.layers.Dense(4), Prune(0.5))
        >>> x = layer(keras.Input((8,)))
        >>> list(layer.chains)
        ['kernel']
    """

    def __init__(
        self,
        layer: Layer,
        transform: Transform | None = None,
        chains: Mapping[str, Chain] | None = None,
        **kwargs: Any,
    ) -> None:
        if chains is not None:
            super().__init__(layer, chains, **kwargs)
            return
        kwargs.setdefault("name", layer.name)
        kwargs.setdefault("dtype", layer.variable_dtype)
        kwargs.setdefault("trainable", layer.trainable)
        keras.layers.Layer.__init__(self, **kwargs)
        self.transformed_layer = layer
        self._slots, self._chains, self._variables = [], [], []
        self.planned = keras.saving.serialize_keras_object(transform)
        if hasattr(layer, "_input_shape_arg"):  # a first layer with input_shape=, as Keras 2 had it
            self._input_shape_arg = layer._input_shape_arg
        self._look_like(layer)

    @staticmethod
    def slots_of(layer: Layer) -> Sequence[str]:
        """Slots of a built layer that get the transform."""
        return list(weight_slots(layer))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self.built:
            self._begin(args, kwargs)
        return super().__call__(*args, **kwargs)

    def _begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Build the layer inside for what it is called with, and put the transform on its tensors."""
        if _traced():
            raise InputError(
                f"{self.name!r} is built while Keras traces the model, where weights have no values yet: give the "
                "model an Input, or call it once on data before"
            )
        layer = self.transformed_layer
        if not layer.built:
            args, kwargs = tree.map_structure(_without_values, (args, kwargs))
            layer(*args, **kwargs)
        made = _chains(layer, self.slots_of(layer), keras.saving.deserialize_keras_object(self.planned))
        self._set(layer, made)

    def build(self, *args: Any, **kwargs: Any) -> None:
        if not self.built:
            shapes = [*args, *kwargs.values()]
            self._begin(tuple(keras.KerasTensor(shape, self.input_dtype) for shape in shapes), {})

    def get_config(self) -> dict[str, Any]:
        if self.built:
            return super().get_config()
        written = keras.saving.serialize_keras_object(self.transformed_layer)
        return {**keras.layers.Layer.get_config(self), "layer": written, "transform": self.planned}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> TransformedLater:
        if "chains" in config:
            return cls(**cls._read(config))
        read = keras.saving.deserialize_keras_object
        return cls(**{**config, "layer": read(config["layer"]), "transform": read(config["transform"])})


def wrap(layer: Layer, transform: Transform, kind: type[TransformedLater] = TransformedLater) -> Layer:
    """``layer`` with ``transform`` on its tensors: a copy where it is built, else itself inside a ``kind``.

    A layer that no tensor of which can have the transform is copied as it is, and that is logged.

    Raises:
        InputError: it is no Keras layer.

    Example:
        >>> from kompakt.transforms import Prune
        >>> type(wrap(keras.layers.Dense(4), Prune(0.5))).__name__
        'TransformedLater'
    """
    if not isinstance(layer, keras.layers.Layer):
        raise InputError(f"received {type(layer).__name__}, expected a Keras layer, or a list of them")
    if not layer.built:
        return kind(layer, transform)
    inner = getattr(layer, "transformed_layer", layer)
    slots = _fitting(inner, kind.slots_of(inner), transform)
    return wrap_layer(layer, {slot: [copy_layer(transform)] for slot in slots}) if slots else copy_layer(layer)


def _chains(layer: Layer, slots: Sequence[str], transform: Transform) -> dict[str, Chain]:
    """A chain with a copy of ``transform`` for each of the tensors, prepared on its values."""
    known = attachable_slots(layer)
    made = {}
    for slot in _fitting(layer, slots, transform):
        chain = Chain([copy_layer(transform)])
        chain.prepare(ops.convert_to_tensor(known[slot][1]), known[slot][2])
        made[slot] = chain
    return made


def _fitting(layer: Layer, slots: Sequence[str], transform: Transform) -> list[str]:
    """Those of the slots whose tensors can have the transform; of the others it is logged why not."""
    known, found = attachable_slots(layer), []
    for slot in slots:
        reason = transform.unfit(known[slot][1].shape, known[slot][2])
        if reason is None:
            found.append(slot)
        else:
            log.warning("%s/%s: left as it is (%s)", layer.name, slot, reason)
    return found


def _traced() -> bool:
    """Whether Keras or TensorFlow follows the code to compile it: what is computed then has no values."""
    tensorflow = sys.modules.get("tensorflow") if keras.backend.backend() == "tensorflow" else None
    inside = tensorflow is not None and tensorflow.inside_function()
    return bool(inside or keras.src.backend.common.stateless_scope.in_stateless_scope())


def _without_values(value: Any) -> Any:
    """A tensor as what Keras passes on where it only looks at shapes; anything else as it is."""
    if ops.is_tensor(value) or isinstance(value, np.ndarray):
        return keras.KerasTensor(value.shape, keras.backend.standardize_dtype(value.dtype))
    return value
