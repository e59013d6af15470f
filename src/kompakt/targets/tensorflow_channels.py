"""Which dimensions of a weight are its output channels, by the operations of TensorFlow that read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kompakt.targets.graph_view import Node
from kompakt.targets.tensorflow_attributes import attributes, decoded

CONVOLUTIONS: Mapping[str, tuple[int, ...]] = {
    "Conv2D": (-1,),
    "_FusedConv2D": (-1,),
    "Conv3D": (-1,),
    "DepthwiseConv2dNative": (-2, -1),
    "FusedDepthwiseConv2dNative": (-2, -1),
    "_FusedDepthwiseConv2dNative": (-2, -1),
    "Conv2DBackpropInput": (-2,),
    "Conv3DBackpropInputV2": (-2,),
}
"""Operation -> the dimensions of its second input that are output channels, counted from the last."""

PRODUCTS = {"MatMul": "transpose_b", "_FusedMatMul": "transpose_b", "BatchMatMulV2": "adj_y"}
"""Operation -> its attribute that says that the second factor is turned over."""

PASSES = ("ReadVariableOp", "Identity", "Cast", "ExpandDims")
"""What leaves the last dimensions of its first input as they are; ExpandDims where it makes a 1-D kernel one in 2-D."""


def channels(nodes: Sequence[Mapping[str, Any]], works: Sequence[Node]) -> dict[int, tuple[int, ...]]:
    """Index of a tensor that is a second input -> its dimensions of output channels.

    Args:
        nodes: as ``model.json`` has them. works: the same, with indices of tensors.

    Example:
        >>> read = Node(name="ReadVariableOp", inputs=(1,), outputs=(2,))
        >>> product = Node(name="MatMul", inputs=(0, 2), outputs=(3,))
        >>> channels([{"attr": {}}, {"attr": {}}], [read, product])
        {1: (-1,), 2: (-1,)}
    """
    before = {made: work.inputs[0] for work in works if work.name in PASSES and work.inputs for made in work.outputs}
    found: dict[int, tuple[int, ...]] = {}
    for node, work in zip(nodes, works, strict=True):
        axes = _axes(node, work.name)
        at: int | None = work.inputs[1] if axes and len(work.inputs) > 1 else None
        while at is not None and at not in found:  # one that is read again is known by who reads it first
            found[at] = axes
            at = before.get(at)
    return dict(sorted(found.items()))


def _axes(node: Mapping[str, Any], operation: str) -> tuple[int, ...]:
    turned = attributes(node).get(PRODUCTS.get(operation, ""), {}).get("b") is True
    if operation in PRODUCTS:
        return (-2,) if turned else (-1,)
    return _einsum(node) if operation == "Einsum" else CONVOLUTIONS.get(operation, ())


def _einsum(node: Mapping[str, Any]) -> tuple[int, ...]:
    """Those of the second operand that are in the result and not in the first."""
    data, _, rest = decoded(attributes(node).get("equation", {}).get("s")).replace("...", "").partition(",")
    kernel, _, result = rest.partition("->")
    return tuple(i - len(kernel) for i, label in enumerate(kernel) if label in result and label not in data)
