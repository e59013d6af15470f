"""Layers that do nothing at inference, and what a model with them becomes."""

import keras
import numpy as np
import pytest
from keras import layers as L

import kompakt as kp
from kompakt.placement import SILENT

X = np.random.default_rng(0).uniform(0, 255, (64, 8, 8, 3)).astype("float32")
ARGUMENTS = {
    **dict.fromkeys((L.Dropout, L.SpatialDropout1D, L.SpatialDropout2D, L.SpatialDropout3D), (0.5,)),
    **dict.fromkeys((L.GaussianNoise, L.GaussianDropout, L.AlphaDropout), (0.5,)),
    **dict.fromkeys((L.RandomBrightness, L.RandomColorDegeneration, L.RandomContrast, L.RandomHue), (0.5,)),
    **dict.fromkeys((L.RandomRotation, L.RandomSaturation, L.RandomSharpness, L.RandomZoom), (0.5,)),
    L.RandomTranslation: (0.5, 0.5),
    L.RandomPosterization: (4,),
}


@pytest.mark.parametrize("kind", SILENT, ids=lambda kind: kind.__name__)
def test_a_silent_layer_gives_back_what_it_gets(kind):
    x = X[:2].reshape({L.SpatialDropout1D: (2, 64, 3), L.SpatialDropout3D: (2, 8, 4, 2, 3)}.get(kind, (2, 8, 8, 3)))
    layer = kind(*ARGUMENTS.get(kind, ()))
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(layer(x, training=False)), x)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TFLite files are made on TensorFlow")
def test_augmentation_leaves_no_trace_in_the_file(tmp_path):
    keras.utils.set_random_seed(0)
    parts = [L.RandomFlip(), L.RandomRotation(0.1), L.RandomContrast(0.2), L.Conv2D(6, 3), L.RandomZoom(0.1), L.ReLU()]
    model = keras.Sequential([keras.Input((8, 8, 3)), *parts, L.Flatten(), L.Dense(5)])
    artifact = kp.export(model, tmp_path / "m.tflite", quantization="int8", calibration=X)

    assert artifact.breaches == () and artifact.agreement.max_lsb <= 2.0
    assert artifact.census.ops == {"CONV_2D": 1, "RESHAPE": 1, "FULLY_CONNECTED": 1}
