"""``tfmot.quantization.keras.collab_opts``: schemes that keep what earlier techniques did."""

from kompakt.tfmot.quantization.scheme import (
    Default8BitClusterPreserveQuantizeScheme,
    Default8BitPrunePreserveQuantizeScheme,
)

__all__ = ["Default8BitClusterPreserveQuantizeScheme", "Default8BitPrunePreserveQuantizeScheme"]
