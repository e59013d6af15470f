"""QuantizeConfigs of one's own: what they ask is what the model computes with, and what the file holds."""

import keras
import numpy as np
import pytest
from keras import layers

import kompakt as kp
from kompakt.attach import transforms_of
from kompakt.errors import InputError
from kompakt.tfmot.quantization.keras import (
    default_8bit,
    experimental,
    quantize_annotate_layer,
    quantize_annotate_model,
    quantize_apply,
    quantize_scope,
    quantizers,
)
from kompakt.transforms import FakeQuant

from .configs import (
    ACTIVATIONS,
    WEIGHTS,
    Affine,
    AffineConfig,
    DenseConfig,
    FixedRangeQuantizer,
    FourBits,
    NoActivation,
    Nothing,
    OutputAlone,
    OwnActivations,
    OwnWeights,
    digits,
    net,
)

X = digits()[0][0][:128]


def annotated(config, dense=None):
    dense = dense or layers.Dense(10, name="dense")
    return net(quantize_annotate_layer(dense, config), quantize_annotate_layer)


def applied(config, scheme=None, dense=None):
    keras.utils.set_random_seed(0)
    return quantize_apply(annotated(config, dense), scheme)


def grids(model, site):
    return [t for name, t in transforms_of(model) if name == site and isinstance(t, FakeQuant)]


def grid(model, site):
    (found,) = grids(model, site)
    return found


def distinct(values):
    return len(np.unique(values))


def test_an_annotated_layer_without_a_config_is_as_kompakt_quantizes():
    made = applied(None)
    kernel, output = grid(made, "quant_dense/kernel"), grid(made, "quant_dense/output")
    assert (kernel.bits, kernel.per_tensor, output.ranges, output.momentum) == (8, False, "moving_average", 0.99)


def test_four_bits_for_one_layer_and_one_scale_for_its_tensor():
    made = kp.calibrate(applied(FourBits()), X)
    plain, stored = kp.finalize(made)
    kernel, encoding = plain.get_layer("quant_dense").kernel, stored["quant_dense/kernel"]
    assert encoding.bits == 4 and distinct(encoding.scale) == 1 and len(encoding.scale) == 10
    assert distinct(kernel) <= 15
    assert np.allclose(np.abs(kernel).max(), 7 * encoding.scale[0], rtol=1e-5)
    assert stored["quant_conv/kernel"].bits == 8 and distinct(stored["quant_conv/kernel"].scale) == 12


def test_what_a_config_leaves_out_is_not_rounded_in_training():
    made = applied(NoActivation())
    output = grid(made, "quant_dense/output")
    assert not output.in_training and grid(made, "quant_dense/kernel").in_training
    trained = np.asarray(made(X, training=True))
    assert distinct(trained) > 256 and float(output.seen) == 1
    assert distinct(made.predict(X, verbose=0)) <= 256


def test_a_config_of_nothing_leaves_its_layer_float():
    made = applied(Nothing())
    assert {name.split("/")[0] for name, _ in transforms_of(made)} == {"image_grid", "quant_conv"}


def test_a_config_for_the_output_alone_sets_its_range():
    made = applied(OutputAlone())
    output = grid(made, "quant_dense/output")
    assert output.ranges == "all_values" and output.even
    assert not grid(made, "quant_dense/kernel").in_training
    made(X, training=True)
    made(0.1 * X, training=True)
    _, stored = kp.finalize(made)
    assert stored["quant_dense/output"].zero_point == (0,)


def kinds():
    class Moving(DenseConfig):
        kind = quantizers.MovingAverageQuantizer

        def get_activations_and_quantizers(self, layer):
            return [(layer.activation, self.kind(**ACTIVATIONS))]

    class Last(Moving):
        kind = quantizers.LastValueQuantizer

    class All(Moving):
        kind = quantizers.AllValuesQuantizer

    class Fixed(DenseConfig):
        def get_activations_and_quantizers(self, layer):
            return [(layer.activation, quantizers.FixedQuantizer(8, -4.0, 4.0, False))]

    return [(Moving, "mean"), (Last, "last"), (All, "all"), (Fixed, "fixed")]


@pytest.mark.parametrize(("config", "which"), kinds())
def test_where_the_range_of_an_activation_comes_from(config, which):
    made = applied(config())
    tops = []
    for factor in (1.0, 3.0, 0.5):
        made(factor * X, training=True)
        tops.append(grid(made, "quant_dense/output").range_now()[1])
    expected = {"mean": tops[0] < tops[1], "last": tops[2] < tops[0] < tops[1], "all": tops[0] < tops[1] == tops[2]}
    assert expected.get(which, tops == [4.0] * 3)


def test_a_weight_with_a_range_given_in_advance_is_clipped_to_it():
    class Fixed(DenseConfig):
        def get_weights_and_quantizers(self, layer):
            return [(layer.kernel, quantizers.FixedQuantizer(8, -0.127, 0.127, True))]

    plain, stored = kp.finalize(kp.calibrate(applied(Fixed()), X))
    assert np.allclose(stored["quant_dense/kernel"].scale, 0.001)
    assert np.isclose(np.abs(plain.get_layer("quant_dense").kernel).max(), 0.127)


