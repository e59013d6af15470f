"""New operators and tensors of a flatbuffer, for what rewrites files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from kompakt.targets.tflite_file import TFLiteFile


def operator(file: TFLiteFile, name: str, inputs: Sequence[int], outputs: Sequence[int], options: str = "") -> Any:
    """A new operator of the schema, with options of its kind at their defaults; it is not put anywhere."""
    op = schema.OperatorT()
    op.opcodeIndex = file.operator_code(name)
    op.inputs, op.outputs = np.asarray(inputs, "int32"), np.asarray(outputs, "int32")
    if options:
        op.builtinOptionsType = getattr(schema.BuiltinOptions, options)
        op.builtinOptions = getattr(schema, f"{options}T")()
    return op


def tensor(file: TFLiteFile, name: str, shape: Sequence[int], kind: str) -> int:
    """A new tensor without values, of a type such as "INT8"; its index."""
    file.model.buffers.append(schema.BufferT())
    made = schema.TensorT()
    made.name, made.shape = name.encode(), np.asarray(shape, "int32")
    made.type, made.buffer = getattr(schema.TensorType, kind), len(file.model.buffers) - 1
    file.graph.tensors.append(made)
    return len(file.graph.tensors) - 1


def constant(file: TFLiteFile, name: str, values: np.ndarray, kind: str) -> int:
    """A new tensor with ``values``, which are of its type; its index."""
    index = tensor(file, name, values.shape, kind)
    file.model.buffers[-1].data = np.frombuffer(values.tobytes(), "uint8")
    return index


def tensor_like(file: TFLiteFile, index: int, shape: Sequence[int], ending: str) -> int:
    """A new tensor with the type, the grid and the values of another, its name with an ``ending``."""
    old, new = file.graph.tensors[index], schema.TensorT()
    new.name = old.name + ending.encode()
    new.type, new.buffer, new.quantization = old.type, old.buffer, old.quantization
    new.shape = np.asarray(shape, "int32")
    file.graph.tensors.append(new)
    return len(file.graph.tensors) - 1
