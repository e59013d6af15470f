"""Where grids go: one a tensor of the file, for each call of a layer that is shared."""

import keras
import numpy as np
import pytest
from keras import layers as L

import kompakt as kp
from kompakt.attach import transforms_of
from kompakt.placement import activation_grids, grids_per_call

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(128, 8, 8, 1)).astype("float32")
Y = (X.mean((1, 2, 3)) > 0).astype("int32")


def shared(between, after):
    """A convolution called twice, with other things behind the two calls."""
    keras.utils.set_random_seed(0)
    layer, i = L.Conv2D(4, 3, padding="same", name="sh"), keras.Input((8, 8, 1))
    x = L.Conv2D(4, 3, padding="same", name="first")(i)
    return keras.Model(i, L.Dense(2, name="out")(L.Flatten()(after(layer(between(layer(x)))))))


def merged(x):
    return L.Concatenate(name="both")([x, L.Conv2D(4, 1, name="beside")(x)])


def itself(x):
    return x


FORMS = {
    "relu between": (lambda x: L.ReLU(name="r")(x), itself),
    "relu behind": (itself, lambda x: L.ReLU(name="r")(x)),
    "concatenated": (itself, lambda x: L.Concatenate(name="both")([x, L.MaxPooling2D(1)(x)])),
    "read twice": (lambda x: L.ReLU(name="r")(x), merged),
}


def trained(model):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss)
    model.fit(X, Y, epochs=2, verbose=0)
    return model


@pytest.mark.parametrize("form", FORMS)
def test_a_shared_layer_whose_calls_are_followed_by_different_things(form, tmp_path):
    model = trained(shared(*FORMS[form]))
    first = kp.export(model, tmp_path / "a.tflite", quantization="int8", calibration=X, verify=X)
    aware = trained(kp.quantize(model, "int8", calibration=X))
    second = kp.export(aware, tmp_path / "b.tflite", verify=X)
    assert first.breaches == second.breaches == () and max(first.agreement.max_lsb, second.agreement.max_lsb) <= 2
    # The copy trains one kernel for both calls.
    assert sum(weight.path.endswith("kernel") for weight in aware.trainable_weights) == len(
        [weight for weight in model.trainable_weights if weight.path.endswith("kernel")]
    )


def test_only_the_calls_that_need_a_grid_get_one():
    i, layer = keras.Input((4,)), L.Dense(4, name="d")
    model = keras.Model(i, layer(L.ReLU(name="r")(layer(i))))
    marked = grids_per_call(model)
    assert [grid.site for grid in activation_grids(marked)] == ["r/output", "d_rounded/output"]
    np.testing.assert_array_equal(marked(X[:, :4, 0, 0]), model(X[:, :4, 0, 0]))
    alike = keras.Model(i, layer(layer(i)))
    assert [grid.site for grid in activation_grids(grids_per_call(alike))] == ["d/output"]


@pytest.mark.parametrize("limits", [(-0.82945025, 2.0159442), (-0.606211, 2.9743779), (-1.8098534, 0.8179845)])
def test_what_is_put_on_the_grid_of_a_concatenation_has_its_scale_to_the_last_bit(limits, tmp_path):
    """Ranges on which the quantizer's own rounding ends one bit away, with which LiteRT refuses a concatenation."""
    i = keras.Input((8,))
    x = L.Dense(4, activation="relu", name="a")(i)  # read twice: it has a grid of its own
    model = keras.Model(i, L.Dense(3)(L.Concatenate(name="both")([x, L.Dense(4, name="b")(x)])))
    samples = X[:, 0, :, 0]
    quantized = kp.quantize(model, "int8", calibration=samples)
    dict(transforms_of(quantized))["both/io"].set_range(*map(np.float32, limits))
    artifact = kp.export(quantized, tmp_path / "m.tflite", verify=samples)
    assert artifact.breaches == () and artifact.agreement.max_lsb <= 1.0
