"""Which layers of a model are pruned, and which models are refused."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import keras
from keras import layers

from kompakt.planning import carry
from kompakt.policies import xnnpack

Layer = Any


class PruningPolicy(ABC):
    """What ``prune_low_magnitude`` asks of each layer, and before that of a whole model.

    Example:
        >>> import kompakt.tfmot.sparsity.keras as sparsity
        >>> class DenseOnly(PruningPolicy):
        ...     def allow_pruning(self, layer):
        ...         return isinstance(layer, keras.layers.Dense)
        ...     def ensure_model_supports_pruning(self, model):
        ...         pass
        >>> m = keras.Sequential(
        ...     [keras.Input((8, 2)), layers.Conv1D(4, 3), layers.Flatten(), layers.Dense(2, name="d")]
        ... )
        >>> p = sparsity.prune_low_magnitude(m, pruning_policy=DenseOnly())
        >>> [type(layer).__name__ for layer in p.layers]
        ['Conv1D', 'Flatten', 'Transformed']
    """

    @abstractmethod
    def allow_pruning(self, layer: Layer) -> bool:
        """Whether the weights of ``layer`` are pruned."""

    @abstractmethod
    def ensure_model_supports_pruning(self, model: keras.Model) -> None:
        """Raise ValueError where pruning cannot serve its purpose in ``model``."""


class PruneForLatencyOnXNNPack(PruningPolicy):
    """1x1 convolutions, in a model that XNNPACK's sparse kernels can run: :func:`kompakt.policies.xnnpack`.

    As in tfmot every 1x1 Conv2D is pruned, those outside the part that runs sparse too; ``kompakt.prune`` with
    ``policy="xnnpack"`` leaves these. More models are taken than in tfmot: a first convolution with "same" padding
    where that pads by 1 on every side, and Activation("hard_silu"). The error names the layer that is in the way.

    Example:
        >>> PruneForLatencyOnXNNPack().allow_pruning(layers.Conv2D(4, 1)), PruneForLatencyOnXNNPack().allow_pruning(
        ...     layers.Conv2D(4, 3)
        ... )
        (True, False)
    """

    def allow_pruning(self, layer: Layer) -> bool:
        pointwise = isinstance(layer, layers.Conv2D) and not isinstance(layer, layers.DepthwiseConv2D)
        return pointwise and layer.kernel_size == (1, 1)

    def ensure_model_supports_pruning(self, model: keras.Model) -> None:
        xnnpack(carry(model)[0])
