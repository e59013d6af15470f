"""From a float TFLite file to an integer one: ai-edge-quantizer, on ranges that lead it to our grids."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from kompakt.errors import InputError
from kompakt.isolated import call
from kompakt.numerics import WIDE
from kompakt.precision import GRIDDED, MIXED
from kompakt.records import Encoding
from kompakt.sites import MARKED
from kompakt.targets.target import Converted, Request
from kompakt.targets.tflite_biases import exact_biases, named_biases
from kompakt.targets.tflite_constants import coarser_constants
from kompakt.targets.tflite_file import MERGES, MOVES, Tensor, TFLiteFile, moved
from kompakt.targets.tflite_grids import float_outputs, one_grid_an_input, own_grids, whole_moves
from kompakt.targets.tflite_islands import close_islands
from kompakt.targets.tflite_links import Link, all_activations
from kompakt.targets.tflite_scales import exact_scales
from kompakt.targets.tflite_tables import inner_tensors, put_stand_ins, put_tables
from kompakt.targets.tflite_widths import Width, stored_bits, widths

Range = tuple[np.ndarray, np.ndarray]

QUANTIZER = "kompakt.targets.ai_edge:quantize"
INTEGER_IO = "kompakt.targets.litert_converter:with_integer_io"

WEIGHTS_ONLY = {"dynamic_int8": "dynamic", "weight_only_int8": "weight_only"}
"""Modes in which activations have no grid -> what ai-edge-quantizer is told."""


def quantized(
    file: TFLiteFile, request: Request, links: Sequence[Link], bounds: Mapping[float, Any] | None = None
) -> Converted:
    """The integer form of the float ``file``, whose tensors have their names (see ``give_names``).

    Args:
        bounds: the functions that become tables, from ``fenced``.
    """
    _refuse_loops(file)
    bounds = bounds or {}
    ranges, notes = _ranges(file, request, links, inner_tensors(file, bounds))
    biases = named_biases(file)
    tables = {file.tensors[index].name: layer for index, layer in put_stand_ins(file, bounds).items()}
    whole = request.quantization in GRIDDED
    # Large constants come appended to the file: packing puts them where all tools look.
    done = TFLiteFile(_through_aeq(file, ranges, request, links))
    if whole:
        own = {link.tensor: link.site for link in links if link.site.endswith(MARKED) and not link.between}
        one_grid_an_input(done, own_grids(file.inputs, own, request.encodings))
        whole_moves(done)
        close_islands(done, request.encodings, request.floats, _between(file, links, request.encodings))
        float_outputs(done, [i for i, index in enumerate(file.outputs) if file.tensors[index].kind == "FLOAT32"])
        put_tables(done, tables)
        _name_meetings(done, file, links)
        if request.io != "float32":
            arrays = [np.frombuffer(done.pack(), "uint8")]
            (made,), _ = call(INTEGER_IO, arrays, of="TensorFlow's converter", io=request.io)
            done = TFLiteFile(made.tobytes())
    done.rename({done.inputs[i]: file.tensors[index].name for i, index in enumerate(file.inputs)}.get)
    inputs = {link.tensor: link.site for link in reversed(links) if link.tensor in file.inputs}
    mixed = request.quantization == MIXED
    sources = {file.tensors[index].name: site for index, site in inputs.items()}
    exact_scales(done, request.encodings, sources, free=mixed)
    if whole:
        exact_biases(done, biases)
        coarser_constants(done)
    breaches = (*_unlinked(request.encodings, links), *_other_edges(file, done, request.io))
    return Converted(data=done.pack(), notes=tuple(notes), breaches=breaches)


def _other_edges(file: TFLiteFile, done: TFLiteFile, io: str) -> list[str]:
    """One line for each input or output of the float ``file`` that is not of the type ``io`` when it is ``done``.

    One that is still float is the work of a float operator, which is told as such.
    """
    return [
        f"{done.tensors[new].name}: asked for an {side} of {io}, the file's is {done.tensors[new].kind.lower()}"
        for side, olds, news in (("input", file.inputs, done.inputs), ("output", file.outputs, done.outputs))
        for old, new in zip(olds, news, strict=True)
        if file.tensors[old].kind == "FLOAT32" and done.tensors[new].kind not in ("FLOAT32", io.upper())
    ]


def _refuse_loops(file: TFLiteFile) -> None:
    """Say which layer it is that the quantizer cannot do, where the model did not say it.

    Raises:
        InputError: the file has a loop.
    """
    loop = next((op for op in file.ops if op.name in ("WHILE", "IF")), None)
    if loop is not None:
        layer = file.tensors[loop.outputs[0]].name.split(":")[0]
        raise InputError(
            f"{layer}: it becomes a {loop.name} operator, which ai-edge-quantizer has no integer form for; export the "
            "model as 'float' or 'float16', or write the layer without a loop"
        )


def _unlinked(encodings: Mapping[str, Encoding], links: Sequence[Link]) -> list[str]:
    """One line for each site that the file has no tensor of its own for."""
    owner: dict[int, str] = {}
    for link in links:
        owner.setdefault(link.tensor, link.site)
    lines = []
    for site, encoding in encodings.items():
        at = [link for link in links if link.site == site]
        if any(link.between for link in at):  # its tensor is the one that the quantizer makes
            continue
        held = {owner[link.tensor] for link in at}
        if encoding.bits is None or any(
            other in encodings and encodings[other].scale == encoding.scale for other in held
        ):
            continue
        shared = f"; it shares one with {', '.join(sorted(held))}" if held else ""
        lines.append(f"{site}: asked for {encoding.bits} bits, but the file has no tensor with its numbers{shared}")
    return lines


def _ranges(
    file: TFLiteFile, request: Request, links: Sequence[Link], hidden: Collection[int]
) -> tuple[dict[str, dict[str, np.ndarray]], list[str]]:
    """(tensor name -> the range that leads the quantizer to exactly our scales, what had no grid of ours)."""
    ranges: dict[int, Range] = {}
    bits: dict[int, int] = {}
    for link in links:
        encoding = request.encodings.get(link.site)
        if encoding is None or encoding.bits is None:
            continue
        if link.tensor not in ranges or encoding.bits < bits[link.tensor]:  # where two widths meet, the asymmetric one
            ranges[link.tensor] = _range_of(encoding, file.tensors[link.tensor], file)
            bits[link.tensor] = encoding.bits
    notes: list[str] = []
    if request.quantization in GRIDDED:
        _inherit(file, ranges)
        left = {link.tensor for link in links if link.site in request.floats}
        notes = _measure_rest(file, ranges, request.samples, left, hidden)
    return {file.tensors[i].name: {"min": low, "max": high} for i, (low, high) in ranges.items()}, notes


def limits(encoding: Encoding) -> tuple[float, float]:
    """Smallest and largest real number on the grid of one tensor.

    Example:
        >>> limits(Encoding(bits=8, scale=(0.5,), zero_point=(-128,)))
        (0.0, 127.5)
    """
    scale, zero_point = encoding.scale[0], encoding.zero_point[0]
    half = 2 ** ((encoding.bits or 8) - 1)
    if encoding.bits == WIDE:
        return -(half - 1) * scale, (half - 1) * scale
    return (-half - zero_point) * scale, (half - 1 - zero_point) * scale


def _range_of(encoding: Encoding, tensor: Tensor, file: TFLiteFile) -> Range:
    shape = [1] * len(tensor.shape)
    reader = next((op.name for op in file.ops if tensor.index in op.inputs), "")
    if tensor.values is None or reader in MOVES:  # a table that is looked up counts as an activation
        low, high = limits(encoding)
        return np.full(shape, low, "float32"), np.full(shape, high, "float32")
    largest = 2.0 ** (stored_bits(encoding.bits or 8, reader) - 1) - 1  # what the quantizer divides the range by
    scale = np.asarray(encoding.scale, "float32") * np.float32(largest)
    if scale.size > 1:
        shape[len(shape) - 1 if reader == "DEPTHWISE_CONV_2D" else 0] = scale.size
    return -scale.reshape(shape), scale.reshape(shape)


def _inherit(file: TFLiteFile, ranges: dict[int, Range]) -> None:
    """An operator that moves integers gives its output its input's range."""
    for made, source in moved(file.ops).items():
        if made not in ranges and source in ranges:
            low, high = ranges[source]
            shape = [1] * len(file.tensors[made].shape)
            ranges[made] = (low.reshape(shape), high.reshape(shape))


