"""Techniques one after the other hold in the file: its int8 weights are read here with nothing of kompakt's.

What tfmot loses is in every model: 1x1 kernels (its issue 979 zeroes them all), a layer without zeros among layers
with many (which switches the sparsity of the others off), clusters a channel under a scale a channel (issue 1056),
convolutions without bias before a BatchNormalization, a depthwise kernel, and a softmax at the end.
"""

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from keras import layers as L

import kompakt as kp

X = np.random.default_rng(0).normal(size=(96, 8, 8, 4)).astype("float32")
Y = np.random.default_rng(1).integers(0, 5, 96)
NAMED = ("*conv/kernel", "*depthwise/kernel", "pointwise/*", "head/*")
"""The weights that are worked on; "free" is left alone."""

LAYERS = ("conv", "depthwise", "pointwise", "head")
SHARE = 0.6
VALUES = 5


def parts():
    return [
        L.Conv2D(8, 3, use_bias=False, name="conv"),
        L.BatchNormalization(name="norm"),
        L.ReLU(name="relu"),
        L.DepthwiseConv2D(3, use_bias=False, name="depthwise"),
        L.BatchNormalization(name="norm_2"),
        L.ReLU(name="relu_2"),
        L.Conv2D(12, 1, activation="relu", name="pointwise"),
        L.Conv2D(10, 1, activation="relu", name="free"),
        L.GlobalAveragePooling2D(name="pool"),
        L.Dense(5, activation="softmax", name="head"),
    ]


def sequential():
    return keras.Sequential([keras.Input(X.shape[1:]), *parts()])


def functional():
    """With a second path around the layer that is left alone."""
    i = keras.Input(X.shape[1:])
    conv, norm, relu, depthwise, norm_2, relu_2, pointwise, free, pool, head = parts()
    x = pointwise(relu_2(norm_2(depthwise(relu(norm(conv(i)))))))
    return keras.Model(i, head(pool(L.Concatenate()([free(x), x]))))


def nested():
    i = keras.Input(X.shape[1:])
    stem = keras.Sequential([keras.Input(X.shape[1:]), *parts()[:6]], name="stem")
    x = stem(i)
    for layer in parts()[6:]:
        x = layer(x)
    return keras.Model(i, x)


@keras.saving.register_keras_serializable(package="kompakt_combinations")
class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        for layer in parts():
            setattr(self, layer.name, layer)

    def call(self, x, training=None):
        for name in ("conv", "norm", "relu", "depthwise", "norm_2", "relu_2", "pointwise", "free", "pool", "head"):
            x = getattr(self, name)(x, training=training) if name.startswith("norm") else getattr(self, name)(x)
        return x


def subclassed():
    made = Subclassed()
    made(X[:1])
    return made


def build(make):
    """A model whose BatchNormalizations have something to fold."""
    keras.utils.set_random_seed(1)
    made, random = make(), np.random.default_rng(2)
    for layer in made._flatten_layers():
        if isinstance(layer, L.BatchNormalization):
            layer.gamma.assign(random.uniform(0.5, 1.5, 8))
            layer.moving_mean.assign(random.normal(0, 0.3, 8))
            layer.moving_variance.assign(random.uniform(0.5, 2.0, 8))
    return made


def prune(model):
    return kp.prune(model, SHARE, sites=NAMED)


def cluster(model, **options):
    return kp.cluster(model, VALUES, sites=NAMED, **options)


def train(model, *, eagerly=False):
    """Quantization-aware training, in which every kernel and codebook moves; eagerly it costs a third of the time."""
    quantized = kp.quantize(model, "int8", calibration=X)
    before = [keras.ops.convert_to_numpy(v) for v in quantized.trainable_variables]
    quantized.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", run_eagerly=eagerly)
    quantized.fit(X, Y, epochs=2, batch_size=32, verbose=0, callbacks=[kp.callbacks.Update()])
    after = [keras.ops.convert_to_numpy(v) for v in quantized.trainable_variables]
    assert not any(np.array_equal(old, new) for old, new in zip(before, after, strict=True))
    return quantized


