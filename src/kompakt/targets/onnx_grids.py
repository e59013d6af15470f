"""Grids in an ONNX graph: QuantizeLinear and DequantizeLinear where marks stand, and at weights.

Integers are unsigned, weights too (128 stands for 0): onnxruntime's kernels for signed ones saturate in 16 bits on x86
without VNNI, where an autoencoder had 22 % of its outputs right. See "Reduced range" in
https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from kompakt.isolated import Answer
from kompakt.targets.onnx_layout import gated

OFFSET = 128
"""Between signed integers and those in the file."""

PAIR = ("QuantizeLinear", "DequantizeLinear")


def put(
    arrays: list[np.ndarray],
    *,
    marks: Sequence[tuple[str, float, int]],
    kernels: Mapping[str, Sequence[Any]],
    layouts: Mapping[str, Any],
) -> Answer:
    """The bytes of a model with grids, and {site: the tensors that are on its grid}.

    Args:
        arrays: the bytes of one with marks. marks: (site, scale, zero point) of each number of a mark, from 1.
        kernels: site -> (scales, axes of the Keras weight that they run over). layouts: of these, by the converter.
    """
    model = onnx.ModelProto.FromString(arrays[0].tobytes())
    graph = model.graph
    numbers = {t.name: numpy_helper.to_array(t) for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT}
    on: dict[str, list[str]] = {}
    for node in (node for node in graph.node if node.op_type in PAIR):
        site, scale, zero = marks[round(float(numbers[node.input[1]])) - 1]
        node.input[1:] = [_constant(graph, f"{site}_scale", np.float32(scale))]
        node.input.append(_constant(graph, f"{site}_zero", np.uint8(zero + OFFSET)))
        if node.op_type == "DequantizeLinear":
            on.setdefault(site, []).append(node.output[0])
    for site in [site for site in kernels if site in layouts]:
        _put_weight(graph, site, layouts[site], *kernels[site])
    _drop_unused(graph)
    graph.initializer.sort(key=lambda tensor: tensor.name)
    return [np.frombuffer(model.SerializeToString(deterministic=True), "uint8")], on


def _constant(graph: Any, name: str, values: Any) -> str:
    if all(tensor.name != name for tensor in graph.initializer):
        graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
    return name


def _put_weight(graph: Any, site: str, layout: Mapping[str, Any], scale: Sequence[float], axes: Sequence[int]) -> None:
    """Store the weight of ``site`` as integers, a DequantizeLinear before its readers."""
    tensor = next((each for each in graph.initializer if each.name == site == layout["tensor"]), None)
    if tensor is None:
        return  # another site has the same numbers, and stands for both
    values = numpy_helper.to_array(tensor)
    steps = _steps(layout, scale, axes).reshape(values.shape)
    axis, each = _along(steps)
    zeros = np.full(each.shape, OFFSET, "uint8")
    names = [
        _constant(graph, f"{site}_integers", (np.round(values / steps) + OFFSET).astype("uint8")),
        _constant(graph, f"{site}_scale", each),
        _constant(graph, f"{site}_zero", zeros),
    ]
    graph.initializer.remove(tensor)
    node = helper.make_node("DequantizeLinear", names, [site], name=f"of {site}")
    if axis is not None:
        node.attribute.append(helper.make_attribute("axis", axis))
    graph.node.insert(0, node)


def _steps(layout: Mapping[str, Any], scale: Sequence[float], axes: Sequence[int]) -> np.ndarray:
    """The step of each value, in the layout of the file."""
    shape = layout["shape"]
    sizes = [1] * len(shape)
    for axis in axes if len(scale) > 1 else ():
        sizes[axis] = shape[axis]
    full = np.broadcast_to(np.asarray(scale, "float32").reshape(sizes), shape)
    return gated(full, layout["gates"]).transpose(layout["axes"])


def _along(steps: np.ndarray) -> tuple[int | None, np.ndarray]:
    """(the one axis along which ``steps`` differ, its steps); (None, the step) where all are the same."""
    if steps.min() == steps.max():
        return None, np.asarray(steps.flat[0])
    for axis in range(steps.ndim):
        rows = np.moveaxis(steps, axis, 0).reshape(steps.shape[axis], -1)
        if (rows == rows[:, :1]).all():
            return axis, np.ascontiguousarray(rows[:, 0])
    raise ValueError("its scales run over two axes")


def _drop_unused(graph: Any) -> None:
    read = {name for node in graph.node for name in node.input} | {end.name for end in graph.output}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in read]:
        graph.initializer.remove(tensor)
