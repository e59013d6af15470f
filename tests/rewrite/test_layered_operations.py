"""Operations become the layers that compute the same."""

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

from kompakt.rewrite.layered_operations import BINARY, OF_TENSORS, UNARY, layered_operations


def made(function, *shapes):
    inputs = [keras.Input(shape) for shape in shapes]
    return keras.Model(inputs, function(*inputs))


def kinds(model):
    return [type(layer).__name__ for layer in model.layers if not isinstance(layer, L.InputLayer)]


TWO = {
    "Add": (lambda a, b: a + b, "Add"),
    "Subtract": (lambda a, b: a - b, "Subtract"),
    "Multiply": (lambda a, b: a * b, "Multiply"),
    "Maximum": (ops.maximum, "Maximum"),
    "Minimum": (ops.minimum, "Minimum"),
}


@pytest.mark.parametrize("name", TWO)
@pytest.mark.parametrize("second", [(4, 3), (1, 3), (4, 1)], ids=str)
def test_two_tensors(name, second, rewritten):
    function, kind = TWO[name]
    assert kinds(rewritten(made(function, (4, 3), second), layered_operations)) == [kind]


@pytest.mark.parametrize("divide", [lambda a, b: a / (ops.abs(b) + 1.0), lambda a, b: ops.divide(a, ops.abs(b) + 1.0)])
def test_a_quotient_is_a_product_with_the_reciprocal(divide, rewritten):
    new = kinds(rewritten(made(divide, (4, 3), (4, 3)), layered_operations))
    assert new[-1] == "Multiply" and new.count("Elementwise") == 2  # |b| and the reciprocal


@pytest.mark.parametrize("axis", [1, 2, -1])
def test_stacking(axis, rewritten):
    model = made(lambda a, b: ops.stack([a, b], axis=axis), (4, 3), (4, 3))
    assert kinds(rewritten(model, layered_operations)) == ["Reshape", "Concatenate"]


def test_samples_that_are_stacked_are_left(rewritten):
    model = made(lambda a, b: ops.sum(ops.stack([a, b], axis=0), axis=0), (4, 3), (4, 3))
    assert "Concatenate" not in kinds(rewritten(model, layered_operations))


@pytest.mark.parametrize(("first", "second"), [((4, 3), (3, 5)), ((2, 4, 3), (2, 3, 5))])
def test_a_matrix_product(first, second, rewritten):
    assert kinds(rewritten(made(ops.matmul, first, second), layered_operations)) == ["MatMul"]


@pytest.mark.parametrize("axis", [1, -1, (2, 3), (1, 2, 3)], ids=str)
@pytest.mark.parametrize("keepdims", [False, True])
def test_a_maximum(axis, keepdims, rewritten):
    model = made(lambda x: ops.max(x, axis=axis, keepdims=keepdims), (4, 3, 2))
    assert kinds(rewritten(model, layered_operations)) == ["Reshape", "MaxPooling2D", "Reshape"]


@pytest.mark.parametrize("axis", [0, (1, 3)], ids=str)
def test_other_maxima_are_left(axis, rewritten):
    model = made(lambda x: x + ops.max(x, axis=axis, keepdims=True), (4, 3, 2))
    assert "MaxPooling2D" not in kinds(rewritten(model, layered_operations))


def test_a_matrix_product_that_broadcasts_is_left(rewritten):
    model = made(ops.matmul, (2, 4, 3), (1, 3, 5))
    assert "MatMul" not in kinds(rewritten(model, layered_operations))


NUMBERS = {
    "x + 2": lambda x: x + 2.0,
    "2 + x": lambda x: 2.0 + x,
    "x - 2": lambda x: x - 2.0,
    "2 - x": lambda x: 2.0 - x,
    "x * 3": lambda x: x * 3.0,
    "3 * x": lambda x: 3.0 * x,
    "x / 4": lambda x: x / 4.0,
    "divide(x, 4)": lambda x: ops.divide(x, 4.0),
    "x - np.float32(0.5)": lambda x: ops.subtract(x, np.float32(0.5)),
    "-x": lambda x: -x,
}


@pytest.mark.parametrize("name", NUMBERS)
def test_a_tensor_and_a_number(name, rewritten):
    assert kinds(rewritten(made(NUMBERS[name], (4, 3)), layered_operations)) == ["Rescaling"]


