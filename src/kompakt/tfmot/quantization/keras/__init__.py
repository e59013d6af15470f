"""``tfmot.quantization.keras``: quantization-aware training of Keras models."""

from kompakt.tfmot.gone import names_of
from kompakt.tfmot.quantization.annotate import quantize_annotate_layer, quantize_annotate_model
from kompakt.tfmot.quantization.apply import quantize_apply, quantize_model
from kompakt.tfmot.quantization.config import QuantizeConfig
from kompakt.tfmot.quantization.ends import fix_input_output_range, remove_input_range
from kompakt.tfmot.quantization.gone_names import GONE, K
from kompakt.tfmot.quantization.keras import (
    collab_opts,
    default_8bit,
    experimental,
    graph_transformations,
    quantizers,
)
from kompakt.tfmot.quantization.scheme import QuantizeScheme
from kompakt.tfmot.quantization.scope import quantize_scope

__all__ = [
    "QuantizeConfig",
    "QuantizeScheme",
    "collab_opts",
    "default_8bit",
    "experimental",
    "fix_input_output_range",
    "graph_transformations",
    "quantize_annotate_layer",
    "quantize_annotate_model",
    "quantize_apply",
    "quantize_model",
    "quantize_scope",
    "quantizers",
    "remove_input_range",
]
__getattr__ = names_of(K, GONE)
