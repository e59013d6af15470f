"""Law 7, train = serve, for every kind of layer that an integer file can hold: each is made, run and compared.

The comparison is made here again, with LiteRT's plain interpreter and numpy: what ``export`` says of
itself is not taken on trust.
"""

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from keras import layers as L
from keras import ops

import kompakt as kp
from kompakt.deploy import make_job
from kompakt.graph import symbolic_inputs
from kompakt.simulation import simulate

IMAGE = (8, 8, 3)
SAMPLES = 256


def chain(*parts, shape=IMAGE):
    return keras.Sequential([keras.Input(shape), *parts])


def tail(x):
    return L.Dense(5, name="logits")(L.Flatten()(x))


def digits_cnn():
    i = keras.Input((8, 8, 1))
    x = L.Conv2D(8, 3, padding="same", use_bias=False)(i)
    x = L.ReLU()(L.BatchNormalization()(x))
    y = L.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
    y = L.ReLU()(L.BatchNormalization()(y))
    y = L.BatchNormalization()(L.Conv2D(8, 1)(y))
    x = L.ReLU()(L.Add()([x, y]))
    return keras.Model(i, L.Dense(10)(L.GlobalAveragePooling2D()(x)))


def autoencoder():
    sizes = [L.Dense(n, activation="relu") for n in (16, 4, 16)]
    return chain(*sizes, L.Dense(20), shape=(20,))


def relu6():
    return chain(
        L.Conv2D(6, 3, activation="relu6"),
        L.Conv2D(4, 3, strides=2),
        L.ReLU(max_value=6.0),
        L.Flatten(),
        L.Dense(5),
    )


def max_pool():
    return chain(L.Conv2D(6, 3, padding="same"), L.MaxPooling2D(2), L.Conv2D(4, 3), L.Flatten(), L.Dense(5))


def average_pool():
    return chain(
        L.Conv2D(6, 3, padding="same", activation="relu"),
        L.AveragePooling2D(2),
        L.Conv2D(4, 3),
        L.Flatten(),
        L.Dense(5),
    )


def average_pool_of_a_tensor_with_two_readers():
    i = keras.Input(IMAGE)
    x = L.Conv2D(6, 3, padding="same", activation="relu")(i)
    return keras.Model(i, tail(L.Add()([x, L.AveragePooling2D(2, strides=1, padding="same")(x)])))


def concatenate():
    i = keras.Input(IMAGE)
    return keras.Model(
        i, tail(L.Concatenate()([L.Conv2D(4, 3, padding="same", activation="relu")(i), L.Conv2D(4, 1)(i)]))
    )


def concatenate_of_a_tensor_with_two_readers():
    i = keras.Input(IMAGE)
    a = L.Conv2D(4, 3, padding="same", activation="relu")(i)
    return keras.Model(i, tail(L.Conv2D(4, 3)(L.Concatenate()([a, L.Conv2D(4, 1)(a)]))))


def concatenate_with_a_softmax():
    i = keras.Input((6,))
    return keras.Model(i, L.Dense(4)(L.Concatenate()([L.Dense(5, activation="softmax")(i), L.Dense(5)(i)])))


def zero_padding_and_strides():
    return chain(
        L.ZeroPadding2D(((0, 1), (0, 1))),
        L.Conv2D(6, 3, strides=2, use_bias=False),
        L.BatchNormalization(),
        L.ReLU(max_value=6.0),
        L.Flatten(),
        L.Dense(5),
    )


def activation_inside(name):
    def make():
        return chain(
            L.Dense(12, activation=name),
            L.Dense(8, activation="relu"),
            L.Dense(6, activation=name),
            shape=(10,),
        )

    return make


def activation_layer(name):
    return lambda: chain(L.Conv2D(6, 3), L.Activation(name), L.Flatten(), L.Dense(5))


def dropout_between():
    return chain(L.Conv2D(6, 3), L.Dropout(0.3), L.ReLU(), L.Flatten(), L.Dropout(0.5), L.Dense(5))


def batchnorm_alone():
    return chain(
        L.BatchNormalization(),
        L.Conv2D(6, 3, activation="relu"),
        L.BatchNormalization(),
        L.Flatten(),
        L.Dense(5),
    )


