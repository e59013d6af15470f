"""Copies of layers that nobody registered, and of those that only their call builds."""

import keras
import numpy as np
import pytest
from keras import layers

import kompakt as kp
from kompakt.copies import copy_layer
from kompakt.errors import InputError
from kompakt.loading import save_model

X = np.random.default_rng(0).normal(size=(96, 6)).astype("float32")


class Block(layers.Layer):
    """Its sublayer is made in __init__; it has no build()."""

    def __init__(self, **options):
        super().__init__(**options)
        self.inner = layers.Dense(8)

    def call(self, x):
        return self.inner(x)


class OfTwo(layers.Layer):
    """Of two arguments, of which Keras remembers one shape."""

    def __init__(self, **options):
        super().__init__(**options)
        self.left, self.right = layers.Dense(8), layers.Dense(8)

    def call(self, a, b, training=None):
        return self.left(a) + self.right(b)


class BlockModel(keras.Model):
    def __init__(self, **options):
        super().__init__(**options)
        self.inner = Block()

    def call(self, x):
        return self.inner(x)


def model_of(make):
    keras.utils.set_random_seed(0)
    i = keras.Input((6,), name="x")
    return keras.Model(i, layers.Dense(3, name="head")(layers.Dense(8, name="stem")(make(i))))


@pytest.mark.parametrize("kind", [Block, BlockModel])
def test_layers_of_own_classes_are_pruned_and_exported_without_build_or_registration(kind, tmp_path):
    model = model_of(lambda i: kind()(i))
    pruned = kp.prune(model, 0.5, sites=["*inner*/kernel"])
    artifact = kp.export(pruned, tmp_path / "m.tflite", quantization="int8", calibration=X)
    assert artifact.breaches == () and not artifact.census.float_ops
    (fact,) = [fact for fact in artifact.sites if "inner" in fact.site and fact.site.endswith("kernel")]
    assert fact.zeros >= 0.5


def test_a_layer_of_two_arguments_is_copied_as_it_was_called():
    layer = OfTwo(name="two")
    model = model_of(lambda i: layer(i, layers.Dense(5)(i)))
    nodes = len(layer._inbound_nodes)
    again = copy_layer(copy_layer(layer))  # the second copy has no call of its own to go by
    assert [v.shape for v in again.variables] == [v.shape for v in layer.variables] == [(6, 8), (8,), (5, 8), (8,)]
    assert len(layer._inbound_nodes) == nodes and not again._inbound_nodes
    pruned = kp.prune(model, 0.5, sites=["two/*"])
    assert float((np.asarray(pruned.get_layer("two").transformed_layer.left.kernel) == 0).mean()) == 0.0
    plain, encodings = kp.finalize(pruned)
    assert set(encodings) == {"two/left/kernel", "two/right/kernel"}
    assert float((np.asarray(plain.get_layer("two").right.kernel) == 0).mean()) == 0.5


def test_an_attached_layer_that_its_call_builds_is_saved_and_read(tmp_path):
    pruned = kp.prune(model_of(lambda i: Block(name="block")(i)), 0.5)
    save_model(pruned, tmp_path / "m.keras")
    with keras.saving.custom_object_scope({"Block": Block}):
        again = kp.load_model(tmp_path / "m.keras")
    assert np.allclose(again(X), pruned(X))


def test_a_copy_of_a_subclassed_model_keeps_its_name():
    inner = BlockModel()
    model_of(inner)
    assert copy_layer(inner).name == inner.name


def test_a_layer_that_still_cannot_be_copied_says_so():
    class Needs(layers.Layer):
        def __init__(self, units):
            super().__init__()
            self.inner = layers.Dense(int(units.real))

        def call(self, x):
            return self.inner(x)

        def get_config(self):
            return {}

    with pytest.raises(InputError, match=r"cannot copy the layer 'needs.*give its class get_config"):
        kp.prune(model_of(Needs(3)), 0.5)


class TakesNothing(keras.Model):
    """As everybody writes a subclassed model."""

    def __init__(self):
        super().__init__()
        self.first = keras.layers.Dense(16, activation="relu")
        self.last = keras.layers.Dense(3)

    def call(self, x):
        return self.last(self.first(x))


def test_a_model_whose_constructor_takes_nothing_is_copied():
    """Keras hands it a name, which it does not take."""
    model = TakesNothing()
    x = np.random.default_rng(0).normal(size=(4, 8)).astype("float32")
    wanted = model(x)
    model.first.trainable = False
    copy = kp.finalize(kp.prune(model, 0.5))[0]
    assert (np.asarray(copy.last.kernel) == 0.0).mean() == 0.5 and not (np.asarray(model.last.kernel) == 0.0).any()
    assert not copy.first.trainable and copy.last.trainable and copy.trainable
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(copy_layer(model)(x)), keras.ops.convert_to_numpy(wanted))
