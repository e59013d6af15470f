"""A layer that says itself which of its weights are clustered."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from kompakt.sites import OwnWeights


class ClusterableLayer(OwnWeights, ABC):
    """A user's layer, of its own or made of one of Keras', that names the weights that are clustered.

    Example:
        >>> import keras, kompakt.tfmot as tfmot
        >>> class Biased(keras.layers.Dense, ClusterableLayer):
        ...     def get_clusterable_weights(self):
        ...         return [("kernel", self.kernel), ("bias", self.bias)]
        >>> layer = tfmot.clustering.keras.cluster_weights(Biased(8), number_of_clusters=4)
        >>> sorted(keras.Sequential([keras.Input((4,)), layer]).layers[0].chains)
        ['bias', 'kernel']
    """

    @abstractmethod
    def get_clusterable_weights(self) -> Sequence[tuple[str, Any]]:
        """(name, variable) of each weight that is to be clustered."""

    def get_clusterable_algorithm(self, weight_name: str) -> type | None:
        """A look-up of its own for a weight: gone, see :class:`ClusteringAlgorithm`. Only None is taken."""

    def own_weights(self) -> Sequence[Any]:
        """The variables of :meth:`get_clusterable_weights`."""
        return [*super().own_weights(), *(variable for _, variable in self.get_clusterable_weights())]
