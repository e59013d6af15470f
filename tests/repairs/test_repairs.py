"""The repairs by the words of ``repairs=``: through quantize, export and recipes."""

import functools
import logging

import keras
import numpy as np
import pytest
from keras import layers as L

import kompakt as kp
from kompakt import repairs as package
from kompakt.attach import chains_of
from kompakt.recipe import load_recipe
from kompakt.repairs import REPAIRS, adaround, check_repairs, held

TENSORFLOW = keras.backend.backend() == "tensorflow"


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    """What is tested here holds after any number of them."""
    monkeypatch.setattr(package, "adaround", functools.partial(adaround, iterations=20))


def small():
    keras.utils.set_random_seed(0)
    i = keras.Input((8, 8, 3), name="image")
    x = L.BatchNormalization(name="n1")(L.Conv2D(8, 3, use_bias=False, name="c1")(i))
    x = L.DepthwiseConv2D(3, padding="same", name="dw")(L.ReLU(name="r1")(x))
    x = L.Conv2D(8, 1, activation="relu", name="c2")(x)
    x = L.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(i, L.Dense(4, activation="softmax", name="d")(x))


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).normal(0.3, 1.0, (64, 8, 8, 3)).astype("float32")


@pytest.mark.slow
def test_all_together_in_quantize(images):
    model = small()
    before = [w.copy() for w in model.get_weights()]
    quantized = kp.quantize(model, "int8", calibration=images, repairs=("bias", "adaround", "batchnorm", "equalize"))
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    again = kp.quantize(model, "int8", calibration=images, repairs=REPAIRS)
    # The same order, whatever order they are given in, and the same numbers again.
    np.testing.assert_allclose(quantized(images), again(images), atol=1e-6)
    kernels = {name: chain for name, chain, variable in chains_of(quantized) if variable is not None}
    assert len(kernels) == 4 and all(transform.frozen for chain in kernels.values() for transform in chain)


@pytest.mark.long(quick=1)
@pytest.mark.skipif(not TENSORFLOW, reason="files are written on TensorFlow")
@pytest.mark.parametrize("repairs", [REPAIRS, ("equalize", "bias")], ids=" ".join)
def test_the_file_computes_as_the_simulation(images, repairs, tmp_path):
    artifact = kp.export(small(), tmp_path / "m.tflite", quantization="int8", calibration=images, repairs=repairs)
    assert artifact.breaches == () and artifact.agreement.argmax == 1.0 and artifact.agreement.max_lsb <= 2


@pytest.mark.slow
@pytest.mark.skipif(not TENSORFLOW, reason="files are written on TensorFlow")
def test_weights_only(images, tmp_path):
    artifact = kp.export(
        small(), tmp_path / "m.tflite", quantization="dynamic_int8", calibration=images, repairs=["adaround", "bias"]
    )
    assert artifact.breaches == ()


@pytest.mark.slow
def test_zeros_and_shared_values_are_kept(images, caplog):
    pruned = kp.prune(small(), 0.5, sites=["c1/kernel", "c2/kernel"])
    plain, encodings = kp.finalize(kp.quantize(pruned, "int8", calibration=images, repairs=REPAIRS))
    for name in ("c1", "c2"):
        zeros = np.asarray(keras.ops.convert_to_numpy(plain.get_layer(name).kernel)) == 0
        assert zeros.mean() >= 0.5 and encodings[f"{name}/kernel"].zeros == zeros.size // 2
    clustered = kp.cluster(small(), 4, sites="c2/kernel")
    with caplog.at_level(logging.INFO, "kompakt"):
        plain, encodings = kp.finalize(kp.quantize(clustered, "int8", calibration=images, repairs=REPAIRS))
    kernel = keras.ops.convert_to_numpy(plain.get_layer("c2").kernel)
    assert max(len(np.unique(kernel[..., i])) for i in range(8)) <= 4
    assert "equalize: dw: left as it is (c2 is to be left)" in caplog.text
    assert "c2: adaround left its weights rounded to nearest (its values are shared" in caplog.text