def batchnorm_of_rows():
    return chain(L.BatchNormalization(), L.Dense(12, activation="relu"), L.BatchNormalization(), L.Dense(5), shape=(6,))


def preactivation_residual():
    i = keras.Input(IMAGE)
    x = L.Conv2D(6, 3, padding="same")(i)
    y = L.Conv2D(6, 3, padding="same")(L.ReLU()(L.BatchNormalization()(x)))
    return keras.Model(i, tail(L.ReLU()(L.BatchNormalization()(L.Add()([x, y])))))


def rescaling():
    return chain(L.Rescaling(2.0, offset=-1.0), L.Conv2D(6, 3, activation="relu"), L.Flatten(), L.Dense(5))


def flatten_first():
    return chain(L.Flatten(), L.Dense(8, activation="relu"), L.Dense(5))


def reshapes():
    return chain(L.Reshape((4, 4, 4)), L.Conv2D(4, 3, activation="relu"), L.Reshape((16,)), L.Dense(5), shape=(64,))


def two_inputs_and_outputs_in_lists():
    a, b = keras.Input((6,), name="zz"), keras.Input((6,), name="aa")
    s = L.Subtract()([L.Dense(8, activation="relu")(a), L.Dense(8, activation="relu")(b)])
    return keras.Model([a, b], [L.Dense(3, name="z_out")(s), L.Dense(4, name="a_out")(s)])


def two_inputs_and_outputs_in_dicts():
    a, b = keras.Input((6,), name="zz"), keras.Input((6,), name="aa")
    x, y = L.Dense(8, activation="relu")(a), L.Dense(8, activation="relu")(b)
    return keras.Model({"zz": a, "aa": b}, {"z": L.Dense(3)(L.Subtract()([x, y])), "b": L.Dense(3)(x)})


def nested():
    stem = keras.Sequential([keras.Input(IMAGE), L.Conv2D(6, 3, name="c"), L.BatchNormalization(), L.ReLU()])
    i = keras.Input(IMAGE)
    return keras.Model(i, L.Dense(5, name="c")(L.Flatten()(stem(i))))


@keras.saving.register_keras_serializable(package="tests")
class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.conv, self.norm = L.Conv2D(6, 3), L.BatchNormalization()
        self.flat, self.logits = L.Flatten(), L.Dense(5)

    def call(self, x):
        return self.logits(self.flat(ops.relu(self.norm(self.conv(x)))))


def subclassed():
    model = Subclassed()
    model(np.zeros((1, *IMAGE), "float32"))
    return model


def shared_layer():
    i, d = keras.Input((10,)), L.Dense(10, activation="relu")
    return keras.Model(i, L.Dense(5)(d(d(i))))


def shared_tower():
    a, b, d = keras.Input((6,), name="a"), keras.Input((6,), name="b"), L.Dense(8, activation="relu")
    return keras.Model([a, b], L.Dense(4)(L.Concatenate()([d(a), d(b)])))


def conv1d():
    return chain(
        L.Conv1D(6, 3, activation="relu"),
        L.MaxPooling1D(2),
        L.Conv1D(6, 3, padding="same"),
        L.BatchNormalization(),
        L.ReLU(),
        L.GlobalAveragePooling1D(),
        L.Dense(5),
        shape=(16, 4),
    )


def global_max():
    return chain(L.Conv2D(6, 3, activation="relu"), L.GlobalMaxPooling2D(), L.Dense(5))


def up_sampling(how):
    def make():
        return chain(
            L.Conv2D(6, 3, strides=2, activation="relu"),
            L.UpSampling2D(2, interpolation=how),
            L.Conv2D(4, 3),
            L.Flatten(),
            L.Dense(5),
        )

    return make


def transposed_convolution():
    return chain(
        L.Conv2D(6, 3, strides=2, activation="relu"),
        L.Conv2DTranspose(5, 3, strides=2, padding="same", use_bias=False),
        L.BatchNormalization(),
        L.ReLU(),
        L.Flatten(),
        L.Dense(5),
    )


def separable():
    return chain(
        L.SeparableConv2D(6, 3, use_bias=False),
        L.BatchNormalization(),
        L.ReLU(),
        L.SeparableConv2D(6, 3, depth_multiplier=2, activation="relu"),
        L.Flatten(),
        L.Dense(5),
    )


