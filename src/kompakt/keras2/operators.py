"""Functions of TensorFlow in a functional model of Keras 2 (``x + 1``, ``tf.nn.relu(x)``), as operations of Keras 3."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras

from kompakt.errors import InputError
from kompakt.keras2.constants import operand
from kompakt.keras2.resizing import resizes

NUMPY, NN, CORE, MATH, IMAGE = (f"keras.src.ops.{part}" for part in ("numpy", "nn", "core", "math", "image"))
"""Modules of Keras' operations, as ``.keras`` files name them."""


OPERATORS = ("TFOpLambda", "SlicingOpLambda", "ClassMethod", "InstanceMethod", "InstanceProperty")
"""Layers that are functions of TensorFlow."""


@dataclass(frozen=True)
class Call:
    """An operation of Keras 3 and what it is called with.

    Attributes:
        module, kind: the operation's class. config: what it is made with. args: what it is called with, each array as
            a :class:`~kompakt.keras2.constants.Constant`.
    """

    module: str
    kind: str
    config: dict[str, Any]
    args: list[Any]


Arguments = dict[str, Any]
Make = Callable[[Arguments], Call]


def _unary(module: str, kind: str, first: str = "x") -> Make:
    return lambda given: Call(module, kind, {}, [given.pop(first)])


def _binary(kind: str, names: tuple[str, str] = ("x", "y")) -> Make:
    return lambda given: Call(NUMPY, kind, {}, [operand(given.pop(name)) for name in names])


def _reduction(kind: str) -> Make:
    return lambda given: Call(
        NUMPY,
        kind,
        {"axis": given.pop("axis", None), "keepdims": bool(given.pop("keepdims", False))},
        [given.pop("input_tensor")],
    )


def _joined(kind: str, default: Any) -> Make:
    """Several tensors along an axis; some may be constants."""

    def make(given: Arguments) -> Call:
        axis = given.pop("axis") if default is REQUIRED else given.pop("axis", default)
        return Call(NUMPY, kind, {"axis": axis}, [[operand(each) for each in given.pop("values")]])

    return make


def _with(module: str, kind: str, first: str, **attributes: tuple[str, Any]) -> Make:
    """An operation with attributes: the name in Keras -> (the name in TensorFlow, its default; REQUIRED where none)."""

    def make(given: Arguments) -> Call:
        config = {
            ours: given.pop(theirs) if default is REQUIRED else given.pop(theirs, default)
            for ours, (theirs, default) in attributes.items()
        }
        return Call(module, kind, config, [given.pop(first)])

    return make


def _softmax(kind: str) -> Make:
    def make(given: Arguments) -> Call:
        axis = given.pop("axis", None)
        return Call(NN, kind, {"axis": -1 if axis is None else axis}, [given.pop("logits")])

    return make


def _getitem(given: Arguments) -> Call:
    parts = given.pop("slice_spec")
    if parts == TURNED and keras.backend.backend() == "torch":
        return Call(NUMPY, "Flip", {"axis": -1}, [given.pop("tensor")])
    return Call(NUMPY, "GetItem", {}, [given.pop("tensor"), [_slice(part) for part in parts]])


TURNED = [{"class_name": "__ellipsis__"}, {"start": None, "stop": None, "step": -1}]
"""``x[..., ::-1]``, of ``preprocess_input``: torch has no steps back, and ai-edge-quantizer no integer Flip."""


def _slice(part: Any) -> Any:
    """One part of ``x[...]``: numbers as they are, slices and ellipses as Keras 3 writes them."""
    if isinstance(part, Mapping) and "start" in part:
        return {"class_name": "__slice__", "config": dict(part)}
    if isinstance(part, Mapping) and part.get("class_name") == "__ellipsis__":
        return {"class_name": "__ellipsis__", "config": {}}
    return part


def _matmul(given: Arguments) -> Call:
    turned = tuple(bool(given.pop(f"transpose_{name}", False)) for name in "ab")
    args = [operand(given.pop("a")), operand(given.pop("b"))]
    if not any(turned):
        return Call(NUMPY, "Matmul", {}, args)
    left, right = "ji" if turned[0] else "ij", "kj" if turned[1] else "jk"
    return Call(NUMPY, "Einsum", {"subscripts": f"...{left},...{right}->...ik"}, args)


def _where(given: Arguments) -> Call:
    return Call(NUMPY, "Where", {}, [given.pop("condition"), operand(given.pop("x")), operand(given.pop("y"))])


