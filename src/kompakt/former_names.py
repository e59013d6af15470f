"""What tfmot's wrappers call what a :class:`kompakt.attach.Transformed` has, for code that was written for them."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

_FIRST = ".chains['kernel'].transforms[0]"

ELSEWHERE = {
    "pruning_vars": f"a mask is {_FIRST}.mask, its variable .variable('kernel')",
    "pruning_schedule": f"it is {_FIRST}.schedule",
    "pruning_step": "kompakt.callbacks.Update counts the steps, in its .step",
    "cluster_centroids": f"they are {_FIRST}.centroids",
    "number_of_clusters": f"it is {_FIRST}.clusters",
    "pulling_indices": "each weight has the nearest centroid; strip_clustering gives the clustered weights",
    "original_clusterable_weights": "a weight is .variable('kernel')",
    "quantize_config": "what it asked for is in .chains; kompakt.get_ranges(model) has ranges",
    "_weight_vars": "the grid of a weight is the last of .chains['kernel'].transforms; kompakt.get_ranges has ranges",
    "optimizer_step": "no grid needs the number of the step",
}
"""Attribute of one of tfmot's wrappers -> where what it held is."""


INNER = (
    "%r.layer: its variables are those that train, without zeros and shared values (strip_pruning, strip_clustering or "
    "kompakt.finalize give these); .transformed_layer is the same without this warning"
)


class FormerNames:
    """``layer`` is the layer inside, with a warning; tfmot's other names are an AttributeError that says where that is.

    The warning is for code that counts zeros in ``layer.layer``, where tfmot writes them after each batch.

    Example:
        >>> import keras, kompakt as kp
        >>> m = kp.prune(keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, name="d")]), 0.5, sites="d/kernel")
        >>> m.get_layer("d").pruning_vars
        Traceback (most recent call last):
        AttributeError: 'Transformed' has no 'pruning_vars', which tfmot's wrappers had: a mask is
        .chains['kernel'].transforms[0].mask, its variable .variable('kernel')
    """

    if not TYPE_CHECKING:  # else mypy would take any name

        def __getattr__(self, name: str) -> Any:
            if name == "layer":
                warnings.warn(INNER % self.name, stacklevel=2)
                return self.transformed_layer
            if name in ELSEWHERE:
                raise AttributeError(
                    f"{type(self).__name__!r} has no {name!r}, which tfmot's wrappers had: {ELSEWHERE[name]}"
                )
            # torch's modules look for what they hold in a __getattr__; else a property's own error is raised once more.
            found = getattr(super(), "__getattr__", super().__getattribute__)
            return found(name)
