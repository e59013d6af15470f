"""TFLite / LiteRT: Keras layers and encodings to a ``.tflite`` file, through TensorFlow's converter and
ai-edge-quantizer, on grids of our own.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import keras
import numpy as np
from keras import tree

from kompakt.compare import zeros_and_distinct
from kompakt.errors import InputError
from kompakt.graph import symbolic_inputs
from kompakt.histogram import weight_histogram
from kompakt.isolated import begin
from kompakt.precision import GRIDDED, MIXED
from kompakt.records import Census, Encoding, SiteFact
from kompakt.sites import MARKED, OUTPUT
from kompakt.targets import tflite_runtime
from kompakt.targets.graph_view import View
from kompakt.targets.target import Converted, Fault, Outputs, Request, Target, check_backend, check_sparse
from kompakt.targets.tflite_file import FLOATS, Tensor, TFLiteFile, census
from kompakt.targets.tflite_float import CONVERTER, float_file
from kompakt.targets.tflite_layers import check_integer, check_recurrent
from kompakt.targets.tflite_links import Link, activation_links, give_names, restore_biases, weight_links
from kompakt.targets.tflite_quantize import QUANTIZER, quantized
from kompakt.targets.tflite_seal import ENTRY as SEAL
from kompakt.targets.tflite_seal import altered, seal
from kompakt.targets.tflite_signatures import names_of, taken_out
from kompakt.targets.tflite_sound import keras_weight, unsound
from kompakt.targets.tflite_sparse import stored_sparse
from kompakt.targets.tflite_tables import fenced, inner_tensors
from kompakt.targets.tflite_view import AnyFile, view_of
from kompakt.targets.words import IO, MODES, SUFFIXES

PROBES = 2
"""Real samples on which tensors are told apart."""


class TFLite(Target):
    """``.tflite`` files, run by LiteRT."""

    name = "tflite"
    runtime = "LiteRT"
    modes: ClassVar[tuple[str, ...]] = MODES["tflite"]
    suffix = SUFFIXES["tflite"]
    stores_sparse = True
    kernels: ClassVar[str] = "default"
    io: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "int8": ("int8", "uint8", "float32"),
        "w4a8": ("int8", "uint8", "float32"),
        "int16x8": ("int16", "float32"),
        MIXED: ("float32", "int8", "uint8"),
    }
    nearest: ClassVar[Mapping[str, str]] = {"uint8": "weight_only_int8", "uint16": "float16"}

    def convert(self, request: Request) -> Converted:
        if request.quantization not in MODES["tflite"]:
            raise InputError(f"quantization {request.quantization!r}: expected one of {', '.join(MODES['tflite'])}")
        if request.io not in IO:
            raise InputError(f"io {request.io!r}: expected one of {', '.join(IO)}")
        check_backend("converting to TFLite")
        begin(CONVERTER)
        if request.quantization not in ("float", "float16"):
            begin(QUANTIZER)
        if request.sparse:
            check_sparse(request.quantization)
        floats = request.quantization in ("float", "float16")
        whole = request.quantization in GRIDDED
        check_recurrent(request.model)
        if not floats:
            check_integer(request.model, whole=whole)
        model, bounds = fenced(request.model, request.encodings) if whole else (request.model, {})
        file = float_file(model, request.batch, half=request.quantization == "float16", outputs=request.output_names)
        links = weight_links(request.model, file, folded=floats)
        if whole:
            restore_biases(file, links, request.model)
            inputs = {f"{tensor.name}/{OUTPUT}" for tensor in request.model.inputs}
            asked = [*(site for site in request.floats if site not in inputs), *request.encodings]
            hidden = inner_tensors(file, bounds)
            links += activation_links(request.model, asked, file, _probes(request.samples), hidden)
        give_names(file, links, request.model)
        _name_in_loops(file, links, request.model)
        made = Converted(data=file.pack()) if floats else quantized(file, request, links, bounds)
        made = _with_note(made, request)
        if request.sparse:
            return stored_sparse(made, request.samples, finished=_sealed)
        return dataclasses.replace(made, data=_sealed(made.data))

    def part(self, data: bytes, signature: str | None) -> bytes:
        names = names_of(data) if self.suffix else []
        if signature is None and len(names) > 1:
            raise InputError(f"the file has the signatures {', '.join(names)}: say which with signature= (--signature)")
        return super().part(data, signature) if len(names) < 2 else taken_out(data, str(signature))

    def flatbuffer(self, data: bytes) -> bytes:
        """The TFLite file in an artifact: it is one."""
        return data

    def graph(self, data: bytes) -> View:
        return view_of(self.flatbuffer(data))

    def run(self, data: bytes, inputs: Any, *, at: Sequence[str] | None = None) -> Outputs:
        file = TFLiteFile(self.flatbuffer(data))
        if at is not None:
            file.show(at)
        shown = self.flatbuffer(data) if at is None else file.pack()
        outputs = tflite_runtime.run(shown, inputs, kernels=self.kernels)
        return dataclasses.replace(outputs, lsb=steps(file, outputs.lsb))

    def activations(self, data: bytes) -> list[str]:
        file = TFLiteFile(self.flatbuffer(data))
        made = [t for t in file.activations() if t.index not in file.inputs]
        return list(dict.fromkeys(t.name for t in made if t.shape and (t.scale or t.kind == "FLOAT32")))

    def has(self, data: bytes, site: str) -> bool:
        return TFLiteFile(self.flatbuffer(data)).named(site) is not None

    def note(self, data: bytes) -> str | None:
        return AnyFile(self.flatbuffer(data)).metadata("kompakt")

    def census(self, data: bytes) -> Census:
        return census(self.flatbuffer(data))

    def facts(self, data: bytes, encodings: Mapping[str, Encoding]) -> list[SiteFact]:
        order = {site: i for i, site in enumerate(encodings)}
        parts = TFLiteFile(self.flatbuffer(data)).parts()
        weights = [(part, t) for part in parts for t in part.tensors if _is_weight(t)]
        weights.sort(key=lambda pair: order.get(pair[1].name, len(order)))
        return [_fact(t, encodings.get(t.name), part.channels_of(t.index)) for part, t in weights]

    def regridded(self, data: bytes, encodings: Mapping[str, Encoding]) -> list[str]:
        file = TFLiteFile(self.flatbuffer(data))
        lines = []
        for site, encoding in encodings.items():
            tensor = _at(file, site)
            if tensor is not None and encoding.bits is not None:
                lines += _off_grid(site, tensor, encoding)
        return lines

    def altered(self, data: bytes) -> list[Fault]:
        file = AnyFile(self.flatbuffer(data))
        sealed = file.raw_metadata(SEAL)
        if sealed is not None:
            return altered(file, sealed)
        ours = file.metadata("kompakt") is not None or any(_is_weight(t) for t in file.tensors if is_site(t.name))
        return [Fault(place="metadata", text="kompakt's note or seal was taken out of the file")] if ours else []

    def unsound(self, data: bytes) -> list[Fault]:
        return unsound(TFLiteFile(self.flatbuffer(data)))

    def grid(self, data: bytes, site: str) -> Encoding | None:
        tensor = _at(TFLiteFile(self.flatbuffer(data)), site)
        if tensor is None or not tensor.scale or tensor.kind not in BITS:
            return None
        return Encoding(bits=BITS[tensor.kind], scale=tensor.scale, zero_point=tensor.zero_point)

    def weight(self, data: bytes, site: str, like: np.ndarray) -> np.ndarray | None:
        file = TFLiteFile(self.flatbuffer(data))
        held = next(((part, t) for part in file.parts() if (t := part.named(site)) is not None), None)
        return None if held is None else keras_weight(*held, like)


BITS = {"INT4": 4, "INT8": 8, "UINT8": 8, "INT16": 16, "INT32": 32}


def is_site(name: str) -> bool:
    """Whether a name is one that kompakt gives: ``layer/kernel``."""
    return name.count("/") == 1 and name.endswith("kernel") and name != "kernel"


def _sealed(data: bytes) -> bytes:
    """``data`` with digests of what is in it, by which what is changed later is named."""
    file = TFLiteFile(data)
    file.put_metadata(SEAL, seal(file))
    return file.pack()


def _name_in_loops(file: TFLiteFile, links: Sequence[Link], model: keras.Model) -> None:
    """Give the kernels of recurrent layers, which stand in the body of a loop, the names of their sites."""
    known = {link.site for link in links}
    for part in file.parts()[1:]:
        found = [link for link in weight_links(model, part) if link.site not in known]
        part.rename({link.tensor: link.site for link in found}.get)
        known |= {link.site for link in found}


def _probes(samples: Any) -> Any:
    """Two of the samples and a negative: a ReLU that cuts nothing off is hard to tell from its input."""

    def few(values: np.ndarray) -> np.ndarray:
        first = values[:PROBES]
        return np.concatenate([first, -first[:1]]) if values.dtype.kind == "f" else np.concatenate([first, first[:1]])

    return tree.map_structure(few, samples)


def _with_note(made: Converted, request: Request) -> Converted:
    """``made``, with what kompakt was asked for on board (read by ``kompakt verify``).

    Zeros and values a channel are asked at sites that the file has a tensor for; the others are named.
    """
    file = TFLiteFile(made.data)
    asked = {site: each for site, each in request.encodings.items() if each.zeros or each.palette}
    names = {tensor.name for part in file.parts() for tensor in part.tensors}
    held = {site: [each.zeros, each.palette] for site, each in asked.items() if site in names}
    note: dict[str, Any] = {"quantization": request.quantization, "io": request.io, **({"asked": held} if held else {})}
    if request.floats:
        note["floats"] = [site.removesuffix(f"/{OUTPUT}") for site in request.floats]
    note["inputs"] = _ends(file, file.inputs, [t.name for t in tree.flatten(symbolic_inputs(request.model))])
    note["outputs"] = _ends(
        file, file.outputs, list(request.output_names or getattr(request.model, "output_names", []))
    )
    note.update(request.provenance)
    file.put_metadata("kompakt", json.dumps(note, separators=(",", ":")))
    lost = [site for site in asked if site not in held]
    notes = [f"the file has no tensor of its own for {', '.join(lost)}: their zeros and values were not counted"]
    return dataclasses.replace(made, data=file.pack(), notes=(*made.notes, *(notes if lost else ())))


def _ends(file: TFLiteFile, indices: Sequence[int], names: Sequence[str]) -> list[dict[str, Any]]:
    """What an application must know of inputs or outputs: name in the model, shape, type, and its grid."""
    names = [name.split(":")[0] for name in names] or [f"output_{i}" for i in range(len(indices))]
    found = []
    for index, name in zip(indices, names, strict=True):
        tensor = file.tensors[index]
        grid = {"scale": tensor.scale[0], "zero_point": tensor.zero_point[0]} if tensor.scale else {}
        found.append({"name": name, "shape": tensor.shape, "dtype": tensor.kind.lower(), **grid})
    return found


def steps(file: TFLiteFile, stored: tuple[float | None, ...]) -> tuple[float | None, ...]:
    """The step of each output's grid: its own, or that of the integers a float output is made from."""
    made = {op.outputs[0]: op.inputs[0] for op in file.ops if op.name == "DEQUANTIZE"}
    before = [file.tensors[made[i]].scale if i in made else () for i in file.outputs]
    return tuple(own or (scale[0] if scale else None) for own, scale in zip(stored, before, strict=True))


