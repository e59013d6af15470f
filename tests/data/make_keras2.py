"""Writes keras2.zip: small models saved by real Keras 2 as .h5, and what they predict. Not run by the tests.

python3.11 -m venv /tmp/k2 && /tmp/k2/bin/pip install "tensorflow-cpu==2.15.*"
/tmp/k2/bin/python tests/data/make_keras2.py tests/data/keras2.zip
"""

import io
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import tensorflow as tf

keras, L = tf.keras, tf.keras.layers
assert tf.__version__.startswith("2.15."), tf.__version__  # the last with Keras 2
CASES = {}


def case(make):
    CASES[make.__name__] = make
    return make


@case
def sequential():
    model = keras.Sequential(
        [
            L.Dense(8, activation="relu", input_shape=(5,), kernel_regularizer=keras.regularizers.l2(1e-4)),
            L.Dropout(0.2),
            L.BatchNormalization(),
            L.LeakyReLU(0.1),
            L.Dense(3, activation="softmax", kernel_initializer="he_normal", bias_constraint="non_neg"),
        ]
    )
    optimizer = keras.optimizers.legacy.Adam(lr=0.01, decay=1e-3)
    model.compile(optimizer, "categorical_crossentropy", metrics=["accuracy"])
    model.fit(np.random.rand(8, 5), np.eye(3)[[0, 1, 2, 0, 1, 2, 0, 1]], verbose=0)
    return model


@case
def deferred():
    """Without an Input: the shape is known from the first call."""
    model = keras.Sequential([L.Dense(4, activation="swish"), L.Dense(2)])
    model.build((None, 5))
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True, clipnorm=1.0), "mse", metrics=["mae"])
    model.fit(np.random.rand(8, 5), np.random.rand(8, 2), verbose=0)
    return model


@case
def shared():
    """Two inputs, a shared layer, and branches of the same shapes whose order is not that of their names."""
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    both = L.Dense(4, activation="tanh", name="both")
    x, y = both(a), both(b)
    right = L.Dense(4, name="z_first")(y)
    left = L.Dense(4, name="a_second")(x)
    deep = L.Dense(4, name="m_deep")(L.Dense(4, name="k_deep")(left))
    out = L.Concatenate()([right, deep, L.Subtract()([left, right])])
    model = keras.Model([b, a], [L.Dense(2, name="one")(out), L.Dense(1, name="two")(L.Dot(1)([left, right]))])
    model.compile(
        keras.optimizers.legacy.RMSprop(lr=0.01), {"one": "mse", "two": "mae"}, loss_weights={"one": 1.0, "two": 0.5}
    )
    return model


def block(name, frozen=False):
    x = keras.Input((6, 6, 3))
    one = L.BatchNormalization(name="bn_b")(L.Conv2D(3, 3, padding="same", name="conv_b")(x))
    two = L.BatchNormalization(name="bn_a")(L.Conv2D(3, 3, padding="same", name="conv_a")(x))
    model = keras.Model(x, L.Add()([one, L.ReLU()(two)]), name=name)
    if frozen:
        model.get_layer("bn_a").trainable = False
    return model


@case
def nested():
    x = keras.Input((6, 6, 3))
    inner = keras.Sequential([block("deep"), L.Conv2D(3, 1, name="aa")], name="inner")
    frozen = block("frozen")
    frozen.trainable = False
    y = block("partly", frozen=True)(frozen(inner(x)))
    y = block("twice")(block("fifth")(y))
    return keras.Model(x, L.Dense(2)(L.Flatten()(y)))


@case
def nested_sequential():
    return keras.Sequential([keras.Input((6, 6, 3)), block("base"), L.GlobalMaxPooling2D(), L.Dense(2)])


@case
def mobile():
    x = keras.Input((12, 12, 3))
    y = L.Conv2D(4, 3, strides=2, use_bias=False)(L.ZeroPadding2D(((0, 1), (0, 1)))(x))
    y = L.ReLU(6.0)(L.BatchNormalization()(y))
    z = L.DepthwiseConv2D(3, padding="same", depth_multiplier=1, use_bias=False)(y)
    z = L.ReLU(6.0)(L.BatchNormalization(epsilon=1e-2)(z))
    z = L.Conv2D(4, 1, kernel_regularizer=keras.regularizers.L1L2(1e-5, 1e-4))(z)
    y = L.SeparableConv2D(6, 3, padding="same", depth_multiplier=2, activation="relu6")(L.Add()([y, z]))
    y = L.Conv2DTranspose(4, 3, strides=2)(L.AveragePooling2D()(y))
    y = L.Conv2D(4, 3, groups=2, dilation_rate=2)(L.UpSampling2D(interpolation="bilinear")(y))
    y = L.experimental.SyncBatchNormalization()(L.ThresholdedReLU(0.1)(y))
    return keras.Model(x, L.Dense(3, activation="softmax")(L.GlobalAveragePooling2D(keepdims=True)(y)))


