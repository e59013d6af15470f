"""Writes a pack of small models saved by real Keras 2 as .h5, and what they predict. Not run by the tests.

The last TensorFlow with Keras 2, and Keras 2 beside later ones:

python3.11 -m venv /tmp/k215 && /tmp/k215/bin/pip install "tensorflow-cpu==2.15.*"
/tmp/k215/bin/python tests/data/make_keras2_more.py tests/data/keras2_more.zip
python3.11 -m venv /tmp/k216 && /tmp/k216/bin/pip install tensorflow-cpu==2.16.2 tf_keras==2.16.0
/tmp/k216/bin/python tests/data/make_keras2_more.py tests/data/tf_keras216.zip LATER
python3.11 -m venv /tmp/k221 && /tmp/k221/bin/pip install tensorflow==2.21.0 tf_keras==2.21.0
/tmp/k221/bin/python tests/data/make_keras2_more.py tests/data/tf_keras221.zip LATER

where LATER is: constants cast_layers crops training_false
"""

import importlib
import io
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import tensorflow as tf

keras = tf.keras if tf.__version__.startswith("2.15.") else importlib.import_module("tf_keras")
L = keras.layers
CASES = {}


def case(make):
    CASES[make.__name__] = make
    return make


@case
def constants():
    """Arrays on either side of functions, and where a layer takes several tensors."""
    x = keras.Input((4, 4, 3))
    y = (x - np.array([0.5, 0.4, 0.3], "float32")) / tf.constant([0.2, 0.3, 0.4])
    y = tf.constant([[[[1.0, 2.0, 3.0]]]]) - y
    y = np.array([2.0, 0.5, 1.5], "float32") * y
    y = tf.maximum(y, [-1.0, -2.0, -0.5])
    y = L.Conv2D(3, 2, name="conv")(y)
    y = L.Add()([y, tf.constant(np.linspace(-1, 1, 27).reshape(1, 3, 3, 3), "float32")])
    y = tf.reshape(y, (-1, 9, 3))
    y = tf.matmul(y, tf.constant([[1.0, -1.0], [0.5, 2.0], [0.25, 1.0]]))
    y = tf.matmul(tf.constant([[1.0] * 9, [0.1] * 9]), y)
    return keras.Model(x, tf.concat([y, tf.where(y > 0.0, y, [0.5, 0.25])], axis=-1))


@case
def preprocessed():
    """Of keras.applications: channels turned around, a mean for each."""
    x = keras.Input((6, 6, 3))
    y = keras.applications.resnet50.preprocess_input(x)
    z = keras.applications.mobilenet_v2.preprocess_input(x)
    w = keras.applications.densenet.preprocess_input(x)
    return keras.Model(x, L.GlobalAveragePooling2D()(L.Concatenate()([y, z, w])))


@case
def standardized():
    """The usual beginning: ``(x - mean) / std``, and the mean of resnet50 before a convolution."""
    x = keras.Input((6, 6, 3))
    y = (x - tf.constant([123.0, 116.0, 104.0])) / np.array([58.0, 57.0, 55.0], "float32")
    y = L.Conv2D(4, 3, activation=L.LeakyReLU(0.2))(y)
    z = L.Conv2D(4, 3, activation="relu")(keras.applications.resnet50.preprocess_input(x))
    y = L.GlobalAveragePooling2D()(y * [1.0, 0.5, 2.0, 0.25] + z / 200.0)
    return keras.Model(x, tf.math.l2_normalize(L.Dense(3)(y), axis=-1))


@case
def whole_numbers():
    x = keras.Input((3,), dtype="int32")
    y = L.Flatten()(x * tf.constant([1, 2, 3]) + np.array([4, 5, 6], "int32"))
    return keras.Model(x, [y * tf.constant([3, 2, 1]), tf.cast(y, "float32") * [0.5, 0.25, 2.0]])


@case
def half_constants():
    keras.mixed_precision.set_global_policy("mixed_float16")
    x = keras.Input((3,))
    y = L.Dense(3)(x) * np.array([0.1, 0.2, 0.3], "float32") + tf.constant([1.0, 2.0, 3.0], "float16")
    model = keras.Model(x, L.Dense(2, dtype="float32")(y))
    keras.mixed_precision.set_global_policy("float32")
    return model


@case
def functions():
    """What later stands in the table of functions."""
    x = keras.Input((4, 6))
    one, two, three = tf.split(x, [1, 2, 1], axis=1)
    y = tf.concat([tf.tile(one, [1, 2, 1]), tf.math.l2_normalize(two, axis=-1), tf.nn.silu(three)], axis=1)
    y = tf.pad(y, [[0, 0], [1, 0], [0, 2]]) + tf.pad(y, [[0, 0], [1, 0], [1, 1]], "REFLECT")
    y = tf.where(y > 0.25, tf.math.log1p(tf.abs(y)), tf.floor(y))
    y = tf.nn.bias_add(y, tf.range(8.0)) * tf.math.reduce_std(y, axis=1, keepdims=True)
    z = tf.one_hot(tf.argmax(y, axis=-1), 8) * tf.math.reduce_variance(y, axis=1, keepdims=True)
    left, right = tf.split(y + z, 2, axis=-1)
    return keras.Model(x, tf.image.resize(tf.expand_dims(left - right, -1), (3, 7)))