def _at(file: TFLiteFile, site: str) -> Tensor | None:
    """The tensor at a site; that of a float input is the integers it is turned into."""
    tensor = file.named(site)
    if tensor is not None or not site.endswith(MARKED):
        return tensor
    tensor = file.named(site.removesuffix(MARKED))
    reader = next((op for op in file.ops if tensor is not None and tensor.index in op.inputs), None)
    return file.tensors[reader.outputs[0]] if reader is not None and reader.name == "QUANTIZE" else tensor


def _is_weight(tensor: Tensor) -> bool:
    """A constant with a site's name: weights carry ``layer/kernel``; biases and shapes have one dimension."""
    return tensor.values is not None and len(tensor.shape) > 1 and math.prod(tensor.shape) > 1 and "/" in tensor.name


def _fact(tensor: Tensor, encoding: Encoding | None, axis: int | None) -> SiteFact:
    assert tensor.values is not None
    zero = float(tensor.zero_point[0]) if tensor.zero_point else 0.0
    zeros, distinct = zeros_and_distinct(tensor.values, axis, zero)
    return SiteFact(
        site=tensor.name,
        tensor=tensor.name,
        dtype=tensor.kind,
        size=int(tensor.values.size),
        zeros=zeros,
        distinct=distinct,
        asked_zeros=encoding.zeros if encoding else None,
        asked_palette=encoding.palette if encoding else None,
        sparse=tensor.sparse,
        histogram=weight_histogram(tensor.values, BITS.get(tensor.kind)),
    )


def _off_grid(site: str, tensor: Tensor, encoding: Encoding) -> list[str]:
    if tensor.kind in FLOATS:
        return [f"{site}: asked for {encoding.bits} bits, the file holds {tensor.kind}"]
    if len(tensor.scale) != len(encoding.scale):
        return [f"{site}: asked for {len(encoding.scale)} scales, the file holds {len(tensor.scale)}"]
    if not np.allclose(tensor.scale, encoding.scale, rtol=1e-4, atol=0.0):
        worst = float(np.max(np.abs(np.divide(tensor.scale, encoding.scale) - 1.0)))
        return [f"{site}: the file's scale differs from the asked one by {worst:.2%}"]
    if tuple(tensor.zero_point) != tuple(encoding.zero_point):
        return [f"{site}: asked for zero point {encoding.zero_point[:4]}, the file holds {tensor.zero_point[:4]}"]
    return []
