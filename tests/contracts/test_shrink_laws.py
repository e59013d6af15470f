"""The law of removed channels and the rankings, on each backend: the other kinds of layers are in tests/rewrite."""

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

import kompakt as kp


def model():
    """Residual, gated, grouped and normalized; (6, 6, 3) to 3 classes."""
    keras.utils.set_random_seed(0)
    i = keras.Input((6, 6, 3))
    x = L.ReLU()(L.BatchNormalization()(L.Conv2D(16, 3, padding="same", name="stem")(i)))
    y = L.DepthwiseConv2D(3, padding="same", activation="relu")(L.Conv2D(24, 1, name="wide")(x))
    gate = L.Conv2D(24, 1, activation="sigmoid")(L.GlobalAveragePooling2D(keepdims=True)(y))
    x = L.Add()([x, L.BatchNormalization()(L.Conv2D(16, 1, name="back")(y * gate))])
    x = L.Conv2D(8, 3, groups=2, activation="silu", name="grouped")(x)
    made = keras.Model(i, L.Dense(3)(L.Flatten()(x)))
    random = np.random.default_rng(0)
    for weight in made.weights:
        if len(weight.shape) == 1:
            weight.assign(random.uniform(0.5, 1.5, weight.shape))
    return made


X = np.random.default_rng(1).normal(size=(40, 6, 6, 3)).astype("float32")
Y = np.arange(40) % 3


def outputs(each):
    return np.asarray(ops.convert_to_numpy(each(X[:4], training=False)))


@pytest.mark.parametrize("rank", ["bn_scale", "taylor"])
def test_the_smaller_model_equals_the_masked_one(rank):
    whole = model()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    options = {"rank": rank, "round_to": 2, "data": (X, Y), "loss": loss}
    plan = kp.plan_shrink(whole, 0.6, **options)
    small = kp.shrink(whole, 0.6, **options)
    assert plan.reached <= 0.6 and plan.after.parameters == small.count_params() < whole.count_params()
    np.testing.assert_allclose(outputs(small), outputs(kp.mask_channels(whole, plan.masks)), atol=1e-4)
    assert np.abs(outputs(small) - outputs(whole)).max() > 1e-2