@case
def mean_of_integers():
    x = keras.Input((3,), dtype="int32")
    return keras.Sequential([keras.Input((3,), dtype="int32"), keras.Model(x, tf.reduce_mean(x, axis=-1))])


@case
def cast_layers():
    """Layers that Keras 3 takes other keys of, or has not."""
    x = keras.Input((8, 2))
    y = L.SeparableConv1D(4, 3, padding="causal", dilation_rate=2, name="causal")(x)
    shared = L.SeparableConv1D(4, 2, padding="causal", name="twice")
    y = L.Add()([shared(y), shared(shared(y))])
    y = L.Dense(3, activation=L.ThresholdedReLU(0.1))(y)
    y = L.Conv1D(3, 2, activation=L.PReLU(shared_axes=[1]))(y)
    y = L.Bidirectional(L.LSTM(2, activation=L.LeakyReLU(0.1), return_sequences=True))(y)
    bins = L.Flatten()(L.Discretization([-0.5, 0.0, 0.7])(x))
    hot = L.Discretization([-0.5, 0.5], output_mode="one_hot")(x[:, 0, :1])
    return keras.Model(x, L.Concatenate()([L.Flatten()(y), L.Flatten()(L.Embedding(4, 2)(bins)), hot]))


@case
def causal_first():
    return keras.Sequential([L.SeparableConv1D(3, 3, padding="causal", input_shape=(6, 2)), L.GlobalMaxPooling1D()])


@case
def causal_inside():
    x = keras.Input((3, 6, 2))
    return keras.Model(x, L.TimeDistributed(L.SeparableConv1D(2, 3, padding="causal"))(x))


@case
def crops():
    x = keras.Input((9, 8, 3))
    y = L.RandomZoom(0.2)(L.RandomRotation(0.1)(L.RandomFlip("horizontal")(x)))
    y = L.RandomWidth(0.2)(L.RandomHeight(0.2)(L.RandomCrop(6, 6)(y)))
    return keras.Model(x, L.CenterCrop(4, 4)(y))


def resizing(interpolation):
    def make():
        x = keras.Input((7, 8, 2))
        return keras.Model(x, L.Resizing(4, 13, interpolation=interpolation, name="resizing")(x))

    make.__name__ = f"resizing_{interpolation}"
    return case(make)


for each in ("area", "bicubic", "gaussian", "mitchellcubic"):
    resizing(each)


@case
def upsampling_gaussian():
    return keras.Sequential([keras.Input((4, 4, 2)), L.UpSampling2D(2, interpolation="gaussian", name="up")])


@case
def training_false():
    """As the guide of transfer learning has it."""
    base = keras.Sequential(
        [L.Conv2D(3, 3, input_shape=(6, 6, 2)), L.BatchNormalization(), L.Dropout(0.5)], name="base"
    )
    x = keras.Input((6, 6, 2))
    y = L.GlobalAveragePooling2D()(base(x, training=False))
    y = L.BatchNormalization(name="frozen")(y, training=False)
    return keras.Model(x, L.Dense(2)(L.Dropout(0.2, name="usual")(y, training=None)))


@case
def training_true():
    x = keras.Input((4,))
    return keras.Model(x, L.Dense(2)(L.Dropout(0.5, name="always")(x, training=True)))


@case
def masked():
    x = keras.Input((5, 3))
    y = L.LSTM(3, return_sequences=True)(L.Masking(0.0)(x))
    return keras.Model(x, L.GRU(3, reset_after=False)(y))


def randomize(model, random):
    """Weights of which no two are alike, so that a swap is seen."""
    for weight in model.weights:
        if weight.dtype.is_floating:
            low = 0.5 if "variance" in weight.name else -0.6
            weight.assign(random.uniform(low, low + 1.0, weight.shape))


def sample(tensor, random):
    shape = (4, *tensor.shape[1:])
    if tensor.dtype.is_integer:
        return random.integers(-9, 10, shape).astype(tensor.dtype.as_numpy_dtype)
    values = random.normal(size=shape).astype(tensor.dtype.as_numpy_dtype)
    if shape == (4, 5, 3):
        values[1, 3:] = 0.0  # masked
    return values


def main(path, names):
    numbers = {}
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as pack:

        def put(name, data):
            pack.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_LZMA)

        for name in names or CASES:
            keras.backend.clear_session()
            keras.utils.set_random_seed(0)
            random = np.random.default_rng(0)
            model = CASES[name]()
            randomize(model, random)
            inputs = [sample(tensor, random) for tensor in model.inputs]
            outputs = tf.nest.flatten(model.predict(inputs, batch_size=4, verbose=0))
            for end, arrays in (("x", inputs), ("y", outputs)):
                numbers.update({f"{name}/{end}{index}": array for index, array in enumerate(arrays)})
            file = Path(folder, f"{name}.h5")
            model.save(file, save_format="h5")
            put(file.name, file.read_bytes())
        buffer = io.BytesIO()
        np.savez(buffer, **numbers)
        put("numbers.npz", buffer.getvalue())


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
