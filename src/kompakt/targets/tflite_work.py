"""What the operators of a TFLite file compute, and which constants it stores for them. Read from the file alone."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from kompakt.targets.profiler import Stored, Work
from kompakt.targets.tflite_file import FLOATS, Op, Tensor, TFLiteFile

Shapes = Sequence[tuple[int, ...]]

BYTES = {"INT4": 0.5, "INT8": 1.0, "UINT8": 1.0, "BOOL": 1.0, "INT16": 2.0, "FLOAT16": 2.0, "INT64": 8.0}
"""Bytes of a value, 4 where the type is not here."""


def _each_output(inputs: Shapes, output: tuple[int, ...]) -> int:
    """Weights (outputs, ..., inputs): each output value is a sum over one filter."""
    return math.prod(output) * math.prod(inputs[1][1:])


def _depthwise(inputs: Shapes, output: tuple[int, ...]) -> int:
    return math.prod(output) * math.prod(inputs[1][1:-1])


def _conv_3d(inputs: Shapes, output: tuple[int, ...]) -> int:
    return math.prod(output) * math.prod(inputs[1][:-1])


def _each_input(inputs: Shapes, _: tuple[int, ...]) -> int:
    """A transposed convolution, weights (..., inputs): each input value is spread over a filter."""
    return math.prod(inputs[2]) * math.prod(inputs[1][:-1])


def _matrices(inputs: Shapes, output: tuple[int, ...]) -> int:
    """(..., m, k) or (..., k, m) by ...: the sum runs over what of the first is not in the output."""
    return math.prod(output) * (inputs[0][-1] * inputs[0][-2] // output[-2])


def _lstm(inputs: Shapes, output: tuple[int, ...]) -> int:
    """Inputs 1 to 4 and 5 to 8 are the weights of the gates, from the input and from the last output."""
    steps = math.prod(output[:-1])
    return steps * sum(math.prod(shape) for shape in inputs[1:9])


RULES: dict[str, Callable[[Shapes, tuple[int, ...]], int]] = {
    "CONV_2D": _each_output,
    "FULLY_CONNECTED": _each_output,
    "DEPTHWISE_CONV_2D": _depthwise,
    "CONV_3D": _conv_3d,
    "TRANSPOSE_CONV": _each_input,
    "CONV_3D_TRANSPOSE": _each_input,
    "BATCH_MATMUL": _matrices,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _lstm,
}
"""Operator -> (shapes of its inputs, of its output) -> multiply-accumulates of one run."""

UNKNOWN = (
    "WHILE",
    "IF",
    "CALL",
    "CUSTOM",
    "RNN",
    "LSTM",
    "SVDF",
    "UNIDIRECTIONAL_SEQUENCE_RNN",
    "BIDIRECTIONAL_SEQUENCE_LSTM",
    "BIDIRECTIONAL_SEQUENCE_RNN",
    "STABLEHLO_DOT_GENERAL",
    "STABLEHLO_CONVOLUTION",
)
"""Operators that may multiply and accumulate, how often the file does not say."""

BUILT_IN = re.compile(r"[A-Z0-9_]+")


class Graph:
    """A graph of a file, and what of it is constant.

    Attributes:
        makers: operators that only unpack constants (DENSIFY, DEQUANTIZE of a weight): done once, when a file is
            loaded. source: what they make -> the constant that it is made of.
    """

    def __init__(self, file: TFLiteFile) -> None:
        self.file = file
        known = {t.index for t in file.tensors if self.is_held(t.index)}
        self.makers: list[Op] = []
        self.source: dict[int, int] = {}
        for op in file.ops:
            if op.inputs and known.issuperset(i for i in op.inputs if i >= 0):
                known.update(op.outputs)
                self.makers.append(op)
                self.source.update((i, self.source.get(op.inputs[0], op.inputs[0])) for i in op.outputs)

    def is_held(self, index: int) -> bool:
        """Whether the file holds the values of a tensor, of whatever type."""
        data = self.file.model.buffers[self.file.graph.tensors[index].buffer].data
        return data is not None and len(data) > 0

    def owner(self, op: Op) -> str:
        """The layer of an operator: that of a weight with a site's name, else by the name of what it makes."""
        for index in op.inputs:
            held = self.source.get(index, index)
            tensor = self.file.tensors[held] if held >= 0 else None
            if tensor is not None and len(tensor.shape) > 1 and "/" in tensor.name and self.is_held(held):
                return layer_of(tensor.name)
        return layer_of(self.file.tensors[op.outputs[0]].name)

    def owners(self) -> dict[int, str]:
        """Constant -> the layer of the first operator that reads it."""
        makers = {i for op in self.makers for i in op.outputs}
        found: dict[int, str] = {}
        for op in self.file.ops:
            if not makers.issuperset(op.outputs):
                for index in op.inputs:
                    found.setdefault(self.source.get(index, index), self.owner(op))
        return found


