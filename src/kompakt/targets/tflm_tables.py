"""Weights of few values as look-up tables, in the form that TensorFlow Lite Micro decodes (its DECODE operator)."""

from __future__ import annotations

import math

import numpy as np

from kompakt.isolated import Answer, call
from kompakt.targets.tflite_file import PRODUCERS, TFLiteFile, places

NAME = "The compressor of TensorFlow Lite Micro"
MOST_BITS = 7
"""Of an index into a table; with 8 nothing would be won."""

OVERHEAD = 64
"""Bytes that a compressed tensor costs beside its indices and tables: an operator, a tensor, a header."""


def compressed(data: bytes) -> bytes | None:
    """The file with each kernel whose channels have few values stored as tables and indices; None where none has.

    A table a channel, along the axis of the kernel's own scales: one table for the whole of a kernel that has scales a
    channel would be decoded with the wrong ones.
    """
    found = tables(TFLiteFile(data))
    if not found:
        return None
    (made,), _ = call("kompakt.targets.tflm_tables:tabled", [np.frombuffer(data, "uint8")], of=NAME, tensors=found)
    return made.tobytes() if made.size < len(data) else None


def tables(file: TFLiteFile) -> list[tuple[int, int, int]]:
    """(tensor, axis, bits of an index) of each kernel that takes fewer bytes so."""
    found = []
    for op in file.ops:
        if op.name in PRODUCERS:
            tensor = file.tensors[op.inputs[places(op)[1]]]
            if tensor.values is not None and tensor.kind == "INT8" and tensor.channel_axis is not None:
                bits = saves(tensor.values, tensor.channel_axis)
                if bits is not None:
                    found.append((tensor.index, tensor.channel_axis, bits))
    return sorted(set(found))


def saves(values: np.ndarray, axis: int) -> int | None:
    """Bits of an index into tables of one channel each, or None where the tables win nothing.

    Bytes are ``ceil(size * bits / 8)`` for the indices and one a value in each table, all as long as the longest.

    Example:
        >>> few = np.tile(np.arange(16, dtype="int8"), (8, 100))
        >>> saves(few, 0), saves(np.arange(-100, 100, dtype="int8").reshape(2, 100), 0)
        (4, None)
    """
    channels = np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)
    longest = max(len(np.unique(row)) for row in channels)
    bits = max(1, math.ceil(math.log2(longest))) if longest > 1 else 1
    size = math.ceil(values.size * bits / 8) + len(channels) * longest + OVERHEAD
    return bits if bits <= MOST_BITS and size < values.size else None


def tabled(arrays: list[np.ndarray], *, tensors: list[tuple[int, int, int]]) -> Answer:
    """The compressed file, made by the compressor of TensorFlow Lite Micro in a process of its own."""
    from tflite_micro.tensorflow.lite.micro.compression import compress, spec

    wanted = [
        spec.Tensor(
            subgraph=0,
            tensor=index,
            compression=[spec.LookUpTableCompression(index_bitwidth=bits, mode=spec.PerChannel(axis=axis))],
        )
        for index, axis, bits in tensors
    ]
    made = compress(bytearray(arrays[0].tobytes()), wanted)
    return [np.frombuffer(bytes(made), "uint8")], None
