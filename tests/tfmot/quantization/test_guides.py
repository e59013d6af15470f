"""What the guides to quantization-aware training with tfmot promise, on Keras 3: accuracy, size, files read back."""

import keras
import numpy as np
import pytest
from keras import layers

import kompakt as kp
from kompakt.attach import transforms_of
from kompakt.errors import InputError
from kompakt.tfmot.quantization.keras import (
    default_8bit,
    fix_input_output_range,
    quantize_annotate_layer,
    quantize_annotate_model,
    quantize_apply,
    quantize_model,
    quantize_scope,
    remove_input_range,
)

from .configs import DenseConfig, FourBits, accuracy, digits, fitted, net

TEST = digits()[1]


@pytest.fixture(scope="module")
def trained():
    keras.utils.set_random_seed(0)
    return fitted(net(), 15)


def accuracy_of(note):
    return next(float(text.split()[1]) for text in note if text.startswith("accuracy"))


@pytest.mark.slow
def test_the_example_accuracy_is_kept_and_the_file_is_a_quarter(trained, tmp_path):
    aware = quantize_model(trained)
    fitted(aware, 2, 5e-4, validation_split=0.1)
    assert accuracy(aware) >= accuracy(trained) - 0.01
    small = kp.export(aware, tmp_path / "int8.tflite", verify=TEST)
    whole = kp.export(trained, tmp_path / "float.tflite", quantization="float", verify=TEST)
    assert small.quantization == "int8" and not small.census.float_ops
    assert accuracy_of(small.notes) == pytest.approx(accuracy(aware), abs=0.005)
    held = sum(fact.size for fact in small.sites)
    assert {fact.dtype for fact in small.sites} == {"INT8"} and held > 1000
    assert small.bytes < whole.bytes - 2 * held


@pytest.mark.slow
def test_some_layers_of_a_trained_model(trained, tmp_path):
    def mark(layer):
        return quantize_annotate_layer(layer) if isinstance(layer, layers.Dense) else layer

    aware = fitted(quantize_apply(keras.models.clone_model(trained, clone_function=mark)), 1, 5e-4)
    assert accuracy(aware) >= accuracy(trained) - 0.01
    found = kp.export(aware, tmp_path / "m.tflite", verify=TEST)
    assert found.quantization == "mixed" and {fact.site: fact.dtype for fact in found.sites} == {
        "conv/kernel": "FLOAT32",
        "quant_dense/kernel": "INT8",
    }


@pytest.mark.slow
def test_one_layer_with_four_bits_in_a_whole_model(trained, tmp_path):
    def mark(layer):
        return quantize_annotate_layer(layer, FourBits()) if isinstance(layer, layers.Dense) else layer

    marked = quantize_annotate_model(keras.models.clone_model(trained, clone_function=mark))
    aware = fitted(quantize_apply(marked), 3, 5e-4)
    assert accuracy(aware) >= accuracy(trained) - 0.02
    found = kp.export(aware, tmp_path / "m.tflite", io="int8", verify=TEST)
    kinds = {fact.site: fact.dtype for fact in found.sites}
    assert kinds == {"quant_conv/kernel": "INT8", "quant_dense/kernel": "INT4"} and not found.census.float_ops


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_a_model_in_training_goes_on_from_its_file(trained, ending, tmp_path):
    keras.utils.set_random_seed(1)
    aware = fitted(quantize_model(trained), 1, 5e-4)
    path = tmp_path / f"m.{ending}"
    aware.save(path)
    with quantize_scope():
        again = keras.saving.load_model(path)
    x, y = digits()[0]
    if ending == "h5":  # Keras 3 reads the optimizer of no functional model from there
        for each in (aware, again):
            fitted(each, 0)
    for each in (aware, again):
        each.fit(x, y, epochs=1, shuffle=False, verbose=0)
    assert np.allclose(aware.predict(TEST[0], verbose=0), again.predict(TEST[0], verbose=0), atol=1e-5)
    first, second = kp.get_ranges(aware), kp.get_ranges(again)
    assert list(first) == list(second) and np.allclose([*first.values()], [*second.values()])


