"""tfmot's modules below ``python.core``: what old code imports from there, and where it is among the public names."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NoReturn

from kompakt.errors import InputError

ROOT = "kompakt.tfmot"
PYTHON = f"{ROOT}.python"
DEEP = "deep_names"
_S, _C, _Q = "sparsity.keras", "clustering.keras", "quantization.keras"
_8, _N = f"{_Q}.default_8bit", f"{_Q}.experimental.default_n_bit"
_COMBINE = "experimental.combine"
_KEEP_VALUES, _KEEP_ZEROS = f"{_Q}.collab_opts.cluster_preserve", f"{_Q}.collab_opts.prune_preserve"

ROWS: tuple[tuple[str, str, str], ...] = (
    ("keras.compat", DEEP, "keras"),
    (f"{_S}.prune", _S, "prune_low_magnitude prune_scope strip_pruning"),
    (f"{_S}.pruning_callbacks", _S, "UpdatePruningStep PruningSummaries"),
    (f"{_S}.pruning_schedule", _S, "PruningSchedule ConstantSparsity PolynomialDecay"),
    (f"{_S}.pruning_policy", _S, "PruningPolicy PruneForLatencyOnXNNPack"),
    (f"{_S}.prunable_layer", _S, "PrunableLayer"),
    (f"{_S}.pruning_wrapper", DEEP, "PruneLowMagnitude"),
    (f"{_S}.prune_registry", DEEP, "PruneRegistry"),
    (f"{_C}.cluster", _C, "cluster_weights cluster_scope strip_clustering"),
    (f"{_C}.experimental.cluster", _C, "cluster_weights"),
    (f"{_C}.cluster_config", _C, "CentroidInitialization GradientAggregation"),
    (f"{_C}.clustering_callbacks", _C, "ClusteringSummaries"),
    (f"{_C}.clustering_algorithm", _C, "ClusteringAlgorithm"),
    (f"{_C}.clusterable_layer", _C, "ClusterableLayer"),
    (f"{_C}.cluster_wrapper", DEEP, "ClusterWeights"),
    (f"{_C}.clustering_registry", DEEP, "ClusteringRegistry"),
    (f"{_Q}.quantize", _Q, "quantize_model quantize_annotate_model quantize_annotate_layer quantize_apply"),
    (f"{_Q}.quantize", _Q, "quantize_scope fix_input_output_range remove_input_range"),
    (f"{_Q}.quantize_config", _Q, "QuantizeConfig"),
    (f"{_Q}.quantize_scheme", _Q, "QuantizeScheme"),
    (f"{_Q}.quantize_registry", _Q, "QuantizeRegistry"),
    (f"{_Q}.quantize_layout_transform", _Q, "QuantizeLayoutTransform"),
    (f"{_Q}.quantize_wrapper", _Q, "QuantizeWrapper QuantizeWrapperV2"),
    (f"{_Q}.quantize_annotate", DEEP, "QuantizeAnnotate"),
    (f"{_Q}.quantize_layer", DEEP, "QuantizeLayer"),
    (f"{_Q}.quantizers", f"{_Q}.quantizers", "Quantizer LastValueQuantizer MovingAverageQuantizer"),
    (f"{_Q}.quantizers", f"{_Q}.quantizers", "AllValuesQuantizer FixedQuantizer"),
    (f"{_8}.default_8bit_quantize_scheme", _8, "Default8BitQuantizeScheme"),
    (f"{_8}.default_8bit_quantize_configs", DEEP, "NoOpQuantizeConfig Default8BitOutputQuantizeConfig"),
    (f"{_8}.default_8bit_quantize_registry", DEEP, "Default8BitQuantizeConfig Default8BitConvQuantizeConfig"),
    (f"{_8}.default_8bit_quantize_registry", _8, "Default8BitQuantizeRegistry"),
    (f"{_8}.default_8bit_quantize_layout_transform", _8, "Default8BitQuantizeLayoutTransform"),
    (f"{_N}.default_n_bit_quantize_scheme", _N, "DefaultNBitQuantizeScheme"),
    (f"{_N}.default_n_bit_quantize_registry", _N, "DefaultNBitQuantizeRegistry"),
    (f"{_KEEP_VALUES}.cluster_utils", _COMBINE, "strip_clustering_cqat"),
    (
        f"{_KEEP_VALUES}.default_8bit_cluster_preserve_quantize_scheme",
        _COMBINE,
        "Default8BitClusterPreserveQuantizeScheme",
    ),
    (f"{_KEEP_ZEROS}.default_8bit_prune_preserve_quantize_scheme", _COMBINE, "Default8BitPrunePreserveQuantizeScheme"),
)
"""(module of tfmot below ``python.core``, the module below ``kompakt.tfmot`` that has its names, these)."""

MODULES = frozenset(f"core.{deep}" for deep, _, _ in ROWS)
FOLDERS = frozenset(module[:i] for module in MODULES for i, letter in enumerate(module) if letter == ".")


class DeepPathError(InputError, ImportError):
    """A path below ``kompakt.tfmot.python`` that is not here; the text has the public one.

    Example:
        >>> import kompakt.tfmot.python.core.sparsity.keras.pruning_impl
        Traceback (most recent call last):
        kompakt.tfmot.deep_paths.DeepPathError: kompakt.tfmot.python.core.sparsity.keras.pruning_impl is not here: of
        tfmot's inner names kompakt has those that much code imports; use the public ones of
        kompakt.tfmot.sparsity.keras (docs/migrating.md)
    """


def missing(path: str) -> str:
    """What is said of a dotted path below ``kompakt.tfmot.python`` that is not here."""
    public = next((each for each in (_S, _C, _Q) if f".{each}." in f"{path}."), "")
    return (
        f"{path} is not here: of tfmot's inner names kompakt has those that much code imports; use the public ones of "
        f"{ROOT}{public and '.'}{public} (docs/migrating.md)"
    )


class DeepModules:
    """Finds and makes the modules below ``kompakt.tfmot.python``, for Python's ``sys.meta_path``; refuses all others.

    Example:
        >>> from kompakt.tfmot.python.core.sparsity.keras import pruning_schedule
        >>> import kompakt.tfmot as tfmot
        >>> pruning_schedule.PolynomialDecay is tfmot.sparsity.keras.PolynomialDecay
        True
    """

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: Any = None) -> ModuleSpec | None:
        """A spec where ``name`` is a module or folder of the table, None where it is somewhere else."""
        if not name.startswith(f"{PYTHON}."):
            return None
        below = name.removeprefix(f"{PYTHON}.")
        if below not in MODULES | FOLDERS:
            refuse(name)
        # Each is a package, so that Python asks here for a name that is not in it.
        return ModuleSpec(name, self, is_package=True)  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """None: Python makes it."""

    def exec_module(self, module: ModuleType) -> None:
        """Put in what the table says."""
        below = module.__name__.removeprefix(f"{PYTHON}.core.")
        held = {
            name: getattr(importlib.import_module(f"{ROOT}.{home}"), name)
            for deep, home, names in ROWS
            if deep == below
            for name in names.split()
        }
        module.__dict__.update(held, __all__=sorted(held), __getattr__=_look_in(module.__name__))


def refuse(path: str) -> NoReturn:
    """Raise that a path is not here."""
    raise DeepPathError(missing(path))


def _look_in(module: str) -> Any:
    """The ``__getattr__`` of a module: a module below it that was not imported yet, else an AttributeError."""

    def look(name: str) -> Any:
        below = f"{module}.{name}".removeprefix(f"{PYTHON}.")
        if below in MODULES | FOLDERS:
            return importlib.import_module(f"{PYTHON}.{below}")
        dunder = name.startswith("__")
        raise AttributeError(f"module {module!r} has no {name!r}" if dunder else missing(f"{module}.{name}"))

    return look


def install() -> None:
    """Have Python ask :class:`DeepModules`, after all that it asks by itself.

    Example:
        >>> install()
        >>> sum(isinstance(each, DeepModules) for each in sys.meta_path)
        1
    """
    if not any(isinstance(each, DeepModules) for each in sys.meta_path):
        sys.meta_path.append(DeepModules())