def leaky_relu():
    return chain(L.Conv2D(6, 3), L.LeakyReLU(negative_slope=0.1), L.Flatten(), L.Dense(5))


def operations():
    i = keras.Input(IMAGE)
    x = ops.relu((L.Conv2D(4, 3, padding="same")(i) + L.Conv2D(4, 1)(i)) * 2.0 - 0.5)
    return keras.Model(i, L.Dense(5)(ops.mean(x, axis=(1, 2))))


def squeeze_and_excite():
    i = keras.Input(IMAGE)
    a = L.Conv2D(4, 3, padding="same")(i)
    s = L.Conv2D(4, 1, activation="sigmoid")(L.GlobalAveragePooling2D(keepdims=True)(a))
    return keras.Model(i, tail(L.Multiply()([a, s])))


def sum_of_three():
    i = keras.Input((6,))
    return keras.Model(i, L.Dense(5)(L.Add()([L.Dense(8)(i), L.Dense(8)(i), L.Dense(8)(i)])))


def rows_of_rows():
    return chain(L.Dense(6, activation="relu"), L.Permute((2, 1)), L.Flatten(), L.Dense(5), shape=(4, 8))


def dilated_and_grouped():
    return chain(
        L.Conv2D(6, 3, dilation_rate=2, padding="same", activation="relu"),
        L.Conv2D(6, 3, groups=2),
        L.Flatten(),
        L.Dense(5),
    )


def embedding():
    return keras.Sequential(
        [keras.Input((6,), dtype="int32"), L.Embedding(20, 8), L.GlobalAveragePooling1D(), L.Dense(5)]
    )


def ends_in_a_pool():
    return chain(L.Conv2D(5, 3, padding="same"), L.AveragePooling2D(8), L.Flatten())


def starts_with_a_relu():
    return chain(L.ReLU(), L.Dense(5), shape=(8,))


def relu_beside_its_input():
    i = keras.Input(IMAGE)
    x = L.Conv2D(4, 3, padding="same")(i)
    return keras.Model(i, tail(L.Add()([x, L.ReLU()(x)])))


def kernel_of_zeros():
    model = chain(L.Conv2D(6, 3, activation="relu"), L.Conv2D(6, 1, name="z"), L.Flatten(), L.Dense(5))
    model.get_layer("z").kernel.assign(np.zeros((1, 1, 6, 6)))
    return model


def dead_channels():
    model = chain(L.Conv2D(6, 3, activation="relu", name="z"), L.Flatten(), L.Dense(5))
    kernel = np.array(ops.convert_to_numpy(model.get_layer("z").kernel))
    kernel[..., 2], kernel[..., 3] = 0.0, 1e-12
    model.get_layer("z").kernel.assign(kernel)
    return model


def twin_kernels():
    model = chain(L.Dense(6, name="a"), L.Dense(6, name="b"), L.Dense(5), shape=(6,))
    model.get_layer("b").kernel.assign(model.get_layer("a").kernel)
    return model


def lstm():
    return chain(L.LSTM(4), L.Dense(5), shape=(3, 6))


def gru():
    return chain(L.GRU(4), L.Dense(5), shape=(3, 6))


def time_distributed():
    return chain(L.TimeDistributed(L.Dense(4)), L.Flatten(), L.Dense(5), shape=(4, 6))


def normalized(kind, *arguments):
    return lambda: chain(L.Conv2D(6, 3), kind(*arguments), L.Flatten(), L.Dense(5))


def prelu():
    return chain(L.Conv2D(6, 3), L.PReLU(alpha_initializer="uniform"), L.Flatten(), L.Dense(5))


def numbers():
    i = keras.Input((8,))
    return keras.Model(i, L.Dense(5)(ops.clip(ops.abs(L.Dense(6)(i)), 0.1, 0.9)))


def operations_on_tensors():
    i, j = keras.Input((4, 6)), keras.Input((4, 6))
    x, y = L.Dense(8)(i), L.Dense(8)(j)
    scores = ops.matmul(x, ops.transpose(y, (0, 2, 1)))  # (4, 4)
    both = ops.stack([x / (ops.abs(y) + 1.0), L.Average()([x, y])], axis=1)
    flat = L.Concatenate()([L.Flatten()(scores), ops.max(ops.reshape(both, (-1, 8, 8)), axis=-1)])
    return keras.Model([i, j], L.Dense(5)(flat))