ONE = {
    "Relu": (ops.relu, "ReLU"),
    "Relu6": (ops.relu6, "ReLU"),
    "LeakyRelu": (lambda x: ops.leaky_relu(x, 0.3), "LeakyReLU"),
    "Sigmoid": (ops.sigmoid, "Activation"),
    "Tanh": (ops.tanh, "Activation"),
    "Silu": (ops.silu, "Activation"),
    "HardSilu": (ops.hard_silu, "Activation"),
    "Softmax": (ops.softmax, "Softmax"),
    "Softmax, axis 1": (lambda x: ops.softmax(x, axis=1), "Softmax"),
    "Negative": (ops.negative, "Rescaling"),
    "Mean": (lambda x: ops.mean(x, axis=(1, 2)), "GlobalAveragePooling2D"),
    "Mean, keepdims": (lambda x: ops.mean(x, axis=[-3, -2], keepdims=True), "GlobalAveragePooling2D"),
    "Elu": (lambda x: ops.elu(x, 0.7), "ELU"),
    "Gelu": (lambda x: ops.gelu(x, approximate=False), "Activation"),
    "Gelu, approximate": (ops.gelu, "Elementwise"),
    "Clip": (lambda x: ops.clip(x, -0.5, 0.7), "Elementwise"),
    "Absolute": (ops.absolute, "Elementwise"),
    "Sqrt": (lambda x: ops.sqrt(ops.abs(x)), "Elementwise"),
    "Rsqrt": (lambda x: ops.rsqrt(ops.abs(x)), "Elementwise"),
    "Log": (lambda x: ops.log(ops.abs(x)), "Elementwise"),
    "Log1p": (lambda x: ops.log1p(ops.abs(x)), "Elementwise"),
    **{
        name: (getattr(ops, name.lower()), "Elementwise")
        for name in ("Square", "Exp", "Expm1", "Sin", "Cos", "Arctan", "Erf", "Sign", "Floor", "Ceil", "Reciprocal")
    },
    **{
        name: (getattr(ops, function), "Activation")
        for name, function in {
            "Selu": "selu",
            "Softplus": "softplus",
            "Softsign": "softsign",
            "HardSigmoid": "hard_sigmoid",
            "HardTanh": "hard_tanh",
            "LogSigmoid": "log_sigmoid",
            "TanhShrink": "tanh_shrink",
        }.items()
    },
    "Reshape": (lambda x: ops.reshape(x, (-1, 36, 2)), "Reshape"),
    "Reshape, unknown": (lambda x: ops.reshape(x, (-1, 4, 18)), "Reshape"),
}


@pytest.mark.parametrize("name", ONE)
def test_one_tensor(name, rewritten):
    function, kind = ONE[name]
    assert kinds(rewritten(made(function, (6, 6, 2)), layered_operations))[-1] == kind


def test_the_mean_over_time(rewritten):
    model = made(lambda x: ops.mean(x, axis=1), (6, 2))
    assert kinds(rewritten(model, layered_operations)) == ["GlobalAveragePooling1D"]


def test_concatenation(rewritten):
    model = made(lambda a, b: ops.concatenate([a, b], axis=1), (4, 3), (2, 3))
    assert kinds(rewritten(model, layered_operations)) == ["Concatenate"]


def test_every_row_is_tried():
    tried = {name.split(",")[0] for name in ONE} | set(TWO) | {"Divide", "TrueDivide"}
    assert tried == {*UNARY, *BINARY}
    assert set(OF_TENSORS) == {"Divide", "TrueDivide", "Stack", "Matmul", "Max", "Concatenate"}


LEFT = {
    "2 / x": (lambda x: 2.0 / (ops.abs(x) + 1.0), (4,)),
    "x * an array of places": (lambda x: x * np.arange(1.0, 5.0, dtype="float32")[:, None], (4, 3)),
    "x / zeros": (lambda x: x / np.array([1.0, 0.0, 2.0], "float32"), (3,)),
    "x / x of two ranks": (lambda x: x / (ops.abs(ops.mean(x)) + 1.0), (4, 3)),
    "mean of all": (lambda x: ops.mean(x, axis=-1), (4, 3)),
    "mean of one axis": (lambda x: ops.mean(x, axis=1), (4, 4, 3)),
    "reshape that mixes samples": (lambda x: ops.reshape(x, (-1, 3)), (4, 3)),
    "tensors of two ranks": (lambda x: x + ops.mean(x), (4, 3)),
}


@pytest.mark.parametrize("name", LEFT)
def test_what_no_layer_stands_for_is_left(name, rewritten):
    function, shape = LEFT[name]
    model = made(function, shape)
    new = rewritten(model, layered_operations)
    assert type(new.operations[-1]) is type(model.operations[-1])


def test_whole_numbers_are_left():
    i = keras.Input((4,), dtype="int32")
    model = keras.Model(i, L.Embedding(9, 2)(ops.minimum(i + 1, 8)))
    new = layered_operations(model)
    assert "Rescaling" not in kinds(new)
    x = np.array([[0, 3, 7, 9]])
    assert model.predict(x, verbose=0).shape == (1, 4, 2)
    np.testing.assert_array_equal(new.predict(x, verbose=0), model.predict(x, verbose=0))


def test_names_are_those_of_the_operations(rewritten):
    i = keras.Input((4,))
    model = keras.Model(i, ops.relu(L.Dense(4, name="d")(i) + i))
    old = [operation.name for operation in model.operations if not isinstance(operation, L.Layer)]
    new = [layer.name for layer in rewritten(model, layered_operations).layers[1:]]
    assert new == ["d", *old]


EACH = np.array([0.5, 1.0, 2.0], "float32")
WITH_ARRAYS = {
    "subtracted": (lambda x: x - EACH, ["Rescaling"]),
    "from the left": (lambda x: ops.subtract(EACH, x), ["Rescaling"]),
    "standardized": (lambda x: (x - EACH[None, None]) / EACH, ["Rescaling", "Rescaling"]),
    "multiplied": (lambda x: x * EACH, ["Rescaling"]),
    "for each place": (lambda x: x + np.ones((4, 3), "float32"), []),
    "one for all": (lambda x: x * np.array([2.0], "float32"), []),
}


@pytest.mark.parametrize("case", WITH_ARRAYS)
def test_an_array_with_a_number_for_each_channel(case, rewritten):
    function, wanted = WITH_ARRAYS[case]
    found = kinds(rewritten(made(function, (4, 3)), layered_operations))
    assert [kind for kind in found if kind == "Rescaling"] == wanted
