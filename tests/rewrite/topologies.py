"""Small models, one for each kind of layer and each way to connect layers that channels can be removed through.

``SHRINK`` holds them by name, each a function without arguments that gives a model; ``scramble`` makes their weights
random, moving statistics included, so that nothing is zero by chance.
"""

import keras
import numpy as np
from keras import layers as L
from keras import ops

from kompakt.graph import symbolic_inputs

IMAGE = (6, 6, 3)


def scramble(model, seed=0):
    """Random values in every weight that starts at 0 or 1."""
    random = np.random.default_rng(seed)
    for weight in model.weights:
        value = np.array(ops.convert_to_numpy(weight))
        if len(np.unique(value)) == 1 and value.size > 1:
            weight.assign(random.uniform(0.4, 1.4, value.shape) * np.where(value == 0, 0.5, 1.0))
    return model


def inputs_of(model, count=3, seed=0):
    """Random inputs in the structure that the model takes."""
    random = np.random.default_rng(seed)

    def made(tensor):
        shape = (count, *(5 if n is None else n for n in tensor.shape[1:]))
        whole = "int" in tensor.dtype
        return random.integers(0, 7, shape) if whole else random.normal(size=shape).astype("float32")

    return keras.tree.map_structure(made, symbolic_inputs(model))


def outputs_of(model, x):
    found = model(x, training=False)
    return [np.asarray(ops.convert_to_numpy(t)) for t in keras.tree.flatten(found)]


def image(body, shape=IMAGE, head=True):
    """A model on images: ``body(x)``, then a head that reads its channels."""
    i = keras.Input(shape)
    x = body(i)
    if head:
        x = L.Dense(3, name="head")(L.GlobalAveragePooling2D()(x) if len(x.shape) == 4 else x)
    return keras.Model(i, x)


def conv(filters, size=3, **options):
    return L.Conv2D(filters, size, padding="same", **options)


def norm_relu(x):
    return L.ReLU()(L.BatchNormalization()(x))


def chain():
    return image(lambda x: norm_relu(conv(5, use_bias=False)(norm_relu(conv(6)(x)))))


def norm_without_scale():
    def body(x):
        x = L.BatchNormalization(scale=False)(conv(6)(x))
        return conv(4)(L.ReLU()(L.BatchNormalization(center=False)(conv(5)(L.ReLU()(x)))))

    return image(body)


def sigmoid_activations():
    """Not zero at zero: what is removed must not be read."""
    return image(lambda x: conv(5, activation="softplus")(conv(6, activation="sigmoid")(x)))


def residual():
    def body(x):
        x = norm_relu(conv(6, name="a")(x))
        x = L.Add()([x, norm_relu(conv(6, name="b")(conv(4)(x)))])
        return L.Add()([x, conv(6, name="c")(x)])

    return image(body)


def concatenation():
    def body(x):
        a, b = conv(4)(x), norm_relu(conv(5)(x))
        x = L.Concatenate()([a, b, a])
        return L.Concatenate()([conv(3)(norm_relu(x)), x])

    return image(body)


def concatenation_and_residual():
    """One layer's channels in two groups."""

    def body(x):
        a, b = conv(4, name="a")(x), conv(6, name="b")(x)
        return L.Add()([L.Concatenate()([a, b]), conv(10, name="c")(x)])

    return image(body)


def residual_of_itself_reversed():
    """Channels 0..2 are added to channels 3..5 of the same layer."""

    def body(x):
        a, b = conv(3, name="a")(x), conv(3, name="b")(x)
        return L.Add()([L.Concatenate()([a, b]), L.Concatenate()([b, a])])

    return image(body)


def depthwise():
    def body(x):
        x = norm_relu(L.DepthwiseConv2D(3, padding="same", depth_multiplier=2)(norm_relu(conv(4)(x))))
        return conv(5, 1)(x)

    return image(body)


def separable():
    def body(x):
        x = L.SeparableConv2D(6, 3, depth_multiplier=2, activation="relu")(conv(5)(x))
        return L.SeparableConv2D(4, 3, use_bias=False)(x)

    return image(body)


def grouped_wide():
    """Few wide groups: the same places of every group go."""
    return image(lambda x: conv(6, name="next")(norm_relu(conv(12, groups=2, name="grouped")(norm_relu(conv(8)(x))))))