def work(file: TFLiteFile) -> list[Work]:
    """One row for each operator of the main graph that does something in a run, in its order.

    What is inside a loop is not counted: None.
    """
    graph = Graph(file)
    makers = {i for op in graph.makers for i in op.outputs}
    return [_work(graph, op) for op in file.ops if not makers.issuperset(op.outputs)]


def _work(graph: Graph, op: Op) -> Work:
    file = graph.file
    tensors = [file.tensors[i] for i in op.inputs if i >= 0]
    output = file.tensors[op.outputs[0]]
    rule = RULES.get(op.name)
    # Places count: an operator without a bias has a -1 among its inputs, which must not move the others.
    shapes = [file.tensors[i].shape if i >= 0 else (0,) for i in op.inputs]
    macs = rule(shapes, output.shape) if rule else 0 if _computes_little(op.name) else None
    return Work(
        name=op.name,
        layer=graph.owner(op),
        output=output.name,
        macs=macs,
        arithmetic=_arithmetic(op, tensors),
        traffic=round(sum(map(size, tensors)) + sum(size(file.tensors[i]) for i in op.outputs)),
    )


def _computes_little(name: str) -> bool:
    return name not in UNKNOWN and BUILT_IN.fullmatch(name) is not None


def _arithmetic(op: Op, tensors: Sequence[Tensor]) -> str:
    """Of what an operator multiplies. With weights of int8 LiteRT takes float inputs to int8 as well, on the way."""
    second = tensors[min(1, len(tensors) - 1)].kind if tensors else "FLOAT32"
    return "float32" if second in FLOATS or op.name not in RULES else "int8"


def size(tensor: Tensor) -> float:
    """Bytes of a tensor's values."""
    return math.prod(tensor.shape) * BYTES.get(tensor.kind, 4.0)


def layer_of(name: str) -> str:
    """The layer in the name of a tensor.

    Example:
        >>> layer_of("block/conv1/kernel"), layer_of("conv1:t12"), layer_of("t3")
        ('block/conv1', 'conv1', 't3')
    """
    plain = re.sub(r":t?\d+$", "", name)
    return plain.rpartition("/")[0] if "/" in plain and plain == name else plain


def stored(file: TFLiteFile) -> Iterator[Stored]:
    """The constants that are weights, in all subgraphs, each buffer once: no shapes, axes and other settings."""
    seen: set[int] = set()
    for part in file.parts():
        graph = Graph(part)
        owners = graph.owners()
        for tensor in part.tensors:
            number = part.graph.tensors[tensor.index].buffer
            if number in seen or not graph.is_held(tensor.index) or not _is_weight(tensor):
                continue
            seen.add(number)
            values = _values(part, tensor)
            if values is not None:
                yield Stored(
                    name=tensor.name,
                    layer=owners.get(tensor.index, layer_of(tensor.name)),
                    kind=tensor.kind,
                    values=values,
                    bytes=_bytes(part, tensor),
                    zero=float(tensor.zero_point[0]) if tensor.zero_point else 0.0,
                )


def _is_weight(tensor: Tensor) -> bool:
    """Integers of 32 bits and more are weights where they have a scale: biases."""
    return tensor.kind not in ("INT32", "INT64", "BOOL", "STRING") or bool(tensor.scale)


def _values(file: TFLiteFile, tensor: Tensor) -> np.ndarray | None:
    """Of a constant; of one in sparse storage they are at what DENSIFY makes of it."""
    if tensor.values is not None:
        return tensor.values
    made = (op.outputs[0] for op in file.ops if op.name == "DENSIFY" and op.inputs[0] == tensor.index)
    return next((file.tensors[i].values for i in made), None)


def _bytes(file: TFLiteFile, tensor: Tensor) -> int:
    """In the buffer, and what sparse storage says of places."""
    held = file.graph.tensors[tensor.index]
    levels = held.sparsity.dimMetadata if held.sparsity is not None else []
    parts = [part for level in levels for part in (level.arraySegments, level.arrayIndices) if part is not None]
    return len(file.model.buffers[held.buffer].data) + sum(int(np.asarray(part.values).nbytes) for part in parts)
