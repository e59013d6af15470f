"""What a profile wants of TensorFlow Lite Micro."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from keras import tree

from kompakt.folders import unpacked
from kompakt.targets.profiler import End, Question, ServedProfiler, Stored, Work
from kompakt.targets.profiler_tflite import ends_of
from kompakt.targets.tflite_file import TFLiteFile
from kompakt.targets.tflite_work import stored, work
from kompakt.targets.tflm import MODEL, TFLM, WHOLE, stored_inputs
from kompakt.targets.tflm_arena import NAME, RUNTIME, smallest_arena

DECODE = "TFLM_DECODE"
"""Operator that unpacks a weight: its inputs are indices into tables, and the tables."""


class TFLMProfiler(ServedProfiler):
    """The reference kernels of TensorFlow Lite Micro on this machine, one thread: no microcontroller's time."""

    threads: ClassVar[bool] = False

    def ends(self, data: bytes) -> list[End]:
        return ends_of(_file(data))

    def stored(self, data: bytes) -> Sequence[Stored]:
        """The weights as they are before tables are made of them, with the bytes that they take in what ships."""
        found, files = list(stored(_file(data))), unpacked(data)
        if WHOLE not in files:
            return found
        ships = TFLiteFile(files[MODEL])
        return [replace(each, bytes=_bytes_as_tables(ships, each)) for each in found]

    def work(self, data: bytes) -> Sequence[Work]:
        return work(_file(data))

    def timed(self, data: bytes, inputs: Any, threads: int) -> Question:
        return Question(function=f"{RUNTIME}:seconds", of=NAME, arrays=_arrays(data, inputs), values={})

    def run_once(self, data: bytes, inputs: Any) -> Question:
        values = {"outputs": len(_file(data).outputs)}
        return Question(function=f"{RUNTIME}:run", of=NAME, arrays=_arrays(data, inputs), values=values)

    def arena(self, data: bytes) -> int:
        return smallest_arena(unpacked(data)[MODEL])


def _file(data: bytes) -> TFLiteFile:
    return TFLiteFile(TFLM().flatbuffer(data))


def _arrays(data: bytes, inputs: Any) -> list[np.ndarray]:
    leaves = [np.asarray(leaf) for leaf in tree.flatten(inputs)]
    return [np.frombuffer(unpacked(data)[MODEL], "uint8"), *stored_inputs(_file(data), leaves)]


def _bytes_as_tables(ships: TFLiteFile, weight: Stored) -> int:
    """Of the indices and tables that are decoded; of the tensor itself where it is stored plainly."""
    for op in ships.ops:
        if op.name == DECODE and ships.tensors[op.inputs[0]].name == weight.name:
            return sum(_buffer(ships, i) for i in op.inputs)
    return weight.bytes


def _buffer(file: TFLiteFile, index: int) -> int:
    held = file.model.buffers[file.graph.tensors[index].buffer].data
    return 0 if held is None else len(held)
