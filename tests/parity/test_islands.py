"""Operators that the quantizer leaves float, and what reads them: the file has each on the grid of the simulation."""

import keras
import numpy as np
import pytest
from keras import layers as L

import kompakt as kp
from kompakt.targets.tflite_file import TFLiteFile

X = np.random.default_rng(0).normal(size=(64, 8, 8, 3)).astype("float32")


def conv(name):
    return L.Conv2D(8, 3, padding="same", name=name)


def added_and_joined(i):
    """Of Darknet: what goes on is read by a sum and by a concatenation."""
    x = L.LeakyReLU(name="first")(conv("c1")(i))
    y = L.LeakyReLU(name="leaky")(conv("c2")(x))
    x = L.Concatenate(name="both")([L.Add(name="add")([x, y]), y])
    return L.Dense(4, name="head")(L.GlobalAveragePooling2D(name="mean")(x))


def joined_twice(i):
    x, y = conv("c1")(i), L.LeakyReLU(name="leaky")(conv("c2")(i))
    x = L.Concatenate(name="wide")([L.Concatenate(name="narrow")([x, y]), y, L.Rescaling(3.0, name="three")(y)])
    return L.Dense(4, name="head")(L.GlobalAveragePooling2D(name="mean")(x))


def at_the_end(i):
    return L.LeakyReLU(name="leaky")(L.Dense(4, name="head")(L.GlobalAveragePooling2D(name="mean")(conv("c1")(i))))


def an_output_too(i):
    y = L.LeakyReLU(name="leaky")(conv("c1")(i))
    return [y, L.Dense(4, name="head")(L.GlobalAveragePooling2D(name="mean")(y))]


CASES = [
    (added_and_joined, None, 0),
    (joined_twice, None, 0),
    (at_the_end, None, 0),
    (an_output_too, None, 0),
    (added_and_joined, {"add": "float"}, 1),
    (added_and_joined, {"both": "float", "mean": "float", "head": "float"}, 3),
    (added_and_joined, {"leaky": "float"}, 1),
    (added_and_joined, {"c2": "int16x8", "leaky": "int16x8"}, 0),
    (added_and_joined, {"*": "int16x8", "both": "int8"}, 0),
]


@pytest.mark.slow
@pytest.mark.parametrize("io", ["int8", "float32"])
@pytest.mark.parametrize(("build", "rules", "floats"), CASES, ids=lambda value: getattr(value, "__name__", str(value)))
def test_what_reads_an_island_reads_its_integers(build, rules, floats, io, tmp_path):
    keras.utils.set_random_seed(0)
    i = keras.Input((8, 8, 3), name="x")
    quantized = kp.quantize(keras.Model(i, build(i)), "int8", rules=rules, calibration=X)
    if rules and io == "int8" and {"head", "*"} & set(rules):
        pytest.skip("an end that is not of 8 bits takes no int8")
    made = kp.export(quantized, tmp_path / "m.tflite", verify=X, io=io)
    assert made.breaches == () and len(made.census.float_ops) == floats
    tensors = {t.name: t for t in TFLiteFile((tmp_path / "m.tflite").read_bytes()).tensors}
    asked = kp.finalize(quantized)[1]
    if "leaky/output" in asked:
        held = tensors["leaky/output"]
        assert held.kind == f"INT{asked['leaky/output'].bits}"
        assert held.scale == pytest.approx(asked["leaky/output"].scale)


def at_the_input(i):
    y = L.LeakyReLU(name="leaky")(i)
    x = L.Minimum(name="least")([conv("c1")(y), conv("c2")(i)])
    return L.Dense(4, name="head")(L.GlobalAveragePooling2D(name="mean")(L.LeakyReLU(name="first")(x)))


def joined_with_the_input(i):
    x = L.Conv2D(3, 3, padding="same", name="c1")(i)
    x = L.Concatenate(name="both")([i, L.Maximum(name="most")([i, x]), L.Minimum(name="least")([x, i])])
    return [x, L.Dense(4, name="head")(L.GlobalAveragePooling2D(name="mean")(x))]


def half_of_a_split(i):
    a, b, _ = keras.ops.split(i, 3, axis=-1)
    return [L.Dense(4, name="head")(L.Flatten(name="flat")(a)), b]


def behind_floats(i):
    x = conv("c1")(i)
    return [L.LeakyReLU(name="leaky")(x), x]


def two_widths(i):
    a, b, c = keras.ops.split(i, 3, axis=-1)
    a, b = L.Dense(4, name="c1")(L.Flatten(name="flat")(a)), L.Dense(4, name="c2")(L.Flatten(name="flat2")(b))
    return [L.LeakyReLU(name="leaky")(a), b, c]


AT_ENDS = [
    (at_the_input, None),
    (at_the_input, {"c1": "float"}),
    (at_the_input, {"c1": "int16x8", "c2": "int16x8"}),
    (joined_with_the_input, None),
    (joined_with_the_input, {"c1": "float"}),
    (joined_with_the_input, {"c1": "int16x8"}),
    (half_of_a_split, None),
    (half_of_a_split, {"head": "float"}),
    (behind_floats, {"c1": "float"}),
    (behind_floats, {"c1": "int16x8"}),
    (two_widths, {"c1": "int16x8"}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("build", "rules"), AT_ENDS, ids=lambda value: getattr(value, "__name__", str(value)))
def test_ends_of_a_model_are_rounded_once(build, rules, tmp_path):
    """LiteRT could not run, or refused, a file in which an input was rounded twice, or a part of a split not at all."""
    keras.utils.set_random_seed(0)
    i = keras.Input((8, 8, 3), name="x")
    quantized = kp.quantize(keras.Model(i, build(i)), "int8", rules=rules, calibration=X)
    made = kp.export(quantized, tmp_path / "m.tflite", verify=X)
    assert made.breaches == ()
    assert rules or not made.census.float_ops


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["silu", "leaky_relu"])
def test_a_conv1d_that_ends_in_a_table(activation, tmp_path):
    """The RESHAPE from its one row stood among the operators that the table takes the place of, and went with them."""
    keras.utils.set_random_seed(0)
    i = keras.Input((8, 8), name="x")
    model = keras.Model(i, L.Conv1D(4, 3, padding="same", activation=activation, name="c")(i))
    x = X[..., 0]
    made = kp.export(model, tmp_path / "m.tflite", quantization="int8", calibration=x)
    assert made.breaches == () and made.census.float_ops == ()
