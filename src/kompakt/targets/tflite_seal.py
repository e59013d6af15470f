"""A seal in a file: digests of every tensor and operator as it was written, some 20 bytes a layer.

What is read back is compared with it, and whatever was changed since is named: the tensor or operator, and what of
it (scale, zero point, integers, type, order, fused activation).
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from kompakt.targets.target import Fault
from kompakt.targets.tflite_file import Op, Tensor, TFLiteFile

ENTRY = "kompakt_seal"
"""Name of the metadata entry."""

VERSION = 1
HEAD = struct.Struct("<BHH5s")
GRID, CHANNELS, VALUES, OPERATOR = (
    struct.Struct("<fh"),
    struct.Struct("<2s"),
    struct.Struct("<3s"),
    struct.Struct("<7s"),
)
FUSED = "fusedActivationFunction"
ACTIVATIONS = {v: k for k, v in vars(schema.ActivationFunctionType).items() if not k.startswith("_")}

FOREIGN = 0.5
"""Share of tensors that differ from which on the seal is that of another file."""


@dataclass(frozen=True, kw_only=True)
class Mark:
    """What a seal says of one tensor.

    Attributes:
        name, form: digests of its name, and of its type and shape.
        step: mean of its scales, 0 without. zero: its zero point.
        scales, values: digests of the scales of its channels and of a constant's values, b"" where it has none.
    """

    name: bytes
    form: bytes
    step: float = 0.0
    zero: int = 0
    scales: bytes = b""
    values: bytes = b""


def seal(file: TFLiteFile) -> bytes:
    """The seal of ``file`` as it is now."""
    parts = file.parts()
    tensors = [t for part in parts for t in used(part)]
    ops = [(part, op) for part in parts for op in enumerate(part.ops)]
    marks = b"".join(_packed(_mark(t)) for t in tensors)
    operators = b"".join(_operator(part, i, op) for part, (i, op) in ops)
    return HEAD.pack(VERSION, len(tensors), len(ops), _edges(file)) + marks + operators


def used(file: TFLiteFile) -> list[Tensor]:
    """Tensors that are inputs, outputs or an operator's, in the order of the file."""
    indices = {i for op in file.ops for i in (*op.inputs, *op.outputs) if i >= 0}
    return [file.tensors[i] for i in sorted(indices | {*file.inputs, *file.outputs})]


def altered(file: TFLiteFile, sealed: bytes) -> list[Fault]:
    """What of ``file`` is not as it was when it was ``sealed``, in the order of the file."""
    try:
        tensors, operators, edges = _read(sealed)
    except (struct.error, ValueError, IndexError):
        return [Fault(place="seal", text="cannot be read: it is cut off or of another version of kompakt")]
    parts = file.parts()
    now = [t for part in parts for t in used(part)]
    by_name: dict[bytes, list[Mark | None]] = defaultdict(list)
    for mark in tensors:
        by_name[mark.name].append(mark)
    held = {_packed(mark) for mark in tensors}
    changed = [t for t in now if _packed(_mark(t)) not in held]
    same = len(now) - len(changed)
    if same < FOREIGN * len(now):
        return [Fault(place="seal", text=f"it is of another file: {same} of {len(now)} tensors are as it says")]
    faults = [fault for t in changed for fault in _of_tensor(t, by_name.get(_digest(t.name, 2), [None])[0])]
    here = {_digest(t.name, 2) for t in now}
    gone = sum(mark.name not in here for mark in tensors)
    if gone:
        faults.append(Fault(place="tensors", text=f"{gone} of {len(tensors)} that were written are gone"))
    return [*faults, *_of_operators(parts, operators), *_of_edges(file, edges)]


