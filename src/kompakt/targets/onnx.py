"""ONNX: a file for onnxruntime and the many other runtimes that read it, through tf2onnx."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kompakt.errors import InputError, first_line
from kompakt.isolated import begin, call
from kompakt.records import Census, Encoding
from kompakt.targets.float_target import FloatTarget, check_mode, folded, note_of
from kompakt.targets.graph_view import View, from_answer
from kompakt.targets.notes import read_note
from kompakt.targets.onnx_graph import CONVERTER, OFFSET, graph_of, integer_graph
from kompakt.targets.target import Converted, Fault, Outputs, Request, check_backend, keys, with_bytes
from kompakt.targets.words import MODES, SUFFIXES

SERVER = "kompakt.targets.onnx_server"

IN_FLOATS = "onnxruntime computes between grids, in floats: "

NEEDED = ("onnx", "onnxruntime", "tf2onnx")


class ONNX(FloatTarget):
    """``.onnx`` files, run by onnxruntime on the CPU."""

    name = "onnx"
    runtime = "onnxruntime"
    modes = MODES["onnx"]
    suffix = SUFFIXES["onnx"]
    nearest = dict.fromkeys(("float16", "w4a8", "int16x8", "mixed", "dynamic_int8", "weight_only_int8"), "float")

    def ready(self) -> None:
        missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
        if missing:
            raise InputError(f"target='onnx' needs {', '.join(missing)}: pip install 'kompakt[onnx]'")

    def claims(self, path: Path) -> bool:
        return path.suffix == self.suffix and path.is_file()

    def convert(self, request: Request) -> Converted:
        check_mode(self, request.quantization)
        check_backend("converting to ONNX")
        begin(CONVERTER)
        begin(f"{SERVER}:run")
        if request.quantization == "float":
            made = graph_of(folded(request.model), request.batch, request.output_names)
            return self._sealed(made.data, request, inputs=made.inputs, layouts=made.layouts)
        made = integer_graph(request)
        (kept,) = call(f"{SERVER}:floats", [made.array], of="onnxruntime")[1:]
        lines = [f"{IN_FLOATS}{', '.join(f'{n} {op}' for op, n in kept)}"]
        done = self._sealed(made.data, request, inputs=made.inputs, layouts=made.layouts, at=made.at)
        return dataclasses.replace(done, notes=tuple(lines if kept else ()), breaches=made.lost)

    @staticmethod
    def _sealed(data: bytes, request: Request, **more: Any) -> Converted:
        array = np.frombuffer(data, "uint8")
        (made,), _ = call(f"{SERVER}:sealed", [array], of="onnx", note=note_of(request, **more))
        return Converted(data=made.tobytes())

    def run(self, data: bytes, inputs: Any, *, at: Sequence[str] | None = None) -> Outputs:
        known = noted(data, "at") or {}
        if at is not None and not set(at) <= set(known):
            raise InputError(f"the ONNX file has no tensor for {', '.join(site for site in at if site not in known)}")
        tensors = None if at is None else [known[site][0] for site in at]
        values, steps = call(
            f"{SERVER}:run", with_bytes(data, inputs), of="onnxruntime", inputs=input_names(data, inputs), at=tensors
        )
        if at is not None:
            values = [v.transpose(known[site][1]) if known[site][1] else v for v, site in zip(values, at, strict=True)]
        return Outputs(values=tuple(values), lsb=tuple(steps))

    def activations(self, data: bytes) -> list[str]:
        return list(noted(data, "at") or ())

    def has(self, data: bytes, site: str) -> bool:
        return site in (noted(data, "at") or ())

    def grid(self, data: bytes, site: str) -> Encoding | None:
        tensor = (noted(data, "at") or {}).get(site, [site])[0]
        scale, zero = _look(data)[1]["grids"].get(tensor, ((), 0))
        return Encoding(bits=8, scale=tuple(scale), zero_point=(zero - OFFSET,) * len(scale)) if scale else None

    def regridded(self, data: bytes, encodings: Mapping[str, Encoding]) -> list[str]:
        return [line for site, asked in encodings.items() for line in _off_grid(site, self.grid(data, site), asked)]

    def note(self, data: bytes) -> str | None:
        text: str | None = _look(data)[1]["note"]
        return text

    def altered(self, data: bytes) -> list[Fault]:
        return [Fault(place=name, text=text) for name, text in _look(data)[1]["changed"]]

    def graph(self, data: bytes) -> View:
        self.ready()
        view = from_answer(call("kompakt.targets.onnx_view:look", with_bytes(data, []), of="onnx"))
        if not any(value.scale for part in view.parts for value in part.values):
            return view
        try:
            (kept,) = call(f"{SERVER}:floats", with_bytes(data, []), of="onnxruntime")[1:]
        except (InputError, RuntimeError) as error:
            return dataclasses.replace(view, remarks=(f"onnxruntime does not take it: {first_line(error)}",))
        remarks = (f"{IN_FLOATS}{', '.join(f'{n} {op}' for op, n in kept)}",) if kept else ()
        return dataclasses.replace(view, remarks=remarks)

    def census(self, data: bytes) -> Census:
        about = _look(data)[1]
        return Census(ops=about["ops"], tensors=about["tensors"])

    def weights(self, data: bytes) -> Mapping[str, np.ndarray]:
        held, layouts = _look(data)[0], noted(data, "layouts")
        named = {site: each for site, each in (layouts or {}).items() if each["tensor"] in held}
        return {site: _laid_out(held[each["tensor"]], each) for site, each in named.items()}

    def dtype(self, data: bytes, site: str) -> str:
        return str(dict(_look(data)[1]["names"])[noted(data, "layouts")[site]["tensor"]])


def _off_grid(site: str, held: Encoding | None, asked: Encoding) -> list[str]:
    """A line where a grid in the file is not the one ``asked`` for; a site without its own tensor is told elsewhere."""
    if held is None or not asked.scale:
        return []
    scales = {*np.round(np.log(held.scale), 4)}, {*np.round(np.log(asked.scale), 4)}
    if scales[0] != scales[1] or {*held.zero_point} != {*asked.zero_point}:
        return [f"{site}: the file's grid is not the one asked for"]
    return []


def _laid_out(values: np.ndarray, layout: Mapping[str, Any]) -> np.ndarray:
    """``values`` in the layout of Keras, by what :func:`kompakt.targets.onnx_converter.layout_of` found."""
    shape, axes, gates = layout["shape"], layout["axes"], layout["gates"]
    if values.size != math.prod(shape):
        raise InputError(f"broken artifact: a weight of {values.size} values is noted as {shape}; make it again")
    weight = values.reshape([shape[axis] for axis in axes]).transpose(np.argsort(axes))
    if gates is None:
        return weight
    parts = np.split(weight, len(gates), axis=-1)
    return np.concatenate([parts[i] for i in np.argsort(gates)], axis=-1)


def input_names(data: bytes, inputs: Any) -> list[str] | None:
    """Names of the inputs in the order in which they are flattened, where that is known."""
    return noted(data, "inputs") or keys(inputs)


def noted(data: bytes, what: str) -> Any:
    """What kompakt noted in the file under this word; None where there is none."""
    return read_note(_look(data)[1]["note"]).get(what)


@functools.lru_cache(maxsize=2)
def _look(data: bytes) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """(constants by their names, what else is in the file)."""
    arrays, about = call(f"{SERVER}:look", [np.frombuffer(data, "uint8")], of="onnx")
    return {name: held for (name, _), held in zip(about["names"], arrays, strict=True)}, about
