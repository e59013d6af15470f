"""Which weights are pruned, in what models and layers, and how."""

import keras
import numpy as np
import pytest
from keras import layers

import kompakt as kp
from kompakt.attach import chains_of
from kompakt.errors import InputError
from kompakt.tfmot import sparsity as pruning

tfmot = pruning.keras
NOW = tfmot.ConstantSparsity(0.5, 0)


def share(array):
    return float((np.asarray(array) == 0).mean())


def zeros(model):
    """Path of a tensor -> its share of zeros, of those that have some."""
    return {
        f"{layer.name}/{i}": share(w) for layer in model.layers for i, w in enumerate(layer.get_weights()) if share(w)
    }


def data(model):
    rng = np.random.default_rng(0)
    return rng.normal(size=(8, *model.input_shape[1:])).astype("float32")


KINDS = [
    (layers.Dense(6), (4,), {"kernel"}),
    (layers.Conv1D(4, 3), (8, 2), {"kernel"}),
    (layers.Conv2DTranspose(4, 3), (8, 8, 2), {"kernel"}),
    (layers.SeparableConv2D(4, 3), (8, 8, 2), {"pointwise_kernel"}),
    (layers.Embedding(10, 4), (5,), {"embeddings"}),
    (layers.LSTM(4), (5, 3), {"cell/kernel", "cell/recurrent_kernel"}),
]


@pytest.mark.parametrize(("layer", "shape", "slots"), KINDS, ids=lambda each: getattr(each, "name", ""))
def test_tensors_that_tfmot_prunes(layer, shape, slots):
    model = keras.Sequential([keras.Input(shape), layer])
    pruned = tfmot.prune_low_magnitude(model)
    assert {name.removeprefix(f"{layer.name}/") for name, _, _ in chains_of(pruned)} == slots


def test_depthwise_kernels_and_norms_are_left():
    inputs = keras.Input((8, 8, 4))
    x = layers.BatchNormalization()(layers.DepthwiseConv2D(3, name="d")(inputs))
    model = keras.Model(inputs, layers.Conv2D(2, 1, name="c")(x))
    assert [name for name, _, _ in chains_of(tfmot.prune_low_magnitude(model))] == ["c/kernel"]


def nested():
    inner = keras.Sequential([keras.Input((8,)), layers.Dense(8, name="a")], name="inner")
    inputs = keras.Input((8,))
    return keras.Model(inputs, layers.Dense(4, name="b")(inner(inputs)))


@keras.saving.register_keras_serializable(package="test_tfmot_sparsity")
class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.a, self.b = layers.Dense(8), layers.Dense(4)

    def call(self, x):
        return self.b(self.a(x))


def subclassed():
    model = Subclassed()
    model(np.zeros((1, 8), "float32"))
    return model


@pytest.mark.parametrize("made", [nested, subclassed])
def test_nested_and_subclassed_models(made):
    model = made()
    before = [np.array(w) for w in model.get_weights()]
    pruned = tfmot.prune_low_magnitude(model, NOW)
    pruned.compile("sgd", "mse")
    pruned.fit(np.ones((8, 8)), np.ones((8, 4)), verbose=0, callbacks=[tfmot.UpdatePruningStep()])
    plain = tfmot.strip_pruning(pruned)
    assert [share(w) for w in plain.get_weights() if w.ndim == 2] == [0.5, 0.5]
    assert type(plain) is type(model)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_list_of_layers_some_pruned_already():
    first = tfmot.prune_low_magnitude(layers.Dense(8, name="a"), tfmot.ConstantSparsity(0.25, 0))
    given = [keras.layers.InputLayer(shape=(8,)), first, layers.ReLU(), layers.Dense(4, name="b")]
    made = tfmot.prune_low_magnitude(given)
    assert made[0] is given[0] and made[1] is first
    assert zeros(tfmot.strip_pruning(keras.Sequential(made))) == pytest.approx(
        {"a/0": 0.25, "b/0": 0.5, "a/1": 1, "b/1": 1}
    )


@pytest.mark.filterwarnings("ignore:Do not pass an `input_shape`:UserWarning")
@pytest.mark.parametrize("outside", [True, False])
def test_input_shape_of_the_first_layer(outside):
    given = {"input_shape": (8,)}
    layer = layers.Dense(4, name="a", **({} if outside else given))
    model = keras.Sequential([tfmot.prune_low_magnitude(layer, **(given if outside else {}))])
    assert model.built and share(tfmot.strip_pruning(model).get_weights()[0]) == 0.5


