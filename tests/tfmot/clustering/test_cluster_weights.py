"""What the guides to clustering with tfmot promise, on Keras 3."""

import gzip
import importlib.util
from pathlib import Path

import keras
import numpy as np
import pytest

import kompakt as kp
from kompakt.attach import chains_of
from kompakt.errors import InputError
from kompakt.tfmot import clustering
from kompakt.transforms import Cluster

tfmot = clustering.keras
CentroidInitialization = tfmot.CentroidInitialization


SPEC = importlib.util.spec_from_file_location("nets", Path(__file__).parents[1] / "nets.py")
nets = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(nets)
digits, fitted = nets.digits, nets.fitted


def net(name="net", **conv):
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(12, 3, activation="relu", name="conv", **conv),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dense(10, name="dense"),
        ],
        name=name,
    )


def accuracy(model):
    return float(model.evaluate(*digits(), verbose=0)[1])


@pytest.fixture(scope="module")
def trained():
    keras.utils.set_random_seed(0)
    return fitted(net(), 12)


def distinct(layer):
    return len(np.unique(layer.get_weights()[0]))


@pytest.mark.slow
def test_guide_whole_model(trained, tmp_path):
    """Cluster a trained model, fine-tune, strip: 16 values a layer, a gzip several times smaller, accuracy kept."""
    before = [np.array(w) for w in trained.get_weights()]
    model = tfmot.cluster_weights(trained, number_of_clusters=16, cluster_centroids_init=CentroidInitialization.LINEAR)
    fitted(model, 2, 1e-4, batch_size=100, validation_split=0.1)
    final = tfmot.strip_clustering(model)
    assert [type(layer).__name__ for layer in final.layers] == [type(layer).__name__ for layer in trained.layers]
    assert all(distinct(final.get_layer(name)) <= 16 for name in ("conv", "dense"))
    for mine, was in zip(trained.get_weights(), before, strict=True):
        np.testing.assert_array_equal(mine, was)
    final.compile("adam", trained.loss, metrics=["accuracy"])
    assert accuracy(final) > accuracy(trained) - 0.02
    sizes = []
    for each, name in ((trained, "float"), (final, "clustered")):
        path = tmp_path / f"{name}.tflite"
        kp.export(each, path)
        sizes.append(len(gzip.compress(path.read_bytes())))
    assert sizes[1] < 0.6 * sizes[0]


@pytest.mark.slow
def test_guide_clustered_then_quantized(trained, tmp_path):
    model = fitted(tfmot.cluster_weights(trained, 8), 1, 1e-4)
    final = tfmot.strip_clustering(model)
    made = kp.export(final, tmp_path / "m.tflite", quantization="int8", calibration=digits()[0][:200])
    assert made.distinct <= 8
    assert Path(made.path).stat().st_size < 0.6 * final.count_params() * 4 + 4096


@pytest.mark.parametrize(
    "start", [*CentroidInitialization, "linear", "random", "density-based", "kmeans++", "CentroidInitialization.LINEAR"]
)
def test_starts(start):
    plain = tfmot.strip_clustering(tfmot.cluster_weights(net(), 6, start))
    assert distinct(plain.get_layer("dense")) == 6  # tfmot's density gave some values twice


def test_unknown_start():
    with pytest.raises(InputError, match=r"cluster_centroids_init='liner'.*nearest: 'linear'"):
        tfmot.cluster_weights(net(), 6, "liner")


@pytest.mark.parametrize("number", [1, 2.5, "8"])
def test_bad_number(number):
    with pytest.raises(InputError, match="clusters"):
        tfmot.cluster_weights(net(), number)


def test_some_layers_by_clone_function(trained):
    def only_dense(layer):
        return tfmot.cluster_weights(layer, 5) if isinstance(layer, keras.layers.Dense) else layer

    model = keras.models.clone_model(trained, clone_function=only_dense)
    final = tfmot.strip_clustering(model)
    assert distinct(final.get_layer("dense")) == 5
    assert distinct(final.get_layer("conv")) > 100


