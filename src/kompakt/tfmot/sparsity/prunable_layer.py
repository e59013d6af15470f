"""A layer that says itself which of its weights are pruned."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from kompakt.sites import OwnWeights


class PrunableLayer(OwnWeights, ABC):
    """A user's layer, of its own or made of one of Keras', that names the weights that are pruned, and no others are.

    A layer that has ``get_prunable_weights`` alone, which tfmot takes too, needs this class among its bases.

    Example:
        >>> import keras, kompakt.tfmot.sparsity.keras as sparsity
        >>> class Biased(keras.layers.Dense, PrunableLayer):
        ...     def get_prunable_weights(self):
        ...         return [self.kernel, self.bias]
        >>> layer = sparsity.prune_low_magnitude(Biased(8))
        >>> sorted(keras.Sequential([keras.Input((4,)), layer]).layers[0].chains)
        ['bias', 'kernel']
    """

    @abstractmethod
    def get_prunable_weights(self) -> Sequence[Any]:
        """The variables that are to be pruned, once the layer is built."""

    def own_weights(self) -> Sequence[Any]:
        """The variables of :meth:`get_prunable_weights`."""
        return [*super().own_weights(), *self.get_prunable_weights()]
