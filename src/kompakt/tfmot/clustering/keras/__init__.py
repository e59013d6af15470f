"""``tfmot.clustering.keras``: what tfmot 0.8.1 has there, over :func:`kompakt.cluster`'s machinery."""

from kompakt.tfmot.clustering.algorithm import ClusteringAlgorithm as ClusteringAlgorithm
from kompakt.tfmot.clustering.keras import clusterable_layer as clusterable_layer
from kompakt.tfmot.clustering.keras import experimental as experimental
from kompakt.tfmot.clustering.keras.clusterable_layer import ClusterableLayer as ClusterableLayer
from kompakt.tfmot.clustering.options import CentroidInitialization as CentroidInitialization
from kompakt.tfmot.clustering.options import GradientAggregation as GradientAggregation
from kompakt.tfmot.clustering.summaries import ClusteringSummaries as ClusteringSummaries
from kompakt.tfmot.clustering.weights import cluster_scope as cluster_scope
from kompakt.tfmot.clustering.weights import cluster_weights as cluster_weights
from kompakt.tfmot.clustering.weights import strip_clustering as strip_clustering

__all__ = [
    "CentroidInitialization",
    "ClusterableLayer",
    "ClusteringAlgorithm",
    "ClusteringSummaries",
    "GradientAggregation",
    "cluster_scope",
    "cluster_weights",
    "clusterable_layer",
    "experimental",
    "strip_clustering",
]