def _measure_rest(
    file: TFLiteFile, ranges: dict[int, Range], samples: Any, floats: Collection[int], hidden: Collection[int]
) -> list[str]:
    """Ranges of the tensors that have no site in Keras (inside a layer of many operators), from the samples."""
    missing = [t for t in file.activations() if t.kind == "FLOAT32" and t.index not in {*ranges, *hidden}]
    if not missing:
        return []
    values = all_activations(file, samples)
    for tensor in missing:
        rows = values.get(tensor.index, np.zeros(1, "float32"))
        shape = [1] * len(tensor.shape)
        ranges[tensor.index] = (
            np.full(shape, min(0.0, float(rows.min())), "float32"),
            np.full(shape, max(1e-6, float(rows.max())), "float32"),
        )
    missing = [tensor for tensor in missing if tensor.index not in {*floats, *file.inputs}]
    if not missing:
        return []
    return [
        f"{len(missing)} tensors inside operators have no Keras layer of their own "
        f"({', '.join(t.name for t in missing[:4])}{', ...' if len(missing) > 4 else ''}): their ranges were "
        "measured at export and are not in the simulation"
    ]


def _through_aeq(file: TFLiteFile, ranges: Mapping[str, Any], request: Request, links: Sequence[Link]) -> bytes:
    ends = [np.asarray(each[side]) for each in ranges.values() for side in ("min", "max")]
    arrays = [np.frombuffer(file.pack(), "uint8"), *ends]
    settings = list(_settings(file, request, links))
    (made,), _ = call(QUANTIZER, arrays, of="ai-edge-quantizer", settings=settings, names=list(ranges))
    return made.tobytes()


