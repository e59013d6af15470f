"""The examples do what they say: smaller files, accuracy near that of the float file."""

import importlib.util
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPTS = sorted(path.stem for path in EXAMPLES.glob("*_*.py"))
SMALLER = {
    "quantization": ("bytes", 0.45),
    "pruning": ("gzip", 0.65),
    "clustering": ("gzip", 0.55),
    "distillation": ("bytes", 0.1),
    "combination": ("gzip", 0.3),
}
"""Technique -> what falls, and to which share of the first file at most: of the last one, or of the second."""


def test_there_are_two_of_each():
    assert sorted(f"{name}_{style}" for name in SMALLER for style in ("kompakt", "tfmot")) == SCRIPTS


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", SCRIPTS)
def test_example(name, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = module.main(tmp_path)
    sys.modules.pop("common", None)
    what, share = SMALLER[name.split("_")[0]]
    first, *others = found
    assert min(each[what] for each in others) < share * first[what]
    assert all(each["accuracy"] > first["accuracy"] - 0.03 for each in others)
    assert first["accuracy"] > 0.96
