"""``tfmot.clustering.keras.experimental``: there ``preserve_sparsity`` was new; here both names are one function."""

from kompakt.tfmot.clustering.keras.experimental import cluster as cluster
from kompakt.tfmot.clustering.weights import cluster_weights as cluster_weights

__all__ = ["cluster", "cluster_weights"]
