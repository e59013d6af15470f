"""kompakt: make Keras 3 models small and fast, and prove it on the file that ships."""

from __future__ import annotations

import importlib
import sys
import types
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from kompakt import callbacks as callbacks
    from kompakt import distillation as distillation
    from kompakt import schedules as schedules
    from kompakt import testing as testing
    from kompakt.activation_ranges import get_ranges as get_ranges
    from kompakt.activation_ranges import load_ranges as load_ranges
    from kompakt.activation_ranges import save_ranges as save_ranges
    from kompakt.activation_ranges import set_ranges as set_ranges
    from kompakt.attach import attach as attach
    from kompakt.attach import finalize as finalize
    from kompakt.calibrate import calibrate as calibrate
    from kompakt.changes import ArtifactDifference as ArtifactDifference
    from kompakt.contents import Contents as Contents
    from kompakt.contest import compare_models as compare_models
    from kompakt.cost import layer_costs as layer_costs
    from kompakt.data import load_data as load_data
    from kompakt.difference import difference as difference
    from kompakt.distill import distill as distill
    from kompakt.distillation.cache import cache_teacher as cache_teacher
    from kompakt.errors import InputError as InputError
    from kompakt.errors import KompaktError as KompaktError
    from kompakt.errors import VerificationError as VerificationError
    from kompakt.evaluate import evaluate as evaluate
    from kompakt.export import export as export
    from kompakt.export_all import export_all as export_all
    from kompakt.inspect import analyzer as analyzer
    from kompakt.inspect import inspect as inspect
    from kompakt.loading import load_model as load_model
    from kompakt.profile import compare_latency as compare_latency
    from kompakt.profile import profile as profile
    from kompakt.quantization import quantize as quantize
    from kompakt.recipe import Recipe as Recipe
    from kompakt.recipe import load_recipe as load_recipe
    from kompakt.records import Artifact as Artifact
    from kompakt.records import Deployment as Deployment
    from kompakt.records import Encoding as Encoding
    from kompakt.records_difference import Difference as Difference
    from kompakt.records_evaluation import Comparison as Comparison
    from kompakt.records_evaluation import Evaluation as Evaluation
    from kompakt.repairs.batchnorm import reestimate_batchnorm as reestimate_batchnorm
    from kompakt.repairs.bias import correct_bias as correct_bias
    from kompakt.repairs.equalize import equalize as equalize
    from kompakt.repairs.rounding import adaround as adaround
    from kompakt.rewrite.channel_groups import channel_groups as channel_groups
    from kompakt.rewrite.remove_channels import mask_channels as mask_channels
    from kompakt.rewrite.remove_channels import remove_channels as remove_channels
    from kompakt.run import optimize as optimize
    from kompakt.sensitivity import sensitivity as sensitivity
    from kompakt.shrink import ShrinkPlan as ShrinkPlan
    from kompakt.shrink import plan_shrink as plan_shrink
    from kompakt.shrink import shrink as shrink
    from kompakt.signatures import JoinedFile as JoinedFile
    from kompakt.signatures import join_signatures as join_signatures
    from kompakt.sites import sites as sites
    from kompakt.student import student as student
    from kompakt.techniques import cluster as cluster
    from kompakt.techniques import prune as prune
    from kompakt.verify import verify_file as verify_file
    from kompakt.versus import compare_evaluations as compare_evaluations

_HOME = {
    "get_ranges": "activation_ranges",
    "load_ranges": "activation_ranges",
    "save_ranges": "activation_ranges",
    "set_ranges": "activation_ranges",
    "attach": "attach",
    "finalize": "attach",
    "calibrate": "calibrate",
    "compare_models": "contest",
    "layer_costs": "cost",
    "Contents": "contents",
    "ArtifactDifference": "changes",
    "difference": "difference",
    "distill": "distill",
    "cache_teacher": "distillation.cache",
    "InputError": "errors",
    "KompaktError": "errors",
    "VerificationError": "errors",
    "evaluate": "evaluate",
    "export": "export",
    "export_all": "export_all",
    "verify_file": "verify",
    "compare_evaluations": "versus",
    "Recipe": "recipe",
    "load_recipe": "recipe",
    "Artifact": "records",
    "Deployment": "records",
    "Encoding": "records",
    "Comparison": "records_evaluation",
    "Difference": "records_difference",
    "Evaluation": "records_evaluation",
    "analyzer": "inspect",
    "inspect": "inspect",
    "optimize": "run",
    "compare_latency": "profile",
    "profile": "profile",
    "quantize": "quantization",
    "reestimate_batchnorm": "repairs.batchnorm",
    "correct_bias": "repairs.bias",
    "adaround": "repairs.rounding",
    "equalize": "repairs.equalize",
    "channel_groups": "rewrite.channel_groups",
    "mask_channels": "rewrite.remove_channels",
    "remove_channels": "rewrite.remove_channels",
    "ShrinkPlan": "shrink",
    "plan_shrink": "shrink",
    "shrink": "shrink",
    "sensitivity": "sensitivity",
    "JoinedFile": "signatures",
    "join_signatures": "signatures",
    "sites": "sites",
    "student": "student",
    "cluster": "techniques",
    "prune": "techniques",
    "load_model": "loading",
    "load_data": "data",
    "callbacks": "",
    "distillation": "",
    "schedules": "",
    "testing": "",
}

__all__ = ["__version__", *sorted(_HOME)]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    """Public names are imported when they are first used: ``import kompakt`` loads no framework."""
    if name not in _HOME:
        raise AttributeError(f"module 'kompakt' has no attribute {name!r}")
    home = _HOME[name]
    if not home:
        return importlib.import_module(f"kompakt.{name}")
    value = getattr(importlib.import_module(f"kompakt.{home}"), name)
    globals()[name] = value
    return value


class _Package(types.ModuleType):
    """Keeps ``kompakt.export`` the function where a file has the name of the function that it holds.

    Python would put the module of that name in its place as soon as it is imported.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (_HOME.get(name) and isinstance(value, types.ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __dir__() -> list[str]:
    return list(__all__)


if "keras" in sys.modules:
    # Keras is there already, so that it costs nothing to tell it the classes of saved models.
    importlib.import_module("kompakt.loading")
