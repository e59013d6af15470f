"""``quantize_scope``: the names by which saved models know tfmot's classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from kompakt.errors import InputError
from kompakt.tfmot.quantization.annotate import QuantizeAnnotate
from kompakt.tfmot.quantization.default_configs import (
    Default8BitConvQuantizeConfig,
    Default8BitOutputQuantizeConfig,
    Default8BitQuantizeConfig,
    NoOpQuantizeConfig,
)
from kompakt.tfmot.quantization.quantizers import QUANTIZERS

CONFIGS = (
    Default8BitQuantizeConfig,
    Default8BitConvQuantizeConfig,
    Default8BitOutputQuantizeConfig,
    NoOpQuantizeConfig,
)


def quantize_scope(*args: Mapping[str, Any]) -> Any:
    """A scope in which models with annotations, QuantizeConfigs and Quantizers are read.

    kompakt's own classes need none; yours do, unless they are registered with Keras.

    Args:
        args: name -> class, of yours.

    Raises:
        InputError: something else than a mapping.

    Example:
        >>> class Mine(keras.layers.Dense):
        ...     pass
        >>> with quantize_scope({"Mine": Mine}):
        ...     keras.saving.get_registered_object("Mine") is Mine
        True
    """
    kinds: tuple[type, ...] = (QuantizeAnnotate, *QUANTIZERS, *CONFIGS)
    found: dict[str, Any] = {kind.__name__: kind for kind in kinds}
    for each in args:
        if not isinstance(each, Mapping):
            raise InputError(f"quantize_scope received {each!r}: expected mappings such as {{'MyLayer': MyLayer}}")
        found.update(each)
    return keras.saving.custom_object_scope(found)
