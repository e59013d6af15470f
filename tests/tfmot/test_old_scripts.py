"""Scripts as they were written for tfmot, with the import changed, where the guides' tests do not have them."""

import importlib.util
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers
from kompakt.tfmot.python.core.quantization.keras.default_8bit import (
    default_8bit_quantize_configs,
    default_8bit_quantize_registry,
)

import kompakt as kp
import kompakt.tfmot as tfmot

SPEC = importlib.util.spec_from_file_location("nets", Path(__file__).parent / "nets.py")
nets = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(nets)
pruning, quantization = tfmot.sparsity.keras, tfmot.quantization.keras
NoOp = default_8bit_quantize_configs.NoOpQuantizeConfig
OutputAlone = default_8bit_quantize_configs.Default8BitOutputQuantizeConfig


class MyNoOp(quantization.QuantizeConfig):
    """As answers on the web have it."""

    def get_weights_and_quantizers(self, layer):
        return []

    def get_activations_and_quantizers(self, layer):
        return []

    def set_quantize_weights(self, layer, quantize_weights):
        pass

    def set_quantize_activations(self, layer, quantize_activations):
        pass

    def get_output_quantizers(self, layer):
        return []

    def get_config(self):
        return {}


class MyOutput(MyNoOp):
    def get_output_quantizers(self, layer):
        return [
            quantization.quantizers.MovingAverageQuantizer(
                num_bits=8, per_axis=False, symmetric=False, narrow_range=False
            )
        ]


def usual():
    return default_8bit_quantize_registry.Default8BitQuantizeConfig(["kernel"], ["activation"], False)


def branched():
    i = keras.Input((8, 8, 3), name="image")
    x = layers.BatchNormalization(name="bn")(layers.Conv2D(8, 3, padding="same", use_bias=False, name="c1")(i))
    x = layers.ReLU(6.0, name="relu")(x)
    y = layers.BatchNormalization(name="bn2")(layers.Conv2D(8, 3, padding="same", name="c2")(x))
    x = layers.UpSampling2D(name="up")(layers.Add(name="add")([x, layers.LeakyReLU(name="leaky")(y)]))
    x = layers.Dense(4, name="d")(layers.GlobalAveragePooling2D(name="g")(x))
    return keras.Model(i, layers.Softmax(name="s")(x))


def marked(model, kinds):
    """The clone_function of many a script: a config for some kinds of layers, the usual for all others."""

    def mark(layer):
        config = next((make() for kind, make in kinds.items() if isinstance(layer, kind)), None)
        is_input = isinstance(layer, layers.InputLayer)
        return layer if is_input else quantization.quantize_annotate_layer(layer, quantize_config=config)

    return keras.models.clone_model(model, clone_function=mark)


def trained_briefly(model):
    rng = np.random.default_rng(0)
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(rng.random((64, 8, 8, 3), "float32"), rng.integers(0, 4, 64), verbose=0)
    return model


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ({layers.BatchNormalization: OutputAlone}, ()),
        ({layers.BatchNormalization: NoOp}, ()),
        ({layers.Add: MyOutput, layers.LeakyReLU: OutputAlone}, ()),
        ({layers.Dense: usual, layers.Conv2D: usual}, ()),
        ({layers.Softmax: MyNoOp}, ("SOFTMAX",)),
        ({layers.Dense: MyNoOp, layers.Softmax: NoOp}, ("FULLY_CONNECTED", "SOFTMAX")),
    ],
)
def test_configs_that_list_nothing_or_an_output(kinds, expected, tmp_path):
    """What lists nothing leaves its layer float, but one that is folded away; an output alone is quantized."""
    aware = trained_briefly(quantization.quantize_apply(marked(branched(), kinds)))
    made = kp.export(aware, tmp_path / "m.tflite")
    assert tuple(text.split()[0] for text in made.census.float_ops) == expected
    assert made.quantization == ("mixed" if expected else "int8")


def test_configs_of_tfmot_and_ones_own_equivalents_make_the_same_model():
    def chains(kinds):
        made = quantization.quantize_apply(marked(branched(), kinds))
        return {layer.name: repr(layer) for layer in made.layers}

    assert chains({layers.Softmax: NoOp}) == chains({layers.Softmax: MyNoOp})
    assert chains({layers.Add: OutputAlone}) == chains({layers.Add: MyOutput})
    assert chains({layers.Dense: usual}) == chains({})


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_annotated_models_with_these_configs_are_read(tmp_path):
    model = marked(branched(), {layers.Add: OutputAlone, layers.Softmax: NoOp, layers.Dense: usual})
    model.save(tmp_path / "m.keras")
    with quantization.quantize_scope():
        again = keras.models.load_model(tmp_path / "m.keras")
    found = [type(again.get_layer(name).get_quantize_config()) for name in ("add", "s", "d")]
    assert found == [OutputAlone, NoOp, type(usual())]
    assert again.get_layer("d").get_quantize_config().activation_attrs == ["activation"]


