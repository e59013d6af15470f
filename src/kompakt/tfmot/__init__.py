"""tfmot's names on Keras 3: ``import kompakt.tfmot as tfmot``, where it was ``tensorflow_model_optimization``.

Thin names over kompakt's own techniques; docs/migrating.md has each name of tfmot 0.8.1, and what is better or gone.

Example:
    >>> import keras, kompakt.tfmot as tfmot
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8)])
    >>> pruned = tfmot.sparsity.keras.prune_low_magnitude(model)
    >>> tfmot.sparsity.keras.strip_pruning(pruned).layers[0].name == model.layers[0].name
    True
"""

from kompakt.tfmot import clustering as clustering
from kompakt.tfmot import experimental as experimental
from kompakt.tfmot import quantization as quantization
from kompakt.tfmot import sparsity as sparsity

__version__ = "0.8.1"
"""Of the tfmot whose names these are; kompakt's own is ``kompakt.__version__``."""

__all__ = ["__version__", "clustering", "experimental", "quantization", "sparsity"]
