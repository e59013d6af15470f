"""Every public name of tfmot 0.8.1 is here, and in docs/migrating.md, which says what became of it."""

import importlib
import re
from pathlib import Path

import pytest

import kompakt.tfmot
from kompakt.errors import InputError

PAGE = (Path(__file__).parents[2] / "docs" / "migrating.md").read_text(encoding="utf-8")

TRANSFORMS = (
    "ConcatTransform ConcatTransform3Inputs ConcatTransform4Inputs ConcatTransform5Inputs ConcatTransform6Inputs "
    "Conv2DBatchNormActivationQuantize Conv2DBatchNormQuantize Conv2DBatchNormReLUQuantize "
    "Conv2DReshapeBatchNormActivationQuantize Conv2DReshapeBatchNormQuantize Conv2DReshapeBatchNormReLUQuantize "
    "InputLayerQuantize LayerReLUQuantize LayerReluActivationQuantize SeparableConv1DQuantize SeparableConvQuantize"
)
PUBLIC = {
    "sparsity.keras": "prune_low_magnitude prune_scope strip_pruning UpdatePruningStep PruningSummaries "
    "PruningSchedule ConstantSparsity PolynomialDecay PrunableLayer PruningPolicy PruneForLatencyOnXNNPack",
    "clustering.keras": "cluster_scope cluster_weights strip_clustering clusterable_layer CentroidInitialization "
    "ClusteringAlgorithm ClusteringSummaries ClusterableLayer GradientAggregation experimental",
    "clustering.keras.experimental": "cluster_weights",
    "quantization.keras": "quantize_model fix_input_output_range quantize_annotate_layer quantize_annotate_model "
    "quantize_apply remove_input_range QuantizeConfig QuantizeWrapper QuantizeWrapperV2 quantize_scope QuantizeScheme "
    "QuantizeLayoutTransform QuantizeRegistry quantizers default_8bit graph_transformations collab_opts experimental",
    "quantization.keras.quantizers": "AllValuesQuantizer FixedQuantizer LastValueQuantizer MovingAverageQuantizer "
    "Quantizer",
    "quantization.keras.default_8bit": "Default8BitQuantizeScheme Default8BitQuantizeLayoutTransform "
    "Default8BitQuantizeRegistry default_8bit_transforms",
    "quantization.keras.default_8bit.default_8bit_transforms": TRANSFORMS,
    "quantization.keras.experimental": "default_n_bit",
    "quantization.keras.experimental.default_n_bit": "DefaultNBitQuantizeScheme DefaultNBitQuantizeLayoutTransform "
    "DefaultNBitQuantizeRegistry default_n_bit_transforms",
    "quantization.keras.experimental.default_n_bit.default_n_bit_transforms": TRANSFORMS,
    "quantization.keras.graph_transformations": "model_transformer transforms",
    "quantization.keras.graph_transformations.model_transformer": "ModelTransformer",
    "quantization.keras.graph_transformations.transforms": "LayerNode LayerPattern Transform",
    "quantization.keras.collab_opts": "Default8BitPrunePreserveQuantizeScheme",
    "experimental.combine": "strip_clustering_cqat Default8BitClusterPreserveQuantizeScheme "
    "Default8BitPrunePreserveQuantizeScheme",
}
"""Module -> its names: read from the wheel of tfmot 0.8.1, and GradientAggregation, which its guides use."""

NAMES = [f"{module}.{name}" for module, names in PUBLIC.items() for name in names.split()]


def verdicts(path):
    """Name -> what the page says of it under the heading that ``path`` belongs to: same, better or gone."""
    part = path.split(".")[0].replace("experimental", "quantization")
    section = PAGE.split(f"### `tfmot.{part}.keras`\n")[1].split("\n## ")[0].split("\n### ")[0]
    found = {}
    for row in re.findall(r"^\| (`.*?) \| (same|better|gone) \|", section, flags=re.MULTILINE):
        for name in re.findall(r"`([\w.]+)`", row[0]):
            found[name] = row[1]
    return found


def test_there_are_all():
    assert len(NAMES) == 96


@pytest.mark.parametrize("path", NAMES)
def test_name_is_there_and_documented(path):
    module, _, name = path.rpartition(".")
    value = getattr(importlib.import_module(f"kompakt.tfmot.{module}"), name)
    assert value is not None
    by_attribute = kompakt.tfmot
    for part in path.split("."):
        by_attribute = getattr(by_attribute, part)
    assert by_attribute is value
    assert name in verdicts(path), f"docs/migrating.md has no row for {name}"
    assert value.__doc__


@pytest.mark.parametrize("path", NAMES)
def test_what_is_gone_says_so_and_nothing_else_does(path):
    module, _, name = path.rpartition(".")
    value = getattr(importlib.import_module(f"kompakt.tfmot.{module}"), name)
    gone = "Gone" in (value.__doc__ or "")[:5] if isinstance(value, type) or callable(value) else False
    if isinstance(value, type) or callable(value):
        assert gone == (verdicts(path)[name] == "gone"), value.__doc__
    if gone:
        with pytest.raises(InputError, match=f"{name} is gone .*; use instead: "):
            value(None)


def test_the_page_has_no_other_names():
    known = {name for path in NAMES for name in path.split(".")} | {"combine", "collab_opts"}
    assert {name for path in NAMES for name in verdicts(path)} <= known
