"""``quantize_annotate_layer`` and ``quantize_annotate_model``: which layers ``quantize_apply`` is to quantize."""

from __future__ import annotations

import inspect
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from kompakt.copies import copy_layer
from kompakt.errors import InputError
from kompakt.graph import as_functional, map_layers
from kompakt.sites import check_built, is_graph
from kompakt.tfmot.quantization.config import QuantizeConfig

Layer = Any


@keras.saving.register_keras_serializable(package="kompakt")
class QuantizeAnnotate(keras.layers.Wrapper):  # type: ignore[misc]
    """A layer that ``quantize_apply`` is to quantize. Until then it is called as it is, with whatever it takes.

    Args:
        layer: built or not. quantize_config: what of it is quantized; None for the usual.
    """

    def __init__(self, layer: Layer, quantize_config: QuantizeConfig | None = None, **kwargs: Any) -> None:
        kwargs.setdefault("name", layer.name)
        kwargs.setdefault("dtype", layer.dtype_policy)
        kwargs.setdefault("trainable", layer.trainable)
        super().__init__(layer, **kwargs)
        self.quantize_config = quantize_config
        self.built = layer.built
        self.supports_masking = layer.supports_masking
        # Keras reads the signature of call to pass training and masks: show it the inner layer's.
        for name in ("_call_signature", "_call_has_training_arg", "_call_has_mask_arg"):
            setattr(self, name, getattr(layer, name))
        self._call_has_context_arg = dict(layer._call_has_context_arg)
        if hasattr(layer, "_input_shape_arg"):  # a first layer with input_shape=, as Keras 2 had it
            self._input_shape_arg = layer._input_shape_arg

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self.layer.built:
            given, named = tree.map_structure(_without_values, (args, kwargs))
            self.layer(*given, **named)
        self.built = True
        return super().__call__(*args, **kwargs)

    def call(self, *args: Any, **kwargs: Any) -> Any:
        return self.layer(*args, **kwargs)

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        return self.layer.compute_output_spec(*args, **kwargs)

    def compute_output_shape(self, *args: Any, **kwargs: Any) -> Any:
        return self.layer.compute_output_shape(*args, **kwargs)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        return self.layer.compute_mask(inputs, previous_mask)

    def get_quantize_config(self) -> QuantizeConfig | None:
        """What of the layer is quantized, and how; None for the usual."""
        return self.quantize_config

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "quantize_config": keras.saving.serialize_keras_object(self.quantize_config)}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> QuantizeAnnotate:
        read = keras.saving.deserialize_keras_object
        objects = {key: read(config[key], custom_objects=custom_objects) for key in ("layer", "quantize_config")}
        return cls(**{**config, **objects})


def quantize_annotate_layer(to_annotate: Layer, quantize_config: QuantizeConfig | None = None) -> QuantizeAnnotate:
    """``to_annotate`` marked for ``quantize_apply``; layers that are not stay float.

    Args:
        to_annotate: a layer, built or not; in a Sequential list, called, or given by ``clone_model``'s
            ``clone_function``. quantize_config: what of it is quantized, and how; None for the usual.

    Raises:
        InputError: no layer, a model, or no QuantizeConfig.

    Example:
        >>> dense = quantize_annotate_layer(keras.layers.Dense(2, name="d"))
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8), dense])
        >>> model.layers[-1].layer.name, model.layers[-1].quantize_config
        ('d', None)
    """
    if not isinstance(to_annotate, keras.layers.Layer) or isinstance(to_annotate, keras.Model):
        raise InputError(
            f"quantize_annotate_layer received {_kind(to_annotate)}, expected a Keras layer; "
            "quantize_annotate_model takes models"
        )
    if quantize_config is not None and not isinstance(quantize_config, QuantizeConfig):
        raise InputError(
            f"quantize_config is {_kind(quantize_config)}, expected an instance of a subclass of "
            "tfmot.quantization.keras.QuantizeConfig"
        )
    return QuantizeAnnotate(to_annotate, quantize_config)


def quantize_annotate_model(to_annotate: keras.Model) -> keras.Model:
    """A copy of a model in which every layer is marked for ``quantize_apply``; marks that are there stay.

    Models inside it are entered, subclassed ones are traced.

    Raises:
        InputError: it is no model, or has no weights yet.

    Example:
        >>> m = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="d")])
        >>> type(quantize_annotate_model(m).layers[0]).__name__, type(m.layers[0]).__name__
        ('QuantizeAnnotate', 'Dense')
    """
    check_built(to_annotate)

    def annotated(layer: Layer) -> Layer:
        if isinstance(layer, QuantizeAnnotate):
            return QuantizeAnnotate(copy_layer(layer.layer), layer.quantize_config)
        return QuantizeAnnotate(copy_layer(layer))

    return map_layers(to_annotate if is_graph(to_annotate) else as_functional(to_annotate), annotated)


def without_annotations(model: keras.Model) -> tuple[keras.Model, dict[str, QuantizeConfig | None]]:
    """(a copy of the layers that are inside the marks, {name of a marked layer: its config}).

    Example:
        >>> m = keras.Sequential([keras.Input((4,)), quantize_annotate_layer(keras.layers.Dense(2, name="d"))])
        >>> without_annotations(m)[1]
        {'d': None}
    """
    found: dict[str, QuantizeConfig | None] = {}

    def bare(layer: Layer) -> Layer:
        if not isinstance(layer, QuantizeAnnotate):
            return copy_layer(layer)
        found[layer.layer.name] = layer.quantize_config
        return copy_layer(layer.layer)

    return map_layers(model, bare), found


def _without_values(value: Any) -> Any:
    """A tensor as what Keras passes on where it only looks at shapes; anything else as it is."""
    if ops.is_tensor(value) or isinstance(value, (np.ndarray, keras.KerasTensor)):
        return keras.KerasTensor(value.shape, keras.backend.standardize_dtype(value.dtype))
    return value


def _kind(value: Any) -> str:
    return f"the class {value.__name__}" if inspect.isclass(value) else type(value).__name__
