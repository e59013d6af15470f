"""Files of real Keras 2 predict what they predicted there; what cannot is refused with a line."""

import contextlib
import logging
import shutil

import h5py
import keras
import numpy as np
import pytest
from keras import layers as L

from kompakt.errors import InputError
from kompakt.keras2.activations import hard_sigmoid
from kompakt.loading import load_model


@pytest.fixture
def told(caplog):
    """What was said of mends, without the file's name."""
    caplog.set_level(logging.INFO, logger="kompakt")
    return lambda: [each.getMessage().split(": mended: ", 1)[1] for each in caplog.records if "mended" in each.msg]


def refused(path, **options):
    with pytest.raises(InputError) as caught:
        load_model(path, **options)
    return str(caught.value).removeprefix(f"{path}: ")


@pytest.mark.parametrize(("name", "backend"), [("attention_values", "jax"), ("padded_average", "torch")])
def test_what_keras_3_computes_on_all_backends_but_one(written, same, name, backend):
    model = load_model(written / "keras2" / f"{name}.h5")
    if keras.backend.backend() != backend:
        same(model, written / "keras2", name)


@pytest.mark.parametrize("name", ["mobile", "recurrent", "operators", "dictionary", "slashes"])
def test_what_was_read_is_saved_as_any_model(written, same, name, tmp_path):
    load_model(written / "keras2" / f"{name}.h5").save(tmp_path / "m.keras")
    same(load_model(tmp_path / "m.keras"), written / "keras2", name)


def test_half_precision(written, same):
    model = load_model(written / "keras2" / "mixed.h5")
    assert [layer.dtype_policy.name for layer in model.layers] == ["mixed_float16", "float32"]
    same(model, written / "keras2", "mixed", limit=1e-3)  # the order of sums in float16 is the processor's


def test_a_class_and_a_function_of_the_users(written, same):
    path = written / "keras2" / "custom.h5"
    assert refused(path).startswith(
        "made with the class 'mine>Scale', which is not known here; register it with keras."
    )

    class Scale(L.Layer):
        def __init__(self, start=1.0, **kwargs):
            super().__init__(**kwargs)
            self.start = start

        def build(self, shape):
            self.scale = self.add_weight(name="scale", shape=(shape[-1],))

        def call(self, x):
            return x * self.scale

    def cube(x):
        return x**3

    with keras.saving.custom_object_scope({"mine>Scale": Scale}):
        assert refused(path).startswith(
            "made with the function 'cube', which is not known here; register it with keras."
        )
    with keras.saving.custom_object_scope({"other>Scale": Scale}):
        assert refused(path).startswith("made with the class 'mine>Scale'")
    with keras.saving.custom_object_scope({"mine>Scale": Scale, "cube": cube}):
        model = load_model(path)
        assert model.layers[0].start == 2.0
        same(model, written / "keras2", "custom")


def test_a_class_of_ones_own_does_not_stand_for_one_of_keras(written, same):
    """kompakt registers an Attention, a term of a loss, and a user may register a Dense."""

    @keras.saving.register_keras_serializable(package="mine")
    class Dense(L.Dense):
        pass

    import kompakt.distillation.layer_terms  # noqa: F401

    try:
        assert type(load_model(written / "keras2" / "sequential.h5").layers[0]) is L.Dense
        same(load_model(written / "keras2" / "attention.h5"), written / "keras2", "attention")
    finally:
        del keras.saving.get_custom_objects()["mine>Dense"]


MENDED = {
    "sequential": [],
    "text": [
        "embedding: key 'input_length' (7) left out, Keras 3 has none",
        "lstm: key 'time_major' (False) left out, Keras 3 has none",
    ],
    "mobile": [
        "depthwise_conv2d, separable_conv2d, conv2d_transpose: key 'groups' (1) left out, Keras 3 has none",
        "separable_conv2d: keys 'kernel_initializer', 'kernel_regularizer', 'kernel_constraint' left out, Keras 3 has "
        "none",
        "thresholded_re_lu: ThresholdedReLU(theta) is ReLU(threshold=theta)",
        "sync_batch_normalization: SyncBatchNormalization is BatchNormalization(synchronized=True)",
    ],
    "conv_lstm": [
        "conv_lstm2d: key 'time_major' (False) left out, Keras 3 has none",
        "conv_lstm2d: recurrent_activation 'hard_sigmoid' is kompakt.keras2.activations.hard_sigmoid, Keras 2's "
        "0.2 x + 0.5 (Keras 3's is x / 6 + 0.5); import that module where Keras itself loads what you save",
    ],
    "dictionary": ["tf.math.subtract: function of TensorFlow, now the same of keras.ops"],
    "slashes": [
        "two/a, one/b, z/dense, a/dense, one/sum, top/dense: named with '_' for '/', which Keras 3 forbids in names"
    ],
}