@pytest.mark.slow
def test_checkpoints_of_weights_alone(trained, tmp_path):
    aware = quantize_model(trained)
    path = tmp_path / "best.weights.h5"
    fitted(aware, 1, 5e-4, callbacks=[keras.callbacks.ModelCheckpoint(path, save_weights_only=True)])
    again = quantize_model(trained)
    again.load_weights(path)
    assert np.array_equal(aware.predict(TEST[0], verbose=0), again.predict(TEST[0], verbose=0))


@pytest.mark.slow
def test_before_training_a_file_asks_for_ranges_and_calibration_gives_them(trained, tmp_path):
    aware = quantize_model(trained)
    assert np.abs(aware.predict(TEST[0], verbose=0) - trained.predict(TEST[0], verbose=0)).max() < 1.0
    with pytest.raises(InputError, match="an activation's range was never measured"):
        kp.export(aware, tmp_path / "m.tflite")
    kp.calibrate(aware, digits()[0][0][:256])
    assert accuracy_of(kp.export(aware, tmp_path / "m.tflite", verify=TEST).notes) >= accuracy(trained) - 0.01


def test_the_default_scheme_named_is_the_default(trained):
    named = quantize_apply(quantize_annotate_model(trained), default_8bit.Default8BitQuantizeScheme())
    assert [layer.name for layer in named.layers] == [layer.name for layer in quantize_model(trained).layers]


def test_ends_with_ranges_of_their_own(trained):
    aware = quantize_model(trained)
    fixed = fix_input_output_range(aware, input_min=0.0, input_max=2.0, output_min=-8.0, output_max=8.0)
    fitted(fixed, 1)
    ranges = kp.get_ranges(fixed)
    assert (ranges["image_grid/output"], ranges["quant_dense/output"]) == ((0.0, 2.0), (-8.0, 8.0))
    assert ranges["quant_conv/output"] != (0.0, 2.0)
    assert kp.get_ranges(aware) == {}
    with pytest.raises(InputError, match="has no grid at its inputs"):
        fix_input_output_range(trained)
    with pytest.raises(InputError, match="activations of 4 bits; no runtime has kernels"):
        fix_input_output_range(aware, num_bits=4)
    with pytest.raises(InputError, match=r"remove_input_range is gone.*io='float32'"):
        remove_input_range(aware)


def test_a_softmax_at_the_end_keeps_the_runtimes_range(caplog):
    model = net(layers.Dense(10, "softmax", name="dense"))
    fixed = fix_input_output_range(quantize_model(model), output_min=0.0, output_max=4.0)
    assert kp.get_ranges(fixed)["quant_dense_softmax/output"] == (0.0, 255 / 256)
    assert "quant_dense_softmax/output: the runtime fixes this range" in caplog.text


@pytest.mark.slow
def test_a_larger_network_with_branches_and_normalization(tmp_path):
    keras.utils.set_random_seed(0)
    i = keras.Input((8, 8, 1), name="image")
    x = layers.Conv2D(12, 3, padding="same", use_bias=False, name="c1")(i)
    x = layers.ReLU(name="r1")(layers.BatchNormalization(name="n1")(x))
    y = layers.DepthwiseConv2D(3, padding="same", activation="relu", name="dw")(x)
    y = layers.BatchNormalization(name="n2")(layers.Conv2D(12, 1, name="pw")(y))
    x = layers.Concatenate(name="j")([layers.Add(name="s")([x, y]), x])
    x = layers.Dropout(0.1, name="off")(layers.GlobalAveragePooling2D(name="g")(x))
    model = fitted(keras.Model(i, layers.Dense(10, name="d")(x)), 12, 5e-3)
    aware = fitted(quantize_model(model), 2, 5e-4)
    assert accuracy(aware) >= accuracy(model) - 0.02
    found = kp.export(aware, tmp_path / "m.tflite", verify=TEST)
    assert not found.census.float_ops and found.agreement.argmax >= 0.99
    assert {t.bits for _, t in transforms_of(aware) if hasattr(t, "bits")} == {8}


@pytest.mark.slow
def test_every_layer_marked_by_hand_with_one_config(tmp_path):
    keras.utils.set_random_seed(0)
    model = net(quantize_annotate_layer(layers.Dense(10, name="dense"), DenseConfig()), quantize_annotate_layer)
    fitted(model, 15)
    aware = fitted(quantize_apply(model), 1, 5e-4)
    assert accuracy(aware) >= accuracy(model) - 0.01
    assert not kp.export(aware, tmp_path / "m.tflite", verify=TEST).breaches
