"""What a QuantizeConfig says of a layer: its methods called, the setters on a stand-in that notes what they set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from kompakt.errors import InputError
from kompakt.sites import attachable_slots
from kompakt.tfmot.quantization.config import QuantizeConfig
from kompakt.tfmot.quantization.quantizers import Quantizer

Layer = Any


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What of one layer is to be quantized.

    Attributes:
        weights: slot -> quantizer. activation: of what the layer computes before its last step, output: of that;
            None where there is none.
    """

    weights: dict[str, Quantizer]
    activation: Quantizer | None
    output: Quantizer | None

    @property
    def nothing(self) -> bool:
        """Nothing is to be quantized."""
        return not self.weights and self.activation is None and self.output is None


class StandIn:
    """Reads as a layer does, with the layers in it; what is set on it is noted, and the layer stays as it is.

    Example:
        >>> d = keras.layers.Dense(2)
        >>> d.build((None, 3))
        >>> noted = []
        >>> StandIn(d, noted).kernel = d.kernel
        >>> noted[0][0], isinstance(StandIn(d, noted), keras.layers.Dense)
        ('kernel', True)
    """

    def __init__(self, layer: Layer, noted: list[tuple[str, Any]]) -> None:
        object.__setattr__(self, "_held", (layer, noted))

    def __getattribute__(self, name: str) -> Any:
        layer, noted = object.__getattribute__(self, "_held")
        if name == "__class__":
            return type(layer)
        return _stand_in(getattr(layer, name), noted)

    def __setattr__(self, name: str, value: Any) -> None:
        object.__getattribute__(self, "_held")[1].append((name, value))


def _stand_in(value: Any, noted: list[tuple[str, Any]]) -> Any:
    if isinstance(value, keras.layers.Layer):
        return StandIn(value, noted)
    if isinstance(value, (list, tuple)) and any(isinstance(each, keras.layers.Layer) for each in value):
        return [_stand_in(each, noted) for each in value]
    return value


def asked_of(layer: Layer, config: QuantizeConfig) -> Asked:
    """What ``config`` says of ``layer``, which is built and not changed.

    Raises:
        InputError: pairs that are none, a weight that is not the layer's, or setters that do not set what there is.
    """
    weights = _pairs(config.get_weights_and_quantizers(layer), f"{_where(layer, config)}get_weights_and_quantizers")
    functions = _pairs(
        config.get_activations_and_quantizers(layer), f"{_where(layer, config)}get_activations_and_quantizers"
    )
    _check_set(layer, config, "set_quantize_weights", config.set_quantize_weights, [w for w, _ in weights])
    _check_set(layer, config, "set_quantize_activations", config.set_quantize_activations, [f for f, _ in functions])
    outputs = list(config.get_output_quantizers(layer) or ())
    return Asked(
        weights={_slot(layer, config, variable): quantizer for variable, quantizer in weights},
        activation=_single(layer, config, "get_activations_and_quantizers", [q for _, q in functions]),
        output=_single(layer, config, "get_output_quantizers", outputs),
    )


def _where(layer: Layer, config: QuantizeConfig) -> str:
    return f"the layer {layer.name!r}: {type(config).__name__}."


def _pairs(given: Any, where: str) -> list[tuple[Any, Quantizer]]:
    pairs = list(given or ())
    for pair in pairs:
        if not (isinstance(pair, (tuple, list)) and len(pair) == 2 and isinstance(pair[1], Quantizer)):
            raise InputError(
                f"{where} returned {pair!r}: expected pairs (what to quantize, an instance of a Quantizer)"
            )
    return [(what, quantizer) for what, quantizer in pairs]


def _check_set(
    layer: Layer, config: QuantizeConfig, method: str, call: Callable[[Any, Any], None], given: Sequence[Any]
) -> None:
    """Raise unless the setter sets each of the ``given`` on an attribute of the layer."""
    if not given:
        return
    marks = [_Mark(value) if callable(value) else value for value in given]
    noted: list[tuple[str, Any]] = []
    call(StandIn(layer, noted), list(marks))
    for position, mark in enumerate(marks):
        if not any(value is mark for _, value in noted):
            names = ", ".join(name for name, _ in noted) or "nothing"
            raise InputError(
                f"{_where(layer, config)}{method} was given {len(given)} and set {names}: number {position} is set "
                "nowhere, so that it would not be quantized; set an attribute of the layer to each"
            )


class _Mark:
    """One activation function of possibly several that are the same."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)


def _slot(layer: Layer, config: QuantizeConfig, variable: Any) -> str:
    slots = attachable_slots(layer)
    found = next((slot for slot, (_, known, _) in slots.items() if known is variable), None)
    if found is None:
        name = getattr(variable, "name", type(variable).__name__)
        raise InputError(
            f"{_where(layer, config)}get_weights_and_quantizers has {name!r}, which cannot be quantized: it has "
            f"{', '.join(slots) or 'no weight that can'}; biases stay as they are in every file"
        )
    return found


def _single(layer: Layer, config: QuantizeConfig, method: str, quantizers: Sequence[Quantizer]) -> Quantizer | None:
    """The one quantizer of all."""
    for quantizer in quantizers:
        if not isinstance(quantizer, Quantizer):
            raise InputError(f"{_where(layer, config)}{method} has {quantizer!r}: expected instances of a Quantizer")
        if quantizer != quantizers[0]:
            raise InputError(
                f"{_where(layer, config)}{method} has quantizers that differ: what a layer computes is on one grid in "
                "a file; give the same to all"
            )
    return quantizers[0] if quantizers else None
