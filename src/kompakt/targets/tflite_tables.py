r"""Functions of one number, for which the runtime has no integer operator, as tables of 256 integers.

An int8 tensor holds one of 256 values: any function of it is a table, :math:`q_y = T[q_x + 128]` with
:math:`T[i] = clip(round(f(s_x (i - 128 - z_x)) / s_y) + z_y)`, which is exactly what the simulation rounds.
In the file it is CAST, ADD and GATHER, all on integers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from keras import layers, ops

from kompakt.copies import copy_layer
from kompakt.errors import InputError
from kompakt.graph import map_layers
from kompakt.records import Encoding
from kompakt.rewrite.elementwise import Elementwise
from kompakt.rewrite.split_activation import fused
from kompakt.sites import OUTPUT
from kompakt.targets.tflite_edit import constant, operator, tensor
from kompakt.targets.tflite_file import Op, TFLiteFile

NATIVE = ("linear", "relu", "relu6", "sigmoid", "tanh", "softmax", "log_softmax", "sparsemax", "glu", "gelu", "elu")
"""Activations that the runtime computes on integers as the simulation does, or that look at more than one number.

HARD_SWISH is not among them: its integers are up to 3 steps away from the function.
"""

FAR = 2.0e38
"""A bound that no number reaches: where a function begins and ends in the file is marked with such."""

STAND_IN = "GELU"
"""Operator that the quantizer takes for any function: with a grid of its own on either side."""


def is_table(layer: Any) -> bool:
    """Whether ``layer`` is stored as a table.

    Example:
        >>> is_table(layers.Activation("mish")), is_table(layers.Activation("relu"))
        (True, False)
    """
    if isinstance(layer, layers.Activation):
        return keras.activations.serialize(layer.activation) not in NATIVE
    if isinstance(layer, layers.ReLU):
        return not fused(layer)
    return isinstance(layer, Elementwise)


class Fenced(layers.Layer):  # type: ignore[misc]
    """The layer between two bounds that nothing reaches, so that no converter fuses it with what is around it."""

    def __init__(self, layer: Any, bound: float) -> None:
        super().__init__(name=layer.name)
        self.function, self.bound = copy_layer(layer), bound

    def call(self, x: Any) -> Any:
        return ops.minimum(self.function(ops.maximum(x, -self.bound)), self.bound)

    def compute_output_shape(self, shape: Any) -> Any:
        return self.function.compute_output_shape(shape)


def fenced(model: keras.Model, encodings: Mapping[str, Encoding]) -> tuple[keras.Model, dict[float, Any]]:
    """(``model`` with each function that becomes a table between two bounds, {bound: layer}).

    Those do whose output has 8 bits: a table of 65,536 integers would be larger than most models.
    """
    bounds: dict[float, Any] = {}
    made = {
        layer.name for layer in model.layers if is_table(layer) and _is_byte(encodings.get(f"{layer.name}/{OUTPUT}"))
    }

    def make(layer: Any) -> Any:
        if layer.name not in made:
            return copy_layer(layer)
        bound = float(np.float32(FAR * (1.0 + len(bounds) * 1e-4)))
        bounds[bound] = layer
        return Fenced(layer, bound)

    if not made:
        return model, {}
    return map_layers(model, make), bounds


def _is_byte(encoding: Encoding | None) -> bool:
    return encoding is not None and encoding.bits == 8


def inner_tensors(file: TFLiteFile, bounds: Mapping[float, Any]) -> set[int]:
    """The tensors that go when functions become tables."""
    return {
        i for first, last in _marked(file, bounds) for k in _between(file, first, last) for i in file.ops[k].outputs
    }


def _marked(file: TFLiteFile, bounds: Mapping[float, Any]) -> list[tuple[Op, Op]]:
    """The operators at both ends of each function in the file, in the order of ``bounds``."""

    def at(name: str, bound: float) -> list[Op]:
        return [op for op in file.ops if op.name == name and _bound(file, op) == bound]

    pairs = [(at("MAXIMUM", -bound), at("MINIMUM", bound)) for bound in bounds]
    if not all(len(first) == len(last) == 1 for first, last in pairs):
        raise InputError(f"the converter lost where {', '.join(layer.name for layer in bounds.values())} begin or end")
    return [(first[0], last[0]) for first, last in pairs]


def put_stand_ins(file: TFLiteFile, bounds: Mapping[float, Any]) -> dict[int, Any]:
    """One operator in place of all those between each two bounds.

    Returns:
        {tensor that the function makes: its layer}.
    """
    found: dict[int, Any] = {}
    marked = list(zip(_marked(file, bounds), bounds.values(), strict=True))
    gone: set[int] = set()
    reshaped: list[tuple[Any, Any]] = []
    for (first, last), layer in marked:
        gone |= _between(file, first, last)
        raw = file.graph.operators[file.ops.index(last)]
        raw.opcodeIndex = file.operator_code("GELU")
        raw.builtinOptionsType, raw.builtinOptions = schema.BuiltinOptions.GeluOptions, schema.GeluOptionsT()
        data, before = _shaped_as(file, _data(file, first), last.outputs[0])
        raw.inputs = [data]
        reshaped += [(raw, before)] if before is not None else []
        found[last.outputs[0]] = layer
    file.graph.operators = [op for i, op in enumerate(file.graph.operators) if i not in gone]
    for raw, before in reshaped:
        file.graph.operators.insert(file.graph.operators.index(raw), before)
    file.reread()
    return found


def _shaped_as(file: TFLiteFile, index: int, like: int) -> tuple[int, Any]:
    """(the tensor ``index`` in the shape of ``like``, the RESHAPE that makes it, None where it has that shape).

    The converter moves that of a Conv1D, which is a Conv2D of one row in the file, to behind the function.
    """
    given, result = file.tensors[index], file.tensors[like]
    if given.shape == result.shape:
        return index, None
    shape = constant(file, f"{result.name}:shape", np.asarray(result.shape, "int32"), "INT32")
    made = tensor(file, f"{given.name}:{like}", result.shape, given.kind)
    return made, operator(file, "RESHAPE", [index, shape], [made])


def put_tables(file: TFLiteFile, tables: Mapping[str, Any]) -> None:
    """The tables in place of the operators that stand in for them.

    Args:
        file: integer. tables: name of the tensor that a function makes -> its layer.
    """
    for op in [op for op in file.ops if op.name == STAND_IN]:
        layer = tables.get(file.tensors[op.outputs[0]].name.removesuffix("_quantized"))
        given, made = file.tensors[op.inputs[0]], file.tensors[op.outputs[0]]
        if layer is None or given.kind != "INT8" or made.kind != "INT8":
            continue
        place = next(i for i, raw in enumerate(file.graph.operators) if list(raw.outputs) == list(op.outputs))
        whole = tensor(file, f"{made.name}:number", given.shape, "INT32")
        index = tensor(file, f"{made.name}:place", given.shape, "INT32")
        half = constant(file, f"{made.name}:half", np.array(128, "int32"), "INT32")
        values = constant(file, f"{made.name}:table", table(layer, given, made), "INT8")
        file.graph.tensors[values].quantization = file.graph.tensors[made.index].quantization
        cast = operator(file, "CAST", [given.index], [whole], "CastOptions")
        cast.builtinOptions.inDataType, cast.builtinOptions.outDataType = (
            schema.TensorType.INT8,
            schema.TensorType.INT32,
        )
        add = operator(file, "ADD", [whole, half], [index], "AddOptions")
        gather = operator(file, "GATHER", [values, index], [made.index], "GatherOptions")
        steps = [cast, add, gather]
        file.graph.operators[place : place + 1] = steps
        file.reread()


def table(layer: Any, given: Any, made: Any) -> np.ndarray:
    """The integers that ``layer`` makes of -128..127 on the grid of ``given``, on that of ``made``: (256,) int8."""
    numbers = (np.arange(-128, 128, dtype="float32") - np.float32(given.zero_point[0])) * np.float32(given.scale[0])
    values = np.asarray(ops.convert_to_numpy(layer(numbers[None]))).ravel()
    steps = np.round(values / np.float32(made.scale[0])) + made.zero_point[0]
    return np.clip(np.nan_to_num(steps, nan=float(made.zero_point[0])), -128, 127).astype("int8")


def _bound(file: TFLiteFile, op: Op) -> float | None:
    values = [file.tensors[i].values for i in op.inputs]
    return next((float(v.ravel()[0]) for v in values if v is not None and v.size == 1), None)


def _data(file: TFLiteFile, op: Op) -> int:
    return next(i for i in op.inputs if file.tensors[i].values is None)


def _between(file: TFLiteFile, first: Op, last: Op) -> set[int]:
    """Positions of the operators that ``last`` needs, back to ``first``, which is one of them."""
    made = {output: i for i, op in enumerate(file.ops) for output in op.outputs}
    start = file.ops.index(first)
    found, waiting = {start}, [last]
    while waiting:
        for index in waiting.pop().inputs:
            place = made.get(index)
            if place is not None and place not in found:
                found.add(place)
                waiting.append(file.ops[place])
    return found
