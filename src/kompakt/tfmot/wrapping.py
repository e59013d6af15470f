"""Single layers that get a transform, as tfmot wraps them: at once where they are built, else when they are."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from kompakt.attach import Transformed, attach, finalize, wrap_layer, wrapped
from kompakt.copies import copy_layer
from kompakt.errors import InputError
from kompakt.graph import copy_model
from kompakt.planning import carry
from kompakt.sites import attachable_slots, check_built, check_values, units, weight_slots
from kompakt.transform import Chain, Transform

log = logging.getLogger("kompakt")

Layer = Any
Make = Callable[[Layer], Sequence[Transform]]
"""New transforms for the tensors of a layer, which may not be built; the last one is the technique's own. None of them
where the layer is left as it is."""


@keras.saving.register_keras_serializable(package="kompakt")
class TransformedLater(Transformed):
    """A layer that is built by its first call, and gets a transform then; from there on it is a Transformed.

    Args:
        layer: not built; it becomes part of this one. transforms: what each of its tensors gets copies of.
        chains: of a layer that was built before it was written.

    Raises:
        InputError: (in the first call) none of the tensors can have the transform, or their values are not there yet.

    Example:
        >>> from kompakt.transforms import Prune
        >>> layer = TransformedLater(keras.layers.Dense(4), [Prune(0.5)])
        >>> x = layer(keras.Input((8,)))
        >>> list(layer.chains)
        ['kernel']
    """

    def __init__(
        self,
        layer: Layer,
        transforms: Sequence[Transform] = (),
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
        self.planned = [keras.saving.serialize_keras_object(each) for each in transforms]
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
        made = _chains(layer, self.slots_of(layer), list(map(keras.saving.deserialize_keras_object, self.planned)))
        self._set(layer, made)

    def build(self, *args: Any, **kwargs: Any) -> None:
        if not self.built:
            shapes = [*args, *kwargs.values()]
            self._begin(tuple(keras.KerasTensor(shape, self.input_dtype) for shape in shapes), {})

    def get_config(self) -> dict[str, Any]:
        if self.built:
            return super().get_config()
        written = keras.saving.serialize_keras_object(self.transformed_layer)
        return {**keras.layers.Layer.get_config(self), "layer": written, "transforms": self.planned}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> TransformedLater:
        if "chains" in config:
            return cls(**cls._read(config))
        read = keras.saving.deserialize_keras_object
        return cls(**{**config, "layer": read(config["layer"]), "transforms": list(map(read, config["transforms"]))})


def wrap(given: Any, make: Make, kind: type[TransformedLater] = TransformedLater, **kwargs: Any) -> Any:
    """A model, a layer or a list of layers with what ``make(layer)`` gives on the tensors of each layer.

    Layers that are built, and models, are copied; a layer that is not becomes part of a ``kind``. One that has such a
    transform already is left as it is, and one that has no tensor for it.

    Args:
        kwargs: of the layer that is made, such as ``input_shape``.

    Raises:
        InputError: something else is given, or no layer of a model has a tensor for it.

    Example:
        >>> from kompakt.transforms import Prune
        >>> type(wrap(keras.layers.Dense(4), lambda layer: [Prune(0.5)])).__name__
        'TransformedLater'
    """
    _check_options(given, kwargs)
    if isinstance(given, (list, tuple)):
        return [wrap(each, make, kind) for each in given]
    if isinstance(given, keras.Model):
        return _wrap_model(given, make, kind)
    if not isinstance(given, keras.layers.Layer):
        raise InputError(f"received {type(given).__name__}, expected a Keras model, a layer or a list of layers")
    made = make(given)
    if isinstance(given, keras.layers.InputLayer) or not made or _has(given, made):
        return given
    if not given.built:
        return kind(given, made, **kwargs)
    inner = getattr(given, "transformed_layer", given)
    wanted = {slot: _copies(made, slot) for slot in _fitting(inner, kind.slots_of(inner), made)}
    return wrap_layer(given, wanted) if wanted else copy_layer(given)


def _check_options(given: Any, options: Mapping[str, Any]) -> None:
    """Refuse options that would be ignored: those of a layer for a model or a list, and what no layer takes."""
    one = isinstance(given, keras.layers.Layer) and not isinstance(given, keras.Model)
    known = OPTIONS if one else ()
    for name in options:
        if name not in known:
            takes = f"one of {', '.join(known)}" if one else f"none for a {type(given).__name__}"
            raise InputError(f"{name}=: an option that is not known; expected {takes}, or one of the function's own")


OPTIONS = ("input_shape", "name", "dtype", "trainable")
"""What is handed on to a layer that is made."""


def _wrap_model(model: keras.Model, make: Make, kind: type[TransformedLater]) -> keras.Model:
    if isinstance(model, keras.Sequential) and not model.built:
        return keras.Sequential([wrap(layer, make, kind) for layer in model.layers], name=model.name)
    check_built(model)
    made = {unit: make(getattr(layer, "transformed_layer", layer)) for unit, layer in units(model).items()}
    same = {unit for unit, layer in units(model).items() if _has(layer, made[unit])}
    plain, keeps = (model, {}) if same else carry(model)
    wanted = {name: list(kept) for name, kept in keeps.items()}
    for unit, layer in units(plain).items():
        inner = getattr(layer, "transformed_layer", layer)
        for slot in [] if unit in same or not made[unit] else _fitting(inner, kind.slots_of(inner), made[unit]):
            wanted.setdefault(f"{unit}/{slot}" if unit else slot, []).extend(_copies(made[unit], slot))
    if not same and sum(map(len, wanted.values())) == sum(map(len, keeps.values())):
        what = next((each[-1].name for each in made.values() if each), "transform")
        raise InputError(f"the model {model.name!r} has no layer with weights to {what}")
    return attach(plain, wanted)


def _has(layer: Layer, made: Sequence[Transform]) -> bool:
    """Whether ``layer`` has the last of the transforms, or is to get one of its kind when it is built."""
    return bool(made) and holds(layer, type(made[-1]))


def holds(layer: Layer, kind: type[Transform]) -> bool:
    """Whether a tensor of ``layer`` has a transform of the ``kind``, or is to get one when the layer is built.

    Example:
        >>> from kompakt.transforms import Cluster, Prune
        >>> layer = wrap(keras.layers.Dense(4), lambda layer: [Prune(0.5)])
        >>> holds(layer, Prune), holds(layer, Cluster), holds(keras.layers.Dense(4), Prune)
        (True, False, False)
    """
    if isinstance(layer, TransformedLater) and not layer.built:
        return any(planned["class_name"] == kind.__name__ for planned in layer.planned)
    chains = layer.chains.values() if isinstance(layer, Transformed) else ()
    return any(isinstance(each, kind) for chain in chains for each in chain)


def strip(model: Any) -> keras.Model:
    """A copy of plain Keras layers, with what the transforms made in the weights; of a plain model just a copy.

    What was asked and not reached, as by a schedule that training ended before, is logged.

    Raises:
        InputError: it is no Keras model, or has no weights yet.

    Example:
        >>> strip(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)], name="m")).name
        'm'
    """
    check_built(model)
    if not wrapped(model):
        return copy_model(model)
    plain, encodings = finalize(model)
    for site, encoding in encodings.items():
        if encoding.shortfall:
            log.warning("%s: %s", site, encoding.shortfall)
    return plain


def _chains(layer: Layer, slots: Sequence[str], made: Sequence[Transform]) -> dict[str, Chain]:
    """A chain with copies of the transforms for each of the tensors, prepared on its values."""
    known = attachable_slots(layer)
    chains = {}
    for slot in _fitting(layer, slots, made):
        chain = Chain(_copies(made, slot))
        chain.prepare(ops.convert_to_tensor(known[slot][1]), known[slot][2])
        chains[slot] = chain
    return chains


def _copies(made: Sequence[Transform], slot: str) -> list[Transform]:
    """Copies for one tensor, named after it: in an .h5 file no two variables of a layer may have one name."""
    end = slot.replace("/", "_")
    return [copy_layer(each, change=lambda config: {**config, "name": f"{config['name']}_{end}"}) for each in made]


def _fitting(layer: Layer, slots: Sequence[str], made: Sequence[Transform]) -> list[str]:
    """Those of the slots whose tensors can have the transforms; of the others it is logged why not."""
    known, found = attachable_slots(layer), []
    for slot in slots:
        check_values(f"{layer.name}/{slot}", known[slot][1])
        reasons = [each.unfit(known[slot][1].shape, known[slot][2]) for each in made]
        reason = next((reason for reason in reasons if reason is not None), None)
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
