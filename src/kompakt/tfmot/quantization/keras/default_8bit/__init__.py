"""``tfmot.quantization.keras.default_8bit``."""

from kompakt.tfmot.gone import names_of
from kompakt.tfmot.quantization.gone_names import EIGHT, GONE
from kompakt.tfmot.quantization.keras.default_8bit import default_8bit_transforms
from kompakt.tfmot.quantization.scheme import Default8BitQuantizeScheme

__all__ = ["Default8BitQuantizeScheme", "default_8bit_transforms"]
__getattr__ = names_of(EIGHT, GONE)