@case
def recurrent():
    x = keras.Input((6, 3))
    y = L.Bidirectional(L.LSTM(4, return_sequences=True, recurrent_activation="hard_sigmoid"))(x)
    y = L.GRU(4, return_sequences=True)(y)
    y = L.GRU(4, return_sequences=True, reset_after=False, implementation=1)(y)
    y = L.Bidirectional(L.GRU(3, return_sequences=True), merge_mode="sum")(y)
    y = L.RNN([L.LSTMCell(3), L.GRUCell(3)], return_sequences=True)(y)
    y = L.TimeDistributed(L.Dense(4, activation="hard_sigmoid"))(y)
    y, state, cell = L.LSTM(4, return_sequences=True, return_state=True, go_backwards=True)(y)
    y = L.LSTM(4, return_sequences=True)(y, initial_state=[state, cell])
    return keras.Model(x, L.SimpleRNN(4, unroll=True)(y))


@case
def conv_lstm():
    return keras.Sequential([keras.Input((3, 5, 5, 2)), L.ConvLSTM2D(2, 3), L.Flatten(), L.Dense(2)])


@case
def stateful():
    return keras.Sequential(
        [L.LSTM(4, stateful=True, batch_input_shape=(4, 5, 3), return_sequences=True), L.GRU(3, stateful=True)]
    )


@case
def text():
    return keras.Sequential(
        [
            L.Embedding(11, 4, input_length=7, mask_zero=True),
            L.Bidirectional(L.LSTM(3)),
            L.Dense(1, activation="sigmoid"),
        ]
    )


@case
def attention():
    x, other = keras.Input((5, 8)), keras.Input((4, 8))
    y = L.MultiHeadAttention(2, 3)(x, other)
    y = L.LayerNormalization(epsilon=1e-5)(y)
    y = L.MultiHeadAttention(2, 3)(query=y, value=other, key=other)
    y = L.Attention(use_scale=True)([y, other])
    y = L.AdditiveAttention()([y, other])
    y = L.EinsumDense("abc,cd->abd", output_shape=(None, 4), bias_axes="d")(y)
    return keras.Model([x, other], L.GlobalAveragePooling1D()(y))


@case
def attention_values():
    """Values of another size than keys: Keras 3 cannot compute them on JAX."""
    x = keras.Input((5, 8))
    return keras.Model(x, L.MultiHeadAttention(2, 3, value_dim=2)(query=x, value=x))


@case
def padded_average():
    """The mean of what lies inside: Keras 3 takes it over the padding too on torch."""
    return keras.Sequential([keras.Input((5, 5, 2)), L.AveragePooling2D(3, padding="same")])


@case
def operators():
    """What `x + 1` and the functions of TensorFlow become in a functional model."""
    a, b = keras.Input((4, 6)), keras.Input((4, 6))
    y = tf.nn.relu(a) + 1.0
    y = (2.0 - y) * b / 3.0 + tf.math.sigmoid(-b)
    y = tf.concat([y, a - b, tf.nn.relu6(b)], axis=-1)
    y = tf.reshape(y, (-1, 12, 6))
    y = tf.transpose(y, [0, 2, 1])
    z = tf.reduce_mean(y, axis=-1, keepdims=True) + tf.math.reduce_max(y, axis=[2], keepdims=True)
    y = tf.square(y) - tf.exp(tf.tanh(z)) ** 2
    y = tf.matmul(y, tf.nn.softmax(y), transpose_b=True)
    y = tf.squeeze(tf.expand_dims(y, 1), axis=[1])
    y = tf.clip_by_value(y, -2.0, 2.0) + tf.maximum(y, 0.5) + tf.sqrt(tf.abs(y))
    return keras.Model([a, b], L.Dense(2)(tf.cast(y, "float32")[:, 1:, -2]))


@case
def unknown_operator():
    x = keras.Input((4,))
    return keras.Model(x, L.Dense(2)(tf.math.betainc(x * x + 1.0, x * x + 1.0, tf.sigmoid(x))))


@case
def code():
    return keras.Sequential([keras.Input((4,)), L.Lambda(lambda x: x * 2.0), L.Dense(2)])


@keras.saving.register_keras_serializable(package="mine")
class Scale(L.Layer):
    def __init__(self, start=1.0, **kwargs):
        super().__init__(**kwargs)
        self.start = start

    def build(self, shape):
        self.scale = self.add_weight("scale", (shape[-1],), initializer="ones")

    def call(self, x):
        return x * self.scale

    def get_config(self):
        return {**super().get_config(), "start": self.start}


def cube(x):
    return x**3


@case
def custom():
    return keras.Sequential([keras.Input((4,)), Scale(2.0), L.Dense(2, activation=cube)])


@case
def mixed():
    keras.mixed_precision.set_global_policy("mixed_float16")
    model = keras.Sequential([keras.Input((4,)), L.Dense(3, activation="relu"), L.Dense(2, dtype="float32")])
    keras.mixed_precision.set_global_policy("float32")
    return model