def grouped_narrow():
    """Many narrow groups: whole groups go."""
    return image(lambda x: conv(6)(norm_relu(conv(12, groups=4, name="grouped")(norm_relu(conv(8)(x))))))


def depthwise_as_grouped():
    return image(lambda x: conv(4)(conv(8, groups=8, name="grouped")(conv(8)(x))))


def transposed():
    def body(x):
        x = norm_relu(L.Conv2DTranspose(5, 3, strides=2)(conv(6)(x)))
        return L.Conv2DTranspose(4, 2, use_bias=False)(x)

    return image(body)


def one_dimension():
    i = keras.Input((8, 3))
    x = L.Conv1D(6, 3, padding="causal", activation="relu")(i)
    x = L.SeparableConv1D(5, 3)(L.DepthwiseConv1D(3)(L.ZeroPadding1D(2)(x)))
    x = L.Conv1DTranspose(4, 2)(L.UpSampling1D(2)(L.MaxPooling1D(2)(L.Cropping1D(1)(x))))
    return keras.Model(i, L.Dense(3)(L.GlobalMaxPooling1D()(x)))


def three_dimensions():
    i = keras.Input((4, 4, 4, 2))
    x = L.Conv3DTranspose(4, 2)(L.AveragePooling3D(2)(L.Conv3D(5, 2, padding="same")(i)))
    return keras.Model(i, L.Dense(3)(L.GlobalAveragePooling3D()(L.BatchNormalization()(x))))


def flattened():
    return image(lambda x: L.Dense(7, activation="relu")(L.Flatten()(norm_relu(conv(5, strides=2)(x)))))


def pooled_kinds():
    def body(x):
        x = L.AveragePooling2D(2)(L.UpSampling2D(2)(L.MaxPooling2D(2)(L.ZeroPadding2D(1)(conv(6)(x)))))
        x = L.SpatialDropout2D(0.5)(L.GaussianNoise(0.1)(L.Dropout(0.5)(L.Cropping2D(1)(x))))
        return L.Identity()(L.ELU()(L.LeakyReLU()(L.Resizing(5, 5)(x))))

    return image(body)


def reshaped_to_pixels():
    """As squeeze-and-excite blocks write it: the channels, then axes of size 1 before them."""

    def body(x):
        x = conv(6)(x)
        gate = L.Reshape((1, 1, 6))(L.GlobalAveragePooling2D()(x))
        return conv(4)(L.Multiply()([x, conv(6, 1, activation="sigmoid")(conv(3, 1, activation="relu")(gate))]))

    return image(body)


def decoder():
    i = keras.Input((4,))
    x = L.Reshape((3, 3, 6))(L.Dense(54, activation="relu")(i))
    return keras.Model(i, L.Conv2DTranspose(2, 3, name="head")(L.Conv2DTranspose(5, 3)(x)))


def squeeze_and_excite():
    def body(x):
        x = norm_relu(conv(8, name="wide")(x))
        gate = L.GlobalAveragePooling2D(keepdims=True)(x)
        gate = conv(8, 1, name="gate")(conv(4, 1, activation="relu", name="squeeze")(gate))
        gate = L.ReLU(6.0)(gate + 3.0) * (1.0 / 6.0)
        return L.Activation("hard_swish")(norm_relu(conv(5, name="next")(L.Multiply()([x, gate]))))

    return image(body)


def operations():
    def body(x):
        a, b = conv(6)(x), conv(6)(x)
        x = ops.maximum(ops.relu(a) - 0.5 * b, 0.1) * (1.0 - b) / 2.0
        x = ops.concatenate([ops.silu(x), -a], axis=-1)
        x = conv(5)(ops.transpose(ops.transpose(x, (0, 3, 1, 2)), (0, 2, 3, 1)))
        gate = ops.mean(x, axis=(1, 2), keepdims=True)
        x = ops.reshape(x * ops.sigmoid(gate), (-1, 36, 5))
        x = ops.squeeze(ops.expand_dims(ops.swapaxes(ops.swapaxes(x, 1, 2), 1, 2), 1), 1)
        return L.Dense(4)(x[:, 0] + x[:, -1, :] + ops.max(x, axis=1))

    return image(body)


