"""A graph as any format has it: what the targets read out of their files, with the numbers of its constants."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import numpy as np

from kompakt.contents import Signature
from kompakt.isolated import Answer

BITS = {
    "FLOAT64": 64,
    "INT64": 64,
    "UINT64": 64,
    "COMPLEX64": 64,
    "FLOAT32": 32,
    "INT32": 32,
    "UINT32": 32,
    "FLOAT16": 16,
    "BFLOAT16": 16,
    "INT16": 16,
    "UINT16": 16,
    "INT8": 8,
    "UINT8": 8,
    "BOOL": 8,
    "INT4": 4,
    "UINT4": 4,
    "INT2": 2,
}
"""Type -> bits of one number."""

FLOATS = ("FLOAT16", "BFLOAT16", "FLOAT32", "FLOAT64")

EDGES = ("QUANTIZE", "DEQUANTIZE", "QuantizeLinear", "DequantizeLinear")
"""Operators between floats and integers: they compute nothing else."""


@dataclass(frozen=True, kw_only=True)
class Value:
    """A tensor.

    Attributes:
        shape: None for a size that is open; None in all where nothing is known. constant: it is stored.
        values: of a constant of numbers, as stored. bytes: what a constant takes; None: by its type and shape.
        buffer: constants with the same one share what is stored; None: none does.
        scale, zero_point, axis, offset: as in :class:`kompakt.contents.Grid`; no scale where it has no grid.
        channels: the dimensions of its channels, where the format or an operator says so.
    """

    name: str
    dtype: str = ""
    shape: tuple[int | None, ...] | None = None
    constant: bool = False
    values: np.ndarray | None = None
    bytes: int | None = None
    buffer: str | None = None
    scale: tuple[float, ...] = ()
    zero_point: tuple[int, ...] = ()
    axis: int = 0
    offset: float = 0.0
    channels: tuple[int, ...] = ()
    sparse: bool = False

    @property
    def real(self) -> np.ndarray | None:
        """The values off the grid, float64."""
        if self.values is None:
            return None
        plain = self.values.astype("float64")
        if not self.scale:
            return plain
        shape = [1] * plain.ndim
        if len(self.scale) > 1:
            shape[self.axis] = len(self.scale)
        zeros = self.zero_point if len(self.zero_point) == len(self.scale) else (self.zero_point or (0,))[:1]
        scale = np.asarray(self.scale).reshape(shape)
        zero = np.asarray(zeros).reshape(shape if len(zeros) > 1 else [1] * plain.ndim)
        return (plain - zero) * scale + self.offset

    @property
    def takes(self) -> int | None:
        """Bytes in the file, or in memory."""
        if self.bytes is not None:
            return self.bytes
        if self.shape is None or None in self.shape or self.dtype not in BITS:
            return None
        return math.ceil(math.prod(n or 0 for n in self.shape) * BITS[self.dtype] / 8)


@dataclass(frozen=True, kw_only=True)
class Node:
    """An operator: see :class:`kompakt.contents.OperatorFact`."""

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    label: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    activation: str = ""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A subgraph."""

    name: str
    nodes: tuple[Node, ...]
    values: tuple[Value, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class View:
    """All that an artifact holds.

    Attributes:
        metadata: name -> bytes. remarks: what is not shown, or shown otherwise than it ships.
        paired: floats stand between pairs of operators that put them on grids and off again: what is computed in
            integers is for the runtime to decide.
    """

    parts: tuple[Part, ...]
    signatures: tuple[Signature, ...] = ()
    metadata: Mapping[str, bytes] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    paired: bool = False


def to_answer(view: View) -> Answer:
    """``view`` as it comes from another process: the arrays, and all else as JSON."""
    arrays: list[np.ndarray] = []

    def told(value: Value) -> dict[str, Any]:
        at = None if value.values is None else len(arrays)
        if value.values is not None:
            arrays.append(value.values)
        return {**asdict(replace(value, values=None)), "values": at}

    parts = [
        {
            "name": part.name,
            "nodes": [asdict(node) for node in part.nodes],
            "values": [told(value) for value in part.values],
            "inputs": part.inputs,
            "outputs": part.outputs,
        }
        for part in view.parts
    ]
    metadata = {name: content.decode("latin-1") for name, content in view.metadata.items()}
    signatures = [asdict(signature) for signature in view.signatures]
    return arrays, {
        "parts": parts,
        "signatures": signatures,
        "metadata": metadata,
        "remarks": view.remarks,
        "paired": view.paired,
    }


def from_answer(answer: Answer) -> View:
    """What :func:`to_answer` was given.

    Example:
        >>> value = Value(name="k", dtype="INT8", shape=(2,), constant=True, values=np.array([1, 2], "int8"))
        >>> view = View(parts=(Part(name="main", nodes=(), values=(value,), inputs=(), outputs=()),))
        >>> from_answer(to_answer(view)).parts[0].values[0].values
        array([1, 2], dtype=int8)
    """
    arrays, told = answer

    def value(each: Mapping[str, Any]) -> Value:
        at = each["values"]
        return Value(**{**_tuples(Value, each), "values": None if at is None else arrays[at]})

    parts = [
        Part(
            name=part["name"],
            nodes=tuple(Node(**_tuples(Node, node)) for node in part["nodes"]),
            values=tuple(value(each) for each in part["values"]),
            inputs=tuple(part["inputs"]),
            outputs=tuple(part["outputs"]),
        )
        for part in told["parts"]
    ]
    return View(
        parts=tuple(parts),
        signatures=tuple(Signature(**signature) for signature in told["signatures"]),
        metadata={name: content.encode("latin-1") for name, content in told["metadata"].items()},
        remarks=tuple(told["remarks"]),
        paired=told["paired"],
    )


def _tuples(kind: type, told: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of ``kind``, with the lists that JSON makes of tuples as tuples again."""
    return {
        f.name: tuple(v) if isinstance(v := told[f.name], Sequence) and not isinstance(v, str) else v
        for f in fields(kind)
    }


def stored(values: np.ndarray) -> np.ndarray | None:
    """``values`` where NumPy itself has their type; integers of 4 bits and bfloat16 as what holds them; else None.

    Example:
        >>> stored(np.array(["a"], object)) is None, stored(np.array([True])).dtype.kind
        (True, 'b')
    """
    if values.dtype.kind in "fiub":
        return values
    narrow = {"int4": "int8", "uint4": "uint8", "int2": "int8", "uint2": "uint8", "bfloat16": "float32"}
    wider = narrow.get(values.dtype.name, "float32" if values.dtype.name.startswith("float8") else "")
    return values.astype(wider) if wider else None
