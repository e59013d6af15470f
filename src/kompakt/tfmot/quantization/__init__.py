"""``tfmot.quantization``: quantization-aware training, on ``kompakt.quantize``."""

from kompakt.tfmot.quantization import keras

__all__ = ["keras"]