def gated_split():
    """Half of the channels gate the other half: what goes in one goes in the other."""

    def body(x):
        a, b = ops.split(conv(12, name="both")(x), 2, axis=-1)
        return conv(5)(a * ops.sigmoid(b))

    return image(body)


def slopes():
    def body(x):
        x = L.PReLU(shared_axes=[1, 2])(conv(5)(x))
        return L.PReLU()(conv(4)(x))

    return image(body)


def group_norms():
    def body(x):
        x = L.ReLU()(L.GroupNormalization(4)(conv(8, name="pairs")(x)))
        return L.ReLU()(L.GroupNormalization(-1)(conv(6, name="each")(x)))

    return image(body)


def merges():
    def body(x):
        parts = [conv(6)(x) for _ in range(3)]
        x = L.Average()([L.Maximum()(parts), L.Subtract()(parts[:2])])
        return conv(4)(L.Minimum()([x, parts[2]]))

    return image(body)


def permuted():
    i = keras.Input((5, 4))
    x = L.Permute((2, 1))(L.Dense(6)(L.Permute((2, 1))(L.Dense(7)(i))))
    return keras.Model(i, L.Dense(3, name="head")(L.Flatten()(x)))


def repeated():
    i = keras.Input((4,))
    return keras.Model(i, L.GRU(3, name="head")(L.RepeatVector(4)(L.Dense(6)(i))))


def attention():
    i, context = keras.Input((5, 4)), keras.Input((6, 3))
    x = L.Dense(8)(i)
    x = L.Add()([x, L.MultiHeadAttention(4, 3, name="own")(x, x)])
    # On JAX, Keras 3.15 computes no attention whose values are of another size than its keys.
    sizes = {"value_dim": 5} if keras.backend.backend() == "tensorflow" else {}
    cross = L.MultiHeadAttention(3, 2, output_shape=7, use_bias=False, name="cross", **sizes)
    x = cross(x, value=L.Dense(6)(context))
    return keras.Model([i, context], L.Dense(3, name="head")(L.Dense(5, activation="gelu")(x)))


def einsum():
    i = keras.Input((5, 4))
    x = L.EinsumDense("abc,cde->abde", (5, 3, 6), bias_axes="de")(i)
    x = L.EinsumDense("abde,def->abf", (None, 7), activation="relu", bias_axes="f")(x)
    x = L.EinsumDense("...x,xy->...y", 6)(x)
    return keras.Model(i, L.Dense(3, name="head")(x))


def recurrent():
    i = keras.Input((6,), dtype="int32")
    x = L.LSTM(5, return_sequences=True, name="lstm")(L.Embedding(8, 6)(i))
    x = L.Bidirectional(L.GRU(4, return_sequences=True), name="bidirectional")(L.SimpleRNN(6, return_sequences=True)(x))
    x = L.Bidirectional(L.LSTM(3, use_bias=False), merge_mode="sum", name="summed")(x)
    return keras.Model(i, L.Dense(3, name="head")(x))


def time_distributed():
    i = keras.Input((2, 6, 6, 3))
    x = L.TimeDistributed(L.Conv2D(5, 3, activation="relu"))(i)
    x = L.TimeDistributed(L.GlobalAveragePooling2D())(L.TimeDistributed(L.BatchNormalization())(x))
    return keras.Model(i, L.TimeDistributed(L.Dense(3), name="head")(L.TimeDistributed(L.Dense(6))(x)))


def sequential():
    parts = [conv(6, name="a"), L.BatchNormalization(), L.ReLU(), L.Flatten(), L.Dense(5, name="b"), L.Dense(3)]
    return keras.Sequential([keras.Input(IMAGE), *parts], name="plain")


def nested():
    """A functional and a sequential model inside, with channels that go in and out, and a shared tail."""
    i = keras.Input((None, None, 6))
    block = keras.Model(i, L.Add()([i, norm_relu(conv(6, name="inside")(i))]), name="block")
    stem = keras.Sequential([keras.Input(IMAGE), conv(6, name="inside"), L.BatchNormalization()], name="stem")

    return image(lambda x: conv(4)(block(stem(x))))