def attention():
    i = keras.Input((6, 8))
    return keras.Model(i, L.Dense(5)(L.Flatten()(L.MultiHeadAttention(2, 4)(i, i))))


def normalized_twice():
    """The second normalization's mean is nothing but rounding errors, and its weights are nearly the first's."""
    model = chain(L.Dense(8), L.LayerNormalization(name="a"), L.LayerNormalization(name="b"), L.Dense(5), shape=(8,))
    model.get_layer("b").gamma.assign(np.full(8, 1.0 + 3e-6, "float32"))
    return model


@keras.saving.register_keras_serializable(package="tests")
class Residual(L.Layer):
    """A layer of a user's that the converter melts into the kernel before it."""

    def build(self, shape):
        self.gamma = self.add_weight(shape=(shape[1][-1],), initializer="random_normal")

    def call(self, x):
        return x[0] + x[1] * self.gamma * 0.5


def own_scale_after_a_convolution():
    i = keras.Input(IMAGE)
    x = L.Conv2D(6, 3, padding="same", activation="relu")(i)
    return keras.Model(i, tail(L.ReLU()(Residual()([x, L.Conv2D(6, 3, padding="same")(x)]))))


def odd_names():
    return chain(
        L.Conv2D(4, 3, name="a>b-c", activation="relu"),
        L.Conv2D(4, 3, name="conv.1"),
        L.Flatten(name="t5"),
        L.Dense(5, name="x_grid", activation="softmax"),
        L.Dense(5, name="x_grid_softmax_1"),
        L.Dense(5, name="input_grid_1"),
    )


KINDS = {
    make.__name__: make
    for make in (
        digits_cnn, autoencoder, relu6, max_pool, average_pool, average_pool_of_a_tensor_with_two_readers,
        concatenate, concatenate_of_a_tensor_with_two_readers, concatenate_with_a_softmax,
        zero_padding_and_strides, dropout_between, batchnorm_alone, batchnorm_of_rows, preactivation_residual,
        rescaling, flatten_first, reshapes, two_inputs_and_outputs_in_lists, two_inputs_and_outputs_in_dicts,
        nested, subclassed, shared_layer, shared_tower, conv1d, global_max, transposed_convolution, separable,
        leaky_relu, operations, squeeze_and_excite, sum_of_three, rows_of_rows, dilated_and_grouped, embedding,
        ends_in_a_pool, starts_with_a_relu, relu_beside_its_input, kernel_of_zeros, dead_channels, twin_kernels,
        odd_names, own_scale_after_a_convolution, lstm, gru, time_distributed, prelu, numbers,
        operations_on_tensors, attention, normalized_twice,
    )
} | {f"{name}_inside": activation_inside(name) for name in ("softmax", "sigmoid", "tanh", "relu")} | {
    f"{name}_layer": activation_layer(name) for name in ("silu", "gelu", "elu", "hard_silu", "mish", "selu", "softplus")
} | {
    "layer_norm": normalized(L.LayerNormalization), "rms_norm": normalized(L.RMSNormalization),
    "group_norm": normalized(L.GroupNormalization, 2), "unit_norm": normalized(L.UnitNormalization),
} | {f"up_sampling_{how}": up_sampling(how) for how in ("nearest", "bilinear")}  # fmt: skip

SOME = (
    "digits_cnn", "autoencoder", "two_inputs_and_outputs_in_lists", "two_inputs_and_outputs_in_dicts",
    "subclassed", "shared_layer", "conv1d", "separable", "softmax_inside", "transposed_convolution",
)  # fmt: skip


def build(kind):
    """The model, its biases and moving statistics away from their start, and samples for it."""
    keras.utils.set_random_seed(1)
    model = KINDS[kind]()
    random = np.random.default_rng(3)
    for layer in model._flatten_layers():
        if isinstance(layer, L.BatchNormalization):
            shape = layer.moving_mean.shape
            layer.gamma.assign(random.uniform(0.5, 1.5, shape))
            layer.beta.assign(random.normal(0, 0.3, shape))
            layer.moving_mean.assign(random.normal(0, 0.3, shape))
            layer.moving_variance.assign(random.uniform(0.5, 2.0, shape))
        elif getattr(layer, "bias", None) is not None:
            layer.bias.assign(random.normal(0, 0.2, layer.bias.shape))
    return model, samples(model)


