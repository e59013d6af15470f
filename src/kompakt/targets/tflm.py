"""TensorFlow Lite Micro: a TFLite file as C source, run in the interpreter of microcontrollers, with its arena."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from keras import tree

from kompakt.errors import InputError
from kompakt.folders import packed, unpacked
from kompakt.isolated import call
from kompakt.records import Measurement
from kompakt.targets import ethos_u
from kompakt.targets.float_target import NOTE as FOLDER_NOTE
from kompakt.targets.float_target import TAKEN_OUT, broken_seal, check_mode, sealed
from kompakt.targets.graph_view import View
from kompakt.targets.litert import off_grid, on_grid
from kompakt.targets.target import Converted, Fault, Outputs, Request
from kompakt.targets.tflite import TFLite, is_site, steps
from kompakt.targets.tflite_file import NUMPY, Tensor, TFLiteFile
from kompakt.targets.tflite_seal import altered
from kompakt.targets.tflm_arena import NAME, RUNTIME, smallest_arena
from kompakt.targets.tflm_operators import check_operators, methods, place
from kompakt.targets.tflm_rewrite import finished, for_micro
from kompakt.targets.tflm_source import sources
from kompakt.targets.tflm_tables import compressed
from kompakt.targets.words import MODES

MODEL, WHOLE = "model.tflite", "model_uncompressed.tflite"
"""What ships, and the same before its weights were stored as tables, which LiteRT can read."""

SEAL = "kompakt.seal"
"""Digests of the model's tensors and operators: beside the model, so that they take no flash."""

INTEGERS = {"INT8", "UINT8", "INT32"}
"""Types of a file of 8-bit integers."""

HOST = "smallest on a 64-bit host, an upper estimate for a 32-bit part"


