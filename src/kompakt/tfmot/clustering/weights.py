"""``cluster_weights`` on a model, a layer or a list of layers, and what undoes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from kompakt.errors import InputError
from kompakt.sites import attachable_slots, is_depthwise, weight_slots
from kompakt.tfmot.clustering.keras.clusterable_layer import ClusterableLayer
from kompakt.tfmot.clustering.options import CentroidInitialization, GradientAggregation, gradient_of, start_of
from kompakt.tfmot.wrapping import TransformedLater, strip, wrap
from kompakt.transform import Transform
from kompakt.transforms import Cluster, Prune

Layer = Any


@keras.saving.register_keras_serializable(package="kompakt")
class ClusterWeights(TransformedLater):
    """A layer that is clustered as soon as it is built.

    Example:
        >>> layer = cluster_weights(keras.layers.Dense(8), number_of_clusters=4)
        >>> type(layer).__name__
        'ClusterWeights'
    """

    @staticmethod
    def slots_of(layer: Layer) -> Sequence[str]:
        """The weights that a ClusterableLayer names, else those of the layer's kind but depthwise kernels."""
        if not isinstance(layer, ClusterableLayer):
            return [slot for slot, (owner, _, _) in weight_slots(layer).items() if not is_depthwise(owner, slot)]
        wanted = dict(layer.get_clusterable_weights())
        for name in wanted:
            if layer.get_clusterable_algorithm(name) is not None:
                raise InputError(
                    f"{type(layer).__name__}: get_clusterable_algorithm({name!r}) gives a look-up of its own; expected "
                    "None: each weight goes to the nearest centroid, whatever its shape; for another rule write a "
                    "kompakt.transform.Transform"
                )
        ids = {id(variable) for variable in wanted.values()}
        return [slot for slot, (_, variable, _) in attachable_slots(layer).items() if id(variable) in ids]


def cluster_weights(
    to_cluster: Any,
    number_of_clusters: int,
    cluster_centroids_init: Any = CentroidInitialization.KMEANS_PLUS_PLUS,
    preserve_sparsity: bool = False,
    cluster_per_channel: bool = False,
    cluster_gradient_aggregation: Any = GradientAggregation.AVG,
    seed: int = 0,
    **kwargs: Any,
) -> Any:
    """A copy that trains with at most ``number_of_clusters`` distinct values in each weight tensor.

    As :func:`kompakt.cluster`, with what differs from tfmot 0.8.1: the model given is not changed; ``training``
    reaches the layers (Dropout, BatchNormalization); subclassed models, recurrent and attention layers work; the
    starts have no value twice; a Conv2D with ``use_bias=False`` is clustered a channel, too; and gradients of a
    centroid are averaged, where tfmot's sum diverges with plain gradient descent.

    Args:
        to_cluster: a model, a layer (built or not) or a list of layers. Depthwise kernels are left, as in tfmot.
        number_of_clusters: values a tensor, 2 or more.
        cluster_centroids_init: a CentroidInitialization, or a word of the guides such as "linear".
        preserve_sparsity: zeros stay zeros. A model that is pruned, and not stripped, keeps them in any case.
        cluster_per_channel: the values are those of each output channel of a Conv2D; other layers as without it.
        cluster_gradient_aggregation: AVG or SUM. seed: of the starts that are drawn.
        kwargs: of the layer that is made (``input_shape``, ``name``), where ``to_cluster`` is a layer.

    Raises:
        InputError: something else to cluster, fewer than 2 clusters, or unknown words.

    Example:
        >>> import numpy as np
        >>> m = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8)])
        >>> plain = strip_clustering(cluster_weights(m, 4, "linear"))
        >>> len(np.unique(plain.get_weights()[0]))
        4
    """
    start, gradient = start_of(cluster_centroids_init), gradient_of(cluster_gradient_aggregation)

    def make(layer: Layer) -> list[Transform]:
        cluster = Cluster(
            number_of_clusters,
            start=start,
            per_channel=cluster_per_channel and isinstance(layer, keras.layers.Conv2D),
            pin_zero=None if preserve_sparsity else False,
            gradient=gradient,
            seed=seed,
        )
        return [Prune(), cluster] if preserve_sparsity else [cluster]  # the Prune keeps the zeros that are there

    return wrap(to_cluster, make, ClusterWeights, **kwargs)


def strip_clustering(model: keras.Model) -> keras.Model:
    """A copy of plain Keras layers that holds the clustered weights. ``model`` is not changed.

    Raises:
        InputError: it is no Keras model, or has no weights yet.

    Example:
        >>> m = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, name="d")])
        >>> type(strip_clustering(cluster_weights(m, 4)).get_layer("d")).__name__
        'Dense'
    """
    return strip(model)


def cluster_scope() -> Any:
    """What ``with`` loads a clustered model in. Kompakt's classes are known to Keras without it, too.

    Example:
        >>> import tempfile
        >>> path = tempfile.mkdtemp() + "/m.keras"
        >>> m = cluster_weights(keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, name="d")]), 4)
        >>> m.save(path)
        >>> with cluster_scope():
        ...     list(keras.saving.load_model(path).get_layer("d").chains)
        ['kernel']
    """
    return keras.saving.custom_object_scope({"ClusterWeights": ClusterWeights})
