"""Names of tensors in every form of model, their channel axes, and what is said of a name that is wrong."""

import math

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

from kompakt.errors import InputError
from kompakt.sites import TABLE, check_built, is_graph, match, sites, units, weight_slots
from kompakt.spelling import nearest


class Block(L.Layer):
    """A user's layer with layers in an attribute, a private one, a list and a dict."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first = L.Dense(4)
        self._hidden = L.Dense(4)
        self.rest = [L.Dense(4), L.ReLU(), L.Dense(4)]
        self.heads = {"a": L.Dense(4), "b": L.Dense(4)}

    def call(self, x):
        for layer in (self.first, self._hidden, *self.rest):
            x = layer(x)
        return self.heads["a"](x) + self.heads["b"](x)


class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.block = Block()
        self.inner = keras.Sequential([keras.Input((4,)), L.Dense(3, name="deep"), L.ReLU()])
        self.head = L.Dense(2)

    def call(self, x):
        return self.head(self.inner(self.block(x)))


BLOCK = ["first/kernel", "hidden/kernel", "rest/0/kernel", "rest/2/kernel", "heads/a/kernel", "heads/b/kernel"]


def names(model):
    return [site.name for site in sites(model)]


def functional(*made, shape=(6, 4)):
    x = inputs = keras.Input(shape)
    for layer in made:
        x = layer(x)
    return keras.Model(inputs, x)


# Names


def test_sequential():
    model = keras.Sequential([keras.Input((4,)), L.Dense(3, name="a"), L.ReLU(name="b"), L.Dense(2, name="c")])
    assert names(model) == ["a/kernel", "a/output", "b/output", "c/kernel", "c/output"]


def test_functional_and_shared():
    i, shared = keras.Input((4,)), L.Dense(4, name="shared")
    x = L.Add(name="add")([shared(i), shared(shared(i))])
    assert names(keras.Model(i, x)) == ["shared/kernel", "shared/output", "add/output"]


def test_nested_models_by_path_and_a_shared_one_once():
    def inner(name):
        return keras.Sequential([keras.Input((4,)), L.Dense(4, name="d")], name=name)

    one, two, i = inner("one"), inner("two"), keras.Input((4,))
    middle = keras.Model(i, two(one(i)), name="middle")
    j = keras.Input((4,))
    model = keras.Model(j, L.Dense(2, name="d")(one(middle(j))))
    assert names(model) == [
        "middle/one/d/kernel",
        "middle/one/d/output",
        "middle/two/d/kernel",
        "middle/two/d/output",
        "d/kernel",
        "d/output",
    ]


def test_subclassed_models_by_attribute():
    model = Subclassed()
    model(np.zeros((1, 4), "float32"))
    expected = [*(f"block/{name}" for name in BLOCK), "inner/0/kernel", "head/kernel", "output"]
    assert sorted(names(model)) == sorted(expected)
    assert list(units(model)) == [""]


def test_names_of_a_subclassed_model_do_not_change_from_copy_to_copy():
    models = [Subclassed(), Subclassed()]
    for model in models:
        model(np.zeros((1, 4), "float32"))
    assert names(models[0]) == names(models[1])
    assert models[0].head.name != models[1].head.name  # Keras' own names do


def test_a_users_layer_inside_a_functional_model():
    model = functional(Block(name="block"), L.Dense(2, name="head"), shape=(4,))
    assert sorted(names(model)) == sorted(
        [*(f"block/{name}" for name in BLOCK), "block/output", "head/kernel", "head/output"]
    )


@pytest.mark.parametrize(
    ("layer", "slots"),
    [
        (
            lambda: L.Bidirectional(L.GRU(3), name="u"),
            [f"{way}_layer/cell/{name}" for way in ("forward", "backward") for name in ("kernel", "recurrent_kernel")],
        ),
        (lambda: L.TimeDistributed(L.Dense(3), name="u"), ["layer/kernel"]),
        (
            lambda: L.RNN([L.SimpleRNNCell(3), L.LSTMCell(2)], name="u"),
            [f"cell/cells/{i}/{name}" for i in (0, 1) for name in ("kernel", "recurrent_kernel")],
        ),
        (lambda: L.SeparableConv1D(3, 2, name="u"), ["depthwise_kernel", "pointwise_kernel"]),
    ],
    ids=["bidirectional", "time distributed", "stacked cells", "separable"],
)
def test_layers_inside_layers(layer, slots):
    assert names(functional(layer())) == [*(f"u/{slot}" for slot in slots), "u/output"]


def test_attention():
    i = keras.Input((6, 4))
    model = keras.Model(i, L.MultiHeadAttention(2, 3, name="mha")(i, i))
    kernels = [f"mha/{part}_dense/kernel" for part in ("query", "key", "value", "output")]
    assert names(model) == [*kernels, "mha/output"]


def test_a_site_knows_its_layer_variable_and_axes():
    layer = L.Conv1D(5, 2, name="c")
    kernel, output = sites(functional(layer))
    assert kernel.layer is layer and kernel.variable is layer.kernel
    assert (kernel.unit, kernel.slot, kernel.axis) == ("c", "kernel", (-1,))
    assert output.variable is None and (output.slot, output.axis) == ("output", ())


def test_a_wrapped_layer_has_the_sites_of_the_one_inside():
    import kompakt as kp

    model = functional(L.Conv1D(5, 2, name="c"), L.Dense(2, name="d"))
    assert names(kp.prune(model, 0.5)) == names(model)


# Channel axes

LAYERS = {
    L.Dense: (lambda: L.Dense(5), (4,)),
    L.EinsumDense: (lambda: L.EinsumDense("abc,cde->abde", (None, 2, 3)), (6, 4)),
    L.Conv1D: (lambda: L.Conv1D(5, 2), (6, 4)),
    L.Conv2D: (lambda: L.Conv2D(6, 2, groups=2), (6, 6, 4)),
    L.Conv3D: (lambda: L.Conv3D(5, 2), (4, 4, 4, 2)),
    L.Conv1DTranspose: (lambda: L.Conv1DTranspose(5, 2), (6, 4)),
    L.Conv2DTranspose: (lambda: L.Conv2DTranspose(5, 2), (6, 6, 4)),
    L.Conv3DTranspose: (lambda: L.Conv3DTranspose(5, 2), (4, 4, 4, 2)),
    L.DepthwiseConv1D: (lambda: L.DepthwiseConv1D(2, depth_multiplier=3), (6, 4)),
    L.DepthwiseConv2D: (lambda: L.DepthwiseConv2D(2, depth_multiplier=3), (6, 6, 4)),
    L.SeparableConv1D: (lambda: L.SeparableConv1D(5, 2), (6, 4)),
    L.SeparableConv2D: (lambda: L.SeparableConv2D(5, 2), (6, 6, 4)),
}


@pytest.mark.parametrize("kind", LAYERS, ids=lambda kind: kind.__name__)
def test_a_factor_for_each_channel_of_the_kernel_comes_out_as_one_for_each_channel_of_the_output(kind):
    """What makes an axis a channel axis: a scale along it can be taken out of the sum."""
    make, shape = LAYERS[kind]
    keras.utils.set_random_seed(0)
    layer, x = make(), np.random.default_rng(0).normal(size=(2, *shape)).astype("float32")
    before = ops.convert_to_numpy(layer(x))
    _, kernel, axis = list(weight_slots(layer).values())[-1]
    kept = sorted(a % len(kernel.shape) for a in axis)
    count = math.prod(kernel.shape[a] for a in kept)
    factors = np.arange(1.0, count + 1)
    along = factors.reshape([n if a in kept else 1 for a, n in enumerate(kernel.shape)])
    kernel.assign(ops.convert_to_numpy(kernel) * along)

    after = ops.convert_to_numpy(layer(x))
    flat = (-1, count)
    np.testing.assert_allclose(after.reshape(flat), before.reshape(flat) * factors, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("equation", "shape", "output_shape", "axis"),
    [
        ("ab,bc->ac", (4,), (3,), (-1,)),
        ("abc,cd->abd", (6, 4), (None, 3), (-1,)),
        ("abcd,cde->abe", (6, 2, 4), (None, 3), (-1,)),
        ("abc,dec->abde", (6, 4), (None, 2, 3), (-3, -2)),
        ("...c,cd->...d", (6, 4), (3,), (-1,)),
    ],
)
def test_einsum_axes_are_those_that_only_the_kernel_has(equation, shape, output_shape, axis):
    layer = L.EinsumDense(equation, output_shape)
    layer.build((None, *shape))
    assert weight_slots(layer)["kernel"][2] == axis


def test_every_row_of_the_table_is_looked_at():
    cells = {L.LSTMCell: 4, L.GRUCell: 3, L.SimpleRNNCell: 1}
    for kind, gates in cells.items():
        cell = kind(5)
        cell.build((None, 4))
        found = {slot: (tuple(v.shape), axis) for slot, (_, v, axis) in weight_slots(cell).items()}
        assert found == {"kernel": ((4, 5 * gates), (-1,)), "recurrent_kernel": ((5, 5 * gates), (-1,))}
    embedding = L.Embedding(7, 3)
    embedding.build((None,))
    assert weight_slots(embedding)["embeddings"][2] == ()  # one scale: rows are looked up, not summed
    assert set(TABLE) == {*LAYERS, *cells, L.Embedding}


# Errors


def test_what_is_not_a_built_model():
    for given, text in [
        ("m.keras", "received the path 'm.keras', expected a keras.Model: kompakt.load_model reads the file"),
        (L.Dense(2), "received Dense, expected a keras.Model"),
        (
            keras.Sequential([L.Dense(2)], name="raw"),
            "the model 'raw' has no weights yet: call it once on data, or give it an Input",
        ),
    ]:
        with pytest.raises(InputError) as caught:
            check_built(given)
        assert str(caught.value) == text
        with pytest.raises(InputError) as caught:
            list(sites(given))
        assert str(caught.value) == text


def test_is_graph():
    assert is_graph(functional(L.Dense(2))) and is_graph(keras.Sequential([keras.Input((4,)), L.Dense(2)]))
    assert not is_graph(Subclassed()) and not is_graph(L.Dense(2))


KNOWN = ["conv1/kernel", "conv2/kernel", "block/dense/kernel"]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*", KNOWN),
        ("conv*", KNOWN[:2]),
        ("*/kernel", KNOWN),
        ("conv[2-9]/kernel", KNOWN[1:2]),
        ("block/dense/kernel", KNOWN[2:]),
    ],
)
def test_match(pattern, found):
    assert match(pattern, iter(KNOWN)) == found


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("conv3/kernel", "no site matches 'conv3/kernel'; nearest: 'conv2/kernel'"),
        ("Conv1/kernel", "no site matches 'Conv1/kernel'; nearest: 'conv1/kernel'"),
        ("xyz", "no site matches 'xyz'; known: block/dense/kernel, conv1/kernel, conv2/kernel"),
        ("", "no site matches ''; known: block/dense/kernel, conv1/kernel, conv2/kernel"),
    ],
)
def test_a_pattern_that_matches_nothing(pattern, text):
    with pytest.raises(InputError) as caught:
        match(pattern, KNOWN)
    assert str(caught.value) == text


def test_nearest_lists_no_more_than_eight():
    assert nearest("qat", ["qat_int8", "pqat_int8"]) == "; nearest: 'qat_int8'"
    assert nearest("?", list("jihgfedcba")) == "; known: a, b, c, d, e, f, g, h, ..."
    assert nearest("?", list("hgfedcba")) == "; known: a, b, c, d, e, f, g, h"


@pytest.mark.parametrize("name", ["prune", "cluster"])
def test_the_techniques_name_the_nearest_site(name):
    import kompakt as kp

    model = functional(L.Dense(3, name="first"), L.Dense(2, name="second"))
    with pytest.raises(InputError) as caught:
        getattr(kp, name)(model, 0.5 if name == "prune" else 4, sites="frist/kernel")
    assert str(caught.value) == "no site matches 'frist/kernel'; nearest: 'first/kernel'"


def test_attach_names_the_nearest_site():
    import kompakt as kp
    from kompakt.transforms import Prune

    model = functional(L.Dense(3, name="first"))
    with pytest.raises(InputError) as caught:
        kp.attach(model, {"first/kernle": [Prune(0.5)]})
    assert str(caught.value) == "no site 'first/kernle'; nearest: 'first/kernel'"


def test_a_compiled_subclassed_model_has_the_same_sites():
    model = Subclassed()
    model(np.zeros((2, 4)))
    before = names(model)
    model.compile("adam", "mse")
    assert names(model) == before and f"block/{BLOCK[0]}" in before