def int8_weights(path):
    """Layer -> its int8 kernel, a row an output channel, read out of the flatbuffer."""
    file = schema.Model.GetRootAs(path.read_bytes(), 0)
    graph, found = file.Subgraphs(0), {}
    for i in range(graph.TensorsLength()):
        tensor = graph.Tensors(i)
        data = file.Buffers(tensor.Buffer()).DataAsNumpy()
        if tensor.Type() == schema.TensorType.INT8 and not np.isscalar(data) and tensor.ShapeLength() > 1:
            grid = tensor.Quantization()
            kernel = data.view("int8").reshape(tensor.ShapeAsNumpy())
            rows = np.moveaxis(kernel, grid.QuantizedDimension(), 0)
            assert grid.ScaleLength() == len(rows) and not grid.ZeroPointAsNumpy().any()
            found[tensor.Name().decode().split("/")[0]] = rows.reshape(len(rows), -1)
    return found


def check(artifact, path, *, zeros, values):
    """The file by our own reading, and the Artifact by the file."""
    stored = int8_weights(path)
    facts = {fact.site.split("/")[0]: fact for fact in artifact.sites}
    assert artifact.breaches == () and set(facts) == set(stored) == {*LAYERS, "free"}
    for layer, kernel in stored.items():
        fact = facts[layer]
        assert (fact.dtype, fact.size, fact.zeros) == ("INT8", kernel.size, (kernel == 0).sum())
        assert fact.distinct == max(len(np.unique(row)) for row in kernel)
    for layer in LAYERS:
        fact, asked = facts[layer], int(SHARE * facts[layer].size + 0.5) if zeros else None
        assert fact.asked_zeros == asked
        if zeros:
            assert asked <= fact.zeros <= asked + 0.15 * fact.size, layer  # some are rounded to zero, not all
        assert fact.asked_palette is None or fact.distinct <= fact.asked_palette <= VALUES, layer
        assert (fact.asked_palette is not None) == values
    assert (facts["free"].asked_zeros, facts["free"].asked_palette) == (None, None)
    assert facts["free"].distinct > VALUES and facts["free"].zeros < 0.1 * facts["free"].size


@pytest.mark.parametrize("make", [sequential, functional, nested, subclassed])
def test_pruned_and_clustered_then_trained_quantized(make, tmp_path):
    path = tmp_path / "m.tflite"
    check(kp.export(train(cluster(prune(build(make)))), path, verify=X), path, zeros=True, values=True)


@pytest.mark.parametrize(
    ("prepare", "zeros", "values"),
    [
        (prune, True, False),
        (cluster, False, True),
        (lambda model: cluster(model, per_channel=True), False, True),
        (lambda model: cluster(prune(model), per_channel=True), True, True),
    ],
    ids=["prune", "cluster", "cluster a channel", "prune and cluster a channel"],
)
def test_one_after_the_other_then_trained_quantized(prepare, zeros, values, tmp_path):
    path = tmp_path / "m.tflite"
    trained = train(prepare(build(functional)), eagerly=True)
    check(kp.export(trained, path, verify=X), path, zeros=zeros, values=values)


def test_pruned_and_clustered_then_quantized_without_training(tmp_path):
    path, start = tmp_path / "m.tflite", cluster(prune(build(functional)))
    check(kp.export(start, path, quantization="int8", calibration=X), path, zeros=True, values=True)


@keras.saving.register_keras_serializable(package="kompakt_combinations")
class Residual(L.Layer):
    """A layer of layers: its file has a tensor for each of its own, not one for the whole."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.conv, self.norm = L.Conv2D(8, 3, padding="same", use_bias=False), L.BatchNormalization()

    def build(self, shape):
        self.conv.build(shape)
        self.norm.build(shape)

    def call(self, x, training=None):
        return keras.ops.relu(x + self.norm(self.conv(x), training=training))


def test_layers_of_layers_keep_their_zeros(tmp_path):
    keras.utils.set_random_seed(1)
    i = keras.Input(X.shape[1:])
    x = Residual(name="second")(Residual(name="first")(L.Conv2D(8, 3, name="stem")(i)))
    model = keras.Model(i, L.Dense(4, name="head")(L.GlobalAveragePooling2D()(x)))
    pruned = kp.prune(model, SHARE, sites="*/conv/kernel")
    artifact = kp.export(pruned, tmp_path / "m.tflite", quantization="int8", calibration=X)
    facts = [fact for fact in artifact.sites if fact.asked_zeros]
    assert len(facts) == 2 and all(fact.dtype == "INT8" and fact.zeros >= SHARE * fact.size for fact in facts)
    assert [fact.site.split("_")[0] for fact in facts] == ["first", "second"]
    assert artifact.agreement.max_lsb == 0.0 and not artifact.census.float_ops