@case
def assorted():
    x = keras.Input((8, 8, 2))
    y = L.Normalization(mean=[0.5, 1.0], variance=[1.0, 2.0])(L.Rescaling(0.5, 0.1)(x))
    y = L.RandomFlip()(L.Resizing(6, 6)(y))
    y = L.PReLU(shared_axes=[1, 2])(L.SpatialDropout2D(0.1)(y))
    y = L.GroupNormalization(2)(L.ELU(0.7)(L.GaussianNoise(0.1)(y)))
    y = L.Reshape((6, 12))(L.Cropping2D(0)(y))
    y = L.Conv1D(4, 2, padding="causal")(L.Permute((2, 1))(y))
    y = L.SeparableConv1D(4, 2)(L.Softmax(axis=1)(y))
    y = L.Activation("gelu")(L.LayerNormalization()(y))
    y = L.Minimum()([y, L.Activation(tf.nn.softsign)(y)])
    return keras.Model(x, L.RepeatVector(2)(L.Flatten()(L.UnitNormalization()(y))))


@case
def more():
    x = keras.Input((7, 7, 2))
    normalization = L.Normalization()
    normalization.adapt(np.random.default_rng(1).normal(2.0, 3.0, (9, 7, 7, 2)))
    y = L.Conv2DTranspose(3, 3, strides=2, padding="same", output_padding=1)(normalization(x))
    y = L.BatchNormalization(scale=False, axis=1)(
        L.AveragePooling2D(3, strides=3, padding="valid")(L.ZeroPadding2D(((0, 1), (1, 0)))(y))
    )
    parts = [L.Activation(each)(y) for each in ("elu", "selu", "softplus", "exponential", "gelu", "hard_sigmoid")]
    y = L.Concatenate()([*parts, L.Activation("sigmoid")(y), L.Softmax()(y)])
    y = L.Conv3D(2, 2)(L.Reshape((5, 5, 24, 1))(y))
    y = L.MaxPooling3D(padding="same")(y)
    y = L.Conv1DTranspose(3, 3)(L.Reshape((-1, 2))(L.GlobalMaxPooling3D(keepdims=True)(y)))
    return keras.Model(x, L.Dot((1, 1), normalize=True)([y, L.Multiply()([y, y])]))


@case
def dictionary():
    inputs = {"right": keras.Input((3,), name="right"), "left": keras.Input((3,), name="left")}
    y = L.Dense(2, name="first")(inputs["left"]) - L.Dense(2, name="also")(inputs["right"])
    return keras.Model(inputs, {"b": L.Dense(2, name="b")(y), "a": L.Dense(2, name="a")(y)})


@case
def slashes():
    x = keras.Input((4,))
    y = L.Dense(4, name="one/b")(L.Dense(4, name="two/a")(x))
    inner = keras.Model(x, L.Add(name="one/sum")([L.Dense(4, name="z/dense")(y), L.Dense(4, name="a/dense")(y)]))
    return keras.Model(x, L.Dense(2, name="top/dense")(inner(x)))


@case
def locally_connected():
    return keras.Sequential([keras.Input((6, 2)), L.LocallyConnected1D(2, 3)])


def randomize(model, random):
    """Weights of which no two are alike, so that a swap is seen."""
    for weight in model.weights:
        if weight.dtype.is_floating:
            low = 0.5 if "variance" in weight.name else -0.6
            weight.assign(random.uniform(low, low + 1.0, weight.shape))
    for layer in model.layers:
        if isinstance(layer, L.Normalization):
            layer.finalize_state()


def samples(model, random):
    shapes = [(4, *tensor.shape[1:]) for tensor in model.inputs]
    if isinstance(model.layers[0], L.Embedding):
        return [random.integers(0, 11, shapes[0]).astype("float32")]
    return [random.normal(size=shape).astype("float32") for shape in shapes]


def main(path):
    numbers = {}
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as pack:

        def put(name, data):
            pack.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_LZMA)

        for name, make in CASES.items():
            keras.backend.clear_session()
            keras.utils.set_random_seed(0)
            random = np.random.default_rng(0)
            model = make()
            randomize(model, random)
            inputs = samples(model, random)
            outputs = tf.nest.flatten(model.predict(inputs, batch_size=4, verbose=0))
            for end, arrays in (("x", inputs), ("y", outputs)):
                numbers.update({f"{name}/{end}{index}": array for index, array in enumerate(arrays)})
            model.reset_states()
            file = Path(folder, f"{name}.h5")
            model.save(file, save_format="h5")
            put(file.name, file.read_bytes())
        model.save_weights(f"{folder}/only_weights.h5")
        put("only_weights.h5", Path(folder, "only_weights.h5").read_bytes())
        model.save(f"{folder}/zipped.keras")
        put("zipped.keras", Path(folder, "zipped.keras").read_bytes())
        buffer = io.BytesIO()
        np.savez(buffer, **numbers)
        put("numbers.npz", buffer.getvalue())


if __name__ == "__main__":
    main(sys.argv[1])
