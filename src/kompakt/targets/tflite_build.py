"""Small TFLite files made from nothing, to find out what a machine can do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

VERSION = 3
"""Of the format."""


def product(kind: str, rows: int, inner: int, columns: int) -> bytes:
    """A file that multiplies a matrix (rows, inner) by a constant (inner, columns), in "float32" or "int8".

    Example:
        >>> product("int8", 2, 8, 4)[4:8]
        b'TFL3'
    """
    values = np.random.default_rng(0).integers(-127, 128, (columns, inner)).astype("int8")
    whole = kind == "int8"
    tensors = [
        _tensor("x", kind, (rows, inner), scale=[0.05] if whole else ()),
        _tensor("w", kind, (columns, inner), buffer=1, scale=[0.01] * columns if whole else ()),
        _tensor("y", kind, (rows, columns), scale=[0.5] if whole else ()),
    ]
    stored = values if whole else values.astype("float32") / 127
    options = schema.FullyConnectedOptionsT()
    return _file("FULLY_CONNECTED", options, tensors, inputs=[0, 1, -1], data=stored)


def nothing() -> bytes:
    """A file with one operator on one number: what a call costs whatever is computed."""
    tensors = [_tensor("x", "float32", (1, 1)), _tensor("y", "float32", (1, 1))]
    return _file("RELU", None, tensors, inputs=[0])


def _tensor(name: str, kind: str, shape: Sequence[int], *, buffer: int = 0, scale: Sequence[float] = ()) -> Any:
    made = schema.TensorT()
    made.name, made.shape, made.buffer = name.encode(), np.asarray(shape, "int32"), buffer
    made.type = getattr(schema.TensorType, kind.upper())
    if scale:
        made.quantization = schema.QuantizationParametersT()
        made.quantization.scale = np.asarray(scale, "float32")
        made.quantization.zeroPoint = np.zeros(len(scale), "int64")
        made.quantization.quantizedDimension = 0
    return made


def _file(
    operator: str, options: Any, tensors: list[Any], *, inputs: Sequence[int], data: np.ndarray | None = None
) -> bytes:
    """One operator whose first input is the file's, and whose output is the last tensor."""
    number = getattr(schema.BuiltinOperator, operator)
    code = schema.OperatorCodeT()
    code.builtinCode, code.deprecatedBuiltinCode, code.version = number, min(number, 127), 5 if data is not None else 1
    op = schema.OperatorT()
    op.opcodeIndex, op.inputs, op.outputs = 0, np.asarray(inputs, "int32"), np.asarray([len(tensors) - 1], "int32")
    if options is not None:
        op.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
        op.builtinOptions = options
    graph = schema.SubGraphT()
    graph.name, graph.tensors, graph.operators = b"main", tensors, [op]
    graph.inputs, graph.outputs = np.asarray([0], "int32"), np.asarray([len(tensors) - 1], "int32")
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs, model.buffers = VERSION, [code], [graph], [schema.BufferT()]
    if data is not None:
        held = schema.BufferT()
        held.data = np.frombuffer(data.tobytes(), "uint8")
        model.buffers.append(held)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))