@pytest.mark.filterwarnings("ignore:Do not pass an `input_shape`:UserWarning")
def test_new_sequential_of_wrapped_layers():
    model = keras.Sequential(
        [
            tfmot.cluster_weights(keras.layers.Conv2D(6, 3), 4, input_shape=(8, 8, 1)),
            keras.layers.Flatten(),
            *tfmot.cluster_weights([keras.layers.Dense(16, activation="relu"), keras.layers.Dense(10)], 8),
        ]
    )
    final = tfmot.strip_clustering(fitted(model, 1))
    assert [distinct(layer) for layer in final.layers if layer.weights] == [4, 8, 8]


def test_functional():
    x = keras.Input((8, 8, 1))
    y = tfmot.cluster_weights(keras.layers.Conv2D(6, 3, name="c"), 4)(x)
    y = keras.layers.Dense(10, name="d")(keras.layers.Flatten()(y))
    final = tfmot.strip_clustering(fitted(keras.Model(x, y), 1))
    assert (distinct(final.get_layer("c")), distinct(final.get_layer("d")) > 100) == (4, True)


def test_wrapped_layers_are_left():
    model = tfmot.cluster_weights(net(), 4)
    again = tfmot.cluster_weights(model, 9)
    assert distinct(tfmot.strip_clustering(again).get_layer("dense")) == 4
    layer = tfmot.cluster_weights(keras.layers.Dense(3), 4)
    assert tfmot.cluster_weights(layer, 4) is layer


def test_preserve_sparsity():
    model = net()
    kernel = model.get_layer("dense").kernel
    values = keras.ops.convert_to_numpy(kernel).copy()
    values[::2] = 0
    kernel.assign(values)
    kept = tfmot.strip_clustering(fitted(tfmot.cluster_weights(model, 6, preserve_sparsity=True), 1, 1e-2))
    assert (kept.get_layer("dense").get_weights()[0][::2] == 0).all()
    lost = tfmot.strip_clustering(fitted(tfmot.cluster_weights(model, 6), 1, 1e-2))
    assert not (lost.get_layer("dense").get_weights()[0][::2] == 0).all()


@pytest.mark.parametrize("use_bias", [True, False])
def test_per_channel(use_bias):
    """Tfmot's passes over every Conv2D without a bias."""
    model = tfmot.cluster_weights(net(use_bias=use_bias), 3, cluster_per_channel=True)
    final = tfmot.strip_clustering(fitted(model, 1))
    kernel = final.get_layer("conv").get_weights()[0]
    assert max(len(np.unique(kernel[..., c])) for c in range(12)) <= 3 < len(np.unique(kernel))
    assert distinct(final.get_layer("dense")) <= 3


@pytest.mark.parametrize("how", [*tfmot.GradientAggregation, "GradientAggregation.AVG"])
def test_gradient_aggregation(how):
    model = tfmot.cluster_weights(net(), 4, cluster_gradient_aggregation=how)
    expected = "sum" if how is tfmot.GradientAggregation.SUM else "mean"
    assert {t.gradient for _, chain, _ in chains_of(model) for t in chain} == {expected}


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5:UserWarning")
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_checkpoint_under_scope_trains_on(tmp_path, suffix):
    model = fitted(tfmot.cluster_weights(net(), 4), 1)
    model.save(tmp_path / f"m{suffix}")
    with tfmot.cluster_scope():
        # Keras builds the optimizer of a .h5 file for no variables, whatever the model: compiled anew.
        loaded = keras.models.load_model(tmp_path / f"m{suffix}", compile=suffix == ".keras")
    np.testing.assert_array_equal(loaded(digits()[0][:9]), model(digits()[0][:9]))
    if suffix == ".h5":
        loaded.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    loaded.fit(*digits(), verbose=0)
    assert distinct(tfmot.strip_clustering(loaded).get_layer("dense")) <= 4


def test_weights_checkpoint(tmp_path):
    model = fitted(tfmot.cluster_weights(net(), 4), 1)
    model.save_weights(tmp_path / "m.weights.h5")
    other = tfmot.cluster_weights(net(), 4)
    other.load_weights(tmp_path / "m.weights.h5")
    np.testing.assert_array_equal(other(digits()[0][:9]), model(digits()[0][:9]))


