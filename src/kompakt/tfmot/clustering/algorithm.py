"""Which centroid a weight belongs to, for code that asks as tfmot's does."""

from __future__ import annotations

from typing import Any

from keras import ops

from kompakt.centroids import nearest_centroid
from kompakt.tfmot.clustering.options import GradientAggregation, gradient_of
from kompakt.transform import Tensor


class ClusteringAlgorithm:
    """The look-up of centroids: the nearest one, for any shape.

    tfmot needs one for each shape of weights, and takes a user's through ``get_clusterable_algorithm``. Here the
    nearest centroid is found for weights of any shape, so that there is nothing to write; a technique that assigns
    otherwise is a :class:`kompakt.transform.Transform`.

    Args:
        clusters_centroids: (k,) float. cluster_gradient_aggregation: of a centroid's members.
        data_format: taken and not needed: the look-up is the same in each.

    Example:
        >>> known = ClusteringAlgorithm(ops.array([1.0, -1.0]))
        >>> index = known.get_pulling_indices(ops.array([[0.9, -0.2]]))
        >>> ops.convert_to_numpy(index).tolist()
        [[0, 1]]
        >>> ops.convert_to_numpy(known.get_clustered_weight(index, ops.array([[0.9, -0.2]]))).tolist()
        [[1.0, -1.0]]
    """

    def __init__(
        self,
        clusters_centroids: Any,
        cluster_gradient_aggregation: Any = GradientAggregation.AVG,
        data_format: str | None = None,
    ) -> None:
        self.cluster_centroids = clusters_centroids
        self.cluster_gradient_aggregation = cluster_gradient_aggregation
        self.data_format = data_format
        self._mean = gradient_of(cluster_gradient_aggregation) == "mean"

    def get_pulling_indices(self, weight: Tensor, centroids: Tensor | None = None) -> Tensor:
        """int of the shape of ``weight``: which of the centroids, in their own order, is the nearest."""
        order, table = self._ascending(weight, self.cluster_centroids if centroids is None else centroids)
        return ops.take(order, nearest_centroid(ops.cast(weight, "float32"), table))

    def get_clustered_weight(self, pulling_indices: Tensor, original_weight: Tensor) -> Tensor:
        """The centroid that the index of each weight names; gradients as in :func:`kompakt.centroids.share_values`.

        Args:
            pulling_indices: whole numbers of the shape of ``original_weight``, also others than the nearest.
        """
        weight, centroids = (
            ops.cast(ops.convert_to_tensor(each), "float32") for each in (original_weight, self.cluster_centroids)
        )
        index = ops.cast(ops.convert_to_tensor(pulling_indices), "int32")
        if self._mean:
            count = ops.bincount(ops.reshape(index, (-1,)), minlength=int(centroids.shape[0]))
            held = ops.stop_gradient(centroids)
            centroids = held + (centroids - held) / ops.cast(ops.maximum(count, 1), "float32")
        # The difference is 0, and lets the gradient through to the weight.
        return ops.take(centroids, index) + (weight - ops.stop_gradient(weight))

    @staticmethod
    def _ascending(weight: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
        """(which centroid is where once they ascend, those as (k, 1, ...) against ``weight``)."""
        values = ops.cast(ops.convert_to_tensor(centroids), "float32")
        order = ops.argsort(values)
        table = ops.reshape(ops.take(values, order), (-1, *(1 for _ in weight.shape)))
        return order, table
