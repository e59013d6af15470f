"""``tfmot.sparsity.keras``: what tfmot 0.8.1 has there, over :func:`kompakt.prune`'s machinery."""

from kompakt.tfmot.sparsity.callbacks import PruningSummaries as PruningSummaries
from kompakt.tfmot.sparsity.callbacks import UpdatePruningStep as UpdatePruningStep
from kompakt.tfmot.sparsity.policies import PruneForLatencyOnXNNPack as PruneForLatencyOnXNNPack
from kompakt.tfmot.sparsity.policies import PruningPolicy as PruningPolicy
from kompakt.tfmot.sparsity.prunable_layer import PrunableLayer as PrunableLayer
from kompakt.tfmot.sparsity.schedules import ConstantSparsity as ConstantSparsity
from kompakt.tfmot.sparsity.schedules import PolynomialDecay as PolynomialDecay
from kompakt.tfmot.sparsity.schedules import PruningSchedule as PruningSchedule
from kompakt.tfmot.sparsity.weights import prune_low_magnitude as prune_low_magnitude
from kompakt.tfmot.sparsity.weights import prune_scope as prune_scope
from kompakt.tfmot.sparsity.weights import strip_pruning as strip_pruning

__all__ = [
    "ConstantSparsity",
    "PolynomialDecay",
    "PrunableLayer",
    "PruneForLatencyOnXNNPack",
    "PruningPolicy",
    "PruningSchedule",
    "PruningSummaries",
    "UpdatePruningStep",
    "prune_low_magnitude",
    "prune_scope",
    "strip_pruning",
]