def test_depthwise_is_left_and_pointwise_is_not():
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), layers.DepthwiseConv2D(3, name="d"), layers.SeparableConv2D(8, 3, name="s")]
    )
    assert [name for name, _, _ in chains_of(tfmot.cluster_weights(model, 4))] == ["s/pointwise_kernel"]


def test_depthwise_inside_another_layer_is_left_too():
    layers = keras.layers
    inner = layers.TimeDistributed(layers.DepthwiseConv2D(3), name="t")
    model = keras.Sequential([keras.Input((2, 8, 8, 3)), inner, layers.Flatten(), layers.Dense(8, name="d")])
    assert [name for name, _, _ in chains_of(tfmot.cluster_weights(model, 4))] == ["d/kernel"]


@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.LSTM(6, name="r"),
        keras.layers.Bidirectional(keras.layers.GRU(6), name="r"),
        keras.layers.RNN([keras.layers.LSTMCell(4), keras.layers.SimpleRNNCell(5)], name="r"),
    ],
)
def test_recurrent(layer):
    model = keras.Sequential([keras.Input((5, 4)), layer])
    wrapped = tfmot.cluster_weights(model, 4)
    assert len(list(chains_of(wrapped))) >= 2
    final = tfmot.strip_clustering(wrapped)
    assert sum(len(np.unique(w)) == 4 for w in final.get_weights()) >= len(list(chains_of(wrapped)))


class Biased(keras.layers.Dense, tfmot.ClusterableLayer):
    def get_clusterable_weights(self):
        return [("kernel", self.kernel), ("bias", self.bias)]


class Scale(keras.layers.Layer, tfmot.ClusterableLayer):
    """A layer of the user's own, with a weight that no table knows."""

    def build(self, shape):
        self.table = self.add_weight(shape=(shape[-1], 20), name="table")

    def call(self, x):
        return keras.ops.matmul(x, self.table)

    def get_clusterable_weights(self):
        return [("table", self.table)]


class OwnLookUp(Scale):
    def get_clusterable_algorithm(self, weight_name):
        return tfmot.ClusteringAlgorithm


@pytest.mark.parametrize("built", [True, False])
def test_clusterable_layers(built):
    with keras.saving.custom_object_scope({"Biased": Biased, "Scale": Scale}):
        layers = [Scale(name="s"), Biased(10, name="b", bias_initializer="random_normal")]
        if built:
            model = tfmot.cluster_weights(keras.Sequential([keras.Input((8,)), *layers]), 4)
        else:
            model = keras.Sequential([keras.Input((8,)), *tfmot.cluster_weights(layers, 4)])
        assert sorted(name for name, _, _ in chains_of(model)) == ["b/bias", "b/kernel", "s/table"]
        assert [len(np.unique(w)) for w in tfmot.strip_clustering(model).get_weights()] == [4, 4, 4]


def test_own_look_up_is_refused():
    with pytest.raises(InputError, match="get_clusterable_algorithm"):
        tfmot.cluster_weights(keras.Sequential([keras.Input((8,)), OwnLookUp()]), 4)


def test_clusterable_layer_is_abstract():
    class Lazy(keras.layers.Dense, tfmot.ClusterableLayer):
        pass

    with pytest.raises(TypeError, match="get_clusterable_weights"):
        Lazy(3)


def test_pruned_model_that_is_not_stripped_keeps_its_zeros():
    pruned = kp.prune(net(), 0.5, sites="dense/kernel")
    final = tfmot.strip_clustering(fitted(tfmot.cluster_weights(pruned, 5, preserve_sparsity=True), 1))
    kernel = final.get_layer("dense").get_weights()[0]
    assert (kernel == 0).mean() >= 0.5
    assert len(np.unique(kernel)) <= 5


def test_dropout_trains(trained):
    """Tfmot's wrapper keeps training=True from the layer inside."""
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dropout(0.5), keras.layers.Dense(4)])
    clustered = tfmot.cluster_weights(model, 4)
    x = np.ones((2, 64), "float32")
    assert not np.allclose(clustered(x, training=True), clustered(x, training=False))