def _split(given: Arguments) -> Call:
    """Parts of equal size, or of the sizes given: Keras wants the places of the cuts."""
    sizes = given.pop("num_or_size_splits")
    cuts = sizes if isinstance(sizes, int) else [sum(sizes[: i + 1]) for i in range(len(sizes) - 1)]
    return Call(NUMPY, "Split", {"indices_or_sections": cuts, "axis": given.pop("axis", 0)}, [given.pop("value")])


def _pad(given: Arguments) -> Call:
    mode = str(given.pop("mode", "CONSTANT")).lower()
    return Call(NUMPY, "Pad", {"pad_width": given.pop("paddings"), "mode": mode}, [given.pop("tensor")])


def _clip(given: Arguments) -> Call:
    """Bounds are attributes; those of each channel, which not every backend takes there, are refused."""
    bounds = {"x_min": "clip_value_min", "x_max": "clip_value_max"}
    config = {ours: given.pop(theirs) for ours, theirs in bounds.items() if not isinstance(given[theirs], list)}
    return Call(NUMPY, "Clip", config, [given.pop("t")])


def _l2_normalize(given: Arguments) -> Call:
    """TensorFlow's epsilon is a bound of the sum of squares, that of Keras of its root."""
    config = {"axis": given.pop("axis"), "order": 2, "epsilon": given.pop("epsilon", 1e-12) ** 0.5}
    return Call(NN, "Normalize", config, [given.pop("x")])


def _resize(given: Arguments) -> Call:
    method = given.pop("method", "bilinear")
    if not resizes(method):
        given["method"] = method  # what is left is told
    config = {"size": given.pop("size"), "interpolation": method, "antialias": given.pop("antialias", False)}
    return Call(IMAGE, "Resize", {**config, "data_format": "channels_last"}, [given.pop("images")])


REQUIRED = object()
_ADD, _SUBTRACT, _MULTIPLY, _DIVIDE = (_binary(kind) for kind in ("Add", "Subtract", "Multiply", "TrueDivide"))
_SQUEEZE = _with(NUMPY, "Squeeze", "input", axis=("axis", None))
_TRANSPOSE = _with(NUMPY, "Transpose", "a", axes=("perm", None))