def test_a_quantizer_of_ones_own_is_called_and_holds_its_variables():
    made = kp.calibrate(applied(OwnWeights()), X)
    layer = made.get_layer("quant_dense")
    assert [w.name for w in layer.chains["kernel"].transforms[0].weights] == ["tensor_end"]
    plain, stored = kp.finalize(made)
    assert np.abs(np.asarray(plain.get_layer("quant_dense").kernel)).max() <= 0.2501
    assert stored["quant_dense/kernel"].bits == 8
    assert "FixedRangeQuantizer, a Quantizer of your own, made these numbers" in stored["quant_dense/kernel"].shortfall


def test_one_quantizer_given_to_two_layers_has_its_variables_in_each():
    shared = OwnWeights()
    model = keras.Sequential(
        [
            keras.Input((6,)),
            quantize_annotate_layer(layers.Dense(4, name="a"), shared),
            quantize_annotate_layer(layers.Dense(3, name="b"), shared),
        ]
    )
    made = quantize_apply(model)
    first, second = (made.get_layer(name).chains["kernel"].transforms[0] for name in ("quant_a", "quant_b"))
    first.weights[0].assign(0.01)
    assert float(second.weights[0]) == 0.25


@pytest.mark.parametrize("config", [OwnWeights, OwnActivations])
def test_the_file_says_what_of_a_quantizer_of_ones_own_it_has_not(config, tmp_path):
    made = kp.calibrate(applied(config()), X)
    found = kp.export(made, tmp_path / "m.tflite", verify=X)
    assert found.quantization == "int8" and not found.breaches
    assert any("FixedRangeQuantizer, a Quantizer of your own" in note for note in found.notes)


@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_models_with_classes_of_ones_own_are_read_in_the_scope(ending, tmp_path):
    model = annotated(OwnActivations())
    made = kp.calibrate(quantize_apply(model), X)
    known = {"OwnActivations": OwnActivations, "FixedRangeQuantizer": FixedRangeQuantizer}
    for each in (model, made):
        path = tmp_path / f"m.{ending}"
        each.save(path)
        with pytest.raises((TypeError, ValueError), match="Could not locate class"):
            keras.saving.load_model(path)
        with quantize_scope(known):
            again = keras.saving.load_model(path)
        assert np.array_equal(again.predict(X, verbose=0), each.predict(X, verbose=0))


def test_a_subclass_of_a_keras_layer_has_the_config_of_its_parent():
    class Mine(layers.Dense):
        pass

    made = applied(DenseConfig(), dense=Mine(10, name="dense"))
    assert type(made.get_layer("quant_dense").transformed_layer) is Mine
    assert grid(made, "quant_dense/kernel").per_tensor


def test_a_layer_of_ones_own_with_its_own_weights(tmp_path):
    made = kp.calibrate(applied(AffineConfig(), dense=Affine(10, name="mine")), X)
    assert grid(made, "quant_mine/slopes").bits == 8
    plain, _ = kp.finalize(made)
    slopes = np.asarray(plain.get_layer("quant_mine").slopes)
    steps = slopes / (np.abs(slopes).max(0) / 127)
    assert np.allclose(steps, np.round(steps), atol=1e-3)
    found = kp.export(made, tmp_path / "m.tflite", verify=X)
    assert found.io == "int8" and not found.census.float_ops


def test_setters_may_go_into_the_layers_inside():
    class OfCell(NoActivation):
        def get_weights_and_quantizers(self, layer):
            return [
                (layer.cell.kernel, quantizers.LastValueQuantizer(**{**WEIGHTS, "num_bits": 4})),
                (layer.cell.recurrent_kernel, quantizers.LastValueQuantizer(**WEIGHTS)),
            ]

        def set_quantize_weights(self, layer, quantize_weights):
            layer.cell.kernel = quantize_weights[0]
            layer.cell.recurrent_kernel = quantize_weights[1]

    lstm = layers.LSTM(3, name="l")
    model = keras.Sequential([keras.Input((4, 2)), quantize_annotate_layer(lstm, OfCell()), layers.Dense(2)])
    made = quantize_apply(model)
    found = {t.bits for name, t in transforms_of(made) if isinstance(t, FakeQuant) and t.on_weights}
    assert found == {4, 8}
    assert isinstance(lstm.cell.kernel, keras.Variable)


def test_the_setters_reach_a_stand_in_and_never_the_layer():
    seen = []

    class Looks(DenseConfig):
        def set_quantize_weights(self, layer, quantize_weights):
            assert isinstance(layer, layers.Dense) and layer.kernel.shape == quantize_weights[0].shape
            seen.append(layer.name)
            layer.kernel = quantize_weights[0]

    model = annotated(Looks())
    quantize_apply(model)
    assert seen == ["dense"] and isinstance(model.layers[-1].layer.kernel, keras.Variable)


