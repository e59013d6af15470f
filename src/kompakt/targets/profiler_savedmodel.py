"""What a profile wants of SavedModels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from kompakt.isolated import call
from kompakt.targets.profiler import End, Question, ServedProfiler, Stored
from kompakt.targets.savedmodel import SERVER, noted, variables
from kompakt.targets.target import keys, with_bytes

NAME = "TensorFlow"

BITS = {"FLOAT16": 16, "BFLOAT16": 16, "FLOAT64": 64, "INT8": 8, "UINT8": 8, "INT16": 16, "INT64": 64, "BOOL": 8}
"""Of a value, 32 where the type is not here. Keras packs two values of 4 bits into an INT8."""


class SavedModelProfiler(ServedProfiler):
    """TensorFlow, the signature that servers call. How often its graph multiplies is not said by the file."""

    def ends(self, data: bytes) -> list[End]:
        _, found = call(f"{SERVER}:ends", [np.frombuffer(data, "uint8")], of=NAME)
        ends = {name: End(name=name, shape=tuple(shape), integers=whole) for name, shape, whole in found}
        names = noted(data, "inputs")
        return [ends[name] for name in names] if names and set(names) == set(ends) else list(ends.values())

    def stored(self, data: bytes) -> Sequence[Stored]:
        return [
            Stored(
                name=name,
                layer=name.rpartition("/")[0] or name,
                kind=kind,
                values=values,
                bytes=values.size * BITS.get(kind, 32) // 8,
            )
            for name, (kind, values) in variables(data).items()
        ]

    def timed(self, data: bytes, inputs: Any, threads: int) -> Question:
        values = {"inputs": noted(data, "inputs") or keys(inputs), "threads": threads}
        return Question(function=f"{SERVER}:seconds", of=NAME, arrays=with_bytes(data, inputs), values=values)

    def run_once(self, data: bytes, inputs: Any) -> Question:
        values = {"inputs": noted(data, "inputs") or keys(inputs), "outputs": None}
        return Question(function=f"{SERVER}:run", of=NAME, arrays=with_bytes(data, inputs), values=values)
