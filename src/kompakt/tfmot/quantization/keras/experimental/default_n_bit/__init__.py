"""``tfmot.quantization.keras.experimental.default_n_bit``."""

from kompakt.tfmot.gone import names_of
from kompakt.tfmot.quantization.gone_names import GONE, N_BIT
from kompakt.tfmot.quantization.keras.experimental.default_n_bit import default_n_bit_transforms
from kompakt.tfmot.quantization.scheme import DefaultNBitQuantizeScheme

__all__ = ["DefaultNBitQuantizeScheme", "default_n_bit_transforms"]
__getattr__ = names_of(N_BIT, GONE)
