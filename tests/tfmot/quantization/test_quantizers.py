"""tfmot's quantizers by themselves: what they make of a tensor, what they keep of what they saw."""

import keras
import numpy as np
import pytest
from keras import ops

from kompakt.errors import InputError
from kompakt.tfmot.quantization.keras.quantizers import (
    AllValuesQuantizer,
    FixedQuantizer,
    LastValueQuantizer,
    MovingAverageQuantizer,
    Quantizer,
)

RANGED = (LastValueQuantizer, MovingAverageQuantizer, AllValuesQuantizer)
PLAIN = {"num_bits": 8, "per_axis": False, "symmetric": False, "narrow_range": False}


def values(tensor):
    return np.array(ops.convert_to_numpy(tensor))


def held(quantizer, shape=None):
    return quantizer.build(shape, "x", keras.layers.Layer())


def limits(variables):
    return [values(variables[f"{end}_var"]) for end in ("min", "max")]


@pytest.mark.parametrize("kind", RANGED)
def test_what_was_never_seen_has_no_range_and_nothing_is_guessed(kind):
    quantizer = kind(**PLAIN)
    x = ops.array([-100.0, 0.3, 100.0])
    assert (values(quantizer(x, False, held(quantizer))) == values(x)).all()


@pytest.mark.parametrize(("kind", "expected"), [*zip(RANGED, ([-1, 2], [-2.98, 3.98], [-3, 4]), strict=True)])
def test_what_a_range_becomes_of_two_batches(kind, expected):
    quantizer = kind(**PLAIN)
    variables = held(quantizer)
    for batch in ([-3.0, 4.0], [-1.0, 2.0]):
        quantizer(ops.array(batch), True, variables)
    assert np.allclose(limits(variables), expected)
    before = limits(variables)
    quantizer(ops.array([-50.0, 50.0]), False, variables)
    assert np.array_equal(limits(variables), before)


@pytest.mark.parametrize("kind", RANGED)
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_a_symmetric_narrow_grid_has_an_odd_number_of_values_around_0(kind, bits):
    quantizer = kind(num_bits=bits, per_axis=False, symmetric=True, narrow_range=True)
    variables = held(quantizer)
    y = values(quantizer(ops.linspace(-1.0, 0.7, 2001), True, variables))
    most = 2 ** (bits - 1) - 1
    assert np.allclose(limits(variables), [-1, 1])
    assert np.allclose(np.unique(y * most), np.arange(-most, round(0.7 * most) + 1), atol=1e-4)


def test_a_symmetric_wide_grid_has_one_integer_more_below_0():
    quantizer = LastValueQuantizer(num_bits=4, per_axis=False, symmetric=True, narrow_range=False)
    variables = held(quantizer)
    y = values(quantizer(ops.linspace(-8.0, 7.0, 1501), True, variables))
    assert np.allclose(np.unique(y), np.arange(-8, 8), atol=1e-5)
    assert np.allclose(limits(variables), [-8, 7])


def test_a_range_for_each_index_of_the_last_axis():
    quantizer = LastValueQuantizer(num_bits=8, per_axis=True, symmetric=True, narrow_range=True)
    w = np.array([[0.5, 50.0], [-1.27, 127.0]], "float32")
    variables = held(quantizer, w.shape)
    y = values(quantizer(ops.array(w), True, variables))
    assert np.allclose(limits(variables)[1], [1.27, 127.0])
    assert np.allclose(y, [[0.5, 50.0], [-1.27, 127.0]], atol=1e-5)


def test_a_fixed_range_has_the_bits_that_were_asked():
    quantizer = FixedQuantizer(num_bits=2, init_min=0.0, init_max=3.0, narrow_range=False)
    y = values(quantizer(ops.linspace(-1.0, 5.0, 100), False, held(quantizer)))
    assert np.allclose(np.unique(y), [0, 1, 2, 3])


def test_the_gradient_goes_straight_through_inside_the_range():
    class Rounded(keras.layers.Layer):
        def build(self, shape):
            self.w = self.add_weight(shape=(3,), initializer=keras.initializers.Constant(0.0), name="w")
            self.quantizer = FixedQuantizer(8, -1.0, 1.0, False)

        def call(self, x):
            return ops.sum(self.quantizer(self.w + x, True, {}), axis=-1)

    layer = Rounded()
    model = keras.Sequential([keras.Input((3,)), layer])
    model.compile(keras.optimizers.SGD(1.0), lambda _, y: ops.sum(y))
    model.fit(np.array([[0.5, 0.2, 3.0]], "float32"), np.zeros(1), verbose=0)
    assert values(layer.w).tolist() == [-1.0, -1.0, 0.0]


def test_in_a_layer_of_ones_own_the_ranges_are_its_weights_and_train():
    class Noisy(keras.layers.Layer):
        def build(self, shape):
            self.quantizer = MovingAverageQuantizer(**PLAIN)
            self.ranges = self.quantizer.build(shape, "input", self)

        def call(self, x, training=False):
            return self.quantizer(x, training, self.ranges)

    model = keras.Sequential([keras.Input((2,)), Noisy(), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(np.array([[-2.0, 6.0]], "float32"), np.zeros((1, 1)), verbose=0)
    assert np.allclose(limits(model.layers[0].ranges), [-2.0, 6.0])
    assert [w.name for w in model.layers[0].weights] == ["input_min", "input_max"]


def test_equal_where_they_are_of_one_kind_and_one_config():
    for kind in RANGED:
        assert kind(**PLAIN) == kind.from_config(kind(**PLAIN).get_config())
        assert kind(**PLAIN) != kind(**{**PLAIN, "num_bits": 4})
        assert hash(kind(**PLAIN)) == hash(kind(**PLAIN))
    assert LastValueQuantizer(**PLAIN) != MovingAverageQuantizer(**PLAIN)
    fixed = FixedQuantizer(8, -1.0, 1.0, False)
    assert fixed == FixedQuantizer.from_config(fixed.get_config()) != FixedQuantizer(8, -1.0, 2.0, False)


@pytest.mark.parametrize("quantizer", [*(kind(**PLAIN) for kind in RANGED), FixedQuantizer(8, -1.0, 1.0, True)])
def test_a_quantizer_is_written_and_read_with_no_scope(quantizer):
    written = keras.saving.serialize_keras_object(quantizer)
    assert keras.saving.deserialize_keras_object(written) == quantizer


def test_what_makes_no_sense_is_refused():
    with pytest.raises(InputError, match="num_bits=1: expected a whole number from 2 to 16"):
        LastValueQuantizer(1, False, True, True)
    with pytest.raises(InputError, match=r"init_min=1\.0, init_max=1\.0: expected the lower end first"):
        FixedQuantizer(8, 1.0, 1.0, False)
    with pytest.raises(TypeError, match="abstract"):
        Quantizer()