def samples(model):
    """Each input of its own spread and mean, so that a swap shows."""
    random = np.random.default_rng(0)
    spread = iter((1.0, 0.2, 3.0))

    def draw(tensor):
        shape = (SAMPLES, *tensor.shape[1:])
        if not keras.backend.is_float_dtype(tensor.dtype):
            return random.integers(0, 20, shape).astype("int32")
        scale = next(spread)
        return random.normal(scale / 5, scale, shape).astype("float32")

    return keras.tree.map_structure(draw, symbolic_inputs(model))


def litert(path, inputs):
    """Outputs of a file in the plain interpreter, in the file's own order, off their grid."""
    interpreter = Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    given, taken = keras.tree.flatten(inputs), interpreter.get_input_details()
    rows = []
    for i in range(len(given[0])):
        for values, detail in zip(given, taken, strict=True):
            scale, zero = detail["quantization"]
            x = values[i : i + 1]
            if scale:
                limits = np.iinfo(detail["dtype"])
                x = np.clip(np.round(x / np.float32(scale)) + zero, limits.min, limits.max)
            interpreter.set_tensor(detail["index"], x.astype(detail["dtype"]))
        interpreter.invoke()
        rows.append([off_grid(interpreter, detail) for detail in interpreter.get_output_details()])
    return [np.concatenate(column) for column in zip(*rows, strict=True)]


def off_grid(interpreter, detail):
    scale, zero = detail["quantization"]
    values = interpreter.get_tensor(detail["index"]).astype("float32")
    return (values - zero) * np.float32(scale) if scale else values


def relative_error(model, inputs, found):
    """Root mean square distance to the float model over its spread, the worst output's."""
    wanted = simulate(model, inputs)
    return max(float(np.sqrt(np.mean((w - f) ** 2)) / max(w.std(), 1e-3)) for w, f in zip(wanted, found, strict=True))


@pytest.mark.long(quick=2)
@pytest.mark.parametrize("kind", KINDS)
def test_int8(kind, tmp_path):
    model, x = build(kind)
    quantized = kp.quantize(model, "int8", calibration=x, ranges="minmax")
    artifact = kp.export(quantized, tmp_path / "m.tflite", verify=x)

    agree = artifact.agreement
    assert artifact.breaches == () and artifact.notes == ()
    assert agree.argmax >= 0.99 and agree.max_lsb <= 2.0 and agree.samples == SAMPLES
    assert artifact.census.float_ops == () and artifact.census.float_tensors == ()
    assert not {"FLOAT32", "FLOAT16"} & set(artifact.census.tensors)

    found = litert(tmp_path / "m.tflite", x)
    job = make_job(quantized, "int8", None)
    for wanted, got in zip(simulate(job.reference, x), found, strict=True):
        assert wanted.shape == got.shape
        if got.shape[-1] > 1:
            assert (wanted.argmax(-1) == got.argmax(-1)).mean() >= 0.99
    assert relative_error(model, x, found) < 0.2
    assert_on_grids(tmp_path / "m.tflite", job.encodings)


def assert_on_grids(path, encodings):
    """Every scale and zero point that was asked for is in the file, under the name of its site."""
    interpreter = Interpreter(model_path=str(path))
    held = {detail["name"]: detail["quantization_parameters"] for detail in interpreter.get_tensor_details()}
    weights = 0
    for site, encoding in encodings.items():
        name = site.removesuffix("_grid/output") if site not in held else site
        twins = [other for other in held if other in encodings and encodings[other] == encoding]
        assert name in held or twins, f"{site} is not in the file"
        if name in held:
            np.testing.assert_array_equal(held[name]["scales"], np.float32(encoding.scale), err_msg=site)
            np.testing.assert_array_equal(held[name]["zero_points"], encoding.zero_point, err_msg=site)
            weights += site.endswith(("kernel", "embeddings"))
    assert weights > 0


