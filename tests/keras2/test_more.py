"""What of real Keras 2 Keras 3 spells or computes otherwise: constants, functions, layers, calls."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from kompakt.errors import InputError
from kompakt.keras2.operators import operation
from kompakt.loading import load_model

TENSORFLOW = keras.backend.backend() == "tensorflow"
ON_TENSORFLOW = pytest.mark.skipif(not TENSORFLOW, reason="of TensorFlow alone")


def refused(path, **options):
    with pytest.raises(InputError) as caught:
        load_model(path, **options)
    return str(caught.value).removeprefix(f"{path}: ")


@pytest.fixture
def more(written):
    return written / "keras2_more"


def said(caplog):
    return [each.getMessage().split(": mended: ", 1)[1] for each in caplog.records if "mended" in each.msg]


@pytest.mark.parametrize("name", ["constants", "whole_numbers", "functions", "cast_layers"])
def test_what_was_read_is_saved_as_any_model(more, same, name, tmp_path):
    """Without a class or function of kompakt in it."""
    load_model(more / f"{name}.h5").save(tmp_path / "m.keras")
    same(keras.saving.load_model(tmp_path / "m.keras"), more, name)


def test_constants_are_of_the_type_beside_them(more, same):
    model = load_model(more / "half_constants.h5")
    assert [each.dtype for each in (model.layers[1].output, model.layers[-1].input)] == ["float16", "float16"]
    same(model, more, "half_constants", limit=1e-3)  # the order of sums in float16 is the processor's
    assert [each.dtype for each in load_model(more / "whole_numbers.h5").outputs] == ["int32", "float32"]


def test_bounds_of_each_channel_are_refused():
    with pytest.raises(
        InputError, match=r"^layer 'c' is TensorFlow's tf.clip_by_value with clip_value_min=\[0.0, 0.5\]"
    ):
        operation("c", "clip_by_value", "x", {"clip_value_min": [0.0, 0.5], "clip_value_max": 1.0})


REFUSED = {
    "mean_of_integers": "layer 'tf.math.reduce_mean' is TensorFlow's tf.reduce_mean of integers, which gives a whole "
    "number and in Keras 3 a fraction; in Keras 2 put a tf.cast(x, 'float32') before it, where a fraction is meant, "
    "and save the model again",
    "causal_inside": "layer 'separable_conv1d' (SeparableConv1D) has padding='causal', which Keras 3 cannot compute "
    "inside another layer; in Keras 2 put a ZeroPadding1D before it, with padding='valid', and save the model again",
    "training_true": "layer 'always' is called with training=True, which Keras 3 does not keep: its predictions would "
    "be others; save a model in which it is called without, and call the model with training=True",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_keras_3_cannot_compute(more, name):
    assert refused(more / f"{name}.h5") == REFUSED[name]


@pytest.mark.parametrize("name", ["resizing_gaussian", "resizing_mitchellcubic", "upsampling_gaussian"])
def test_an_interpolation_that_is_gone_is_told_when_the_file_is_read(more, name):
    text = refused(more / f"{name}.h5")
    assert f"has interpolation='{name.split('_')[1]}', which Keras 3 does not compute as Keras 2 did on" in text
    assert text.endswith("in Keras 2 give it 'bilinear' or 'nearest', and save the model again")
    assert ("set KERAS_BACKEND=tensorflow, or " in text) == (not TENSORFLOW)


@ON_TENSORFLOW
@pytest.mark.parametrize("name", ["resizing_area", "resizing_bicubic"])
def test_resizing(more, same, caplog, name):
    same(load_model(more / f"{name}.h5"), more, name)
    assert said(caplog) == []


ON_JAX = """
import logging
import numpy as np
from kompakt.errors import InputError
from kompakt.loading import load_model
try:
    load_model("resizing_area.h5")
except InputError as error:
    print(error)
model, numbers = load_model("resizing_bicubic.h5"), np.load("numbers.npz")
far = np.abs(model.predict(numbers["resizing_bicubic/x0"], verbose=0) - numbers["resizing_bicubic/y0"]).max()
assert 1e-5 < far < 0.0015 * np.abs(numbers["resizing_bicubic/x0"]).max(), far
"""


@ON_TENSORFLOW
def test_resizing_on_jax(more):
    pytest.importorskip("jax")
    ran = subprocess.run([sys.executable, "-c", ON_JAX], cwd=more, env=with_jax(), capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert "interpolation='area', which Keras 3 does not compute as Keras 2 did on jax; set KERAS_BACKEND" in ran.stdout
    assert "bicubic resizing differs on jax from TensorFlow's by up to 0.0015 of the largest value" in ran.stderr


def with_jax():
    return {**os.environ, "KERAS_BACKEND": "jax"}


MENDED = {
    "constants": "function of TensorFlow, now the same of keras.ops",
    "cast_layers": "causal, twice: padding 'causal' of SeparableConv1D is a ZeroPadding1D before it, Keras 3 has none",
    "crops": "random_crop: RandomCrop is Resizing(crop_to_aspect_ratio=True), as outside training; Keras 3's does "
    "nothing there",
    "training_false": "base, frozen: called with training=False, which Keras 3 does not keep in fit; set "
    "trainable=False",
}


@pytest.mark.parametrize("name", MENDED)
def test_what_was_mended_is_told(more, caplog, name):
    load_model(more / f"{name}.h5")
    assert any(MENDED[name] in line for line in said(caplog))


def test_a_layer_before_a_causal_one_takes_no_name_that_is_there():
    from kompakt.keras2.causal import causal_padded
    from kompakt.keras2.mends import Mends

    config = {"name": "c", "padding": "causal", "kernel_size": [2], "dilation_rate": [1]}
    other = {"class_name": "Dense", "config": {"name": "c_padding"}}
    old = {"class_name": "Sequential", "config": [other, {"class_name": "SeparableConv1D", "config": config}]}
    made = causal_padded(old, Mends())["config"]
    assert [each["config"]["name"] for each in made] == ["c_padding", "c_padding_", "c"]
    assert old["config"][1]["config"]["padding"] == "causal"


def test_a_prelu_whose_shape_is_not_said():
    from kompakt.keras2.config import modern
    from kompakt.keras2.mends import Mends

    inner = {"class_name": "PReLU", "config": {"name": "p"}}
    layer = {"class_name": "Dense", "config": {"name": "d", "units": 2, "activation": inner}}
    with pytest.raises(
        InputError, match=r"^layer 'd' has a PReLU as its activation, whose shape its file does not say"
    ):
        modern({"class_name": "Sequential", "config": {"layers": [layer]}}, safe=True, mends=Mends())


@ON_TENSORFLOW
def test_constants_of_preprocessing_become_integers(more, tmp_path):
    import kompakt as kp

    x = np.random.default_rng(0).uniform(0, 255, (64, 6, 6, 3)).astype("float32")
    made = kp.export(load_model(more / "standardized.h5"), tmp_path / "m.tflite", quantization="int8", calibration=x)
    assert made.breaches == () and made.agreement.argmax == 1.0


def test_hard_sigmoid_is_found_where_its_module_is_imported(written, tmp_path):
    load_model(written / "keras2" / "conv_lstm.h5").save(tmp_path / "m.keras")
    script = "import keras\n{}\nkeras.saving.load_model('m.keras')"
    for line, code in (("import kompakt.keras2.activations", 0), ("", 1)):
        ran = subprocess.run([sys.executable, "-c", script.format(line)], cwd=tmp_path, capture_output=True)
        assert ran.returncode == code, ran.stderr