def test_data_that_can_be_read_only_once(images):
    model = small()
    once = kp.quantize(model, "int8", calibration=(images[i : i + 16] for i in range(0, 64, 16)), repairs=["bias"])
    again = kp.quantize(model, "int8", calibration=images, repairs=["bias"])
    assert not any(np.isnan(w).any() for w in once.get_weights())
    biases = [[u.transformed_layer.get_weights()[1] for u in q.layers if u.name in ("c1", "d")] for q in (once, again)]
    np.testing.assert_allclose(biases[0][0], biases[1][0], atol=1e-5)


def test_data_of_several_inputs_are_put_together_by_input():
    a, b = keras.Input((2,), name="a"), keras.Input((3,), name="b")
    model = keras.Model([a, b], L.Concatenate()([a, b]))
    parts = (([np.ones((2, 2)), np.zeros((2, 3))], np.zeros(2)) for _ in range(3))  # with labels, which are left
    assert [x.shape for x in held(model, parts)] == [(6, 2), (6, 3)]


def test_nothing_to_reestimate_is_said(images, caplog):
    i = keras.Input((8, 8, 3))
    model = keras.Model(i, L.Conv2D(4, 3)(i), name="plain")
    kp.quantize(model, "int8", calibration=images, repairs=["batchnorm"])
    assert "plain: repair 'batchnorm' has nothing to do (no BatchNormalization)" in caplog.text


@pytest.mark.parametrize(
    ("repairs", "calibration", "text"),
    [
        (["equalise"], [], "repairs has 'equalise': expected any of batchnorm, equalize, adaround, bias"),
        ("bias", [], "repairs='bias': expected a list of words: batchnorm, equalize, adaround, bias"),
        (
            ["bias", "adaround"],
            None,
            "repairs=['adaround', 'bias'] need calibration=: some hundred samples of real input",
        ),
    ],
)
def test_what_cannot_be_done(repairs, calibration, text):
    with pytest.raises(kp.InputError) as error:
        check_repairs(repairs, calibration)
    assert str(error.value) == text


def test_export_repairs_only_what_it_quantizes(images, tmp_path):
    model = small()
    with pytest.raises(kp.InputError, match=r"repairs=\['bias'\]: export repairs a float model that it quantizes"):
        kp.export(model, tmp_path / "m.tflite", repairs=["bias"])
    quantized = kp.quantize(model, "int8", calibration=images)
    with pytest.raises(kp.InputError, match="for a model from quantize, ask quantize for them"):
        kp.export(quantized, tmp_path / "m.tflite", repairs=["bias"])


def test_in_a_recipe():
    stage = {"quantize": "int8", "options": {"repairs": ["equalize", "bias"]}}
    given = {"name": "mine", "quantization": "int8", "stages": [stage]}
    assert load_recipe(given).stages[0].options["repairs"] == ["equalize", "bias"]
    stage["options"]["repairs"] = ["adaruond"]
    with pytest.raises(kp.InputError, match="recipe, stage 1: 'repairs' has 'adaruond'; nearest: 'adaround'"):
        load_recipe(given)


def test_equalizing_helps_where_channels_differ(images):
    """An activation has one scale: a channel a thousand times smaller than its neighbour is lost on it."""
    i = keras.Input((8, 8, 3))
    keras.utils.set_random_seed(4)
    x = L.Conv2D(8, 3, activation="relu", name="a")(i)
    model = keras.Model(i, L.Conv2D(4, 1, name="b")(x))
    far = np.logspace(-3, 0, 8).astype("float32")
    first, bias, second, last = model.get_weights()
    model.set_weights([first * far, bias * far, second / far[:, None], last])
    wanted = keras.ops.convert_to_numpy(model(images))
    errors = [
        np.square(keras.ops.convert_to_numpy(kp.quantize(model, calibration=images, repairs=r)(images)) - wanted).mean()
        for r in ((), ("equalize",))
    ]
    assert errors[1] < 0.01 * errors[0]