@pytest.mark.filterwarnings("ignore:Do not pass an `input_shape`:UserWarning")
def test_sequential_with_input_shape_as_in_the_docs():
    model = tfmot.prune_low_magnitude(
        keras.Sequential([layers.Dense(10, activation="relu", input_shape=(20,)), layers.Dense(2)])
    )
    assert len(list(chains_of(model))) == 2


def test_pruned_model_is_left_and_the_rest_pruned():
    model = keras.Sequential([keras.Input((8,)), tfmot.prune_low_magnitude(layers.Dense(8, name="a")), layers.Dense(4)])
    again = tfmot.prune_low_magnitude(model, tfmot.ConstantSparsity(0.75, 0))
    assert [share(w) for w in tfmot.strip_pruning(again).get_weights()[::2]] == [0.5, 0.75]


class Biased(layers.Dense, tfmot.PrunableLayer):
    def get_prunable_weights(self):
        return [self.kernel, self.bias]


class OnlyBias(layers.Dense, tfmot.PrunableLayer):
    def get_prunable_weights(self):
        return [self.bias]


class Block(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = OnlyBias(4, bias_initializer="random_normal")

    def build(self, shape):
        self.dense.build(shape)

    def call(self, x):
        return self.dense(x)


@pytest.mark.parametrize(
    ("kind", "expected"), [(Biased, {"kernel", "bias"}), (OnlyBias, {"bias"}), (Block, {"dense/bias"})]
)
def test_prunable_layer(tmp_path, kind, expected):
    options = {} if kind is Block else {"units": 4, "bias_initializer": "random_normal"}
    model = keras.Sequential([keras.Input((4,)), kind(name="a", **options)])
    pruned = tfmot.prune_low_magnitude(model)
    assert {name.removeprefix("a/") for name, _, _ in chains_of(pruned)} == expected
    weights = dict(zip(("kernel", "bias"), tfmot.strip_pruning(pruned).get_weights(), strict=True))
    assert {name for name, w in weights.items() if share(w) == 0.5} == {name.split("/")[-1] for name in expected}
    pruned.save(tmp_path / "m.keras")
    with tfmot.prune_scope(), keras.saving.custom_object_scope({each.__name__: each for each in (kind, OnlyBias)}):
        again = keras.models.load_model(tmp_path / "m.keras")
        np.testing.assert_array_equal(again(data(model)), pruned(data(model)))


def test_layer_that_names_weights_and_is_no_prunable_layer():
    class Named(layers.Dense):
        def get_prunable_weights(self):
            return [self.bias]

    with pytest.raises(InputError, match="is no PrunableLayer: write class Named"):
        tfmot.prune_low_magnitude(keras.Sequential([keras.Input((4,)), Named(4)]))


@pytest.mark.parametrize("pooling", ["AVG", "MAX"])
@pytest.mark.parametrize("layer", [layers.Dense(6, use_bias=False), layers.Embedding(8, 6)], ids=["dense", "embedding"])
def test_blocks_are_rows_by_columns_of_the_keras_weight(layer, pooling):
    model = keras.Sequential([keras.Input((8,)), layer])
    kernel = np.array(layer.get_weights()[0])
    pruned = tfmot.prune_low_magnitude(model, block_size=(4, 1), block_pooling_type=pooling)
    found = tfmot.strip_pruning(pruned).get_weights()[0].reshape(2, 4, 6)
    weighed = np.abs(kernel).reshape(2, 4, 6)
    weighed = weighed.mean(1) if pooling == "AVG" else weighed.max(1)
    kept = weighed >= np.sort(weighed.ravel())[6]
    np.testing.assert_array_equal((found != 0), np.broadcast_to(kept[:, None], found.shape))


def test_blocks_at_the_edge():
    model = keras.Sequential([keras.Input((5,)), layers.Dense(3, use_bias=False)])
    pruned = tfmot.prune_low_magnitude(model, block_size=(2, 2), block_pooling_type="MAX")
    kernel = tfmot.strip_pruning(pruned).get_weights()[0]
    tiles = [kernel[i : i + 2, j : j + 2] for i in (0, 2, 4) for j in (0, 2)]
    assert sorted(share(tile) for tile in tiles) == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"block_pooling_type": "SUM"}, "expected 'AVG' or 'MAX'"),
        ({"block_size": (2,)}, r"block_size \(2,\): expected two whole numbers"),
        ({"block_size": (2, 2), "sparsity_m_by_n": (2, 4)}, "exclude each other"),
        ({"sparsity_m_by_n": 2}, "sparsity_m_by_n 2: expected two whole numbers"),
        ({"sparsity_m_by_n": (4, 4)}, "expected 0 < n < m"),
        ({"sparsity_m_by_n": (2, 4), "pruning_schedule": tfmot.ConstantSparsity(0.8, 0)}, "masks a share of 0.5"),
        ({"pruning_schedule": 0.5}, "expected a PruningSchedule"),
        ({"pruning_policy": "xnnpack"}, "expected a PruningPolicy"),
    ],
)
def test_what_is_refused(options, text):
    with pytest.raises(InputError, match=text):
        tfmot.prune_low_magnitude(nested(), **options)


