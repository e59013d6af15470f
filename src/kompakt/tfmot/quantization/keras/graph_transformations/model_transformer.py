"""``tfmot.quantization.keras.graph_transformations.model_transformer``: gone, see :mod:`kompakt.tfmot.gone`."""

from kompakt.tfmot.gone import names_of
from kompakt.tfmot.quantization.gone_names import EDITS, GONE

__getattr__ = names_of(f"{EDITS}.model_transformer", GONE)
