"""Frozen graphs with what TF.js can take in them, and the weights that are found there again."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers as L

from kompakt.errors import InputError
from kompakt.sites import sites
from kompakt.targets.tfjs_graph import frozen, owner, unknown_operators
from kompakt.targets.tfjs_links import from_json, named_by_site, to_json
from kompakt.targets.tfjs_rewrite import as_product


def model_of(*layers, shape=(6, 8), dtype="float32"):
    """Layers in a row, with weights that are not those of a beginning."""
    keras.utils.set_random_seed(0)
    i = x = keras.Input(shape, dtype=dtype)
    for layer in layers:
        x = layer(x)
    model = keras.Model(i, x)
    rng = np.random.default_rng(0)
    for weight in model.trainable_weights:
        weight.assign(rng.normal(size=weight.shape))
    return model


def attention():
    i = keras.Input((6, 8))
    return keras.Model(i, L.MultiHeadAttention(2, 4, name="a")(i, i))


MODELS = {
    "dense": lambda: model_of(L.Dense(4, name="d"), L.Dense(4, name="e")),
    "conv1": lambda: model_of(L.Conv1D(4, 3, name="c"), L.DepthwiseConv1D(3, name="dw"), L.SeparableConv1D(4, 2)),
    "conv2": lambda: model_of(
        L.Conv2D(4, 3, name="c"), L.DepthwiseConv2D(3, name="dw"), L.Conv2DTranspose(5, 3, name="t"), shape=(9, 9, 3)
    ),
    "conv3": lambda: model_of(L.Conv3D(4, 2, name="c"), shape=(5, 5, 5, 2)),
    "recurrent": lambda: model_of(L.LSTM(4, return_sequences=True, name="l"), L.Bidirectional(L.GRU(3), name="b")),
    "einsum": lambda: model_of(L.EinsumDense("abc,cde->abde", (None, 3, 4), name="e")),
    "embedding": lambda: model_of(L.Embedding(30, 4, name="e"), shape=(6,), dtype="int32"),
    "attention": attention,
}


@pytest.mark.parametrize("name", MODELS)
def test_every_weight_is_found_in_the_graph_and_reads_back_as_it_was(name):
    model = MODELS[name]()
    graph = frozen(model, None)
    held = named_by_site(graph, model)
    again = from_json(to_json(held), {name: value.size for name, value in graph.constants.items()})
    weights = {site.name: np.asarray(site.variable) for site in sites(model) if site.variable is not None}
    assert set(held) == set(weights) and held == again
    for site, value in weights.items():
        assert np.array_equal(held[site].keras_weight(graph.constants[held[site].weight]), value)
        assert held[site].weight == site
    assert {node.name for node in graph.proto.node if node.op == "Const"} == set(graph.constants)


def test_names_with_signs_that_mean_something_in_a_graph():
    model = model_of(L.Dense(4, name="a>b"))
    graph = frozen(model, None)
    assert named_by_site(graph, model)["a>b/kernel"].weight == "a_b/kernel"


class Refused(L.Layer):
    """One that TensorFlow does not trace."""

    def call(self, inputs):
        if not isinstance(inputs, keras.KerasTensor):
            raise ValueError("not in a graph")
        return inputs

    def compute_output_shape(self, shape):
        return shape


def test_a_model_that_tensorflow_refuses_is_refused_with_its_reason():
    with pytest.raises(InputError, match=r"cannot make a graph of the model .*not in a graph"):
        frozen(model_of(Refused(), shape=(8,)), None)


def test_equal_weights_are_stored_once():
    model = model_of(L.Dense(8, name="a"), L.Dense(8, name="b"))
    model.get_layer("b").set_weights(model.get_layer("a").get_weights())
    graph = frozen(model, None)
    held = named_by_site(graph, model)
    assert held["a/kernel"] == held["b/kernel"] and held["a/kernel"].weight == "a/kernel"
    assert len([value for value in graph.constants.values() if value.shape == (8, 8)]) == 1


def test_a_bias_and_an_activation_go_into_the_operator_before():
    graph = frozen(model_of(L.Conv2D(4, 3, activation="relu"), L.Flatten(), L.Dense(3), shape=(8, 8, 2)), None)
    assert {"_FusedConv2D", "_FusedMatMul"} <= {node.op for node in graph.proto.node}


def test_a_function_that_tfjs_does_not_fuse_stays_beside_it():
    graph = frozen(model_of(L.Dense(4, activation="gelu"), shape=(8,)), None)
    fused = {op for node in graph.proto.node for op in node.attr["fused_ops"].list.s}
    assert fused <= {b"BiasAdd"}


def test_an_operator_that_tfjs_has_not_is_named_with_its_layer():
    i = keras.Input((8,))
    model = keras.Model(i, L.Activation(keras.ops.erfinv, name="inverse")(L.Dense(4, name="d")(i)))
    graph = frozen(model, None)
    lines = unknown_operators(graph, {"Const", "Placeholder", "Identity", "MatMul"}, owner(model))
    assert lines == ["Erfinv of the layer 'inverse'"]


def test_integers_of_64_bits_become_32_where_they_fit():
    i = keras.Input((4,), dtype="int64")
    graph = frozen(keras.Model(i, keras.ops.add(i, np.arange(4))), None)
    assert graph.inputs[0].dtype == graph.outputs[0].dtype == "int32"
    assert {value.dtype.name for value in graph.constants.values()} == {"int32"}


def test_integers_that_do_not_fit_are_refused():
    i = keras.Input((2,), dtype="int64")
    model = keras.Model(i, keras.ops.add(i, np.array([1, 2**40])))
    with pytest.raises(InputError, match=r"has integers up to 1099511627776: TF.js has 32 bits alone"):
        frozen(model, None)


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ({"weight": "k", "order": [0, 0], "shape": [2, 3]}, "of the site 'd/kernel'"),
        ({"weight": "k", "order": [0, 1], "shape": [2, 4]}, "which fits no weight"),
        ({"weight": "no", "order": [0, 1], "shape": [2, 3]}, "which fits no weight"),
        ({"weight": "k", "order": [0, 1], "shape": [-2, -3]}, "which fits no weight"),
        ({"weight": ["k"], "order": [0, 1], "shape": [2, 3]}, "which fits no weight"),
        ({"weight": "k", "order": 3, "shape": [2, 3]}, "which fits no weight"),
        (None, "which fits no weight"),
    ],
)
def test_what_a_file_says_of_its_sites_is_checked(entry, text):
    with pytest.raises(InputError, match=text):
        from_json({"d/kernel": entry}, {"k": 6})


@settings(max_examples=20)
@given(st.permutations("abcd"), st.permutations("abce"), st.permutations("abde"))
def test_an_einsum_is_the_product_it_is_turned_into(left, right, result):
    left, right, result = map("".join, (left, right, result))
    product = as_product(f"{left},{right}->{result}")
    assert product is not None
    sizes = dict(zip("abcde", (2, 3, 4, 5, 6), strict=True))
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=[sizes[axis] for axis in axes]) for axes in (left, right))
    made = (x.transpose(product.left) @ y.transpose(product.right)).transpose(product.result)
    np.testing.assert_allclose(made, np.einsum(f"{left},{right}->{result}", x, y), rtol=1e-12)


@pytest.mark.parametrize(
    "equation", ["ab,bc,cd->ad", "ab,cd->abcd", "abc,bcd->ad", "...a,ab->...b", "aa,ab->ab", "ab,bc->a"]
)
def test_an_einsum_of_another_kind_stays(equation):
    assert as_product(equation) is None
