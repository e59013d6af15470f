"""``verify_file`` names every fault, and calls no good file faulty."""

from __future__ import annotations

import keras
import pytest

import kompakt as kp
from kompakt.targets.tflite_file import TFLiteFile

from .catch import WAYS, Good, caught, good, lines
from .faults import FAULTS, Fault
from .models import MODELS, made


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """(model, mode) -> the good file, made once."""
    folder, held = tmp_path_factory.mktemp("good"), {}

    def get(name: str, mode: str) -> Good:
        if (name, mode) not in held:
            held[name, mode] = good(name, mode, folder)
        return held[name, mode]

    return get


@pytest.mark.long(quick=3)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.name)
def test_a_fault_is_named(fault: Fault, files, tmp_path):
    said = lines(files(fault.model, fault.mode), fault, tmp_path)
    assert caught(fault, said) is not None, said


@pytest.mark.long(quick=6)
@pytest.mark.parametrize("fault", [f for f in FAULTS if f.stripped], ids=lambda f: f.name)
def test_a_fault_is_named_without_the_seal_too(fault: Fault, files, tmp_path):
    said = lines(files(fault.model, fault.mode), fault, tmp_path, stripped=True)
    assert caught(fault, said, stripped=True) is not None, said


def test_there_are_enough_of_both():
    assert len(FAULTS) >= 25 and sum(bool(f.stripped) for f in FAULTS) >= 15


@pytest.mark.parametrize("name", MODELS)
def test_a_good_file_has_no_breach(name, files):
    assert files(name, "int8").breaches == ()


@pytest.mark.long(quick=1)
@pytest.mark.parametrize("name", MODELS)
def test_a_good_file_has_no_breach_on_noise(name, tmp_path):
    model, inputs = made(name, real=False)
    kp.export(model, tmp_path / "m.tflite", quantization="int8", calibration=inputs)
    assert kp.verify_file(tmp_path / "m.tflite", model, inputs).breaches == ()


@pytest.mark.long(quick=4)
@pytest.mark.parametrize("mode", ["float", "float16", "dynamic_int8", "weight_only_int8", "w4a8", "int16x8"])
@pytest.mark.parametrize("name", ["residual", "autoencoder"])
def test_a_good_file_of_another_mode_has_no_breach(name, mode, files):
    assert files(name, mode).breaches == ()


@pytest.mark.parametrize("name", WAYS)
def test_a_good_file_that_was_made_smaller_has_no_breach(name, files):
    assert files(name, "int8" if name != "mixed" else "mixed").breaches == ()


@pytest.mark.parametrize("name", ["pruned", "clustered"])
def test_a_small_file_may_be_compared_with_the_model_from_before(name, files, tmp_path):
    """Pruning and clustering move weights: what was asked stands in the note, and is no fault."""
    small, (before, inputs) = files(name, "int8"), made("cnn")
    assert small.breaches == ()
    path = tmp_path / "m.tflite"
    path.write_bytes(small.data)
    assert kp.verify_file(path, before, inputs, least_argmax=0.0).breaches == ()


def test_another_model_is_no_match(files, tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(files("residual", "int8").data)
    keras.utils.set_random_seed(77)
    other, inputs = MODELS["residual"](), files("residual", "int8").inputs
    said = kp.verify_file(path, other, inputs).breaches
    assert any(line.startswith("stem/kernel: weights are not the model's: correlation") for line in said), said


def test_narrow_weights_may_cost_accuracy(files):
    """4 bits change a class here and there: a note, as every layer does what its weights say."""
    found = files("autoencoder", "w4a8")
    assert found.breaches == () and any("what weights of 4 bits cost" in note for note in found.notes)


def test_the_seal_is_small(files):
    sealed = TFLiteFile(files("residual", "int8").data).raw_metadata("kompakt_seal")
    assert sealed is not None and len(sealed) < 400
