"""``tfmot.quantization.keras.experimental``."""

from kompakt.tfmot.quantization.keras.experimental import default_n_bit

__all__ = ["default_n_bit"]
