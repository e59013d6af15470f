"""Pruning, by tfmot's names."""

from kompakt.tfmot.sparsity import keras as keras

__all__ = ["keras"]