TABLE: dict[str, tuple[str, Make]] = {
    "__operators__.add": ("x", _ADD),
    "math.add": ("x", _ADD),
    "math.subtract": ("x", _SUBTRACT),
    "math.multiply": ("x", _MULTIPLY),
    "math.truediv": ("x", _DIVIDE),
    "math.divide": ("x", _DIVIDE),
    "realdiv": ("x", _DIVIDE),
    "math.pow": ("x", _binary("Power")),
    "math.maximum": ("x", _binary("Maximum")),
    "math.minimum": ("x", _binary("Minimum")),
    "math.greater": ("x", _binary("Greater")),
    "math.greater_equal": ("x", _binary("GreaterEqual")),
    "math.less": ("x", _binary("Less")),
    "math.less_equal": ("x", _binary("LessEqual")),
    "nn.bias_add": ("value", _binary("Add", ("value", "bias"))),
    "math.negative": ("x", _unary(NUMPY, "Negative")),
    "math.abs": ("x", _unary(NUMPY, "Absolute")),
    "math.square": ("x", _unary(NUMPY, "Square")),
    "math.sqrt": ("x", _unary(NUMPY, "Sqrt")),
    "math.rsqrt": ("x", _unary(MATH, "Rsqrt")),
    "math.exp": ("x", _unary(NUMPY, "Exp")),
    "math.log": ("x", _unary(NUMPY, "Log")),
    "math.log1p": ("x", _unary(NUMPY, "Log1p")),
    "math.floor": ("x", _unary(NUMPY, "Floor")),
    "math.sin": ("x", _unary(NUMPY, "Sin")),
    "math.cos": ("x", _unary(NUMPY, "Cos")),
    "math.tanh": ("x", _unary(NUMPY, "Tanh")),
    "nn.tanh": ("x", _unary(NUMPY, "Tanh")),
    "math.sigmoid": ("x", _unary(NN, "Sigmoid")),
    "nn.sigmoid": ("x", _unary(NN, "Sigmoid")),
    "nn.relu": ("features", _unary(NN, "Relu", "features")),
    "nn.silu": ("features", _unary(NN, "Silu", "features")),
    "nn.relu6": ("features", _unary(NN, "Relu6", "features")),
    "nn.elu": ("features", _unary(NN, "Elu", "features")),
    "nn.selu": ("features", _unary(NN, "Selu", "features")),
    "nn.softsign": ("features", _unary(NN, "Softsign", "features")),
    "math.softplus": ("features", _unary(NN, "Softplus", "features")),
    "nn.leaky_relu": ("features", _with(NN, "LeakyRelu", "features", negative_slope=("alpha", 0.2))),
    "nn.gelu": ("features", _with(NN, "Gelu", "features", approximate=("approximate", False))),
    "nn.softmax": ("logits", _softmax("Softmax")),
    "nn.log_softmax": ("logits", _softmax("LogSoftmax")),
    "math.reduce_mean": ("input_tensor", _reduction("Mean")),
    "math.reduce_sum": ("input_tensor", _reduction("Sum")),
    "math.reduce_max": ("input_tensor", _reduction("Max")),
    "math.reduce_min": ("input_tensor", _reduction("Min")),
    "math.reduce_prod": ("input_tensor", _reduction("Prod")),
    "math.reduce_std": ("input_tensor", _reduction("Std")),
    "math.reduce_variance": ("input_tensor", _reduction("Var")),
    "math.argmax": ("input", _with(NUMPY, "Argmax", "input", axis=("axis", 0))),
    "math.l2_normalize": ("x", _l2_normalize),
    "concat": ("values", _joined("Concatenate", REQUIRED)),
    "stack": ("values", _joined("Stack", 0)),
    "split": ("value", _split),
    "tile": ("input", _with(NUMPY, "Tile", "input", repeats=("multiples", REQUIRED))),
    "pad": ("tensor", _pad),
    "compat.v1.pad": ("tensor", _pad),
    "one_hot": (
        "indices",
        _with(NN, "OneHot", "indices", num_classes=("depth", REQUIRED), axis=("axis", -1), dtype=("dtype", "float32")),
    ),
    "where": ("condition", _where),
    "image.resize": ("images", _resize),
    "reshape": ("tensor", _with(NUMPY, "Reshape", "tensor", newshape=("shape", REQUIRED))),
    "transpose": ("a", _TRANSPOSE),
    "compat.v1.transpose": ("a", _TRANSPOSE),
    "expand_dims": ("input", _with(NUMPY, "ExpandDims", "input", axis=("axis", REQUIRED))),
    "squeeze": ("input", _SQUEEZE),
    "compat.v1.squeeze": ("input", _SQUEEZE),
    "clip_by_value": ("t", _clip),
    "cast": ("x", _with(CORE, "Cast", "x", dtype=("dtype", REQUIRED))),
    "linalg.matmul": ("a", _matmul),
    "__operators__.getitem": ("tensor", _getitem),
    "slice": ("tensor", _getitem),
}
"""Function of TensorFlow, as Keras 2 names it -> (the name of its first parameter, the operation of Keras 3)."""

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "conjugate": (False,),
    "adjoint_a": (False,),
    "adjoint_b": (False,),
    "a_is_sparse": (False,),
    "b_is_sparse": (False,),
    "data_format": ("NHWC", "N...C"),
    "constant_values": (0,),
    "output_type": ("int64", "int32"),
    "preserve_aspect_ratio": (False,),
    "on_value": (1,),
    "off_value": (0,),
}
"""Arguments that are nothing with these values."""


REMEDY = "build the model again in Keras 3, with keras.ops in its place, and load the weights"


def operation(name: str, function: str, first: Any, rest: Mapping[str, Any]) -> Call:
    """The operation of Keras 3 that a function of TensorFlow is.

    Args:
        name: of the layer, for the error. function: such as "nn.relu". first: its first argument.
        rest: its other arguments, by name.

    Raises:
        InputError: Keras 3 has none that is known here for it, or for one of its arguments.

    Example:
        >>> operation("add", "math.add", "x", {"y": 1.0, "name": None})
        Call(module='keras.src.ops.numpy', kind='Add', config={}, args=['x', 1.0])
    """
    told = f"layer {name!r} is TensorFlow's tf.{function}"
    lacks = f"which kompakt has no form of Keras 3 for: {REMEDY}"
    if function not in TABLE:
        raise InputError(f"{told}, {lacks}")
    parameter, make = TABLE[function]
    given = {key: value for key, value in {parameter: first, **rest}.items() if key != "name"}
    try:
        call = make(given)
    except KeyError as missing:
        raise InputError(f"{told} without {missing.args[0]!r}, {lacks}") from missing
    left = {key: value for key, value in given.items() if value is not None and value not in NEUTRAL.get(key, ())}
    if left:
        shown = ", ".join(f"{key}={value!r}" for key, value in left.items())
        raise InputError(f"{told} with {shown}, {lacks}")
    return call
