"""One model to several targets."""

import keras
import numpy as np
import pytest

import kompakt as kp
from kompakt.export_all import nearest_mode
from kompakt.targets import TARGETS, find_target

L = keras.layers
X = np.random.default_rng(0).random((64, 6), dtype="float32")


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((6,)), L.Dense(8, activation="relu", name="a"), L.Dense(3, name="b")])


def test_a_target_that_refuses_does_not_stop_the_others(model, tmp_path):
    (tmp_path / "model.tflite").mkdir()
    (one,) = kp.export_all(model, tmp_path, targets=["tflite"], quantization="int8", calibration=X)
    assert (one.artifact, one.failed) == (None, False)
    assert one.refused.endswith("model.tflite is a folder; name a .tflite file")


def test_what_was_made_is_timed_in_its_runtime(model, tmp_path):
    (one,) = kp.export_all(model, tmp_path, targets=["tflite"], calibration=X, name="small")
    assert one.artifact.path == str(tmp_path / "small.tflite") and one.artifact.breaches == ()
    assert one.milliseconds > 0.0 and one.spread >= 0.0


def test_it_is_shown_as_a_line_a_target(model, tmp_path):
    """Records in records in a tuple are pages that nobody reads."""
    (tmp_path / "model_tflm").write_text("a file where the folder would be")
    made = kp.export_all(model, tmp_path, targets=["tflite", "tflm"], calibration=X)
    one, other = repr(made).splitlines()
    start = f"tflite: {tmp_path / 'model.tflite'}, float, {made[0].artifact.bytes:,} bytes, argmax 1.0000, "
    assert one.startswith(start) and one.endswith(" ms")
    assert other.startswith("tflm: refused: ") and "model_tflm" in other
    assert isinstance(made, tuple) and made == tuple(made)


def test_progress_goes_on_from_target_to_target(model, tmp_path):
    told = []
    kp.export_all(
        model, tmp_path, targets=["tflite", "savedmodel"], progress=lambda what, share: told.append((what, share))
    )
    assert told == [
        ("tflite: converting to tflite", 0.25),
        ("tflite: running the file and comparing", pytest.approx(0.35)),
        ("savedmodel: converting to savedmodel", 0.75),
        ("savedmodel: running the file and comparing", pytest.approx(0.85)),
    ]


def test_samples_that_are_read_once(model, tmp_path):
    with pytest.raises(kp.InputError, match=r"^calibration=: a generator is read once, each target reads it; give arr"):
        kp.export_all(model, tmp_path, calibration=iter([X]))


def test_a_mode_that_no_target_has(model, tmp_path):
    with pytest.raises(kp.InputError, match=r"^quantization='int9': expected one of .*; nearest: 'int8'$"):
        kp.export_all(model, tmp_path, quantization="int9")


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("mode", ["int8", "float", "float16", "w4a8"])
def test_every_target_has_something_near(model, target, mode):
    place = find_target(target)
    assert nearest_mode(model, mode, place) in place.modes
