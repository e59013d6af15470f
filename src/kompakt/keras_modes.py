"""Keras' own weight-only quantization (``Model.quantize``), for servers: reached by our words, kept from TFLite."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import keras

from kompakt.attach import wrapped
from kompakt.errors import InputError, first_line
from kompakt.graph import copy_model
from kompakt.sites import sites

log = logging.getLogger("kompakt")

KERAS_MODES = {"keras_int8": "int8", "keras_int4": "int4"}
"""Mode of ``quantize`` -> the word of ``keras.Model.quantize``."""

WITH_CONFIG = {"gptq": "GPTQConfig", "awq": "AWQConfig"}
"""Word for a method that learns from text -> the class of ``keras.quantizers`` that says from which."""

WHY_NOT_TFLITE = (
    "TFLite has no operators for it: of int8 TensorFlow's converter fails, of int4 it makes files that are larger than "
    "float and lose a ReLU without a word. Export it for a server as a SavedModel, model.export(folder), or give the "
    "float model and quantization='weight_only_int8' or 'int8'"
)

WHY_NOT_AGAIN = "they are integers already, which no technique can work on: give the float model that it was made from"


def is_keras_mode(mode: Any) -> bool:
    """Whether ``mode`` is one of Keras' own: a name, or a ``keras.quantizers`` configuration.

    Example:
        >>> is_keras_mode("keras_int4"), is_keras_mode("int8")
        (True, False)
    """
    if isinstance(mode, str):
        return mode in (*KERAS_MODES, *WITH_CONFIG)
    return isinstance(mode, keras.quantizers.QuantizationConfig)


def quantize_in_keras(model: keras.Model, mode: Any) -> keras.Model:
    """A copy of ``model`` whose Dense, EinsumDense and Embedding weights Keras itself stores in few bits.

    The other layers stay float, and are named in the log.

    Args:
        model: plain; not changed.
        mode: "keras_int8" or "keras_int4", or a configuration of ``keras.quantizers``, which "gptq" and "awq" need:
            they learn from text. It is handed on to ``keras.Model.quantize``.

    Raises:
        InputError: a model with transforms on it, no layer that Keras can quantize, or Keras refuses.

    Example:
        >>> m = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="d")])
        >>> small = quantize_in_keras(m, "keras_int8")
        >>> str(small.get_layer("d").kernel.dtype), str(m.get_layer("d").kernel.dtype)
        ('int8', 'float32')
    """
    if isinstance(mode, str) and mode in WITH_CONFIG:
        name = WITH_CONFIG[mode]
        raise InputError(
            f"quantize(mode={mode!r}): it learns from text; give keras.quantizers.{name}(dataset=, tokenizer=, "
            "quantization_layer_structure=) in place of the name"
        )
    if wrapped(model):  # Keras would quantize the layers inside, and what is on them would be computed on integers
        raise InputError(
            f"quantize(mode={_word(mode)}): the model {model.name!r} has transforms on its layers (of prune, cluster, "
            "quantize or attach); finalize first: kompakt.finalize(model)[0]"
        )
    refuse_quantized_by_keras(model, f"quantize(mode={_word(mode)})", WHY_NOT_AGAIN)
    copy = copy_model(model)
    asked = {"mode": KERAS_MODES[mode]} if isinstance(mode, str) else {"config": mode}
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*does not have a `quantize` method")  # our log names them below
            copy.quantize(**asked)
    except Exception as error:
        raise InputError(f"keras.Model.quantize refuses {model.name!r}: {first_line(error)}") from error
    done = quantized_by_keras(copy)
    if not done:
        raise InputError(
            f"{model.name!r} has no layer that keras.Model.quantize stores in few bits (Dense, EinsumDense, "
            "Embedding); use 'int8' or 'weight_only_int8', which take all of them"
        )
    for site in sites(model):
        if site.variable is not None and site.layer.name not in done:
            log.warning("%s: left as it is (keras.Model.quantize has no form for its layer)", site.name)
    return copy


def quantized_by_keras(model: keras.Model) -> dict[str, str]:
    """Name of each layer that Keras quantized -> how.

    Example:
        >>> m = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="d")])
        >>> quantized_by_keras(m), quantized_by_keras(quantize_in_keras(m, "keras_int4"))
        ({}, {'d': 'int4'})
    """
    modes = {layer.name: getattr(layer, "quantization_mode", None) for layer in model._flatten_layers()}
    return {name: str(mode) for name, mode in modes.items() if mode}


def refuse_quantized_by_keras(model: keras.Model, what: str, why: str) -> None:
    """Raise where ``model`` holds weights in Keras' own forms, which ``what`` cannot take, for the reason ``why``.

    Raises:
        InputError: it does.
    """
    done = quantized_by_keras(model)
    if done:
        names = f"{', '.join(list(done)[:4])}{', ...' if len(done) > 4 else ''}"
        how = next(iter(done.values()))
        raise InputError(f"{what}: {names} hold weights that keras.Model.quantize made ({how}); {why}")


def _word(mode: Any) -> str:
    return repr(mode) if isinstance(mode, str) else type(mode).__name__
