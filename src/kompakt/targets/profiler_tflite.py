"""What a profile wants of TFLite files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from keras import tree

from kompakt.errors import InputError
from kompakt.isolated import call
from kompakt.measure import half_iqr
from kompakt.records_profile import Operators, OperatorTime
from kompakt.targets import tflite_runtime
from kompakt.targets.profiler import End, Question, ServedProfiler, Stored, Work
from kompakt.targets.target import keys, with_bytes
from kompakt.targets.tflite_build import nothing
from kompakt.targets.tflite_file import FLOATS, NUMPY, TFLiteFile
from kompakt.targets.tflite_runtime import NAME, RUNTIME
from kompakt.targets.tflite_slices import slices
from kompakt.targets.tflite_work import stored, work

SECONDS = 0.004
"""Of one reading of one operator: a file has many of them."""


class TFLiteProfiler(ServedProfiler):
    """LiteRT, with the kernels that ship."""

    def ends(self, data: bytes) -> list[End]:
        return ends_of(TFLiteFile(data))

    def stored(self, data: bytes) -> Sequence[Stored]:
        return list(stored(TFLiteFile(data)))

    def work(self, data: bytes) -> Sequence[Work]:
        return work(TFLiteFile(data))

    def timed(self, data: bytes, inputs: Any, threads: int) -> Question:
        values = {"names": keys(inputs), "threads": threads}
        return Question(function=f"{RUNTIME}:seconds", of=NAME, arrays=with_bytes(data, inputs), values=values)

    def run_once(self, data: bytes, inputs: Any) -> Question:
        values = {"names": keys(inputs), "kernels": "default"}
        return Question(function=f"{RUNTIME}:run", of=NAME, arrays=with_bytes(data, inputs), values=values)

    def operators(self, data: bytes, inputs: Any, *, threads: int, rounds: int) -> Operators:
        file, cut = TFLiteFile(data), list(slices(data))
        seen, note = _fed(file, data, inputs, [i for each in cut for i in each.inputs])
        sides = [(each.data, [seen.get(i, _zeros(file, i)) for i in each.inputs]) for each in cut]
        sides += [(data, [seen.get(i, _zeros(file, i)) for i in file.inputs]), (nothing(), [np.ones((1, 1), "f4")])]
        arrays = [array for content, given in sides for array in (np.frombuffer(content, "uint8"), *given)]
        (taken,), refused = call(
            "kompakt.targets.litert_slices:alternated",
            arrays,
            of=NAME,
            inputs=[len(given) for _, given in sides],
            threads=threads,
            rounds=rounds,
            seconds=SECONDS,
        )
        if refused[-2]:
            raise InputError(f"LiteRT does not run the file: {refused[-2]}")
        return replace(operators_of(work(file), 1e3 * taken, refused, threads), note=note)


def operators_of(rows: Sequence[Work], taken: np.ndarray, refused: Sequence[str], threads: int) -> Operators:
    """Records of readings.

    Args:
        taken: milliseconds, (rounds, operators and then the whole file and an empty one). refused: why one has none.
    """
    made = [
        OperatorTime(
            index=i, name=row.name, output=row.output, macs=row.macs, traffic=row.traffic, missing=refused[i] or ""
        )
        for i, row in enumerate(rows)
    ]
    for i, row in enumerate(made):
        if not row.missing:
            made[i] = replace(row, milliseconds=float(np.median(taken[:, i])), spread=half_iqr(taken[:, i].tolist()))
    call_cost = float(np.median(taken[:, -1]))
    run = [row.milliseconds for row in made if row.milliseconds is not None]
    return Operators(
        rows=tuple(made),
        sum=float(np.sum(run)),
        call=call_cost * len(run),
        whole=float(np.median(taken[:, -2])),
        threads=threads,
    )


def _fed(file: TFLiteFile, data: bytes, inputs: Any, tensors: Sequence[int]) -> tuple[dict[int, np.ndarray], str]:
    """(what is captured, "") or (nothing, why): the kernels that can be looked into refuse what XNNPACK takes."""
    try:
        return captured(file, data, inputs, tensors), ""
    except InputError as error:
        return {}, f"operators were fed zeros, a run could not be looked into ({error})"


def captured(file: TFLiteFile, data: bytes, inputs: Any, tensors: Iterable[int]) -> dict[int, np.ndarray]:
    """Index -> what the tensor holds in a real run of one batch, numbers as they are stored, where it can be read."""
    batch = max(1, file.tensors[file.inputs[0]].shape[0] if file.tensors[file.inputs[0]].shape else 1)
    first = tree.map_structure(lambda leaf: np.asarray(leaf)[:batch], inputs)
    found = tflite_runtime.tensors(data, first, sorted({*tensors, *file.inputs}), batch=batch)
    return {i: values[0] for i, values in found.items()}


def _zeros(file: TFLiteFile, index: int) -> np.ndarray:
    tensor = file.tensors[index]
    return np.zeros([max(1, n) for n in tensor.shape], NUMPY.get(tensor.kind, "float32"))


def ends_of(file: TFLiteFile) -> list[End]:
    """The inputs of a file."""
    return [
        End(
            name=tensor.name,
            shape=tuple(tensor.shape),
            integers=not tensor.scale and tensor.kind not in FLOATS,
            bytes=np.dtype(NUMPY.get(tensor.kind, "float32")).itemsize,
        )
        for tensor in (file.tensors[i] for i in file.inputs)
    ]
