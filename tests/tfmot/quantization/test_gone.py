"""tfmot's names that mean nothing here: all importable, each with one error that says what to use."""

import importlib

import keras
import pytest

from kompakt.errors import InputError
from kompakt.tfmot import experimental, quantization
from kompakt.tfmot.quantization.gone_names import GONE

NAMES = [
    "keras",
    "keras.quantizers",
    "keras.default_8bit",
    "keras.graph_transformations",
    "keras.collab_opts",
    "keras.experimental",
    "keras.quantize_model",
    "keras.fix_input_output_range",
    "keras.quantize_annotate_layer",
    "keras.quantize_annotate_model",
    "keras.quantize_apply",
    "keras.remove_input_range",
    "keras.QuantizeConfig",
    "keras.QuantizeWrapper",
    "keras.QuantizeWrapperV2",
    "keras.quantize_scope",
    "keras.QuantizeScheme",
    "keras.QuantizeLayoutTransform",
    "keras.QuantizeRegistry",
    "keras.collab_opts.Default8BitPrunePreserveQuantizeScheme",
    "keras.default_8bit.default_8bit_transforms",
    "keras.default_8bit.Default8BitQuantizeScheme",
    "keras.default_8bit.Default8BitQuantizeLayoutTransform",
    "keras.default_8bit.Default8BitQuantizeRegistry",
    "keras.experimental.default_n_bit",
    "keras.experimental.default_n_bit.default_n_bit_transforms",
    "keras.experimental.default_n_bit.DefaultNBitQuantizeScheme",
    "keras.experimental.default_n_bit.DefaultNBitQuantizeLayoutTransform",
    "keras.experimental.default_n_bit.DefaultNBitQuantizeRegistry",
    "keras.graph_transformations.model_transformer",
    "keras.graph_transformations.transforms",
    "keras.graph_transformations.model_transformer.ModelTransformer",
    "keras.graph_transformations.transforms.LayerNode",
    "keras.graph_transformations.transforms.LayerPattern",
    "keras.graph_transformations.transforms.Transform",
    "keras.quantizers.AllValuesQuantizer",
    "keras.quantizers.FixedQuantizer",
    "keras.quantizers.LastValueQuantizer",
    "keras.quantizers.MovingAverageQuantizer",
    "keras.quantizers.Quantizer",
]
TRANSFORMS = [
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
    "LayerReluActivationQuantize",
    "LayerReLUQuantize",
    "SeparableConv1DQuantize",
    "SeparableConvQuantize",
]
INSIDE = [
    *(f"keras.default_8bit.default_8bit_transforms.{name}" for name in TRANSFORMS),
    *(f"keras.experimental.default_n_bit.default_n_bit_transforms.{name}" for name in TRANSFORMS),
]
COMBINE = [
    "strip_clustering_cqat",
    "Default8BitClusterPreserveQuantizeScheme",
    "Default8BitPrunePreserveQuantizeScheme",
]


def at(path):
    found = quantization
    for name in path.split("."):
        found = getattr(found, name)
    return found


@pytest.mark.parametrize("path", [*NAMES, *INSIDE])
def test_every_public_name_is_there(path):
    assert at(path).__doc__


def test_the_names_of_combine_are_there():
    for name in COMBINE:
        assert getattr(experimental.combine, name).__doc__


def test_modules_can_be_imported_by_name():
    found = importlib.import_module("kompakt.tfmot.quantization.keras.default_8bit.default_8bit_transforms")
    assert found.ConcatTransform is at("keras.default_8bit.default_8bit_transforms.ConcatTransform")


@pytest.mark.parametrize("path", [path.removeprefix("tfmot.quantization.") for path in GONE])
def test_a_name_that_is_gone_says_what_to_use(path):
    assert path in (*NAMES, *INSIDE)
    gone = at(path)
    with pytest.raises(InputError, match=rf"^tfmot\.quantization\.{path} is gone \(.+\); use instead: .+") as raised:
        gone(keras.layers.Dense(2))
    assert "\n" not in str(raised.value)


def test_subclassing_does_not_pass_in_silence():
    with pytest.raises(InputError, match="QuantizeRegistry is gone"):
        type("Mine", (quantization.keras.QuantizeRegistry,), {})


def test_isinstance_in_a_loop_is_answered():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4, name="a"), keras.layers.Flatten(name="f")])
    made = quantization.keras.quantize_model(model)
    for name in ("QuantizeWrapper", "QuantizeWrapperV2"):
        kind = getattr(quantization.keras, name)
        assert [isinstance(layer, kind) for layer in model.layers] == [False, False]
        assert [layer.name for layer in made.layers if isinstance(layer, kind)] == ["quant_a"]
    assert not isinstance(made.layers[2], quantization.keras.QuantizeRegistry)
    assert not issubclass(keras.layers.Dense, quantization.keras.QuantizeWrapper)


def test_a_name_that_never_was_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'quantise_model'"):
        quantization.keras.quantise_model  # noqa: B018