@pytest.mark.long(quick=1)
@pytest.mark.parametrize("io", ["uint8", "float32"])
@pytest.mark.parametrize("kind", ["digits_cnn", "two_inputs_and_outputs_in_lists", "softmax_inside"])
def test_int8_io(kind, io, tmp_path):
    model, x = build(kind)
    artifact = kp.export(model, tmp_path / "m.tflite", quantization="int8", calibration=x, io=io)

    assert artifact.io == io and artifact.breaches == ()
    assert artifact.agreement.max_lsb <= 2.0 and artifact.census.float_ops == ()
    interpreter = Interpreter(model_path=str(tmp_path / "m.tflite"))
    for detail in (*interpreter.get_input_details(), *interpreter.get_output_details()):
        assert detail["dtype"] is np.dtype(io).type
    assert relative_error(model, x, litert(tmp_path / "m.tflite", x)) < 0.2


@pytest.mark.long(quick=4)
@pytest.mark.parametrize(
    ("mode", "error"), [("float", 1e-5), ("float16", 5e-3), ("dynamic_int8", 0.05), ("weight_only_int8", 0.05)]
)
@pytest.mark.parametrize("kind", SOME)
def test_float_modes(kind, mode, error, tmp_path):
    model, x = build(kind)
    artifact = kp.export(model, tmp_path / "m.tflite", quantization=mode, calibration=x)

    assert artifact.breaches == () and artifact.agreement.argmax >= 0.99 and artifact.agreement.max_lsb is None
    assert relative_error(model, x, litert(tmp_path / "m.tflite", x)) < error
    if mode == "dynamic_int8":
        assert artifact.agreement.exact > 0.97  # what happens at run time is in the simulation
    stored = {"float": {"FLOAT32"}, "float16": {"FLOAT16"}}.get(mode, {"INT8"})
    assert {fact.dtype for fact in artifact.sites if fact.site.endswith("kernel")} == stored


def inner_outputs(form):
    """A tensor that is an output of the model and that other layers read."""
    keras.utils.set_random_seed(1)
    i = keras.Input(IMAGE)
    x = L.Conv2D(4, 3, name="x")(i)
    f = L.Flatten()(x)
    y, z = L.Dense(5, name="y")(f), L.Dense(3, name="z")(L.LeakyReLU()(f))
    return keras.Model(i, {"yxz": [y, x, z], "xyz": [x, y, z], "dict": {"q": x, "p": y}, "alone": [f, y]}[form])


@pytest.mark.long(quick=2)
@pytest.mark.parametrize("io", ["int8", "uint8", "float32"])
@pytest.mark.parametrize("form", ["yxz", "xyz", "dict", "alone"])
def test_an_output_that_other_layers_read(form, io, tmp_path):
    model = inner_outputs(form)
    x = samples(model)
    artifact = kp.export(model, tmp_path / "m.tflite", quantization="int8", calibration=x, io=io)

    assert artifact.breaches == () and artifact.agreement.max_lsb <= 2.0
    assert artifact.census.float_ops == artifact.census.float_tensors == ()
    assert relative_error(model, x, litert(tmp_path / "m.tflite", x)) < 0.2


def test_swapped_inputs_would_show(tmp_path):
    model, (a, b) = build("two_inputs_and_outputs_in_lists")
    kp.export(model, tmp_path / "m.tflite", quantization="int8", calibration=[a, b])

    assert relative_error(model, [a, b], litert(tmp_path / "m.tflite", [a, b])) < 0.2
    assert relative_error(model, [a, b], litert(tmp_path / "m.tflite", [b, a])) > 0.5


def test_the_signature_has_the_names_of_the_inputs_and_the_order_of_the_outputs(tmp_path):
    model, x = build("two_inputs_and_outputs_in_lists")
    kp.export(model, tmp_path / "m.tflite", quantization="int8", calibration=x, io="float32")

    run = Interpreter(model_path=str(tmp_path / "m.tflite")).get_signature_runner()
    found = run(zz=x[0][:1], aa=x[1][:1])
    names = model.output_names
    assert [found[name].shape for name in names] == [(1, 3), (1, 4)]
    assert np.abs(found[names[0]] - simulate(model, x)[0][:1]).max() < 0.2


def test_the_same_model_gives_the_same_bytes(tmp_path):
    def made():
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((3,)), L.Dense(2, name="d")], name="m")
        return kp.export(model, tmp_path / "m.tflite", quantization="int8", calibration=np.eye(3)).sha256

    assert made() == made()
    assert Interpreter(model_path=str(tmp_path / "m.tflite")).get_input_details()[0]["name"] == "input"