def _settings(file: TFLiteFile, request: Request, links: Sequence[Link]) -> Iterator[dict[str, Any]]:
    """What ai-edge-quantizer shall do (:func:`kompakt.targets.ai_edge.quantize`)."""
    every = {"scope": ".*", "operators": "ALL_SUPPORTED"}
    if request.quantization in WEIGHTS_ONLY:
        yield {**every, "how": WEIGHTS_ONLY[request.quantization], "weights": 8}
        return
    usual = Width(weights=8, activations=16 if request.quantization == "int16x8" else 8)
    yield {**every, "how": "static", "activations": usual.activations, "weights": usual.weights}
    each = widths(file, request.encodings, request.floats, links, usual.activations or 8)
    scopes = [".*"]
    for op, width in zip(file.ops, each, strict=True):
        scope = f"^{re.escape(';'.join(file.tensors[i].name for i in op.outputs))};$"
        if width.activations is None:
            yield {**every, "scope": scope, "how": "leave"}
        elif width != usual:
            yield {
                **every,
                "scope": scope,
                "how": "static",
                "activations": width.activations,
                "weights": width.weights,
            }
            scopes.append(scope)  # what is said of one scope goes before what is said of all, of its edges too
    for scope, edge in itertools.product(scopes, ("INPUT", "OUTPUT")):
        yield {"scope": scope, "operators": edge, "how": "leave"}


def _between(
    file: TFLiteFile, links: Sequence[Link], encodings: Mapping[str, Encoding]
) -> dict[tuple[str, int], Encoding]:
    """(tensor, bits) -> the grid on which a reader of another precision takes it."""
    found = [(file.tensors[link.tensor].name, encodings.get(link.site)) for link in links if link.between]
    return {(name, grid.bits): grid for name, grid in found if grid is not None and grid.bits is not None}


def _name_meetings(done: TFLiteFile, file: TFLiteFile, links: Sequence[Link]) -> None:
    """Call what a QUANTIZE operator makes between two layers by the site of the grid that it is on."""
    names = {link.site: file.tensors[link.tensor].name for link in links if link.between}
    names = {source: site for site, source in names.items() if source != site}
    merged = {index for op in done.ops if op.name in MERGES for index in op.inputs}  # on the grid of what is merged
    inner = [op for op in done.ops if op.name == "QUANTIZE" and op.inputs[0] not in done.inputs]
    inner = [op for op in inner if op.outputs[0] not in merged]
    made = {op.outputs[0]: names.get(done.tensors[op.inputs[0]].name) for op in inner}
    done.rename(made.get)
