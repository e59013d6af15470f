"""A TFLite file as a graph of any format: every subgraph, signature and piece of metadata."""

from __future__ import annotations

from typing import Any

import numpy as np

from kompakt.contents import Signature
from kompakt.targets.graph_view import Node, Part, Value, View
from kompakt.targets.tflite_file import Op, Tensor, TFLiteFile
from kompakt.targets.tflite_options import words


class AnyFile(TFLiteFile):
    """A file with whatever operators: those with state (ASSIGN_VARIABLE, CALL_ONCE) make no tensor."""

    def _op(self, op: Any) -> Op:
        return Op(name=self.name_of(op), inputs=_indices(op.inputs), outputs=_indices(op.outputs))


def view_of(data: bytes) -> View:
    """What is in a file.

    Raises:
        InputError: it is damaged.
    """
    file = AnyFile(data)
    with file._intact():
        parts = tuple(_part(part, i) for i, part in enumerate(file.parts()))
        signatures = tuple(_signature(each, parts) for each in file.model.signatureDefs or [])
        names = [(entry.name or b"").decode(errors="replace") for entry in file.model.metadata or []]
        metadata = {name: file.raw_metadata(name) or b"" for name in names}
    return View(parts=parts, signatures=signatures, metadata=metadata)


def _part(file: TFLiteFile, index: int) -> Part:
    name = (file.graph.name or b"").decode(errors="replace")
    raw = file.graph.operators or []
    return Part(
        name=name or ("main" if index == 0 else f"subgraph {index}"),
        nodes=tuple(_node(op, each) for op, each in zip(file.ops, raw, strict=True)),
        values=tuple(_value(file, tensor) for tensor in file.tensors),
        inputs=file.inputs,
        outputs=file.outputs,
    )


def _node(op: Op, raw: Any) -> Node:
    options, activation = words(raw)
    return Node(name=op.name, inputs=op.inputs, outputs=op.outputs, options=options, activation=activation)


def _value(file: TFLiteFile, tensor: Tensor) -> Value:
    raw = file.graph.tensors[tensor.index]
    held = file.model.buffers[raw.buffer].data
    size = 0 if held is None else len(held)
    shape = tensor.shape
    if raw.shapeSignature is not None and len(raw.shapeSignature) == len(shape):
        shape = tuple(int(n) for n in raw.shapeSignature)
    constant = size > 0
    channel = file.channels_of(tensor.index) if constant else tensor.channel_axis
    return Value(
        name=tensor.name,
        dtype=tensor.kind,
        shape=tuple(None if n < 0 else n for n in shape),
        constant=constant,
        values=_numbers(file, tensor) if constant else None,
        bytes=size if constant else None,
        buffer=str(raw.buffer) if constant else None,
        scale=tensor.scale,
        zero_point=tensor.zero_point,
        axis=tensor.axis,
        channels=() if channel is None else (channel,),
        sparse=raw.sparsity is not None,
    )


def _numbers(file: TFLiteFile, tensor: Tensor) -> np.ndarray | None:
    """The values of a constant; of one that is stored sparse those that DENSIFY makes of it."""
    made = (op.outputs[0] for op in file.ops if op.name == "DENSIFY" and op.inputs[0] == tensor.index)
    return next((file.tensors[i].values for i in made), tensor.values)


def _signature(signature: Any, parts: tuple[Part, ...]) -> Signature:
    index = int(signature.subgraphIndex)
    part = parts[index]

    def names(entries: Any) -> dict[str, str]:
        return {
            (entry.name or b"").decode(errors="replace"): part.values[int(entry.tensorIndex)].name
            for entry in entries or []
        }

    key = (signature.signatureKey or b"").decode(errors="replace")
    return Signature(name=key, subgraph=index, inputs=names(signature.inputs), outputs=names(signature.outputs))


def _indices(found: Any) -> tuple[int, ...]:
    return () if found is None else tuple(int(i) for i in found)
