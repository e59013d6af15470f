"""What the nodes of an ONNX file compute and which constants it stores, in a process of its own: arrays in and out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from kompakt.isolated import Answer
from kompakt.targets.onnx_server import MOVES, TYPES, parse, tensors

Shape = tuple[int, ...]

GRIDS = ("QuantizeLinear", "DequantizeLinear")


def ends(arrays: list[np.ndarray]) -> Answer:
    """[name, shape with None for what is open, whether it takes integers] of each input."""
    graph = parse(arrays[0].tobytes()).graph
    held = {tensor.name for tensor in graph.initializer}
    found = []
    for end in graph.input:
        if end.name not in held:
            sizes = [dim.dim_value or None for dim in end.type.tensor_type.shape.dim]
            kind = onnx.TensorProto.DataType.Name(end.type.tensor_type.elem_type)
            found.append([end.name, sizes, not kind.startswith(("FLOAT", "DOUBLE"))])
    return [], found


def _conv(shapes: Sequence[Shape], output: Shape) -> int:
    """Kernel (outputs, inputs of a group, ...): each output value is a sum over one filter."""
    return math.prod(output) * math.prod(shapes[1][1:])


def _conv_transpose(shapes: Sequence[Shape], _: Shape) -> int:
    """Kernel (inputs, outputs of a group, ...): each input value is spread over one filter."""
    return math.prod(shapes[0]) * math.prod(shapes[1][1:])


def _product(shapes: Sequence[Shape], output: Shape) -> int:
    return math.prod(output) * shapes[0][-1]


def _general_product(shapes: Sequence[Shape], output: Shape) -> int:
    """Gemm, either side of which may be transposed: the sum runs over what of the first is not in the output."""
    return math.prod(output) * (math.prod(shapes[0]) // output[0])


def _recurrent(shapes: Sequence[Shape], _: Shape) -> int:
    return math.prod(shapes[0][:2]) * (math.prod(shapes[1]) + math.prod(shapes[2]))


RULES: dict[str, Callable[[Sequence[Shape], Shape], int]] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "MatMul": _product,
    "Gemm": _general_product,
    "LSTM": _recurrent,
    "GRU": _recurrent,
    "RNN": _recurrent,
}
"""Node -> (shapes of its inputs, of its output) -> multiply-accumulates of one run."""

UNKNOWN = ("Loop", "Scan", "If", "Einsum")
"""Nodes that may multiply and accumulate, how often is not said."""


def work(arrays: list[np.ndarray]) -> Answer:
    """[name, weight, output, multiply-accumulates or None, arithmetic, bytes] of each node; an open batch counts as 1.

    Where the constant of a node comes off a grid of integers, so does its arithmetic.
    """
    graph = _with_shapes(parse(arrays[0].tobytes()))
    known = {t.name: tuple(t.dims) for t in tensors(graph)}
    for value in (*graph.input, *graph.output, *graph.value_info):
        sizes = tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        known.setdefault(value.name, sizes)
    grids = _on_grids(graph)
    held = {t.name for t in tensors(graph)}
    made = {n.output[0] for n in graph.node if n.op_type == GRIDS[1] and n.input[0] in held}
    rows = [_row(node, known, grids, held | made) for node in graph.node if node.output and node.output[0] not in made]
    return [], rows


def _with_shapes(model: Any) -> Any:
    """The graph with the shapes of its tensors, the open sizes of inputs set to 1."""
    sized = onnx.ModelProto()
    sized.CopyFrom(model)
    for value in sized.graph.input:
        for dim in value.type.tensor_type.shape.dim:
            if not dim.dim_value:
                dim.dim_value = 1
    for value in sized.graph.output:
        value.type.tensor_type.ClearField("shape")
    sized.graph.ClearField("value_info")
    return onnx.shape_inference.infer_shapes(sized, data_prop=True).graph


def _on_grids(graph: Any) -> set[str]:
    """Tensors whose numbers are those of a grid: taken off one, and only moved or pooled since."""
    found: set[str] = set()
    for node in graph.node:  # sorted by what they read
        if node.op_type == GRIDS[1] or (node.op_type in (*MOVES, "MaxPool") and node.input[0] in found):
            found.add(node.output[0])
    return found


def _row(node: Any, known: dict[str, Shape], grids: set[str], held: set[str]) -> list[Any]:
    output = known.get(node.output[0], ())
    shapes = [known.get(name, ()) for name in node.input]
    rule = RULES.get(node.op_type)
    whole = bool(rule) and all(shapes[:2]) and 0 not in [n for shape in (*shapes[:2], output) for n in shape]
    macs = rule(shapes, output) if rule and whole else None if rule or node.op_type in UNKNOWN else 0
    weight = next((name for name in node.input if name in held), "")
    integer = len(node.input) > 1 and {*node.input[:2]} <= grids
    sizes = [math.prod(shape) * (1 if name in grids else 4) for name, shape in zip(node.input, shapes, strict=True)]
    kind = "int8" if rule and integer else "float32"
    return [node.op_type, weight, node.output[0], macs, kind, sum(sizes) + 4 * math.prod(output)]


def stored(arrays: list[np.ndarray]) -> Answer:
    """The constants that are weights, as they are stored, and [name, what is made of it, type, bytes, zero, weight of
    the node that reads it] of each. Scales, zero points, shapes and axes are none.
    """
    graph = parse(arrays[0].tobytes()).graph
    settings = {name for node in graph.node if node.op_type in GRIDS for name in node.input[1:]}
    offs = {node.input[0]: node for node in graph.node if node.op_type == GRIDS[1]}
    held = {tensor.name: tensor for tensor in tensors(graph)}
    found, about = [], []
    for name, tensor in held.items():
        kind = onnx.TensorProto.DataType.Name(tensor.data_type)
        if not name or name in settings or (kind in ("INT64", "INT32", "BOOL", "STRING") and name not in offs):
            continue
        values = numpy_helper.to_array(tensor)
        made = offs[name].output[0] if name in offs else name
        zero = held.get(offs[name].input[2]) if name in offs and len(offs[name].input) > 2 else None
        found.append(values.astype("float32") if values.dtype.name not in TYPES.values() else values)
        middle = 0 if zero is None else int(numpy_helper.to_array(zero).ravel()[0])
        about.append([name, made, kind, int(values.nbytes), middle, _first_weight(graph, made)])
    return found, about


def _first_weight(graph: Any, name: str) -> str:
    """The first constant of more than one dimension that the reader of ``name`` reads: whose bias it is."""
    grids = {node.output[0] for node in graph.node if node.op_type == GRIDS[1]}
    held = {tensor.name for tensor in graph.initializer if len(tensor.dims) > 1}
    reader = next((node for node in graph.node if name in node.input), None)
    inputs = reader.input[1:] if reader is not None else ()
    return next((each for each in inputs if each in held or each in grids), name)
