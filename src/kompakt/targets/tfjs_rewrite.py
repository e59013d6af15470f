"""Operators that TF.js has not, or not on every backend, as others that it has. Each edits a GraphDef in place."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf


def without_erfc(proto: Any) -> None:
    """1 - erf(x) in place of erfc(x), which TF.js has not; GELU is made of it."""
    for node in [node for node in proto.node if node.op == "Erfc"]:
        kind = node.attr["T"].type
        one = _constant(proto, f"{node.name}/one", tf.make_tensor_proto(1.0, tf.as_dtype(kind)))
        inner = _node(proto, f"{node.name}/erf", "Erf", [node.input[0]], T=kind)
        node.op = "Sub"
        node.input[:] = [one, inner]


def without_order(proto: Any) -> None:
    """Nodes wait for their inputs alone: what else is to happen before has no effect where nothing is stored, and
    TF.js never gets out of a loop that waits so.
    """
    for node in proto.node:
        node.input[:] = [each for each in node.input if not each.startswith("^")]


def without_einsum(proto: Any) -> None:
    """Products of matrices in place of einsum, which WebAssembly has not; attention is made of it.

    An equation of another kind stays as it is.
    """
    for node in [node for node in proto.node if node.op == "Einsum"]:
        product = as_product(node.attr["equation"].s.decode())
        if product is not None:
            _replace(proto, node, product)


@dataclass(frozen=True, kw_only=True)
class Product:
    """An einsum as a product of matrices: how the axes of both sides are turned before, and those of it after."""

    left: tuple[int, ...]
    right: tuple[int, ...]
    result: tuple[int, ...]


def as_product(equation: str) -> Product | None:
    """``equation`` of two operands as one product of matrices, where it is: one axis summed over, one of each side.

    Example:
        >>> as_product("aecd,abcd->acbe")
        Product(left=(0, 2, 1, 3), right=(0, 2, 3, 1), result=(0, 1, 3, 2))
        >>> as_product("ab,bc,cd->ad")
    """
    found = re.fullmatch(r"(\w+),(\w+)->(\w+)", equation)
    if found is None or any(len(set(each)) < len(each) for each in found.groups()):
        return None
    left, right, result = found.groups()
    batch = [axis for axis in result if axis in left and axis in right]
    summed = [axis for axis in left if axis in right and axis not in result]
    rows = [axis for axis in left if axis not in right]
    columns = [axis for axis in right if axis not in left]
    if not (len(summed) == len(rows) == len(columns) == 1) or set(batch + rows + columns) != set(result):
        return None
    made = batch + rows + columns
    return Product(
        left=_places(left, batch + rows + summed),
        right=_places(right, batch + summed + columns),
        result=_places("".join(made), list(result)),
    )


def _places(axes: str, order: Sequence[str]) -> tuple[int, ...]:
    return tuple(axes.index(axis) for axis in order)


def _replace(proto: Any, node: Any, product: Product) -> None:
    kind = node.attr["T"].type
    left, right = (
        _turned(proto, f"{node.name}/{side}", source, order, kind)
        for side, source, order in zip(("left", "right"), node.input, (product.left, product.right), strict=True)
    )
    multiplied = _node(proto, f"{node.name}/product", "BatchMatMulV2", [left, right], T=kind)
    order = _constant(proto, f"{node.name}/order", tf.make_tensor_proto(product.result, tf.int32))
    node.op = "Transpose"
    node.input[:] = [multiplied, order]
    for name in ("equation", "N"):
        node.attr.pop(name)
    node.attr["Tperm"].type = tf.int32.as_datatype_enum


def _turned(proto: Any, name: str, source: str, order: tuple[int, ...], kind: int) -> str:
    """The name of ``source`` with its axes in ``order``."""
    if order == tuple(range(len(order))):
        return source
    axes = _constant(proto, f"{name}/order", tf.make_tensor_proto(order, tf.int32))
    return _node(proto, name, "Transpose", [source, axes], T=kind, Tperm=tf.int32.as_datatype_enum)


def _constant(proto: Any, name: str, tensor: Any) -> str:
    _node(proto, name, "Const", [], dtype=tensor.dtype)
    proto.node[-1].attr["value"].tensor.CopyFrom(tensor)
    return name


def _node(proto: Any, name: str, op: str, inputs: Sequence[str], **types: int) -> str:
    node = proto.node.add(name=name, op=op)
    node.input.extend(inputs)
    for key, kind in types.items():
        node.attr[key].type = kind
    return name