def nested_twice():
    i = keras.Input((6, 6, 6))
    block = keras.Model(i, L.ReLU()(L.Add()([i, conv(6, name="inside")(i)])), name="block")
    return image(lambda x: conv(4)(block(block(conv(6, name="stem")(x)))))


def nested_without_weights():
    """A model without weights, called on the channels of two layers."""
    i = keras.Input((6, 6, 6))
    block = keras.Model(i, L.AveragePooling2D(2)(L.ReLU()(i)), name="block")

    def body(x):
        return L.Concatenate()([block(conv(6, name="a")(x)), block(conv(6, name="b")(x))])

    return image(body)


def shared():
    """Each call of a layer constrains it; one without weights ties nothing together."""
    relu, twice, reshape = L.ReLU(), conv(6, name="twice"), L.Reshape((36, 6))

    def body(x):
        a = relu(twice(relu(conv(6, name="first")(x))))
        b = relu(twice(a))
        x = L.Concatenate()([reshape(conv(6, name="c")(a)), reshape(conv(6, name="d")(b))])
        return L.Flatten()(L.Conv1D(4, 3)(x))

    return image(body)


def two_ends():
    a, b = keras.Input((4,), name="zz"), keras.Input((3,), name="aa")
    x = L.Add(name="sum")([L.Dense(6)(a), L.Dense(6)(b)])
    y = L.Dense(5, activation="relu")(x)
    return keras.Model({"zz": a, "aa": b}, {"p": L.Dense(3)(y), "q": L.Dense(2)(L.Concatenate()([x, y]))})


def channel_shuffle():
    """A shuffle between grouped convolutions: places of the groups go together."""

    def body(x):
        x = conv(12, name="before")(x)
        x = L.Reshape((6, 6, 3, 4))(x)
        x = L.Reshape((6, 6, 12))(L.Permute((1, 2, 4, 3))(x))
        return conv(5)(x)

    return image(body)


class Traced(keras.Model):
    """A subclassed model that can be followed."""

    def __init__(self):
        super().__init__(name="traced")
        self.first = conv(6, name="first")
        self.norm = L.BatchNormalization(name="norm")
        self.second = conv(6, name="second")
        self.head = L.Dense(3, name="head")

    def call(self, x):
        x = ops.relu(self.norm(self.first(x)))
        return self.head(ops.mean(x + self.second(x), axis=(1, 2)))


def subclassed():
    model = Traced()
    model(np.zeros((1, *IMAGE), "float32"))
    return model


SHRINK = {
    name: made
    for name, made in list(globals().items())
    if callable(made)
    and getattr(made, "__module__", None) == __name__
    and not isinstance(made, type)
    and name not in ("scramble", "inputs_of", "outputs_of", "image", "conv", "norm_relu")
}


def random_network(seed):
    """A random graph of convolutions, merges, gates and normalizations over 6x6 images."""
    random = np.random.default_rng(seed)
    i = keras.Input(IMAGE)
    tensors = [conv(int(random.integers(3, 7)))(i)]

    def pick():
        return tensors[int(random.integers(len(tensors)))]

    def add():
        a, b = pick(), pick()
        return L.Add()([a, b if a.shape == b.shape else conv(a.shape[-1])(b)])

    def gate():
        x = pick()
        return x * conv(x.shape[-1], 1, activation="sigmoid")(L.GlobalAveragePooling2D(keepdims=True)(x))

    steps = (
        lambda: conv(int(random.integers(3, 8)), activation="relu")(pick()),
        lambda: norm_relu(pick()),
        lambda: L.Concatenate()([pick(), pick()]),
        lambda: L.DepthwiseConv2D(3, padding="same", depth_multiplier=int(random.integers(1, 3)))(pick()),
        lambda: L.MaxPooling2D(3, strides=1, padding="same")(pick()),
        add,
        gate,
    )
    for _ in range(12):
        made = steps[int(random.integers(len(steps)))]()
        if made.shape[-1] <= 40:
            tensors.append(made)
    x = L.Concatenate()([L.GlobalAveragePooling2D()(t) for t in tensors[-3:]])
    return scramble(keras.Model(i, L.Dense(3, name="head")(x)), seed)
