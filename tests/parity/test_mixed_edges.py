"""Law 7 where layers of integers and of floats meet behind what only moves numbers: at the input, in slices, splits."""

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

import kompakt as kp
from kompakt.assignment import assign, meet
from kompakt.precision import FLOAT, PRECISIONS
from kompakt.records import Census
from kompakt.targets.tflite_file import TFLiteFile
from kompakt.verdicts import islands

X = np.random.default_rng(0).normal(size=(64, 8, 8)).astype("float32")


def conv(name, **given):
    return L.Conv1D(8, 3, activation="relu", name=name, **given)


def ended(i, x):
    return keras.Model(i, L.Dense(4, name="head")(L.Flatten(name="flat")(x)))


def reshaped(i):
    x = L.Conv2D(8, 3, activation="relu", name="conv")(L.Reshape((8, 8, 1), name="shape")(i))
    return ended(i, x)


def sliced(i):
    return ended(i, ops.transpose(conv("conv")(i[:, :4]), (0, 2, 1)))


def read_twice(i):
    a = L.Dense(8, name="dense")(L.Flatten(name="first")(i))
    return ended(i, L.Concatenate(name="both")([a, L.Flatten(name="second")(conv("conv", use_bias=False)(i))]))


def dropped(i):
    x = L.Dropout(0.3, name="drop")(L.Dense(16, name="dense")(L.Flatten(name="first")(i)))
    return ended(i, L.LSTM(4, name="lstm")(L.Reshape((4, 4), name="shape")(x)))


def behind_dense(i):
    return ended(i, conv("conv")(L.Dense(8, activation="relu", name="dense")(i)[:, :6]))


def split(i):
    a, b = ops.split(i, 2, axis=1)
    return ended(i, L.Concatenate(name="both")([conv("conv")(a), conv("dense")(b)]))


LAST_ONLY, DENSE_ONLY = {"*": "float", "head": "int8"}, {"*": "float", "dense": "int8"}
CASES = [
    *((build, LAST_ONLY) for build in (reshaped, sliced, dropped, split)),
    *((build, {"conv": "float", "dense": "float"}) for build in (read_twice, behind_dense)),
    *((build, {"conv": "float"}) for build in (read_twice, split)),
    *((build, {"dense": "float"}) for build in (read_twice, behind_dense, dropped, split)),
    *((build, DENSE_ONLY) for build in (read_twice, split)),
    *((build, {"conv": "int16x8"}) for build in (reshaped, read_twice, split)),
    (split, None),
]


@pytest.mark.slow
@pytest.mark.parametrize(("build", "rules"), CASES, ids=lambda value: getattr(value, "__name__", str(value)))
def test_the_file_is_what_was_simulated(build, rules, tmp_path):
    keras.utils.set_random_seed(0)
    model = build(keras.Input((8, 8), name="x"))
    quantized = kp.quantize(model, "int8", rules=rules, calibration=X)
    made = kp.export(quantized, tmp_path / "m.tflite", verify=X)
    assert made.breaches == () and (made.agreement.max_lsb or 0.0) <= 2.01
    assert kp.verify_file(tmp_path / "m.tflite", model, X).breaches == ()
    floats = {name for name, value in (rules or {}).items() if value == "float"}
    kinds = {t.name: t.kind for t in TFLiteFile((tmp_path / "m.tflite").read_bytes()).tensors}
    for site in (layer.name for layer in model.layers if isinstance(layer, L.Dense | L.Conv1D | L.Conv2D)):
        integer = not floats & {site, "*"} or (rules or {}).get(site, "float") != "float"
        assert (kinds[f"{site}/kernel"] == "INT8") == integer


def test_a_breach_has_its_article():
    census = Census(ops={}, tensors={}, float_ops=("ADD (a/output)",), float_tensors=())
    assert islands(census, "mixed", ("b",)) == ["float operator in a mixed file: ADD (a/output)"]
    assert islands(census, "int16x8") == ["float operator in an int16x8 file: ADD (a/output)"]
    assert islands(census, "w4a8") == ["float operator in a w4a8 file: ADD (a/output)"]


def grid(i):
    return L.Identity(name="x_grid")(i)


def test_an_input_read_by_floats_has_no_grid_and_its_other_readers_have_one():
    i = keras.Input((8,), name="x")
    moved = L.Reshape((4, 2), name="shape")(grid(i))
    model = keras.Model(i, [L.Dense(2, name="a")(moved), L.Dense(2, name="b")(moved)])
    given = assign(model, PRECISIONS["int8"], {"a": "float"})
    assert given.layers["x_grid"] == given.layers["shape"] == given.layers["a"] == FLOAT
    met, given = meet(model, given)
    assert given.layers["shape_int8_grid"].activations == 8
    (before,) = (each.name for each in met.get_layer("b").input._keras_history[:1])
    assert before == "shape_int8_grid"


def test_what_stands_between_an_input_and_wide_readers_is_wide():
    i = keras.Input((8,), name="x")
    model = keras.Model(i, L.Dense(2, name="a")(L.Reshape((4, 2), name="shape")(grid(i))))
    given = assign(model, PRECISIONS["int8"], {"a": "int16x8"}).layers
    assert given["x_grid"].activations == given["shape"].activations == 16


def test_an_input_that_is_only_moved_keeps_the_grid_of_the_file():
    i = keras.Input((8,), name="x")
    model = keras.Model(i, L.Reshape((4, 2), name="shape")(grid(i)))
    assert assign(model, PRECISIONS["int8"], None).uniform
