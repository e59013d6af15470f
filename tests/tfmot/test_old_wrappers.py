"""What old code asks of tfmot's wrappers: ``isinstance``, attributes, and counts over the variables of a model."""

import importlib.util
import logging
from pathlib import Path

import keras
import numpy as np
import pytest
from kompakt.tfmot.python.core.clustering.keras import cluster_wrapper
from kompakt.tfmot.python.core.quantization.keras import quantize_layer
from kompakt.tfmot.python.core.sparsity.keras import prune_registry, pruning_wrapper

import kompakt as kp
import kompakt.tfmot as tfmot
from kompakt.errors import InputError
from kompakt.former_names import ELSEWHERE

SPEC = importlib.util.spec_from_file_location("nets", Path(__file__).parent / "nets.py")
nets = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(nets)
pruning, clustering, quantization = tfmot.sparsity.keras, tfmot.clustering.keras, tfmot.quantization.keras
combine = tfmot.experimental.combine
HALF = pruning.ConstantSparsity(0.5, begin_step=0, frequency=10)


def small():
    return keras.Sequential([keras.Input((8,)), keras.layers.Dense(16, name="a"), keras.layers.Dense(3, name="b")])


def of_kind(model, kind):
    return [layer.name for layer in model.layers if isinstance(layer, kind)]


def test_isinstance_finds_what_each_technique_made():
    pruned, clustered, quantized = (
        pruning.prune_low_magnitude(small()),
        clustering.cluster_weights(small(), 4, preserve_sparsity=True),
        quantization.quantize_model(small()),
    )
    assert of_kind(pruned, pruning_wrapper.PruneLowMagnitude) == ["a", "b"]
    assert of_kind(clustered, pruning_wrapper.PruneLowMagnitude) == []
    assert of_kind(clustered, cluster_wrapper.ClusterWeights) == ["a", "b"]
    assert of_kind(quantized, quantization.QuantizeWrapperV2) == ["quant_a", "quant_b"]
    assert of_kind(quantized, quantize_layer.QuantizeLayer) == ["input_grid"]
    assert of_kind(small(), pruning_wrapper.PruneLowMagnitude) == []
    for names in (prune_registry.PruneRegistry, pruning_wrapper.PruneLowMagnitude):
        with pytest.raises(InputError, match="is gone"):
            names(keras.layers.Dense(2))


def test_a_layer_that_is_not_built_is_found_too():
    layer = pruning.prune_low_magnitude(keras.layers.Dense(3))
    assert isinstance(layer, pruning_wrapper.PruneLowMagnitude)
    assert not isinstance(layer, cluster_wrapper.ClusterWeights)


def test_the_layer_inside_and_its_warning():
    layer = pruning.prune_low_magnitude(small()).get_layer("a")
    with pytest.warns(UserWarning, match=r"'a'\.layer: its variables are those that train.*strip_pruning"):
        assert layer.layer is layer.transformed_layer
    assert repr(layer) == "<Transformed of Dense name=a, kernel: ScheduledPrune>"


@pytest.mark.parametrize("name", ELSEWHERE)
def test_other_attributes_say_where_they_are(name):
    layer = pruning.prune_low_magnitude(small()).get_layer("a")
    assert not hasattr(layer, name)
    with pytest.raises(AttributeError, match=f"has no '{name}', which tfmot's wrappers had: "):
        getattr(layer, name)


def test_what_they_say_is_there():
    pruned = pruning.prune_low_magnitude(small(), HALF).get_layer("a")
    assert pruned.chains["kernel"].transforms[0].mask.shape == pruned.variable("kernel").shape
    assert pruned.chains["kernel"].transforms[0].schedule.frequency == 10
    clustered = clustering.cluster_weights(small(), 4).get_layer("a")
    assert clustered.chains["kernel"].transforms[0].centroids.shape == (
        1,
        clustered.chains["kernel"].transforms[0].clusters,
    )


def test_an_attribute_that_never_was_and_a_propertys_own_error():
    layer = pruning.prune_low_magnitude(small()).get_layer("a")
    with pytest.raises(AttributeError, match="'Transformed' object has no attribute 'bogus'"):
        layer.bogus  # noqa: B018
    alone = pruning.prune_low_magnitude(keras.layers.Dense(2))
    with pytest.raises((AttributeError, ValueError), match="never been called"):
        alone.output  # noqa: B018


def test_marks_tell_their_config():
    assert quantization.quantize_annotate_layer(keras.layers.Dense(2)).get_quantize_config() is None


def counted(model):
    """(share of zeros, distinct values) of each kernel, from the variables, as the guides to PQAT and PCQAT count."""
    found = {}
    for layer in model.layers:
        weights = layer.trainable_weights if isinstance(layer, keras.layers.Wrapper) else layer.weights
        for weight in weights:
            if "kernel" in weight.name:
                found[layer.name] = np.count_nonzero(weight.numpy() == 0) / weight.numpy().size, len(np.unique(weight))
    return found


@pytest.fixture(scope="module")
def pruned():
    keras.utils.set_random_seed(0)
    model = nets.fitted(pruning.prune_low_magnitude(nets.net(), HALF), 1, callbacks=[pruning.UpdatePruningStep()])
    return pruning.strip_pruning(model)


def preserved(model, scheme):
    return nets.fitted(quantization.quantize_apply(quantization.quantize_annotate_model(model), scheme), 1, 1e-4)


def test_zeros_are_in_the_variables_after_pqat(pruned):
    aware = preserved(pruned, combine.Default8BitPrunePreserveQuantizeScheme())
    assert {name: zeros for name, (zeros, _) in counted(aware).items()} == {
        "quant_conv": 0.5,
        "quant_hidden": 0.5,
        "quant_dense": 0.5,
    }


@pytest.mark.parametrize("preserve", [True, False])
def test_values_are_in_the_variables_once_cqat_is_stripped(pruned, preserve, tmp_path):
    clustered = nets.fitted(clustering.experimental.cluster_weights(pruned, 8, preserve_sparsity=preserve), 1, 1e-4)
    plain = clustering.strip_clustering(clustered)
    aware = preserved(plain, combine.Default8BitClusterPreserveQuantizeScheme(preserve_sparsity=preserve))
    assert max(values for _, values in counted(aware).values()) > 8  # they train
    stripped = combine.strip_clustering_cqat(aware)
    expected = counted(plain)
    found = counted(stripped)
    assert [values for _, values in found.values()] == [values for _, values in expected.values()] == [8, 8, 8]
    if preserve:
        assert all(zeros >= 0.5 for zeros, _ in found.values())
    x = nets.digits()[0][:64]
    np.testing.assert_array_equal(stripped.predict(x, verbose=0), aware.predict(x, verbose=0))
    made = kp.export(stripped, tmp_path / "m.tflite")
    assert {fact.asked_palette for fact in made.sites} == {8} and made.distinct <= 8


def test_stripping_leaves_the_model_given(pruned, caplog):
    aware = preserved(
        clustering.strip_clustering(clustering.cluster_weights(pruned, 8)),
        combine.Default8BitClusterPreserveQuantizeScheme(),
    )
    before = [np.array(weight) for weight in aware.get_weights()]
    with caplog.at_level(logging.WARNING):
        combine.strip_clustering_cqat(aware)
    for mine, was in zip(aware.get_weights(), before, strict=True):
        np.testing.assert_array_equal(mine, was)
