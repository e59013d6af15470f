"""``tfmot.quantization.keras.experimental.default_n_bit.default_n_bit_transforms``: gone."""

from kompakt.tfmot.gone import names_of
from kompakt.tfmot.quantization.gone_names import GONE, N_BIT

__getattr__ = names_of(f"{N_BIT}.default_n_bit_transforms", GONE)
