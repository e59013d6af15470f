"""Nested and subclassed models become one flat graph."""

import keras
import numpy as np
import pytest
from keras import layers as L

from kompakt.errors import InputError
from kompakt.rewrite.inline import inline


def names(model):
    return [layer.name for layer in model.layers if not isinstance(layer, L.InputLayer)]


def part(name, units=4):
    return keras.Sequential([keras.Input((4,)), L.Dense(units, name="d"), L.ReLU(name="r")], name=name)


def flat(model):
    return inline(model)[0]


class Own(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first = L.Dense(3, activation="relu", name="first")
        self.inner = keras.Sequential([keras.Input((3,)), L.Dense(3, name="deep")], name="inner")

    def call(self, x, training=None):
        return self.inner(self.first(x)) + 1.0


def test_a_flat_model_keeps_its_names(rewritten):
    i = keras.Input((4,), name="given")
    model = keras.Model(i, L.Dense(2, name="b")(L.Dense(3, name="a")(i)), name="m")
    new = rewritten(model, flat, flatten=False)
    assert names(new) == ["a", "b"] and new.name == "m" and new.inputs[0].name == "given"


def test_nested_models_are_entered_and_names_that_clash_get_their_path(rewritten):
    i = keras.Input((4,))
    middle = keras.Model(i, part("two")(part("one")(i)), name="middle")
    j = keras.Input((4,))
    model = keras.Model(j, L.Dense(2, name="d")(middle(j)))
    found = names(rewritten(model, flat, flatten=False))
    assert found == ["d", "r", "middle_two_d", "middle_two_r", "d_2"]


def test_a_model_that_is_called_twice_stays_shared(rewritten):
    shared, i = part("shared"), keras.Input((4,))
    new = rewritten(keras.Model(i, shared(shared(i))), flat, flatten=False)
    assert names(new) == ["d", "r"]
    assert len(new.get_layer("d")._inbound_nodes) == 2 and len(new.get_weights()) == 2


def test_sequential_of_sequentials(rewritten):
    model = keras.Sequential([keras.Input((4,)), part("one"), L.Dropout(0.5, name="drop"), part("two", 2)])
    new = rewritten(model, flat, flatten=False)
    assert names(new) == ["d", "r", "drop", "two_d", "two_r"]


def test_several_inputs_and_outputs_keep_their_structure(rewritten):
    a, b = keras.Input((4,), name="a"), keras.Input((3,), name="b")
    inner = keras.Model([a, b], [L.Concatenate(name="c")([a, b]), L.Dense(2, name="e")(a)], name="inner")
    x, y = keras.Input((4,), name="x"), keras.Input((3,), name="y")
    wide, small = inner([x, y])
    model = keras.Model({"x": x, "y": y}, {"out": L.Dense(2, name="d")(wide), "side": small})
    new = rewritten(model, flat, flatten=False)
    assert sorted(new.output) == ["out", "side"] and sorted(new._inputs_struct) == ["x", "y"]


def test_a_subclassed_model(rewritten):
    model = Own(name="own")
    x = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
    before = np.asarray(model(x))
    new, names_of = inline(model)
    np.testing.assert_allclose(new.predict(x, verbose=0), before, rtol=1e-6)
    assert [n for n in names(new) if "add" not in n] == ["first", "deep"]
    assert names_of[id(model.first)] == "first" and names_of[id(model.inner.layers[0])] == "deep"


class Step(L.Layer):
    """A layer of layers, as people write them."""

    def __init__(self, units=4, **kwargs):
        super().__init__(**kwargs)
        self.units, self.dense, self.norm = units, L.Dense(units, name="dense"), L.BatchNormalization(name="norm")

    def build(self, shape):
        self.dense.build(shape)
        self.norm.build((*shape[:-1], self.units))

    def call(self, x, training=None):
        return x + keras.ops.relu(self.norm(self.dense(x), training=training))

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def test_a_layer_of_layers_is_entered(rewritten):
    i = keras.Input((4,))
    step = Step(name="step")
    model = keras.Model(i, Step(name="last")(step(step(i))))
    new = rewritten(model, flat, flatten=False)
    assert names(new) == ["step_dense", "step_norm", "last_dense", "last_norm"]  # operations are no layers
    x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    new(x, training=True)
    moved = new.get_layer("last_norm").moving_mean
    assert np.abs(np.asarray(moved)).max() > 0.0  # training reaches what was traced


class Noisy(Step):
    def call(self, x, training=None):
        return self.dense(x) if training else self.norm(self.dense(x), training=False)


class Scaled(Step):
    def build(self, shape):
        super().build(shape)
        self.scale = self.add_weight(shape=(self.units,), initializer="ones", name="scale")

    def call(self, x):
        return self.scale * self.norm(self.dense(x))


class Counted(Step):
    def call(self, x):
        return self.norm(self.dense(x)) / len(np.asarray(x)) if keras.ops.is_tensor(x) else self.spec(x)

    def spec(self, x):
        raise TypeError("numbers are needed")

    def compute_output_spec(self, x):
        return keras.KerasTensor((*x.shape[:-1], self.units))


class Bare(Step):
    def call(self, x):
        return keras.ops.matmul(self.norm(self.dense(x)), self.dense.kernel)


class Aside(Step):
    def call(self, x):
        return self.norm(keras.ops.matmul(x, self.dense.kernel))


@pytest.mark.parametrize("kind", [Noisy, Scaled, Counted, Bare, Aside])
def test_a_layer_that_is_no_graph_of_layers_stays(kind):
    """Another graph in training, weights of its own or used without their layer, or numbers that have to be there."""
    i = keras.Input((4,))
    assert names(flat(keras.Model(i, kind(name="own")(i)))) == ["own"]


def test_it_says_where_each_layer_went():
    one, i = part("one"), keras.Input((4,))
    last = L.Dense(2, name="d")
    _, found = inline(keras.Model(i, last(one(i))))
    assert found[id(one.layers[0])] == "d" and found[id(last)] == "d_2"


def test_a_call_that_cannot_be_followed():
    class Counts(keras.Model):
        def call(self, x):
            return x * float(np.asarray(x).sum())

    model = Counts()
    model(np.ones((1, 4), "float32"))
    with pytest.raises(InputError) as caught:
        inline(model)
    assert str(caught.value).startswith("cannot follow the call of Counts symbolically (")
    assert str(caught.value).endswith(
        "); use Keras layers and keras.ops in call, or build the model with the functional API"
    )


def test_a_model_without_weights_yet():
    with pytest.raises(InputError, match=r"^the model 'raw' has no weights yet: "):
        inline(keras.Sequential([L.Dense(2)], name="raw"))