def _of_tensor(tensor: Tensor, mark: Mark | None) -> Iterator[Fault]:
    now = _mark(tensor)
    if mark is None:
        yield Fault(place=tensor.name, text=f"a tensor ({tensor.kind}) that was not written")
        return
    if now.form != mark.form:
        shape = "x".join(map(str, tensor.shape)) or "scalar"
        yield Fault(place=tensor.name, text=f"type or shape changed: it is now {tensor.kind} {shape}")
    if bool(now.scales) != bool(mark.scales):
        kinds = ("one scale for all channels", "a scale a channel")
        yield Fault(place=tensor.name, text=f"{kinds[bool(now.scales)]}, written was {kinds[bool(mark.scales)]}")
    elif not math.isfinite(now.step) or not np.isclose(now.step, mark.step, rtol=1e-6, atol=0.0):
        factor = now.step / mark.step if mark.step else math.inf
        yield Fault(place=tensor.name, text=f"scale is {factor:.4g} times the one written")
    elif now.scales != mark.scales:
        yield Fault(place=tensor.name, text="scales of its channels are others than written, or in another order")
    if now.zero != mark.zero:
        yield Fault(place=tensor.name, text=f"zero point is {now.zero}, written was {mark.zero}")
    if now.values != mark.values:
        yield Fault(place=tensor.name, text=_values_changed(tensor))


def _values_changed(tensor: Tensor) -> str:
    """What is to be seen of a constant whose values are not those written."""
    values = tensor.values
    if values is None:
        return "its values are gone"
    what = "bias" if tensor.name.rsplit("/", 1)[-1].startswith("bias") else "values"
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        return f"{what} changed: {int((~np.isfinite(values)).sum())} are NaN or infinite"
    if not values.any():
        return f"{what} dropped: all are zero"
    if tensor.channel_axis is not None and values.ndim > 1:
        rows = np.moveaxis(values, tensor.channel_axis, 0).reshape(values.shape[tensor.channel_axis], -1)
        empty = np.flatnonzero(~rows.any(1))
        if 0 < len(empty) < len(rows):
            return f"{what} changed: channel {', '.join(map(str, empty[:4]))} is all zero"
        if tensor.kind == "INT8" and np.abs(values.astype(int)).max() <= 8:
            return f"{what} changed: no integer is over 8, as of 4 bits"
    return f"{what} changed: the numbers are not those written"


def _of_operators(parts: Sequence[TFLiteFile], written: Sequence[bytes]) -> Iterator[Fault]:
    now = [(part, i, op) for part in parts for i, op in enumerate(part.ops)]
    if len(now) != len(written):
        yield Fault(place="operators", text=f"{len(now)}, written were {len(written)}")
        known = {mark[2:4] for mark in written}
        for part, i, op in now:
            if _operator(part, i, op)[2:4] not in known:
                yield Fault(place=_made(part, op), text=f"operator {op.name} was not written, or reads other tensors")
        return
    for (part, i, op), mark in zip(now, written, strict=True):
        found = _operator(part, i, op)
        differs = [found[k : k + 2] != mark[k : k + 2] for k in (0, 2, 4)]
        if differs[0]:
            yield Fault(place=_made(part, op), text=f"another operator was written than {op.name}")
        if differs[1]:
            read = ", ".join(part.tensors[k].name for k in op.inputs if k >= 0)
            yield Fault(place=_made(part, op), text=f"{op.name} is wired otherwise than written: it reads {read}")
        if found[6] != mark[6] and not differs[0]:
            now_fused, was_fused = (ACTIVATIONS.get(each[6], "unknown") for each in (found, mark))
            yield Fault(
                place=_made(part, op), text=f"fused activation of {op.name} is {now_fused}, written was {was_fused}"
            )
        if differs[2] and not differs[0]:
            said = _options(part, i)
            yield Fault(
                place=_made(part, op), text=f"options of {op.name} are not those written{': ' if said else ''}{said}"
            )


def _of_edges(file: TFLiteFile, edges: bytes) -> Iterator[Fault]:
    found = _edges(file)
    for place, k, indices in (("inputs", 0, file.inputs), ("outputs", 2, file.outputs)):
        if found[k : k + 2] != edges[k : k + 2]:
            names = ", ".join(file.tensors[i].name for i in indices)
            yield Fault(place=place, text=f"other tensors or another order than written: {names}")
    if found[4:] != edges[4:]:
        yield Fault(place="signature", text="its names stand for other inputs or outputs than written")


