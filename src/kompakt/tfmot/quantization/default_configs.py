"""The QuantizeConfigs that tfmot has below ``python.core``, which much code imports from there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from kompakt.tfmot.quantization.config import Layer, QuantizeConfig
from kompakt.tfmot.quantization.quantizers import LastValueQuantizer, MovingAverageQuantizer, Quantizer

PACKAGE = "kompakt"


def _activations() -> Quantizer:
    return MovingAverageQuantizer(num_bits=8, per_axis=False, symmetric=False, narrow_range=False)


@keras.saving.register_keras_serializable(package=PACKAGE)
class Default8BitQuantizeConfig(QuantizeConfig):
    """8 bits for the attributes of a layer that are named: weights with a scale a channel, activations.

    Args:
        weight_attrs: such as ["kernel"]. activation_attrs: such as ["activation"].
        quantize_output: whether the output has a quantizer of its own.

    Example:
        >>> from kompakt.tfmot.quantization.annotate import quantize_annotate_layer
        >>> config = Default8BitQuantizeConfig(["kernel"], ["activation"], False)
        >>> quantize_annotate_layer(keras.layers.Dense(2), config).quantize_config.weight_attrs
        ['kernel']
    """

    def __init__(self, weight_attrs: Sequence[str], activation_attrs: Sequence[str], quantize_output: bool) -> None:
        self.weight_attrs = list(weight_attrs)
        self.activation_attrs = list(activation_attrs)
        self.quantize_output = bool(quantize_output)

    def get_weights_and_quantizers(self, layer: Layer) -> Sequence[tuple[Any, Quantizer]]:
        quantizer = LastValueQuantizer(num_bits=8, per_axis=True, symmetric=True, narrow_range=True)
        return [(getattr(layer, name), quantizer) for name in self.weight_attrs]

    def get_activations_and_quantizers(self, layer: Layer) -> Sequence[tuple[Any, Quantizer]]:
        return [(getattr(layer, name), _activations()) for name in self.activation_attrs]

    def set_quantize_weights(self, layer: Layer, quantize_weights: Sequence[Any]) -> None:
        for name, weight in zip(self.weight_attrs, quantize_weights, strict=True):
            setattr(layer, name, weight)

    def set_quantize_activations(self, layer: Layer, quantize_activations: Sequence[Any]) -> None:
        for name, activation in zip(self.activation_attrs, quantize_activations, strict=True):
            setattr(layer, name, activation)

    def get_output_quantizers(self, layer: Layer) -> Sequence[Quantizer]:
        return [_activations()] if self.quantize_output else []

    def get_config(self) -> dict[str, Any]:
        names = ("weight_attrs", "activation_attrs", "quantize_output")
        return {name: getattr(self, name) for name in names}


@keras.saving.register_keras_serializable(package=PACKAGE)
class Default8BitConvQuantizeConfig(Default8BitQuantizeConfig):
    """The same: here every layer's weights have a scale a channel.

    Example:
        >>> Default8BitConvQuantizeConfig(["kernel"], ["activation"], False).activation_attrs
        ['activation']
    """


@keras.saving.register_keras_serializable(package=PACKAGE)
class Default8BitOutputQuantizeConfig(Default8BitQuantizeConfig):
    """8 bits for the output, and for nothing else.

    Example:
        >>> Default8BitOutputQuantizeConfig().quantize_output
        True
    """

    def __init__(self) -> None:
        super().__init__([], [], quantize_output=True)

    def get_config(self) -> dict[str, Any]:
        return {}


@keras.saving.register_keras_serializable(package=PACKAGE)
class NoOpQuantizeConfig(Default8BitQuantizeConfig):
    """Nothing of the layer is quantized: it stays float, in the file too.

    Example:
        >>> NoOpQuantizeConfig().quantize_output
        False
    """

    def __init__(self) -> None:
        super().__init__([], [], quantize_output=False)

    def get_config(self) -> dict[str, Any]:
        return {}