def test_no_layer_to_cluster():
    with pytest.raises(InputError, match="no layer with weights to cluster"):
        tfmot.cluster_weights(keras.Sequential([keras.Input((8,)), keras.layers.ReLU()]), 4)
    with pytest.raises(InputError, match="expected a Keras model"):
        tfmot.cluster_weights("model", 4)
    with pytest.raises(InputError, match=r"expected a keras\.Model"):
        tfmot.strip_clustering(keras.layers.Dense(3))


@pytest.mark.parametrize(("frequency", "looks"), [("epoch", 3), ("batch", 23), (5, 7)])
def test_summaries(tmp_path, frequency, looks):
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    model = tfmot.cluster_weights(net(), 4)
    watch = tfmot.ClusteringSummaries(log_dir=str(tmp_path), cluster_update_freq=frequency, histogram_freq=1)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = digits()
    model.fit(x[:320], y[:320], epochs=2, verbose=0, callbacks=[watch])
    read = accumulators.EventAccumulator(str(tmp_path), size_guidance={"tensors": 0}).Reload()
    tags = read.Tags()["tensors"]
    assert {"clustering/distinct/conv/kernel", "clustering/distinct/dense/kernel", "fit/loss"} <= set(tags)
    counts = read.Tensors("clustering/distinct/dense/kernel")
    assert all(event.tensor_proto.float_val[0] <= 4 for event in counts)
    assert len(counts) == looks


def test_summaries_say_what_they_leave_out(tmp_path, caplog):
    tfmot.ClusteringSummaries(str(tmp_path), write_graph=True, profile_batch=0)
    assert "write_graph left out" in caplog.text
    with pytest.raises(InputError, match="write_grph"):
        tfmot.ClusteringSummaries(str(tmp_path), write_grph=True)


def test_algorithm_alone():
    known = tfmot.ClusteringAlgorithm(np.array([2.0, -1.0, 0.0], "float32"))
    weight = np.array([[1.9, -3.0], [0.2, 0.9]], "float32")
    index = keras.ops.convert_to_numpy(known.get_pulling_indices(weight))
    assert index.tolist() == [[0, 1], [2, 2]]
    assert keras.ops.convert_to_numpy(known.get_clustered_weight(index, weight)).tolist() == [[2, -1], [0, 0]]


def test_algorithm_takes_the_indices_it_is_given():
    """As tfmot's, also where another centroid is nearer."""
    known = tfmot.ClusteringAlgorithm(np.array([2.0, -1.0, 0.0], "float32"))
    weight, index = np.array([[1.9, -3.0], [0.2, 0.9]], "float32"), np.array([[1, 1], [0, 2]])
    found = keras.ops.convert_to_numpy(known.get_clustered_weight(index, weight))
    assert found.tolist() == [[-1, -1], [2, 0]]


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow's tape")
@pytest.mark.parametrize(("how", "expected"), [("AVG", [30.0, 1.5, 0.0]), ("SUM", [30.0, 3.0, 0.0])])
def test_gradients_of_the_algorithm(how, expected):
    tf = pytest.importorskip("tensorflow")
    centroids, weight = tf.Variable([2.0, -1.0, 0.5]), tf.Variable([1.0, 2.0, 3.0])
    known = tfmot.ClusteringAlgorithm(centroids, tfmot.GradientAggregation[how])
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(known.get_clustered_weight(tf.constant([1, 1, 0]), weight) * [1.0, 2.0, 30.0])
    to_centroids, to_weight = tape.gradient(loss, [centroids, weight])
    assert tf.convert_to_tensor(to_centroids).numpy().tolist() == expected
    assert to_weight.numpy().tolist() == [1.0, 2.0, 30.0]


def test_names():
    assert tfmot.experimental.cluster_weights is tfmot.cluster_weights
    assert tfmot.clusterable_layer.ClusterableLayer is tfmot.ClusterableLayer
    assert isinstance(Cluster(4), Cluster)


def test_summaries_take_the_frequency_of_keras_own(tmp_path):
    tfmot.ClusteringSummaries(log_dir=str(tmp_path), update_freq="epoch")
