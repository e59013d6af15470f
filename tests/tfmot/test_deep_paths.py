"""Imports of old code below ``tensorflow_model_optimization.python``."""

import importlib
import subprocess
import sys
from pathlib import Path

import keras
import pytest

import kompakt.tfmot as tfmot
from kompakt.errors import InputError
from kompakt.tfmot.deep_paths import PYTHON, ROWS

NAMES = [(f"core.{deep}", home, name) for deep, home, names in ROWS for name in names.split()]


@pytest.mark.parametrize(("deep", "home", "name"), NAMES)
def test_every_row_is_importable_and_the_public_name(deep, home, name):
    found = getattr(importlib.import_module(f"{PYTHON}.{deep}"), name)
    assert found is getattr(importlib.import_module(f"kompakt.tfmot.{home}"), name)


def test_imports_of_the_guides():
    from kompakt.tfmot.python.core.clustering.keras.experimental import cluster
    from kompakt.tfmot.python.core.keras.compat import keras as compat
    from kompakt.tfmot.python.core.quantization.keras import quantize_wrapper
    from kompakt.tfmot.python.core.quantization.keras.collab_opts.cluster_preserve.cluster_utils import (
        strip_clustering_cqat,
    )
    from kompakt.tfmot.python.core.sparsity.keras import prunable_layer, pruning_schedule

    assert compat is keras
    assert cluster.cluster_weights is tfmot.clustering.keras.cluster_weights
    assert strip_clustering_cqat is tfmot.experimental.combine.strip_clustering_cqat
    assert quantize_wrapper.QuantizeWrapperV2 is tfmot.quantization.keras.QuantizeWrapperV2
    assert prunable_layer.PrunableLayer is tfmot.sparsity.keras.PrunableLayer
    assert pruning_schedule.ConstantSparsity is tfmot.sparsity.keras.ConstantSparsity


@pytest.mark.slow
def test_in_a_program_of_its_own():
    """Nothing imports ``kompakt.tfmot.python`` before; a path that is read by dots imports what is below."""
    code = (
        "import kompakt.tfmot as tfmot, sys; assert not hasattr(tfmot, 'python');"
        "import kompakt.tfmot.python.core as core; print(core.sparsity.keras.prune.strip_pruning.__name__)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.stdout.strip() == "strip_pruning", ran.stderr


def test_star():
    space = {}
    exec(f"from {PYTHON}.core.quantization.keras.quantizers import *", space)
    assert space["LastValueQuantizer"] is tfmot.quantization.keras.quantizers.LastValueQuantizer


@pytest.mark.parametrize(
    ("line", "public"),
    [
        ("import {}.core.sparsity.keras.pruning_impl", "kompakt.tfmot.sparsity.keras"),
        ("from {}.core.sparsity.keras import pruning_impl", "kompakt.tfmot.sparsity.keras"),
        ("from {}.core.clustering.keras.cluster import _cluster_weights", "kompakt.tfmot.clustering.keras"),
        ("from {}.core.quantization.keras import quant_ops", "kompakt.tfmot.quantization.keras"),
        ("from {}.core.internal import tensor_encoding", "kompakt.tfmot"),
    ],
)
def test_what_is_not_there_names_the_public_path(line, public):
    with pytest.raises(ImportError, match=rf"is not here: .*; use the public ones of {public} \(") as raised:
        exec(line.format(PYTHON), {})
    assert isinstance(raised.value, InputError)
    assert "\n" not in str(raised.value)


def test_attributes_that_are_not_there():
    module = importlib.import_module(f"{PYTHON}.core.sparsity.keras.pruning_wrapper")
    assert not hasattr(module, "collect_prunable_layers")
    with pytest.raises(AttributeError, match=r"collect_prunable_layers is not here.*kompakt\.tfmot\.sparsity\.keras"):
        module.collect_prunable_layers  # noqa: B018
    assert not hasattr(module, "__wrapped__")


def test_version():
    assert tfmot.__version__ == "0.8.1"  # what code compares with, number by number


def test_the_page_lists_every_module():
    page = (Path(__file__).parents[2] / "docs" / "migrating.md").read_text(encoding="utf-8")
    section = page.split("### Imports below `python.core`\n")[1].split("\n## ")[0]
    for deep in {deep for deep, _, _ in ROWS}:
        parts = deep.split(".")
        assert any(f"`{'.'.join(parts[i:])}`" in section for i in range(len(parts))), deep
