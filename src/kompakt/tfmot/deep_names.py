"""What tfmot has below ``python.core`` alone, and code imports from there: as it is here, or gone."""

from __future__ import annotations

from typing import Any

import keras as keras

from kompakt.attach import Transformed
from kompakt.placement import is_marker
from kompakt.tfmot.gone import Gone, gone_class
from kompakt.tfmot.quantization.annotate import QuantizeAnnotate as QuantizeAnnotate
from kompakt.tfmot.quantization.default_configs import Default8BitConvQuantizeConfig as Default8BitConvQuantizeConfig
from kompakt.tfmot.quantization.default_configs import (
    Default8BitOutputQuantizeConfig as Default8BitOutputQuantizeConfig,
)
from kompakt.tfmot.quantization.default_configs import Default8BitQuantizeConfig as Default8BitQuantizeConfig
from kompakt.tfmot.quantization.default_configs import NoOpQuantizeConfig as NoOpQuantizeConfig
from kompakt.tfmot.sparsity.masks import ScheduledPrune
from kompakt.tfmot.wrapping import holds
from kompakt.transforms.cluster import Cluster
from kompakt.transforms.quantize import FakeQuant

CORE = "tfmot.python.core"


def is_pruned(layer: Any) -> bool:
    """Whether ``prune_low_magnitude`` made a layer, by itself or in a model.

    Example:
        >>> import kompakt.tfmot.sparsity.keras as sparsity
        >>> is_pruned(sparsity.prune_low_magnitude(keras.layers.Dense(2))), is_pruned(keras.layers.Dense(2))
        (True, False)
    """
    return holds(layer, ScheduledPrune)


def is_clustered(layer: Any) -> bool:
    """Whether ``cluster_weights`` made a layer; one that was quantized after it is none.

    Example:
        >>> import kompakt.tfmot.clustering.keras as clustering
        >>> is_clustered(clustering.cluster_weights(keras.layers.Dense(2), 4)), is_clustered(keras.layers.Dense(2))
        (True, False)
    """
    return holds(layer, Cluster) and not holds(layer, FakeQuant)


def is_input_grid(layer: Any) -> bool:
    """Whether a layer puts the input of a quantized model on its grid.

    Example:
        >>> import kompakt.tfmot.quantization.keras as quantization
        >>> m = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="d")])
        >>> [is_input_grid(layer) for layer in quantization.quantize_model(m).layers]
        [False, True, False]
    """
    return isinstance(layer, Transformed) and is_marker(layer.transformed_layer)


PruneLowMagnitude = gone_class(
    f"{CORE}.sparsity.keras.pruning_wrapper.PruneLowMagnitude",
    Gone("kompakt keeps masks in kompakt.attach.Transformed", "tfmot.sparsity.keras.prune_low_magnitude", is_pruned),
)
PruneRegistry = gone_class(
    f"{CORE}.sparsity.keras.prune_registry.PruneRegistry",
    Gone("kompakt knows the weights of every layer", "tfmot.sparsity.keras.PrunableLayer, or kompakt.sites(model)"),
)
ClusterWeights = gone_class(
    f"{CORE}.clustering.keras.cluster_wrapper.ClusterWeights",
    Gone(
        "kompakt keeps centroids in kompakt.attach.Transformed", "tfmot.clustering.keras.cluster_weights", is_clustered
    ),
)
ClusteringRegistry = gone_class(
    f"{CORE}.clustering.keras.clustering_registry.ClusteringRegistry",
    Gone(
        "kompakt knows the weights of every layer", "tfmot.clustering.keras.ClusterableLayer, or kompakt.sites(model)"
    ),
)
QuantizeLayer = gone_class(
    f"{CORE}.quantization.keras.quantize_layer.QuantizeLayer",
    Gone(
        "the grid of an input is a kompakt.attach.Transformed", "tfmot.quantization.keras.quantize_apply", is_input_grid
    ),
)
