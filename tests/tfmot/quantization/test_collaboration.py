"""Quantization that keeps zeros and shared values (PQAT, CQAT, PCQAT), as tfmot's guides promise it."""

import keras
import numpy as np
import pytest
from keras import layers

import kompakt as kp
from kompakt.attach import chains_of
from kompakt.tfmot.experimental.combine import (
    Default8BitClusterPreserveQuantizeScheme,
    Default8BitPrunePreserveQuantizeScheme,
    strip_clustering_cqat,
)
from kompakt.tfmot.quantization.keras import (
    collab_opts,
    quantize_annotate_layer,
    quantize_annotate_model,
    quantize_apply,
    quantize_scope,
)
from kompakt.transforms import Cluster, FakeQuant, Prune

from .configs import FourBits, accuracy, digits, fitted, net

TEST = digits()[1]
CLUSTERS = 8


@pytest.fixture(scope="module")
def trained():
    keras.utils.set_random_seed(0)
    return fitted(net(), 15)


@pytest.fixture(scope="module")
def pruned(trained):
    return kp.finalize(fitted(kp.prune(trained, 0.5, sites=["*/kernel"]), 4))[0]


@pytest.fixture(scope="module")
def clustered(trained):
    return kp.finalize(fitted(kp.cluster(trained, CLUSTERS), 3, 5e-4))[0]


@pytest.fixture(scope="module")
def both(pruned):
    return kp.finalize(fitted(kp.cluster(kp.prune(pruned, keep="zeros"), CLUSTERS), 3, 5e-4))[0]


def kernels(model):
    return [np.asarray(layer.kernel) for layer in model.layers if hasattr(layer, "kernel")]


def facts(model, path):
    found = kp.export(model, path, verify=TEST)
    assert found.quantization == "int8" and not found.breaches
    return found


def kinds(model):
    return {name: [type(t) for t in chain] for name, chain, variable in chains_of(model) if variable is not None}


@pytest.mark.slow
def test_zeros_stay_in_training_and_in_the_file(pruned, tmp_path):
    before = [int((kernel == 0).sum()) for kernel in kernels(pruned)]
    aware = quantize_apply(quantize_annotate_model(pruned), Default8BitPrunePreserveQuantizeScheme())
    fitted(aware, 2, 5e-4)
    assert accuracy(aware) >= accuracy(pruned) - 0.015
    found = facts(aware, tmp_path / "m.tflite")
    assert all(fact.zeros >= zeros for fact, zeros in zip(found.sites, before, strict=True))
    assert [fact.asked_zeros for fact in found.sites] == before


@pytest.mark.slow
def test_without_the_scheme_the_zeros_are_lost(pruned):
    before = sum(int((kernel == 0).sum()) for kernel in kernels(pruned))
    aware = fitted(quantize_apply(quantize_annotate_model(pruned)), 2, 5e-4)
    assert sum(int((kernel == 0).sum()) for kernel in kernels(kp.finalize(aware)[0])) < 0.8 * before


@pytest.mark.slow
def test_values_stay_as_few_in_training_and_in_the_file(clustered, tmp_path):
    scheme = Default8BitClusterPreserveQuantizeScheme(preserve_sparsity=False)
    aware = fitted(quantize_apply(quantize_annotate_model(clustered), scheme), 2, 5e-4)
    assert accuracy(aware) >= accuracy(clustered) - 0.015
    stripped = strip_clustering_cqat(aware)
    assert np.array_equal(stripped.predict(TEST[0], verbose=0), aware.predict(TEST[0], verbose=0))
    for model in (aware, stripped):
        found = facts(model, tmp_path / "m.tflite")
        assert all(fact.distinct <= CLUSTERS == fact.asked_palette for fact in found.sites)
    moved = zip(kernels(clustered), kernels(kp.finalize(aware)[0]), strict=True)
    assert all(not np.allclose(np.unique(a), np.unique(b)[: len(np.unique(a))], atol=1e-5) for a, b in moved)


@pytest.mark.slow
def test_both_stay(both, tmp_path):
    before = [int((kernel == 0).sum()) for kernel in kernels(both)]
    assert min(before) > 40
    aware = fitted(quantize_apply(quantize_annotate_model(both), Default8BitClusterPreserveQuantizeScheme()), 2, 5e-4)
    assert accuracy(aware) >= accuracy(both) - 0.015
    found = facts(strip_clustering_cqat(aware), tmp_path / "m.tflite")
    assert all(fact.zeros >= zeros for fact, zeros in zip(found.sites, before, strict=True))
    assert all(fact.distinct <= CLUSTERS for fact in found.sites)


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_a_model_that_keeps_something_is_saved_and_read(both, ending, tmp_path):
    aware = quantize_apply(quantize_annotate_model(both), Default8BitClusterPreserveQuantizeScheme())
    fitted(aware, 1, 5e-4)
    path = tmp_path / f"m.{ending}"
    aware.save(path)
    with quantize_scope():
        again = keras.saving.load_model(path)
    assert np.array_equal(again.predict(TEST[0], verbose=0), aware.predict(TEST[0], verbose=0))


def test_a_scheme_is_a_list_of_transforms(both):
    def of(scheme):
        return set(map(tuple, kinds(quantize_apply(quantize_annotate_model(both), scheme)).values()))

    assert of(Default8BitPrunePreserveQuantizeScheme()) == {(Prune, FakeQuant)}
    assert of(Default8BitClusterPreserveQuantizeScheme(preserve_sparsity=False)) == {(Cluster, FakeQuant)}
    assert of(Default8BitClusterPreserveQuantizeScheme()) == {(Cluster, Prune, FakeQuant)}
    assert collab_opts.Default8BitPrunePreserveQuantizeScheme is Default8BitPrunePreserveQuantizeScheme


def test_annotated_layers_alone_keep_what_they_have_beside_a_config(pruned):
    def mark(layer):
        return quantize_annotate_layer(layer, FourBits()) if isinstance(layer, layers.Dense) else layer

    marked = keras.models.clone_model(pruned, clone_function=mark)
    made = quantize_apply(marked, Default8BitPrunePreserveQuantizeScheme())
    assert kinds(made) == {"quant_dense/kernel": [Prune, FakeQuant]}
    assert made.get_layer("quant_dense").chains["kernel"].transforms[-1].bits == 4


def test_a_layer_without_zeros_takes_nothing_from_the_others(pruned):
    model = kp.finalize(kp.prune(pruned, keep="zeros"))[0]
    model.get_layer("conv").kernel.assign(np.ones(model.get_layer("conv").kernel.shape) * 0.1)
    aware = quantize_apply(quantize_annotate_model(model), Default8BitPrunePreserveQuantizeScheme())
    fitted(aware, 1, 5e-4)
    assert (kernels(kp.finalize(aware)[0])[1] == 0).sum() >= (kernels(pruned)[1] == 0).sum()


@pytest.mark.slow
def test_a_model_still_in_pruning_can_be_annotated(trained, tmp_path):
    pruning = kp.prune(trained, 0.5, sites=["dense/kernel"])
    aware = quantize_apply(quantize_annotate_model(pruning))
    assert kinds(aware) == {"quant_conv/kernel": [FakeQuant], "quant_dense/kernel": [Prune, FakeQuant]}
    fitted(aware, 1, 5e-4)
    asked = {fact.site: fact.asked_zeros for fact in facts(aware, tmp_path / "m.tflite").sites}
    half = int(np.prod(trained.get_layer("dense").kernel.shape)) // 2
    assert asked == {"quant_conv/kernel": None, "quant_dense/kernel": half}
