"""Weight clustering, by tfmot's names."""

from kompakt.tfmot.clustering import keras as keras

__all__ = ["keras"]
