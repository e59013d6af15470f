"""Arm's Vela: what an int8 file would take on an Ethos-U."""

import importlib.util
import os

import keras
import numpy as np
import pytest

import kompakt as kp
from kompakt.errors import InputError
from kompakt.targets import ethos_u
from kompakt.targets.ethos_u import ACCELERATOR, estimate, estimates

needs_vela = pytest.mark.skipif(
    importlib.util.find_spec("ethosu") is None, reason="Vela is not installed: pip install 'kompakt[ethos-u]'"
)
L = keras.layers


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    keras.utils.set_random_seed(0)
    layers = [L.Conv2D(8, 3, activation="relu"), L.GlobalAveragePooling2D(), L.Dense(5)]
    x = np.random.default_rng(0).normal(size=(32, 8, 8, 3)).astype("float32")
    path = tmp_path_factory.mktemp("vela") / "m.tflite"
    kp.export(keras.Sequential([keras.Input((8, 8, 3)), *layers]), path, quantization="int8", calibration=x)
    return path.read_bytes()


def test_without_an_accelerator_nothing_is_estimated(data, monkeypatch):
    monkeypatch.delenv(ACCELERATOR, raising=False)
    assert estimates(data) == []


@needs_vela
def test_a_larger_accelerator_takes_fewer_cycles(data, monkeypatch):
    found = {}
    for accelerator in ("ethos-u55-32", "ethos-u55-128"):
        monkeypatch.setenv(ACCELERATOR, accelerator)
        found[accelerator] = {each.name: each.value for each in estimates(data)}
    small, large = found.values()
    assert set(small) == set(large) == {"npu_time", "npu_cycles", "npu_sram", "npu_flash"}
    assert 0 < large["npu_cycles"] < small["npu_cycles"]
    assert large["npu_time"] == pytest.approx(1e3 * large["npu_cycles"] / 500e6)  # ms at Vela's 500 MHz


@needs_vela
def test_what_vela_refuses_is_one_line(data):
    with pytest.raises(InputError, match=r"Vela refuses the file for toaster: .*choose from 'ethos-u55-32'"):
        estimate(data, "toaster")
    with pytest.raises(InputError, match="Vela refuses the file for ethos-u55-32: "):
        estimate(data[:500], "ethos-u55-32")


def test_vela_is_missed_before_anything_is_made(monkeypatch):
    monkeypatch.setenv(ACCELERATOR, "ethos-u55-32")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"KOMPAKT_ETHOS_U=ethos-u55-32: Arm's Vela is not installed: pip install"):
        ethos_u.ready()


@needs_vela
def test_vela_imports_nothing_from_the_folder_that_one_is_in(data, tmp_path, monkeypatch):
    (tmp_path / "csv.py").write_text("raise SystemExit('not the csv that was meant')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", "") + os.pathsep)
    assert estimate(data, "ethos-u55-128")
