"""The techniques: one file each, one row each in the registry."""

from kompakt.transform import Transform
from kompakt.transforms.cluster import Cluster
from kompakt.transforms.prune import Prune
from kompakt.transforms.quantize import FakeQuant

TRANSFORMS: dict[str, type[Transform]] = {"Prune": Prune, "Cluster": Cluster, "FakeQuant": FakeQuant}
"""Name in a recipe -> class. The contract tests run over every row."""

__all__ = ["TRANSFORMS", "Cluster", "FakeQuant", "Prune"]