def wrong():  # noqa: C901 - one class a case
    class Forgets(DenseConfig):
        def set_quantize_weights(self, layer, quantize_weights):
            pass

    class ForgetsFunction(DenseConfig):
        def set_quantize_activations(self, layer, quantize_activations):
            layer.other = None

    class Bias(DenseConfig):
        def get_weights_and_quantizers(self, layer):
            return [(layer.bias, quantizers.LastValueQuantizer(**WEIGHTS))]

    class NoPairs(DenseConfig):
        def get_weights_and_quantizers(self, layer):
            return [layer.kernel]

    class Asymmetric(DenseConfig):
        def get_weights_and_quantizers(self, layer):
            return [(layer.kernel, quantizers.LastValueQuantizer(**{**WEIGHTS, "symmetric": False}))]

    class FourBitActivations(DenseConfig):
        def get_activations_and_quantizers(self, layer):
            return [(layer.activation, quantizers.MovingAverageQuantizer(**{**ACTIVATIONS, "num_bits": 4}))]

    class WideActivations(DenseConfig):
        def get_activations_and_quantizers(self, layer):
            return [(layer.activation, quantizers.MovingAverageQuantizer(**{**ACTIVATIONS, "num_bits": 16}))]

    class PerAxis(DenseConfig):
        def get_activations_and_quantizers(self, layer):
            return [(layer.activation, quantizers.MovingAverageQuantizer(**{**ACTIVATIONS, "per_axis": True}))]

    class WideWeights(DenseConfig):
        def get_weights_and_quantizers(self, layer):
            return [(layer.kernel, quantizers.LastValueQuantizer(**{**WEIGHTS, "num_bits": 16}))]

    class OneSided(DenseConfig):
        def get_weights_and_quantizers(self, layer):
            return [(layer.kernel, quantizers.FixedQuantizer(8, 0.0, 1.0, False))]

    class TwoOutputs(DenseConfig):
        def get_output_quantizers(self, layer):
            return [quantizers.FixedQuantizer(8, 0.0, each, False) for each in (1.0, 2.0)]

    return [
        (Forgets, "Forgets.set_quantize_weights was given 1 and set nothing: number 0 is set nowhere"),
        (ForgetsFunction, "set_quantize_activations was given 1 and set other: number 0 is set nowhere"),
        (Bias, "has 'bias', which cannot be quantized: it has kernel; biases stay"),
        (NoPairs, "expected pairs"),
        (Asymmetric, "dense/kernel: symmetric=False, and weights have no zero point"),
        (FourBitActivations, "dense/output: activations of 4 bits; no runtime has kernels for them"),
        (WideActivations, "activations of 16 bits in a scheme of 8; use DefaultNBitQuantizeScheme"),
        (PerAxis, "per_axis=True, and activations have one scale"),
        (WideWeights, "weights of 16 bits; no runtime has kernels for more than 8"),
        (OneSided, "the range 0 to 1 is not around 0"),
        (TwoOutputs, "get_output_quantizers has quantizers that differ"),
    ]


@pytest.mark.parametrize(("config", "text"), wrong())
def test_what_a_config_may_not_say(config, text):
    with pytest.raises(InputError, match=text):
        applied(config())


def test_the_range_of_a_softmax_stays_as_the_runtime_has_it():
    made = applied(DenseConfig(), dense=layers.Dense(10, "softmax", name="dense"))
    assert grid(made, "quant_dense_softmax/output").range_now() == (0.0, 255.0 / 256.0)
    assert not grid(made, "quant_dense/output").fixed


def test_schemes_are_modes_of_kompakt():
    scheme = experimental.default_n_bit.DefaultNBitQuantizeScheme

    def bits(**options):
        made = applied(None, scheme(**options))
        return grid(made, "quant_dense/kernel").bits, grid(made, "quant_dense/output").bits

    assert bits() == (8, 8)
    assert bits(num_bits_weight=4) == (4, 8)
    assert bits(num_bits_weight=3) == (3, 8)
    assert bits(num_bits_activation=16) == (8, 16)
    for options in (
        {"num_bits_weight": 9},
        {"num_bits_activation": 4},
        {"num_bits_weight": 4, "num_bits_activation": 16},
    ):
        with pytest.raises(InputError, match="no runtime has kernels for that"):
            scheme(**options)


def test_one_scale_a_tensor_where_per_axis_is_disabled(tmp_path):
    made = kp.calibrate(applied(None, default_8bit.Default8BitQuantizeScheme(disable_per_axis=True)), X)
    _, stored = kp.finalize(made)
    assert all(distinct(stored[f"quant_{name}/kernel"].scale) == 1 for name in ("conv", "dense"))
    assert not kp.export(made, tmp_path / "m.tflite", verify=X).breaches


def test_a_scheme_of_ones_own_says_what_to_use():
    class Mine(default_8bit.Default8BitQuantizeScheme.__bases__[0]):
        pass

    with pytest.raises(InputError, match="Mine: a scheme of your own is made of layout transforms and a registry"):
        quantize_apply(quantize_annotate_model(net()), Mine())
    with pytest.raises(InputError, match="get_quantize_registry is gone"):
        default_8bit.Default8BitQuantizeScheme().get_quantize_registry()
