"""An ONNX file as a graph of any format, read in a process of its own; onnxruntime is not asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from kompakt.contents import Signature
from kompakt.errors import InputError, first_line
from kompakt.isolated import Answer
from kompakt.targets.graph_view import Node, Part, Value, View, stored, to_answer
from kompakt.targets.onnx_server import parse

KINDS = {"FLOAT": "FLOAT32", "DOUBLE": "FLOAT64"}
"""ONNX's words -> ours."""

CHANNELS = {"Conv": 0, "ConvTranspose": 1, "MatMul": -1, "Gemm": -1}
"""Operator -> the dimension of its weights (the second input) that runs over output channels; Gemm may turn it."""


def look(arrays: list[np.ndarray]) -> Answer:
    """What is in the file in the first of ``arrays``, by :func:`to_answer`.

    Raises:
        InputError: it is damaged.
    """
    model = parse(arrays[0].tobytes())
    try:
        return to_answer(_view(_with_shapes(model)))
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"broken ONNX file: its graph cannot be read ({first_line(error)}); make it again") from None


def _with_shapes(model: Any) -> Any:
    """``model`` with the types and shapes that follow from its inputs; as it is where ONNX finds none."""
    try:
        return onnx.shape_inference.infer_shapes(model)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        return model


def _view(model: Any) -> View:
    parts = tuple(_part(graph, i) for i, graph in enumerate(_graphs(model)))
    ends = [{each.name: each.name for each in side} for side in (_inputs(model.graph), model.graph.output)]
    sets = ", ".join(f"{each.domain or 'ai.onnx'} {each.version}" for each in model.opset_import)
    about = {
        "opset": sets,
        "ir version": str(model.ir_version),
        "producer": f"{model.producer_name} {model.producer_version}".strip(),
        **{entry.key: entry.value for entry in model.metadata_props},
    }
    metadata = {name: text.encode() for name, text in about.items() if text}
    signatures = (Signature(name=model.graph.name, subgraph=0, inputs=ends[0], outputs=ends[1]),)
    return View(parts=parts, signatures=signatures, metadata=metadata, paired=True)


def _graphs(model: Any) -> Iterator[Any]:
    """The graph, those in its nodes, and functions of the file's own."""
    waiting = [model.graph]
    for graph in waiting:  # grows while it is walked
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                waiting += [attribute.g] if attribute.HasField("g") else list(attribute.graphs)


def _inputs(graph: Any) -> list[Any]:
    """Inputs; old files have their constants among them."""
    held = {tensor.name for tensor in graph.initializer}
    return [each for each in graph.input if each.name not in held]


def _part(graph: Any, index: int) -> Part:
    values: dict[str, Value] = {each.name: _typed(each) for each in [*_inputs(graph), *graph.output, *graph.value_info]}
    values |= {tensor.name: _constant(tensor) for tensor in graph.initializer}
    values |= {node.output[0]: made for node in graph.node if (made := _constant_node(node)) is not None}
    works = [node for node in graph.node if _constant_node(node) is None]
    for node in works:
        for name in (*node.input, *node.output):
            if name and name not in values:
                values[name] = Value(name=name)
    for node in works:
        values |= _gridded(node, values)
        name = node.input[1] if len(node.input) > 1 else ""
        if node.op_type in CHANNELS and name and values[name].constant:
            values[name] = replace(values[name], channels=(_channel(node),))
    places = {name: i for i, name in enumerate(values)}
    return Part(
        name=graph.name or ("main" if index == 0 else f"subgraph {index}"),
        nodes=tuple(_node(node, places) for node in works),
        values=tuple(values.values()),
        inputs=tuple(places[each.name] for each in _inputs(graph)),
        outputs=tuple(places[each.name] for each in graph.output),
    )


def _channel(node: Any) -> int:
    turned = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
    return -2 if turned else CHANNELS[node.op_type]


def _kind(number: int) -> str:
    types = onnx.TensorProto.DataType
    name = types.Name(number) if number in types.values() else ""
    return KINDS.get(name, name)


def _typed(info: Any) -> Value:
    tensor = info.type.tensor_type
    sizes = [d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim]
    shape = tuple(sizes) if tensor.HasField("shape") else None
    return Value(name=info.name, dtype=_kind(tensor.elem_type), shape=shape)


def _constant(tensor: Any) -> Value:
    kind, shape = _kind(tensor.data_type), tuple(tensor.dims)
    try:
        values = np.asarray(numpy_helper.to_array(tensor))
    except (TypeError, ValueError, OverflowError):
        return Value(name=tensor.name, dtype=kind, shape=shape, constant=True)
    made = Value(name=tensor.name, dtype=kind, shape=values.shape, constant=True, values=stored(values))
    return replace(made, buffer=tensor.name or None, bytes=made.takes)


def _constant_node(node: Any) -> Value | None:
    """What a node of the kind Constant makes."""
    if node.op_type != "Constant" or not node.output:
        return None
    tensor = next((attribute.t for attribute in node.attribute if attribute.HasField("t")), None)
    if tensor is None:
        return Value(name=node.output[0], constant=True)
    return replace(_constant(tensor), name=node.output[0], buffer=None)


def _gridded(node: Any, values: Mapping[str, Value]) -> dict[str, Value]:
    """The tensor of integers beside ``node``, with the grid that it has."""
    if node.op_type not in ("QuantizeLinear", "DequantizeLinear") or len(node.input) < 2:
        return {}
    name = node.output[0] if node.op_type == "QuantizeLinear" else node.input[0]
    scale = values[node.input[1]].values
    zero = values[node.input[2]].values if len(node.input) > 2 and node.input[2] else None
    if scale is None or values[name].scale:
        return {}
    kind = values[name].dtype or (values[node.input[2]].dtype if zero is not None else "UINT8")
    axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
    rank = len(values[name].shape or ())
    grid = replace(
        values[name],
        dtype=kind,
        scale=tuple(float(s) for s in scale.ravel()),
        zero_point=(0,) if zero is None else tuple(int(z) for z in zero.ravel()),
        axis=int(axis) % rank if rank else int(axis),
    )
    return {name: replace(grid, channels=(grid.axis,) if scale.size > 1 else grid.channels)}


def _node(node: Any, places: Mapping[str, int]) -> Node:
    options = {attribute.name.replace("_", " "): text for attribute in node.attribute if (text := _text(attribute))}
    inputs = tuple(places[name] if name else -1 for name in node.input)
    outputs = tuple(places[name] if name else -1 for name in node.output)
    return Node(name=node.op_type, label=node.name, inputs=inputs, outputs=outputs, options=options)


def _text(attribute: Any) -> str:
    """An attribute in words; "" for a graph or a tensor."""
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, (int, str)):
        return str(value)
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list) and all(isinstance(each, (int, float)) for each in value):
        return "x".join(f"{each:g}" for each in value) if len(value) <= 8 else f"{len(value)} numbers"
    return ""