class TFLM(TFLite):
    """A folder: the TFLite file, and C source that holds it.

    Files of int8 are equal to what LiteRT's reference kernels compute from the same file, to the bit: its dense layers
    are the convolutions that they are (:mod:`kompakt.targets.tflm_rewrite`). With activations of 16 bits the two
    runtimes differ by some of their small steps, and the file is held to its simulation.
    """

    name = "tflm"
    runtime = "TensorFlow Lite Micro"
    modes = MODES["tflm"]
    suffix = ""
    main = MODEL
    stores_sparse = False
    rounds_twice = True
    kernels = "reference"
    stores_tables = True
    nearest: ClassVar[Mapping[str, str]] = {
        "dynamic_int8": "int8",
        "weight_only_int8": "int8",
        "uint8": "int8",
        "float16": "float",
        "uint16": "float",
    }

    def ready(self) -> None:
        if importlib.util.find_spec("tflite_micro") is None:
            raise InputError(
                "TensorFlow Lite Micro is not installed: pip install 'kompakt[tflm]' (wheels for Linux on x86-64)"
            )
        ethos_u.ready()

    def claims(self, path: Path) -> bool:
        return (path / MODEL).is_file() and (path / FOLDER_NOTE).is_file()

    def flatbuffer(self, data: bytes) -> bytes:
        """The file that LiteRT can read too."""
        files = unpacked(data)
        found = files.get(WHOLE, files.get(MODEL))
        if found is None:
            raise InputError(f"no TFLite Micro artifact: it holds {', '.join(files) or 'nothing'}, and no {MODEL}")
        return found

    def graph(self, data: bytes) -> View:
        view, files = super().graph(data), unpacked(data)
        if WHOLE not in files:
            return view
        ships = f"{MODEL} ships, {len(files[MODEL]):,} bytes, its kernels as tables"
        remark = f"{ships}; shown is {WHOLE}, which computes the same"
        return dataclasses.replace(view, remarks=(*view.remarks, remark))

    def shipped(self, data: bytes) -> Mapping[str, bytes]:
        return {MODEL: unpacked(data)[MODEL]}

    def convert(self, request: Request) -> Converted:
        check_mode(self, request.quantization)
        made = super().convert(request)
        file = for_micro(made.data)
        check_operators(file)
        note = json.loads(file.metadata("kompakt") or "{}")
        whole, marks = finished(file)
        ships = compressed(whole) if request.compress else None
        notes = [*made.notes]
        if request.compress and ships is None:
            notes.append("compress: no kernel has channels of so few values that tables of them would take fewer bytes")
        if ships is not None:
            notes.append(_unpacking(whole, ships))
        data = whole if ships is None else ships
        first = tree.map_structure(lambda leaf: np.asarray(leaf)[:1], request.samples)
        inputs, outputs = self._numbers(file, data, first)
        pages = sources(
            data,
            file,
            name=request.model.name,
            quantization=request.quantization,
            arena=smallest_arena(data),
            methods=methods(file, tables=ships is not None),
            inputs=inputs,
            outputs=outputs,
        )
        files = {MODEL: data, SEAL: marks, **{name: text.encode() for name, text in pages.items()}}
        if ships is not None:
            files[WHOLE] = whole
        return dataclasses.replace(made, data=packed(sealed(files, note)), notes=tuple(notes))

    def run(self, data: bytes, inputs: Any, *, at: Sequence[str] | None = None) -> Outputs:
        if at is not None:  # what is inside is looked at in LiteRT, which can show it
            return super().run(data, inputs, at=at)
        file, ships = TFLiteFile(self.flatbuffer(data)), unpacked(data)[MODEL]
        _, values = self._numbers(file, ships, inputs)
        ends = [file.tensors[i] for i in file.outputs]
        found = tuple(off_grid(v, _detail(end)) for v, end in zip(values, ends, strict=True))
        lsb = steps(file, tuple(end.scale[0] if end.scale else None for end in ends))
        return Outputs(values=found, lsb=lsb, breaches=self._apart(data, file, inputs, found))

    def _numbers(self, file: TFLiteFile, ships: bytes, inputs: Any) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """(inputs, outputs) as the file has them: integers where it has integers."""
        leaves = [np.asarray(leaf) for leaf in tree.flatten(inputs)]
        if len(leaves) != len(file.inputs):
            raise InputError(f"the file takes {len(file.inputs)} inputs, received {len(leaves)}")
        given = stored_inputs(file, leaves)
        arrays = [np.frombuffer(ships, "uint8"), *given]
        try:
            return given, call(f"{RUNTIME}:run", arrays, of=NAME, outputs=len(file.outputs))[0]
        except InputError as error:
            raise InputError(_with_layer(str(error), file)) from None

    def _apart(self, data: bytes, file: TFLiteFile, inputs: Any, found: Sequence[np.ndarray]) -> tuple[str, ...]:
        """A line where integers are not those of LiteRT's reference kernels."""
        if {file.tensors[i].kind for op in file.ops for i in op.outputs} - INTEGERS:
            return ()
        expected = super().run(data, inputs).values
        wrong = [int((e != f).reshape(len(f), -1).any(-1).sum()) for e, f in zip(expected, found, strict=True)]
        return tuple(
            f"output {i}: not equal to LiteRT's reference kernels on {count} of {len(found[i])} samples"
            for i, count in enumerate(wrong)
            if count
        )

    def measure(self, data: bytes, inputs: Any) -> list[Measurement]:
        files = unpacked(data)
        found = [Measurement(name="arena", value=float(smallest_arena(files[MODEL])), unit="bytes", where=HOST)]
        if WHOLE in files:
            arena = float(smallest_arena(files[WHOLE]))
            found.append(Measurement(name="uncompressed", value=float(len(files[WHOLE])), unit="bytes"))
            found.append(Measurement(name="arena_uncompressed", value=arena, unit="bytes", where=HOST))
        return [*found, *ethos_u.estimates(self.flatbuffer(data))]

    def note(self, data: bytes) -> str | None:
        content = unpacked(data).get(FOLDER_NOTE)
        return None if content is None else content.decode(errors="replace")

    def altered(self, data: bytes) -> list[Fault]:
        files = unpacked(data)
        marks = files.get(SEAL)
        if FOLDER_NOTE not in files and (
            marks is not None or any(is_site(t.name) for t in TFLiteFile(self.flatbuffer(data)).tensors)
        ):
            return [TAKEN_OUT]
        inside = [] if marks is None else altered(TFLiteFile(self.flatbuffer(data)), marks)
        return [*broken_seal(files), *inside]


def _unpacking(whole: bytes, ships: bytes) -> str:
    """What tables save, and what it costs to unpack them."""
    before, after = smallest_arena(whole), smallest_arena(ships)
    return (
        f"compress: {len(whole) - len(ships):,} bytes of flash saved; kernels are unpacked in the arena, which takes "
        f"{after:,} bytes rather than {before:,}"
    )


def stored_inputs(file: TFLiteFile, leaves: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Inputs as the file takes them."""
    ends = [file.tensors[i] for i in file.inputs]
    return [np.ascontiguousarray(on_grid(leaf, _detail(end))) for leaf, end in zip(leaves, ends, strict=True)]


def _detail(tensor: Tensor) -> dict[str, Any]:
    """Type and grid of an end, as LiteRT's interpreter gives them."""
    grid = (tensor.scale[0], tensor.zero_point[0]) if tensor.scale else (0.0, 0)
    return {"dtype": np.dtype(NUMPY[tensor.kind]), "quantization": grid}


def _with_layer(text: str, file: TFLiteFile) -> str:
    """What the runtime says of "operator 3" with the layer that it stands for."""
    named = re.search(r"operator (\d+)", text)
    if named is None or int(named[1]) >= len(file.ops):
        return text
    return text.replace(named[0], f"of {place(file, file.ops[int(named[1])].outputs)}")
