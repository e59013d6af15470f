"""Edits of a flatbuffer that the rewrites for TensorFlow Lite Micro are made of."""

from __future__ import annotations

from typing import Any

import flatbuffers
import numpy as np

from kompakt.targets.tflite_file import TFLiteFile

ALIGNMENT = 16
"""Bytes at whose multiples constants begin, as the schema demands: a processor may fault where they do not."""


class _Builder(flatbuffers.Builder):  # type: ignore[misc]
    """One that heeds ``force_align`` of the schema's buffers; the generated code does not."""

    def CreateNumpyVector(self, x: np.ndarray) -> int:
        if x.dtype != np.uint8:
            return int(super().CreateNumpyVector(x))
        self.StartVector(1, x.size, ALIGNMENT)
        self.head = int(self.Head() - x.size)
        self.Bytes[self.head : self.head + x.size] = x.tobytes()
        self.vectorNumElems = x.size
        return int(self.EndVector())


def packed(file: TFLiteFile) -> bytes:
    """The bytes of ``file``, its constants at multiples of 16 bytes."""
    builder = _Builder(1024)
    builder.Finish(file.model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def cleaned(file: TFLiteFile) -> None:
    """Take out tensors, buffers and operator codes that nothing refers to: each costs memory on the device."""
    for graph in file.model.subgraphs:
        _clean_tensors(file, graph)
    operators = [op for graph in file.model.subgraphs for op in graph.operators or []]
    codes = sorted({op.opcodeIndex for op in operators})
    for op in operators:
        op.opcodeIndex = codes.index(op.opcodeIndex)
    file.model.operatorCodes = [file.model.operatorCodes[i] for i in codes]
    tensors = [tensor for graph in file.model.subgraphs for tensor in graph.tensors]
    held = [*tensors, *(file.model.metadata or [])]
    buffers = [0, *sorted({each.buffer for each in held} - {0})]  # the first is the empty one
    for each in held:
        each.buffer = buffers.index(each.buffer)
    file.model.buffers = [file.model.buffers[i] for i in buffers]
    file.reread()


def _clean_tensors(file: TFLiteFile, graph: Any) -> None:
    lists = [(owner, name) for owner, name in _references(graph) if getattr(owner, name) is not None]
    used = sorted({int(i) for owner, name in lists for i in getattr(owner, name) if i >= 0})
    place = {-1: -1, **{old: new for new, old in enumerate(used)}}
    for owner, name in lists:
        setattr(owner, name, np.asarray([place[int(i)] for i in getattr(owner, name)], "int32"))
    main = file.model.subgraphs[0]
    for signature in file.model.signatureDefs or []:
        if signature.subgraphIndex == file.model.subgraphs.index(graph) and graph is main:
            for entry in (*(signature.inputs or []), *(signature.outputs or [])):
                entry.tensorIndex = place[int(entry.tensorIndex)]
    graph.tensors = [graph.tensors[i] for i in used]


def _references(graph: Any) -> list[tuple[Any, str]]:
    """Where a graph names its tensors."""
    operators = graph.operators or []
    kinds = ("inputs", "outputs", "intermediates")
    return [(graph, "inputs"), (graph, "outputs"), *((op, kind) for op in operators for kind in kinds)]