def test_one_of_four_has_its_share_by_itself():
    plain = tfmot.strip_pruning(tfmot.prune_low_magnitude(nested(), sparsity_m_by_n=(1, 4)))
    assert share(plain.get_layer("b").get_weights()[0]) == 0.25


@pytest.mark.parametrize("given", [3, "model", None])
def test_what_is_no_layer(given):
    with pytest.raises(InputError, match="expected a Keras model, a layer or a list"):
        tfmot.prune_low_magnitude(given)


def test_nothing_to_prune():
    with pytest.raises(InputError, match="no layer with weights to prune"):
        tfmot.prune_low_magnitude(keras.Sequential([keras.Input((4,)), layers.ReLU()]))


def test_weights_that_are_no_numbers():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2, name="a")])
    model.set_weights([np.full((4, 2), np.nan, "float32"), np.zeros(2)])
    with pytest.raises(InputError, match="a/kernel: 8 of 8 values are NaN"):
        tfmot.prune_low_magnitude(model)


class Never(tfmot.PruningPolicy):
    def allow_pruning(self, layer):
        return False

    def ensure_model_supports_pruning(self, model):
        if len(model.layers) > 3:
            raise ValueError("too deep")


def test_policy_of_ones_own():
    with pytest.raises(InputError, match="no layer with weights"):
        tfmot.prune_low_magnitude(nested(), pruning_policy=Never())
    deep = keras.Sequential([keras.Input((4,)), *[layers.Dense(4) for _ in range(4)]])
    with pytest.raises(ValueError, match="too deep"):
        tfmot.prune_low_magnitude(deep, pruning_policy=Never())
    layer = layers.Dense(4)
    assert tfmot.prune_low_magnitude(layer, pruning_policy=Never()) is layer


def test_ties_are_masked_exactly():
    model = keras.Sequential([keras.Input((10,)), layers.Dense(10, use_bias=False, kernel_initializer="ones")])
    assert (
        share(tfmot.strip_pruning(tfmot.prune_low_magnitude(model, tfmot.ConstantSparsity(0.37, 0))).get_weights()[0])
        == 0.37
    )


def test_training_without_the_callback_is_an_error():
    model = tfmot.prune_low_magnitude(nested(), NOW)
    model.compile("sgd", "mse")
    with pytest.raises(InputError, match=r"callbacks=\[tfmot.sparsity.keras.UpdatePruningStep\(\)\]"):
        model.fit(np.ones((8, 8)), np.ones((8, 4)), verbose=0)


def test_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = keras.Sequential([keras.Input((8,)), layers.Dense(8), layers.Dense(4)])
        pruned = tfmot.prune_low_magnitude(model, NOW)
        pruned.compile("sgd", "mse")
        pruned.fit(np.ones((8, 8)), np.ones((8, 4)), verbose=0, callbacks=[tfmot.UpdatePruningStep()])
    finally:
        keras.config.set_dtype_policy("float32")
    assert [share(w) for w in tfmot.strip_pruning(pruned).get_weights()[::2]] == [0.5, 0.5]


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_several_tensors_of_a_layer_are_saved(tmp_path, suffix):
    model = tfmot.prune_low_magnitude(keras.Sequential([keras.Input((5, 3)), layers.LSTM(4, name="r")]))
    model.save(tmp_path / f"m{suffix}")
    with tfmot.prune_scope():
        again = keras.models.load_model(tmp_path / f"m{suffix}")
    np.testing.assert_array_equal(again(data(model)), model(data(model)))
    for a, b in zip(tfmot.strip_pruning(model).get_weights(), tfmot.strip_pruning(again).get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_kompakt_does_next():
    clustered = kp.cluster(tfmot.prune_low_magnitude(nested(), NOW), 4)
    assert all(share(w) >= 0.5 for w in kp.finalize(clustered)[0].get_weights() if w.ndim == 2)
