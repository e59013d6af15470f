"""``tfmot.quantization.keras.default_8bit.default_8bit_transforms``: gone, see :mod:`kompakt.tfmot.gone`."""

from kompakt.tfmot.gone import names_of
from kompakt.tfmot.quantization.gone_names import EIGHT, GONE

__getattr__ = names_of(f"{EIGHT}.default_8bit_transforms", GONE)
