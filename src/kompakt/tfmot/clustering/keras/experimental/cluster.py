"""Where the guides import ``cluster_weights`` with ``preserve_sparsity`` from."""

from kompakt.tfmot.clustering.weights import cluster_weights as cluster_weights

__all__ = ["cluster_weights"]
