"""``QuantizeConfig``: what of one layer is quantized, and how, in the words of tfmot."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from kompakt.tfmot.quantization.quantizers import Quantizer

Layer = Any


class QuantizeConfig(ABC):
    """What of a layer is quantized, and how; for ``quantize_annotate_layer``.

    ``set_quantize_weights`` and ``set_quantize_activations`` are called on a stand-in for the layer, which reads as the
    layer does and notes what is set: ``layer.kernel = ...`` works, though ``Dense.kernel`` cannot be set in Keras 3.

    What a config leaves out is not rounded in training. Where the layer computes in integers in a file it is rounded
    there all the same, on a range that was watched; a config that lists nothing leaves its layer float.

    Example:
        >>> from kompakt.tfmot.quantization.quantizers import LastValueQuantizer, MovingAverageQuantizer
        >>> class FourBits(QuantizeConfig):
        ...     def get_weights_and_quantizers(self, layer):
        ...         return [(layer.kernel, LastValueQuantizer(4, False, True, False))]
        ...     def get_activations_and_quantizers(self, layer):
        ...         return [(layer.activation, MovingAverageQuantizer(8, False, False, False))]
        ...     def set_quantize_weights(self, layer, quantize_weights):
        ...         layer.kernel = quantize_weights[0]
        ...     def set_quantize_activations(self, layer, quantize_activations):
        ...         layer.activation = quantize_activations[0]
        ...     def get_output_quantizers(self, layer):
        ...         return []
        ...     def get_config(self):
        ...         return {}
        >>> FourBits.from_config({}).get_config()
        {}
    """

    @abstractmethod
    def get_weights_and_quantizers(self, layer: Layer) -> Sequence[tuple[Any, Quantizer]]:
        """The variables to quantize, each with its quantizer."""

    @abstractmethod
    def get_activations_and_quantizers(self, layer: Layer) -> Sequence[tuple[Any, Quantizer]]:
        """The activation functions to quantize, each with its quantizer."""

    @abstractmethod
    def set_quantize_weights(self, layer: Layer, quantize_weights: Sequence[Any]) -> None:
        """Set the attributes that hold the weights, in the order of :meth:`get_weights_and_quantizers`."""

    @abstractmethod
    def set_quantize_activations(self, layer: Layer, quantize_activations: Sequence[Any]) -> None:
        """Set the attributes that hold the activations, in the order of :meth:`get_activations_and_quantizers`."""

    @abstractmethod
    def get_output_quantizers(self, layer: Layer) -> Sequence[Quantizer]:
        """The quantizer of the output, or an empty list."""

    @abstractmethod
    def get_config(self) -> dict[str, Any]:
        """The arguments of ``__init__``."""

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> QuantizeConfig:
        """The config object of a config."""
        return cls(**config)