def _made(file: TFLiteFile, op: Op) -> str:
    return file.tensors[op.outputs[0]].name if op.outputs else op.name


def _mark(tensor: Tensor) -> Mark:
    several = len(tensor.scale) > 1
    zeros = tensor.zero_point or (0,)
    zero = zeros[0] if len(set(zeros)) == 1 else int.from_bytes(_digest(zeros, 1), "little") + 1000
    return Mark(
        name=_digest(tensor.name, 2),
        form=_digest((tensor.kind, tensor.shape, tensor.axis), 2),
        step=float(np.float32(np.mean(tensor.scale))) if tensor.scale else 0.0,
        zero=int(np.clip(zero, -(2**15), 2**15 - 1)),
        scales=_digest(np.asarray(tensor.scale, "float32").tobytes(), 2) if several else b"",
        values=b"" if tensor.values is None else _digest(np.ascontiguousarray(tensor.values).tobytes(), 3),
    )


HAS_GRID, HAS_CHANNELS, HAS_VALUES = 1, 2, 4


def _packed(mark: Mark) -> bytes:
    has_grid = bool(mark.step) or math.isnan(mark.step) or bool(mark.zero)
    flags = HAS_GRID * has_grid + HAS_CHANNELS * bool(mark.scales) + HAS_VALUES * bool(mark.values)
    grid = GRID.pack(mark.step, mark.zero) if has_grid else b""
    return bytes([flags]) + mark.name + mark.form + grid + mark.scales + mark.values


def _read(sealed: bytes) -> tuple[list[Mark], list[bytes], bytes]:
    version, tensors, operators, edges = HEAD.unpack_from(sealed)
    if version != VERSION:
        raise ValueError(version)
    at, marks = HEAD.size, []

    def take(count: int) -> bytes:
        nonlocal at
        at += count
        if at > len(sealed):
            raise ValueError("cut off")
        return sealed[at - count : at]

    for _ in range(tensors):
        flags = take(1)[0]
        name, form = take(2), take(2)
        step, zero = GRID.unpack(take(GRID.size)) if flags & HAS_GRID else (0.0, 0)
        scales = take(CHANNELS.size) if flags & HAS_CHANNELS else b""
        values = take(VALUES.size) if flags & HAS_VALUES else b""
        marks.append(Mark(name=name, form=form, step=step, zero=zero, scales=scales, values=values))
    return marks, [take(OPERATOR.size) for _ in range(operators)], edges


def _operator(file: TFLiteFile, index: int, op: Op) -> bytes:
    """Digests of an operator's name, of what it reads and makes, and of its options."""
    wires = [file.tensors[i].name if i >= 0 else "" for i in (*op.inputs, *op.outputs)]
    fused = int(getattr(file.graph.operators[index].builtinOptions, FUSED, 0))
    return _digest(op.name, 2) + _digest(wires, 2) + _digest(_options(file, index), 2) + bytes([fused])


def _options(file: TFLiteFile, index: int) -> str:
    options = file.graph.operators[index].builtinOptions
    return (
        "" if options is None else ", ".join(f"{k}={_plain(v)}" for k, v in sorted(vars(options).items()) if k != FUSED)
    )


def _plain(value: Any) -> Any:
    return np.asarray(value).tolist() if isinstance(value, (np.ndarray, np.generic)) else value


def _edges(file: TFLiteFile) -> bytes:
    """Digests of the inputs and outputs, in order, and a byte for what the signature calls them."""
    names = [[file.tensors[i].name for i in side] for side in (file.inputs, file.outputs)]
    called = [
        (bytes(entry.name), file.tensors[entry.tensorIndex].name)
        for signature in file.model.signatureDefs or []
        for entry in (*(signature.inputs or []), *(signature.outputs or []))
    ]
    return _digest(names[0], 2) + _digest(names[1], 2) + _digest(called, 1)


def _digest(what: Any, size: int) -> bytes:
    data = what if isinstance(what, bytes) else repr(what).encode()
    return hashlib.blake2b(data, digest_size=size).digest()
