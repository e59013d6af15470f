"""tfmot's names of quantization that mean nothing here, one row each."""

from __future__ import annotations

from typing import Any

from kompakt.placement import is_marker
from kompakt.tfmot.gone import Gone
from kompakt.tfmot.quantization.own_quantizer import OwnQuantizer
from kompakt.tfmot.wrapping import holds
from kompakt.transforms.quantize import FakeQuant

K = "tfmot.quantization.keras"
EIGHT = f"{K}.default_8bit"
N_BIT = f"{K}.experimental.default_n_bit"
EDITS = f"{K}.graph_transformations"

LAYOUT = Gone(
    "it rewrote a model for one runtime, and kompakt.quantize does that itself",
    "quantize_apply, or kompakt.quantize",
)
REGISTRY = Gone(
    "it was a table from layer to QuantizeConfig, and kompakt knows every layer that has an integer kernel",
    "a QuantizeConfig for one layer (quantize_annotate_layer), or rules= of kompakt.quantize for many",
)


def is_quantized(layer: Any) -> bool:
    """Whether a layer of a model is one that ``quantize_apply`` quantized; the grid of the input is none.

    Example:
        >>> import keras, kompakt.tfmot as tfmot
        >>> m = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="d")])
        >>> [is_quantized(layer) for layer in tfmot.quantization.keras.quantize_model(m).layers]
        [False, False, True]
    """
    return (holds(layer, FakeQuant) or holds(layer, OwnQuantizer)) and not is_marker(layer.transformed_layer)


WRAPPER = Gone(
    "it wrapped one layer in fake quantization, and kompakt keeps that in kompakt.attach.Transformed",
    "quantize_annotate_layer and quantize_apply; kompakt.sites and kompakt.get_ranges look into the result",
    is_quantized,
)
EDIT = Gone(
    "it was a step of tfmot's graph rewriting; kompakt splits, folds and fuses layers by the graph itself",
    "quantize_apply, or kompakt.quantize; keras.models.clone_model for a rewriting of your own",
)

TRANSFORMS = (
    "ConcatTransform",
    "ConcatTransform3Inputs",
    "ConcatTransform4Inputs",
    "ConcatTransform5Inputs",
    "ConcatTransform6Inputs",
    "Conv2DBatchNormActivationQuantize",
    "Conv2DBatchNormQuantize",
    "Conv2DBatchNormReLUQuantize",
    "Conv2DReshapeBatchNormActivationQuantize",
    "Conv2DReshapeBatchNormQuantize",
    "Conv2DReshapeBatchNormReLUQuantize",
    "InputLayerQuantize",
    "LayerReLUQuantize",
    "LayerReluActivationQuantize",
    "SeparableConv1DQuantize",
    "SeparableConvQuantize",
)

GONE: dict[str, Gone] = {
    f"{K}.QuantizeWrapper": WRAPPER,
    f"{K}.QuantizeWrapperV2": WRAPPER,
    f"{K}.QuantizeLayoutTransform": LAYOUT,
    f"{K}.QuantizeRegistry": REGISTRY,
    f"{K}.remove_input_range": Gone(
        "an integer file has a grid for its input, which training has to know of",
        "kompakt.export(model, path, io='float32') for a file that takes floats",
    ),
    f"{EIGHT}.Default8BitQuantizeLayoutTransform": LAYOUT,
    f"{EIGHT}.Default8BitQuantizeRegistry": REGISTRY,
    f"{N_BIT}.DefaultNBitQuantizeLayoutTransform": LAYOUT,
    f"{N_BIT}.DefaultNBitQuantizeRegistry": REGISTRY,
    f"{EDITS}.model_transformer.ModelTransformer": EDIT,
    f"{EDITS}.transforms.LayerNode": EDIT,
    f"{EDITS}.transforms.LayerPattern": EDIT,
    f"{EDITS}.transforms.Transform": EDIT,
    **{f"{EIGHT}.default_8bit_transforms.{name}": EDIT for name in TRANSFORMS},
    **{f"{N_BIT}.default_n_bit_transforms.{name}": EDIT for name in TRANSFORMS},
}
"""tfmot's name -> why it is gone and what to use instead."""
