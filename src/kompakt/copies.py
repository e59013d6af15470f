"""Layers copied one by one: config, weights, and what a layer's config does not say."""

from __future__ import annotations

import inspect
import warnings
import weakref
from collections import defaultdict
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import tree

from kompakt.errors import InputError, first_line
from kompakt.transform import Transform

Layer = Any
Arguments = tuple[Sequence[Any], Mapping[str, Any]]
UNBUILT = r".*does not have a `build\(\)` method"
"""Keras' warning about layers that are then built by their call."""

_CALLED: MutableMapping[Layer, Arguments] = weakref.WeakKeyDictionary()
"""Copy that is in no graph itself -> how the layer was called that it is a copy of."""


def copy_layer(layer: Layer, *, change: Callable[[Any], Any] = lambda config: config) -> Layer:
    """A new layer of the same config and the same weights.

    Args:
        layer: not changed. change: what becomes of the config.

    Raises:
        InputError: the layer's config cannot be read back.
    """
    copy = new_layer(layer, change=change)
    if isinstance(layer, keras.layers.Layer):
        copy_state(layer, copy)
    return copy


def new_layer(layer: Layer, *, change: Callable[[Any], Any] = lambda config: config) -> Layer:
    """A new layer of the same config, built, with the weights that its initializers give it.

    Args, errors: as for :func:`copy_layer`.
    """
    try:
        config = change(layer.get_config())
        # What is in memory runs already: a Lambda in it needs no leave to be copied, nor a class to be registered.
        with (
            keras.src.saving.serialization_lib.SafeModeScope(safe_mode=False),
            keras.saving.custom_object_scope(_own_classes(layer)),
        ):
            copy = _from_config(layer, config)
            if isinstance(layer, keras.layers.Layer):
                copy.name = config.get("name", layer.name)  # a subclassed model's config has no name
                _build_as(layer, copy)
    except Exception as error:
        raise InputError(
            f"cannot copy the layer {layer.name!r} ({type(layer).__name__}): {first_line(error)}; "
            "give its class get_config() and from_config()"
        ) from error
    if isinstance(layer, keras.layers.Layer) and len(copy.variables) != len(layer.variables):
        raise InputError(
            f"cannot copy the layer {layer.name!r} ({type(layer).__name__}): its copy has "
            f"{len(copy.variables)} of {len(layer.variables)} variables; make them in build(), or in layers that "
            "call() calls whatever it is given"
        )
    return copy


def _from_config(layer: Layer, config: Any) -> Layer:
    """A new layer by its config; of a class that takes nothing a new one, as there is only one kind of these."""
    kind = layer.__class__
    try:
        return kind.from_config(config)
    except TypeError:
        takes = list(inspect.signature(kind.__init__).parameters)
        if len(takes) != 1 or layer.dtype_policy != keras.config.dtype_policy():
            raise
    copy = kind()
    for old, new in zip(layer._flatten_layers(), copy._flatten_layers(), strict=True):  # from the outside in
        new.trainable = old.trainable
    return copy


def _own_classes(layer: Layer) -> dict[str, type]:
    """Name -> class of the layers in ``layer`` that are not Keras' own, and of what transforms call; of two of one name
    neither.
    """
    found: dict[str, set[type]] = defaultdict(set)
    for each in layer._flatten_layers() if isinstance(layer, keras.layers.Layer) else ():
        if not type(each).__module__.startswith("keras."):
            found[type(each).__name__].add(type(each))
        for kind in each.own_classes() if isinstance(each, Transform) else ():
            found[kind.__name__].add(kind)
    return {name: kinds.pop() for name, kinds in found.items() if len(kinds) == 1}


def _build_as(layer: Layer, copy: Layer) -> None:
    """Give ``copy`` variables where ``layer`` has them: by the shapes it was built with, or called with."""
    if not layer.built or copy.built:
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", UNBUILT)
        copy.build_from_config(layer.get_build_config() or {})
    copy.built = True  # a subclassed model builds its layers and forgets to say so
    copy._build_shapes_dict = layer._build_shapes_dict
    called = how_called(layer)
    if called is not None:
        _CALLED[copy] = called
        if len(copy.variables) < len(layer.variables):
            build_by_call(copy, called)


def how_called(layer: Layer) -> Arguments | None:
    """(args, kwargs) of the first call of a layer whose sublayers that call alone builds; None for any other layer.

    Tensors in them have a shape and a type, and no history.
    """
    if isinstance(layer, keras.Model) or not (keras.src.utils.python_utils.is_default(layer.build) and layer._layers):
        return None
    if layer in _CALLED:
        return _CALLED[layer]
    if layer._inbound_nodes:
        given = layer._inbound_nodes[0].arguments
        return tree.map_structure(_without_history, (given.args, given.kwargs))
    shapes = list((layer._build_shapes_dict or {}).values())
    return (tree.map_shape_structure(lambda s: keras.KerasTensor(s, layer.input_dtype), shapes), {}) if shapes else None


def build_by_call(layer: Layer, called: Arguments) -> None:
    """Build what is in ``layer`` by calling it with tensors that have no values."""
    args, kwargs = called
    keras.src.backend.compute_output_spec(layer.call, *args, **kwargs)


def _without_history(value: Any) -> Any:
    return keras.KerasTensor(value.shape, value.dtype) if isinstance(value, keras.KerasTensor) else value


def copy_state(
    source: Layer, target: Layer, change: Callable[[Any, np.ndarray], np.ndarray] = lambda _, value: value
) -> None:
    """Give ``target`` the weights of ``source``, a layer of the same structure.

    ``change(variable of source, its value)`` is what the target gets, where that is not the value itself.
    """
    for old, new in zip(source._flatten_layers(), target._flatten_layers(), strict=True):
        for a, b in zip(_own_variables(old), _own_variables(new), strict=True):
            # A copy in memory: JAX donates buffers in training, and a shared one would be gone.
            b.assign(change(a, np.array(keras.ops.convert_to_numpy(a))))
        if hasattr(new, "finalize_state"):
            new.finalize_state()


def _own_variables(layer: Layer) -> list[Any]:
    seeds = [generator.state for generator in layer._seed_generators]
    return [*layer._trainable_variables, *layer._non_trainable_variables, *seeds]
