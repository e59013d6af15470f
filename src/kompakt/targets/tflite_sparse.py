"""Weights with many zeros in TFLite's sparse storage, each unpacked by a DENSIFY operator before its readers.

Measured with LiteRT 2.3 on x86-64: it unpacks the weights once, when it loads the file, and computes the same bits
as from the dense file. Where it does not, the weights stay dense: it refuses an int8 FULLY_CONNECTED behind a DENSIFY,
and what reads a float16 constant behind DENSIFY and DEQUANTIZE, but is not computed by XNNPACK, reads memory that
nobody wrote (GATHER, CONV_3D, a TRANSPOSE_CONV whose output shape is computed).
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from keras import tree

from kompakt.errors import InputError
from kompakt.files import gzip_bytes
from kompakt.targets import tflite_runtime
from kompakt.targets.sparse_format import Sparse, encode, smallest, to_schema
from kompakt.targets.target import Converted
from kompakt.targets.tflite_file import Op, Tensor, TFLiteFile

READERS: dict[str, tuple[str, ...]] = {
    "FLOAT32": ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV", "CONV_3D", "GATHER"),
    "FLOAT16": ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"),
    "INT8": ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "CONV_3D", "GATHER"),
}
"""Type of a weight -> the operators that compute the same from it behind a DENSIFY."""

COMPARED = 4
"""Samples that the sparse file is compared with the dense one on."""


def stored_sparse(
    dense: Converted, samples: Any = None, *, finished: Callable[[bytes], bytes] = lambda data: data
) -> Converted:
    """``dense`` with its weights stored sparse where that takes fewer bytes; its notes say what came of it.

    It stays dense where nothing gets smaller, and where LiteRT would not compute the same on ``samples``.

    Args:
        finished: what is done to the bytes last; those are the ones that are counted.
    """
    file = TFLiteFile(dense.data)
    made, refused = sparsify(file)
    data = file.pack()
    notes = []
    if refused:
        notes.append(f"sparse: stored dense all the same, since LiteRT fails to unpack it: {', '.join(refused)}")
    smaller = bool(made) and len(data) < len(dense.data)
    fault = _fault(dense.data, data, samples) if smaller else None
    if not smaller:
        notes.append(f"sparse: no {'other ' * bool(refused)}weight takes fewer bytes that way, so the file is dense")
    elif fault:
        notes.append(f"sparse: {fault}, so the file is dense")
    else:
        before, after = finished(dense.data), finished(data)
        notes.append(
            f"sparse: {len(made)} weight{'s' * (len(made) > 1)} stored sparse, {len(after):,} bytes in place of "
            f"{len(before):,} (gzipped {gzip_bytes(after):,} in place of {gzip_bytes(before):,}); no "
            "faster on x86-64, where LiteRT unpacks them when it loads the file"
        )
    kept = data if smaller and not fault else dense.data
    return dataclasses.replace(dense, data=finished(kept), notes=(*dense.notes, *notes))


def sparsify(file: TFLiteFile) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Store each weight of ``file`` sparse where that takes fewer bytes, its operator and all; in place.

    Returns:
        (names of those that are, names with their readers of those that would be but for the runtime).
    """
    made: list[str] = []
    refused: list[str] = []
    for tensor in _candidates(file):
        stored = _smaller(file, tensor)
        if stored is None:
            continue
        readers = file.readers(tensor.index)
        if all(_unpacks(file, tensor, op) for op in readers):
            store(file, tensor, stored)
            made.append(tensor.name)
        else:
            names = ", ".join(sorted({op.name for op in readers}))
            refused.append(f"{tensor.name} ({tensor.kind.lower()}, read by {names})")
    file.reread()
    return tuple(made), tuple(refused)


def _candidates(file: TFLiteFile) -> list[Tensor]:
    """Dense constants with more than one dimension that only operators read, each from a buffer of its own."""
    users = Counter(tensor.buffer for tensor in file.graph.tensors)
    return [
        tensor
        for tensor in file.tensors
        if tensor.values is not None
        and not tensor.sparse
        and tensor.kind in READERS
        and len(tensor.shape) > 1
        and tensor.index not in file.outputs
        and users[file.graph.tensors[tensor.index].buffer] == 1
        and file.readers(tensor.index)
    ]


def _unpacks(file: TFLiteFile, tensor: Tensor, op: Op) -> bool:
    """Whether LiteRT computes an operator right with ``tensor`` behind a DENSIFY."""
    computed = op.name == "TRANSPOSE_CONV" and file.tensors[op.inputs[0]].values is None
    return op.name in READERS[tensor.kind] and not (computed and tensor.kind == "FLOAT16")


def _smaller(file: TFLiteFile, tensor: Tensor) -> Sparse | None:
    """The smallest sparse form of a tensor; None where that, with all it needs, is no smaller than the dense one."""
    assert tensor.values is not None
    found = smallest(tensor.values)
    if found is None:
        return None
    stored = encode(tensor.values, found[0])
    dense = file.model.buffers[file.graph.tensors[tensor.index].buffer]
    return stored if _bytes(*_tables(file, tensor, stored)) < _bytes(dense) else None


def store(file: TFLiteFile, tensor: Tensor, stored: Sparse) -> None:
    """Put ``stored`` in the place of the values of ``tensor``; the file has to be reread.

    The tensor keeps its name and grid. It is what DENSIFY makes of a new constant, which needs no grid.
    """
    graph, dense = file.graph, file.graph.tensors[tensor.index]
    constant, densify, buffer = _tables(file, tensor, stored)
    densify.opcodeIndex = file.operator_code("DENSIFY")
    file.model.buffers[dense.buffer], dense.buffer = buffer, 0
    graph.tensors.append(constant)
    first = next(i for i, op in enumerate(graph.operators) if tensor.index in op.inputs)
    graph.operators.insert(first, densify)


def _tables(file: TFLiteFile, tensor: Tensor, stored: Sparse) -> tuple[Any, Any, Any]:
    """The constant, the operator that unpacks it, and the buffer."""
    dense = file.graph.tensors[tensor.index]
    constant, densify, buffer = schema.TensorT(), schema.OperatorT(), schema.BufferT()
    constant.name, constant.shape, constant.type = (tensor.name + ":sparse").encode(), dense.shape, dense.type
    constant.sparsity, constant.buffer = to_schema(stored), dense.buffer
    densify.inputs, densify.outputs = [len(file.graph.tensors)], [tensor.index]
    buffer.data = np.frombuffer(stored.values.tobytes(), "uint8")
    return constant, densify, buffer


def _bytes(*tables: Any) -> int:
    """Bytes that tables take in a file, about: those of each alone."""
    total = 0
    for table in tables:
        builder = flatbuffers.Builder(1024)
        builder.Finish(table.Pack(builder))
        total += len(builder.Output())
    return total


def _fault(dense: bytes, sparse: bytes, samples: Any) -> str | None:
    """What LiteRT does with the sparse file that it does not with the dense one, or None."""
    if samples is None:
        return None
    few = tree.map_structure(lambda a: a[:COMPARED], samples)
    try:
        pairs = zip(tflite_runtime.run(dense, few).values, tflite_runtime.run(sparse, few).values, strict=True)
    except InputError as error:
        return str(error).split(";")[0]
    same = all(np.array_equal(a, b, equal_nan=True) for a, b in pairs)
    return None if same else "LiteRT computes other outputs from sparse weights"
