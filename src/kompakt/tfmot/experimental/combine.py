"""``tfmot.experimental.combine``: schemes that keep what earlier techniques did."""

from kompakt.tfmot.quantization.ends import strip_clustering_cqat
from kompakt.tfmot.quantization.scheme import (
    Default8BitClusterPreserveQuantizeScheme,
    Default8BitPrunePreserveQuantizeScheme,
)

__all__ = [
    "Default8BitClusterPreserveQuantizeScheme",
    "Default8BitPrunePreserveQuantizeScheme",
    "strip_clustering_cqat",
]
