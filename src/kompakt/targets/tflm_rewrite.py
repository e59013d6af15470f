"""Operators put in another way: one that TensorFlow Lite Micro has, and computes as LiteRT's reference kernels do.

An int8 FULLY_CONNECTED becomes CONV_2D with a 1x1 kernel, the same sums of products. Of the first LiteRT's reference
kernel rounds a sum once and TensorFlow Lite Micro's twice, as both do in a convolution: one output in a hundred would
be one step off (measured, ai-edge-litert 2.3). With 4-bit weights TensorFlow Lite Micro has only the convolution, and
releases before 2024 took the first scale of a FULLY_CONNECTED for all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from kompakt.targets.tflite_edit import constant, operator, tensor_like
from kompakt.targets.tflite_file import Op, TFLiteFile
from kompakt.targets.tflite_seal import ENTRY as SEAL
from kompakt.targets.tflite_seal import seal
from kompakt.targets.tflite_signatures import NOTE
from kompakt.targets.tflm_edit import cleaned, packed

INTEGERS = ("INT8",)
"""Types of data in whose FULLY_CONNECTED operators the two runtimes round in different ways."""

CONVOLUTION = 3
"""Version of CONV_2D with int8 data and a scale a channel."""

ROWS = ":rows"
"""End of the name of a tensor that holds the same numbers as the one with the name before it."""


def for_micro(data: bytes) -> TFLiteFile:
    """A file with each operator that has another form in TensorFlow Lite Micro in that form."""
    file = TFLiteFile(data)
    for part in file.parts():
        _selects(part)
        _Convolutions(part).make()
    cleaned(file)
    return file


def finished(file: TFLiteFile) -> tuple[bytes, bytes]:
    """(the bytes of an edited ``file``, its constants aligned, without what kompakt notes in it; a seal of them).

    On the device the note and the seal would be some 700 bytes of flash that nothing reads.
    """
    file.model.metadata = [each for each in file.model.metadata or [] if each.name.decode() not in (NOTE, SEAL)]
    cleaned(file)
    made = packed(file)
    return made, seal(TFLiteFile(made))


def _selects(part: TFLiteFile) -> None:
    """SELECT, which it does not have; of the tensors of one shape each, as Embedding makes it, is SELECT_V2.

    Of 32-bit integers it has not that either: b + (a - b) c with a condition c of 0 or 1.
    """
    wanted: list[Any] = []
    for op, raw in zip(part.ops, list(part.graph.operators or []), strict=True):
        shapes = {part.tensors[i].shape for i in (*op.inputs, *op.outputs)}
        if op.name != "SELECT" or len(shapes) > 1:
            wanted.append(raw)
        elif part.tensors[op.outputs[0]].kind == "INT32":
            wanted += _chosen(part, op)
        else:
            wanted.append(operator(part, "SELECT_V2", op.inputs, op.outputs, "SelectV2Options"))
    part.graph.operators = wanted
    part.reread()


def _chosen(part: TFLiteFile, op: Op) -> list[Any]:
    condition, a, b = op.inputs
    shape = part.tensors[b].shape
    bit, step, moved = (tensor_like(part, b, shape, f":{name}") for name in ("condition", "difference", "change"))
    for index in (bit, step, moved):
        part.graph.tensors[index].buffer = 0
    cast = operator(part, "CAST", [condition], [bit], "CastOptions")
    cast.builtinOptions.inDataType = schema.TensorType.BOOL
    cast.builtinOptions.outDataType = schema.TensorType.INT32
    return [
        cast,
        operator(part, "SUB", [a, b], [step], "SubOptions"),
        operator(part, "MUL", [step, bit], [moved], "MulOptions"),
        operator(part, "ADD", [b, moved], op.outputs, "AddOptions"),
    ]


class _Convolutions:
    """The FULLY_CONNECTED operators of a graph as convolutions over rows: (1, rows, 1, columns).

    A tensor between two of them, or between one and a RESHAPE, has that shape itself; elsewhere a RESHAPE makes it.
    """

    def __init__(self, part: TFLiteFile) -> None:
        self.part = part
        self.graph = part.graph
        self.found = [i for i, op in enumerate(part.ops) if _is_linear(part, op)]
        self.made = {output: op for op in part.ops for output in op.outputs}
        self.readers: dict[int, list[int]] = {}
        for i, op in enumerate(part.ops):
            for index in op.inputs:
                self.readers.setdefault(index, []).append(i)
        self.weights: dict[int, int] = {}
        self.rows: dict[int, int] = {}
        self.zeros: dict[int, int] = {}

    def make(self) -> None:
        operators = list(self.graph.operators or [])
        wanted = []
        for i, raw in enumerate(operators):
            wanted += self._convolution(self.part.ops[i], raw) if i in self.found else [raw]
        self.graph.operators = wanted
        self.part.reread()

    def _convolution(self, op: Op, raw: Any) -> list[Any]:
        """The operators that take the place of ``op``."""
        data, weights, *given = op.inputs
        bias = next((i for i in given if i >= 0), None)
        if bias is None:
            bias = self._no_bias(weights)
        columns = self.part.tensors[weights].shape[-1]
        before, source = self._rows_of(data, columns)
        after, result = self._rows_to(op.outputs[0])
        old = raw.builtinOptions
        options = schema.Conv2DOptionsT()
        options.strideW = options.strideH = options.dilationWFactor = options.dilationHFactor = 1
        options.padding = schema.Padding.VALID
        options.fusedActivationFunction = old.fusedActivationFunction
        options.quantizedBiasType = old.quantizedBiasType
        raw.opcodeIndex = self.part.operator_code("CONV_2D", CONVOLUTION)
        raw.builtinOptionsType, raw.builtinOptions = schema.BuiltinOptions.Conv2DOptions, options
        raw.inputs = np.asarray([source, self._kernel(weights), bias], "int32")
        raw.outputs = np.asarray([result], "int32")
        return [*before, raw, *after]

    def _rows_of(self, index: int, columns: int) -> tuple[list[Any], int]:
        """(operators that make it, tensor ``index`` as rows)."""
        tensor, maker = self.part.tensors[index], self.made.get(index)
        shape = _as_rows(tensor.shape, columns)
        if tensor.shape == shape or index in self.rows:
            return [], self.rows.get(index, index)
        if maker is not None and (maker.name == "RESHAPE" or self._is_linear(maker)) and self._ours(index):
            self._reshape(index, shape)
            return [], index
        self.rows[index] = tensor_like(self.part, index, shape, ROWS)
        return [self._moved(index, self.rows[index])], self.rows[index]

    def _rows_to(self, index: int) -> tuple[list[Any], int]:
        """(operators that make tensor ``index`` of it, the tensor for the rows of a result)."""
        shape = _as_rows(self.part.tensors[index].shape, self.part.tensors[index].shape[-1])
        if self.part.tensors[index].shape == shape or self._ours(index):
            self._reshape(index, shape)
            return [], index
        self.rows[index] = tensor_like(self.part, index, shape, ROWS)
        return [self._moved(self.rows[index], index)], self.rows[index]

    def _is_linear(self, op: Op) -> bool:
        return any(self.part.ops[i] is op for i in self.found)

    def _ours(self, index: int) -> bool:
        """Whether nothing but our operators and RESHAPE sees the shape of a tensor."""
        seen = self.readers.get(index, [])
        taken = all(i in self.found or self.part.ops[i].name == "RESHAPE" for i in seen)
        return bool(seen) and taken and index not in self.part.outputs

    def _kernel(self, index: int) -> int:
        """The weights of a 1x1 kernel: the same tensor, or one beside it where another operator reads that too."""
        if index not in self.weights:
            tensor = self.part.tensors[index]
            alone = all(i in self.found for i in self.readers[index])
            self.weights[index] = index if alone else tensor_like(self.part, index, (), ROWS)
            self._reshape(self.weights[index], (tensor.shape[0], 1, 1, tensor.shape[1]))
        return self.weights[index]

    def _reshape(self, index: int, shape: Sequence[int]) -> None:
        self.graph.tensors[index].shape = np.asarray(shape, "int32")
        self.graph.tensors[index].shapeSignature = None
        maker = self.made.get(index)
        if maker is not None and maker.name == "RESHAPE":
            raw = self.graph.operators[self.part.ops.index(maker)]
            _set_shape(raw, shape)

    def _moved(self, source: int, result: int) -> Any:
        op = operator(self.part, "RESHAPE", [source], [result])
        _set_shape(op, self.graph.tensors[result].shape)
        return op

    def _no_bias(self, weights: int) -> int:
        """A bias of zeros: LiteRT's convolution has one always. One for all operators of a size."""
        units = self.part.tensors[weights].shape[0]
        if units not in self.zeros:
            self.zeros[units] = constant(self.part, f"zeros{units}", np.zeros(units, "int32"), "INT32")
        return self.zeros[units]


def _set_shape(reshape: Any, shape: Sequence[int]) -> None:
    """Have a RESHAPE make ``shape``, by its option alone."""
    options = schema.ReshapeOptionsT()
    options.newShape = np.asarray(shape, "int32")
    reshape.builtinOptionsType, reshape.builtinOptions = schema.BuiltinOptions.ReshapeOptions, options
    reshape.inputs = reshape.inputs[:1]


def _as_rows(shape: Sequence[int], columns: int) -> tuple[int, int, int, int]:
    """Shape of the rows that FULLY_CONNECTED makes of its data.

    Example:
        >>> _as_rows((1, 5, 8), 8), _as_rows((1, 4, 4, 2), 32)
        ((1, 5, 1, 8), (1, 1, 1, 32))
    """
    return 1, math.prod(shape) // columns, 1, columns


def _is_linear(part: TFLiteFile, op: Op) -> bool:
    """Whether ``op`` is a FULLY_CONNECTED of integers and constant weights."""
    if op.name != "FULLY_CONNECTED":
        return False
    data, weights = part.tensors[op.inputs[0]], part.tensors[op.inputs[1]]
    return data.kind in INTEGERS and weights.kind in ("INT8", "INT4") and weights.values is not None