@pytest.mark.parametrize("name", MENDED)
def test_what_was_mended_is_told_in_a_line_each(written, told, name):
    load_model(written / "keras2" / f"{name}.h5")
    assert sorted(told()) == sorted(MENDED[name])


def test_the_hard_sigmoid_of_keras_2_is_another(written):
    x = np.linspace(-4, 4, 33).astype("float32")
    assert np.allclose(hard_sigmoid(x), np.clip(0.2 * x + 0.5, 0, 1), atol=1e-6)
    assert float(np.max(np.abs(np.asarray(keras.activations.hard_sigmoid(x)) - np.asarray(hard_sigmoid(x))))) > 0.05


def test_code_runs_only_for_who_trusts_the_file(written):
    path = written / "keras2" / "code.h5"
    assert refused(path) == (
        "holds a Lambda layer, whose code would run here; where you trust the file, give --trust (in Python safe=False)"
    )


@pytest.mark.skipif("sys.version_info[:2] != (3, 11)", reason="bytecode of Python 3.11")
def test_trusted_code(written, same):
    same(load_model(written / "keras2" / "code.h5", safe=False), written / "keras2", "code")


REFUSED = {
    "locally_connected": "layer 'locally_connected1d' is a LocallyConnected1D, which Keras 3 does not have: write the "
    "layer yourself and register it under that name",
    "unknown_operator": "layer 'tf.math.betainc' is TensorFlow's tf.math.betainc, which kompakt has no form of Keras 3 "
    "for: build the model again in Keras 3, with keras.ops in its place, and load the weights",
    "only_weights": "holds weights alone and no model; build the model by its code, "
    "model.load_weights('only_weights.h5'), and save it with model.save('name.keras')",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_keras_3_cannot_compute(written, name):
    assert refused(written / "keras2" / f"{name}.h5") == REFUSED[name]


def edited(source, path, change):
    """A copy of a file, changed."""
    shutil.copy(source, path)
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def config_with(before, after):
    def change(file):
        config = file.attrs["model_config"]
        config = config.decode() if isinstance(config, bytes) else config
        assert before in config
        file.attrs["model_config"] = config.replace(before, after)

    return change


DEPTHWISE = '"groups": {}, "activation": "linear", "use_bias": false, "bias_init'
EDITS = {
    "groups": ("mobile", DEPTHWISE.format(1), DEPTHWISE.format(2)),
    "time_major": ("text", '"time_major": false', '"time_major": true'),
    "gone": ("sequential", '"class_name": "Dropout"', '"class_name": "CuDNNLSTM"'),
    "tfmot": ("sequential", '"class_name": "Dropout"', '"class_name": "PruneLowMagnitude"'),
    "shape": ("sequential", '"units": 8', '"units": 9'),
    "key": ("sequential", '"rate": 0.2', '"rat": 0.2'),
}
"""What is changed in the config of which file."""

SAID = {
    "groups": "layer 'depthwise_conv2d' (DepthwiseConv2D) has groups=2, which Keras 3 cannot compute; expected 1: ",
    "time_major": "layer 'lstm' (LSTM) has time_major=True, which Keras 3 cannot compute; expected False: build",
    "gone": "layer 'dropout' is a CuDNNLSTM, which Keras 3 does not have: in Keras 2 put an LSTM",
    "tfmot": "layer 'dropout' is a PruneLowMagnitude, which Keras 3 does not have: a wrapper of tfmot: in Keras 2 save "
    "what tfmot.sparsity.keras.strip_pruning(model) gives, and prune it here",
    "shape": "layer 'dense': the file's dense/kernel:0 has the shape (5, 8), expected (5, 9); save the model again",
    "key": "cannot be loaded (",
}


@pytest.mark.parametrize("case", EDITS)
def test_what_would_change_the_numbers_is_an_error(written, tmp_path, case):
    name, before, after = EDITS[case]
    path = edited(written / "keras2" / f"{name}.h5", tmp_path / "m.h5", config_with(before, after))
    assert refused(path).startswith(SAID[case])


WRITERS = {
    (
        "backend",
        "theano",
    ): "written by Keras 2 on theano, whose kernels lie otherwise; save it with Keras 2 on TensorFlow",
    ("keras_version", "1.2.2"): "written by Keras 1.2.2; load it with Keras 2 and save it again, with "
    "model.save('name.h5')",
    ("model_config", "{"): "its model_config is no JSON (Expecting property name enclosed in double quotes: line 1 "
    "column 2 (char 1)); save the model again",
    ("model_config", "[]"): "no Keras model (an HDF5 file of something else); save the model with "
    "model.save('name.keras')",
}


@pytest.mark.parametrize(("attribute", "value"), WRITERS)
def test_other_writers(written, tmp_path, attribute, value):
    def change(file):
        file.attrs[attribute] = value

    assert refused(edited(written / "keras2" / "sequential.h5", tmp_path / "m.h5", change)) == WRITERS[attribute, value]


def test_an_hdf5_file_of_something_else(tmp_path):
    with h5py.File(tmp_path / "m.hdf5", "w") as file:
        file["x"] = np.zeros(3)
    assert refused(tmp_path / "m.hdf5") == (
        "no Keras model (an HDF5 file of something else); save the model with model.save('name.keras')"
    )


@pytest.mark.parametrize("part", [0.3, 0.9])
def test_a_file_cut_short(written, tmp_path, part):
    data = (written / "keras2" / "mobile.h5").read_bytes()
    (tmp_path / "m.h5").write_bytes(data[: int(part * len(data))])
    text = refused(tmp_path / "m.h5")
    assert text.startswith("not an HDF5 file, damaged or cut short (") and text.endswith("); save the model again")


def test_a_damaged_file_is_an_error_or_a_model(written, tmp_path):
    data = (written / "keras2" / "sequential.h5").read_bytes()
    random = np.random.default_rng(0)
    failed = 0
    for _ in range(40):
        broken = bytearray(data)
        start = int(random.integers(0, len(data) - 64))
        broken[start : start + 64] = random.bytes(64)
        (tmp_path / "m.h5").write_bytes(broken)
        with contextlib.suppress(InputError):
            load_model(tmp_path / "m.h5")
            failed -= 1
        failed += 1
    assert failed > 5


def test_weights_in_another_file_are_not_read(written, tmp_path):
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["kernel"] = np.zeros((5, 8), "float32")

    def link(file):
        del file["model_weights/dense/dense/kernel:0"]
        file["model_weights/dense/dense/kernel:0"] = h5py.ExternalLink(tmp_path / "secret.h5", "kernel")

    path = edited(written / "keras2" / "sequential.h5", tmp_path / "m.h5", link)
    assert refused(path).startswith("weights 'dense/kernel:0' are not in the file; save the model again")


def test_weights_alone_of_keras_3(tmp_path):
    keras.Sequential([keras.Input((3,)), L.Dense(2)]).save_weights(tmp_path / "m.weights.h5")
    assert refused(tmp_path / "m.weights.h5").startswith(
        "holds weights alone and no model; build the model by its code"
    )


def test_h5_of_keras_3(tmp_path, told):
    inner = keras.Sequential([keras.Input((4,)), L.Dense(4), L.BatchNormalization()])
    x = keras.Input((4,))
    model = keras.Model(x, L.Dense(2, activation="hard_sigmoid")(L.Concatenate()([inner(x), L.Dense(4)(x)])))
    model.compile("adam", "mse")
    x = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    model.fit(x, np.zeros((8, 2)), verbose=0)
    model.save(tmp_path / "m.h5")
    assert np.array_equal(load_model(tmp_path / "m.h5").predict(x, verbose=0), model.predict(x, verbose=0))
    again = load_model(tmp_path / "m.h5", compiled=True)
    assert type(again.optimizer).__name__ == "Adam" and again.loss == "mse"
    for ours, theirs in zip(again.optimizer.variables, model.optimizer.variables, strict=True):
        assert np.array_equal(keras.ops.convert_to_numpy(ours), keras.ops.convert_to_numpy(theirs))
    assert told() == []


def test_code_in_h5_of_keras_3(tmp_path):
    keras.Sequential([keras.Input((4,)), L.Lambda(lambda x: x * 2.0)]).save(tmp_path / "m.h5")
    assert refused(tmp_path / "m.h5").startswith("holds a Lambda layer, whose code would run here; where you trust")


def test_a_savedmodel_folder(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"")
    assert "is a SavedModel folder, a graph that no Keras model can be made of; give the path" in refused(tmp_path)
    (tmp_path / "keras_metadata.pb").write_bytes(b"")
    assert refused(tmp_path) == (
        f"model file {tmp_path} is a SavedModel folder of Keras 2, which Keras 3 cannot make a model of; load it with "
        "Keras 2 (pip install tf_keras) and save it with model.save('name.h5')"
    )


def test_a_keras_file_of_keras_2(written):
    text = refused(written / "keras2" / "zipped.keras")
    assert text.startswith("cannot be loaded (") and text.endswith(
        "); it was written by Keras 2.15.0: load it with Keras 2 (pip install tf_keras) and save it with "
        "model.save('name.h5'), which is read here"
    )