@pytest.fixture(scope="module")
def trained():
    keras.utils.set_random_seed(0)
    return nets.fitted(nets.net(), 8)


def interpreter_of(path):
    from ai_edge_litert.interpreter import Interpreter

    found = Interpreter(str(path))
    found.allocate_tensors()
    return found


def loop(interpreter, images, labels):
    """The guides' loop, which hands floats to the file."""
    index, out = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    digits = []
    for image in images:
        interpreter.set_tensor(index, np.expand_dims(image, axis=0).astype(np.float32))
        interpreter.invoke()
        digits.append(np.argmax(interpreter.tensor(out)()[0]))
    return float((np.array(digits) == labels).mean())


@pytest.mark.slow
def test_the_guides_loop_over_a_file_that_takes_floats(trained, tmp_path):
    aware = nets.fitted(quantization.quantize_model(trained), 1, 5e-4)
    x, y = (each[:300] for each in nets.digits())
    made = kp.export(aware, tmp_path / "m.tflite", io="float32", verify=x)
    assert made.quantization == "int8" and made.io == "float32"
    accuracy = float((aware.predict(x, verbose=0).argmax(-1) == y).mean())
    assert accuracy > 0.9
    assert loop(interpreter_of(made.path), x, y) == pytest.approx(accuracy, abs=0.01)


@pytest.mark.slow
def test_inputs_and_outputs_of_a_file_by_default(trained, tmp_path):
    """Int8, or float32 where layers with weights are left float: as docs/migrating.md says."""

    def marked_alone(*kinds):
        def mark(layer):
            return quantization.quantize_annotate_layer(layer) if isinstance(layer, kinds) else layer

        return quantization.quantize_apply(keras.models.clone_model(trained, clone_function=mark))

    some, weighty = marked_alone(layers.Dense), marked_alone(layers.Dense, layers.Conv2D)
    for model, kind in ((quantization.quantize_model(trained), "int8"), (some, "float32"), (weighty, "int8")):
        kp.calibrate(model, nets.digits()[0][:64])
        made = kp.export(model, tmp_path / "m.tflite")
        assert made.io == kind
        assert interpreter_of(made.path).get_input_details()[0]["dtype"] == np.dtype(kind)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf.data")
def test_callbacks_of_a_longer_script(trained, tmp_path):
    """A tf.data set, checkpoints as .h5, early stopping, TensorBoard beside the summaries, a rate that falls."""
    tf = pytest.importorskip("tensorflow")
    x, y = nets.digits()
    data = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(500, seed=0).batch(32).prefetch(2)
    steps = -(-len(x) // 32)
    schedule = pruning.PolynomialDecay(0.0, 0.5, begin_step=0, end_step=2 * steps, frequency=20)
    model = pruning.prune_low_magnitude(trained, schedule)
    rate = keras.optimizers.schedules.ExponentialDecay(1e-3, 100, 0.9)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(learning_rate=rate), loss, metrics=["accuracy"])
    callbacks = [
        pruning.UpdatePruningStep(),
        keras.callbacks.EarlyStopping(monitor="val_loss", patience=3),
        keras.callbacks.ModelCheckpoint(str(tmp_path / "at_{epoch:02d}.h5")),
        pruning.PruningSummaries(log_dir=str(tmp_path / "logs"), profile_batch=0),
        keras.callbacks.TensorBoard(log_dir=str(tmp_path / "logs")),
    ]
    model.fit(data, epochs=2, validation_data=(x[:200], y[:200]), callbacks=callbacks, verbose=0)
    with pruning.prune_scope():
        final = pruning.strip_pruning(keras.models.load_model(tmp_path / "at_02.h5", compile=False))
    assert nets.kernels(final) == {"conv": 0.5, "hidden": 0.5, "dense": 0.5}
    assert nets.accuracy(final) > 0.9
    assert {path.name for path in (tmp_path / "logs").iterdir()} >= {"train", "validation"}
