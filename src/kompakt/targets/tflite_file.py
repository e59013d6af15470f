"""Reading and editing a TFLite flatbuffer: tensors, operators, census, names."""

from __future__ import annotations

import contextlib
import copy
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from kompakt.errors import InputError
from kompakt.records import Census
from kompakt.targets.sparse_format import decode, from_schema

TYPES: dict[int, str] = {v: k for k, v in vars(schema.TensorType).items() if not k.startswith("_")}
OPS: dict[int, str] = {v: k for k, v in vars(schema.BuiltinOperator).items() if not k.startswith("_")}
NUMPY: dict[str, str] = {
    "FLOAT32": "float32",
    "FLOAT16": "float16",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "UINT8": "uint8",
    "BOOL": "bool",
}
FLOATS = ("FLOAT32", "FLOAT16", "FLOAT64", "BFLOAT16")
BOUNDARY = ("QUANTIZE", "DEQUANTIZE")

MOVES = (
    "RESHAPE",
    "MAX_POOL_2D",
    "AVERAGE_POOL_2D",
    "RESIZE_NEAREST_NEIGHBOR",
    "RESIZE_BILINEAR",
    "TRANSPOSE",
    "SQUEEZE",
    "EXPAND_DIMS",
    "SLICE",
    "STRIDED_SLICE",
    "PAD",
    "TILE",
    "GATHER",
    "BROADCAST_TO",
    "SPACE_TO_BATCH_ND",
    "BATCH_TO_SPACE_ND",
    "SPLIT",
    "SPLIT_V",
    "UNPACK",
    "REVERSE_V2",
)
"""Operators whose outputs are on their input's grid (:func:`moved`)."""

MERGES = ("CONCATENATION", "MAXIMUM", "MINIMUM")
"""Operators whose inputs are on their output's grid."""

PRODUCERS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV", "CONV_3D")
"""Operators with data, weights and a bias as inputs (:func:`places`)."""

CHANNELS = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0, "TRANSPOSE_CONV": 0, "CONV_3D": 4}
"""Operator -> the dimension of its weights that runs over output channels."""


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """One tensor of a file.

    Attributes:
        kind: type name of the schema ("INT8"). values: of a constant, else None; of one in sparse storage at the
            tensor that DENSIFY makes of it, which is what operators read.
        sparse: the values are stored sparse.
        scale, zero_point: of its grid, () where it has none. axis: the dimension ``scale`` runs over.
    """

    index: int
    name: str
    kind: str
    shape: tuple[int, ...]
    values: np.ndarray | None
    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int
    sparse: bool = False

    @property
    def channel_axis(self) -> int | None:
        """The dimension with a scale each, or None."""
        return self.axis if len(self.scale) > 1 else None


@dataclass(frozen=True, kw_only=True)
class Op:
    """One operator of a file, with the indices of its tensors (an absent one is -1)."""

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def moved(ops: Iterable[Op]) -> dict[int, int]:
    """What an operator only moves: tensor that it makes -> tensor that it takes the numbers from, in their order.

    Example:
        >>> moved([Op(name="SPLIT", inputs=(4, 7), outputs=(8, 9)), Op(name="ADD", inputs=(8, 9), outputs=(10,))])
        {8: 7, 9: 7}
    """
    # of a SPLIT the axis comes first
    return {made: op.inputs[op.name == "SPLIT"] for op in ops if op.name in MOVES for made in op.outputs}


def places(op: Op) -> tuple[int, int, int]:
    """Where among its inputs one of :data:`PRODUCERS` has its data, its weights and its bias.

    Example:
        >>> places(Op(name="TRANSPOSE_CONV", inputs=(7, 4, 2), outputs=(9,)))
        (2, 1, 3)
    """
    return (2, 1, 3) if op.name == "TRANSPOSE_CONV" else (0, 1, 2)


class TFLiteFile:
    """A parsed file; :meth:`pack` gives its bytes again."""

    def __init__(self, data: bytes) -> None:
        if data[4:8] != b"TFL3":
            raise InputError(f"not a TFLite file ({len(data)} bytes): expected the identifier TFL3 at byte 4")
        self.size = len(data)
        with self._intact():
            self.model = flatbuffer_utils.read_model_from_bytearray(bytearray(data))
            for buffer in self.model.buffers:
                if buffer.data is not None:  # an array packs at once, bytes one by one
                    buffer.data = np.frombuffer(buffer.data, "uint8")
            self.graph = self.model.subgraphs[0]
            self.reread()

    @contextlib.contextmanager
    def _intact(self) -> Iterator[None]:
        """What a damaged file runs into is said in one line."""
        try:
            yield
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError, MemoryError, struct.error) as error:
            said = str(error) if not isinstance(error, KeyError) else f"unknown type or operator {error}"
            raise InputError(f"broken TFLite file ({self.size} bytes): {said}; make it again") from None

    def reread(self) -> None:
        """Bring ``tensors``, ``ops``, ``inputs`` and ``outputs`` up to date with an edited ``graph``."""
        tensors = [self._tensor(i, t) for i, t in enumerate(self.graph.tensors or [])]
        self.ops = tuple(self._op(op) for op in self.graph.operators or [])
        for op in self.ops:
            if op.name == "DENSIFY":
                stored, made = tensors[op.inputs[0]], tensors[op.outputs[0]]
                tensors[made.index] = replace(made, values=stored.values, sparse=True)
                tensors[stored.index] = replace(stored, values=None)
        self.tensors = tuple(tensors)
        self.inputs, self.outputs = (
            () if side is None else tuple(int(i) for i in side) for side in (self.graph.inputs, self.graph.outputs)
        )
        used = [i for op in self.ops for i in (*op.inputs, *op.outputs)]
        if not all(-1 <= i < len(self.tensors) for i in (*used, *self.inputs, *self.outputs)):
            raise ValueError("an operator has a tensor that is not there")

    def _tensor(self, index: int, tensor: Any) -> Tensor:
        kind = TYPES[tensor.type]
        grid = tensor.quantization
        has_grid = grid is not None and grid.scale is not None and len(grid.scale) > 0
        shape = tensor.shape if tensor.shape is not None else ()
        if has_grid and len(grid.scale) > 1 and not 0 <= grid.quantizedDimension < len(shape):
            raise ValueError("a tensor has scales along a dimension that it has not")
        return Tensor(
            index=index,
            name=(tensor.name or b"").decode(errors="replace"),
            kind=kind,
            shape=tuple(int(n) for n in tensor.shape) if tensor.shape is not None else (),
            values=self._values(tensor, kind),
            scale=tuple(float(s) for s in grid.scale) if has_grid else (),
            zero_point=tuple(int(z) for z in grid.zeroPoint) if has_grid else (),
            axis=int(grid.quantizedDimension) if has_grid else 0,
            sparse=tensor.sparsity is not None,
        )

    def _values(self, tensor: Any, kind: str) -> np.ndarray | None:
        data = self.model.buffers[tensor.buffer].data
        if data is not None and kind == "INT4":
            return _nibbles(np.asarray(data, "uint8"), tensor.shape)
        if data is None or len(data) == 0 or kind not in NUMPY:
            return None
        values = np.asarray(data, "uint8").view(NUMPY[kind])
        if tensor.sparsity is not None:
            return decode(from_schema(tensor.sparsity, tensor.shape, values))
        return values.reshape(tensor.shape)

    def name_of(self, op: Any) -> str:
        """The name of an operator of the schema."""
        code = self.model.operatorCodes[op.opcodeIndex]
        number = max(code.builtinCode, code.deprecatedBuiltinCode)
        return code.customCode.decode() if OPS[number] == "CUSTOM" else OPS[number]

    def _op(self, op: Any) -> Op:
        inputs, outputs = tuple(int(i) for i in op.inputs), tuple(int(i) for i in op.outputs)
        if not outputs:
            raise ValueError("an operator makes no tensor")
        return Op(name=self.name_of(op), inputs=inputs, outputs=outputs)

    def channels_of(self, index: int) -> int | None:
        """The dimension of a tensor's channels: the one with a scale each, or that its linear operator sums into."""
        tensor = self.tensors[index]
        if tensor.scale:
            return tensor.channel_axis
        return next((CHANNELS[op.name] for op in self.readers(index) if op.name in CHANNELS), None)

    def readers(self, index: int) -> list[Op]:
        """The operators that read a constant, or what DENSIFY and DEQUANTIZE make of it."""
        found = []
        for op in self.ops:
            if index in op.inputs:
                found += self.readers(op.outputs[0]) if op.name in ("DENSIFY", "DEQUANTIZE") else [op]
        return found

    def activations(self) -> Iterator[Tensor]:
        """Inputs and operator outputs, in the order they are computed; what is made of constants alone is none.

        A runtime may never write such a tensor: what is read of it is whatever the memory held.
        """
        for index in self.inputs:
            yield self.tensors[index]
        constant = {t.index for t in self.tensors if t.values is not None}
        for op in self.ops:
            if op.inputs and constant.issuperset(i for i in op.inputs if i >= 0):
                constant.update(op.outputs)
                continue
            for index in op.outputs:
                yield self.tensors[index]

    def parts(self) -> list[TFLiteFile]:
        """A view of every subgraph (the bodies of loops); an edit of one is an edit of the file."""
        views = [copy.copy(self) for _ in self.model.subgraphs]
        with self._intact():
            for view, graph in zip(views, self.model.subgraphs, strict=True):
                view.graph = graph
                view.reread()
        return views

    def named(self, name: str) -> Tensor | None:
        """The tensor called ``name``, or None."""
        return next((t for t in self.tensors if t.name == name), None)

    def rename(self, name_of: Callable[[int], str | None]) -> None:
        """Give tensors new names, by index; signatures refer to tensors by index and stay true."""
        for tensor in self.tensors:
            name = name_of(tensor.index)
            if name is not None:
                self.graph.tensors[tensor.index].name = name.encode()
        self.reread()

    def order_edges(self, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """Put the inputs and outputs into the order of these names of the file's signature."""
        signature = (self.model.signatureDefs or [None])[0]
        if signature is None:
            return
        for side, names, entries in (
            ("inputs", inputs, signature.inputs),
            ("outputs", outputs, signature.outputs),
        ):
            by_name = {entry.name.decode(): int(entry.tensorIndex) for entry in entries}
            if sorted(by_name) == sorted(names):
                setattr(self.graph, side, [by_name[name] for name in names])
        self.reread()

    def name_ends(self, side: str, names: Mapping[str, str]) -> None:
        """Give the signature's "inputs" or "outputs" other names: old -> new."""
        for signature in self.model.signatureDefs or []:
            for entry in getattr(signature, side):
                entry.name = names.get(entry.name.decode(), entry.name.decode()).encode()

    def put(self, index: int, values: np.ndarray) -> None:
        """Store ``values`` in a constant, in a buffer of its own where others share the one it has; then reread."""
        held = self.graph.tensors[index]
        if sum(tensor.buffer == held.buffer for tensor in self.graph.tensors) > 1:
            self.model.buffers.append(schema.BufferT())
            held.buffer = len(self.model.buffers) - 1
        self.model.buffers[held.buffer].data = np.frombuffer(np.ascontiguousarray(values).tobytes(), "uint8")

    def operator_code(self, name: str, version: int = 1) -> int:
        """Index of an operator of at least ``version`` among the codes of the file; put there where it is not."""
        number, codes = getattr(schema.BuiltinOperator, name), self.model.operatorCodes
        for i, code in enumerate(codes):
            if max(code.builtinCode, code.deprecatedBuiltinCode) == number:
                code.version = max(code.version, version)
                return i
        code = schema.OperatorCodeT()
        code.builtinCode, code.deprecatedBuiltinCode, code.version = number, min(number, 127), version
        codes.append(code)
        return len(codes) - 1

    def show(self, names: Sequence[str]) -> None:
        """Make the tensors called ``names`` the outputs, in place of the file's own."""
        found = [tensor.index for name in names for tensor in self.tensors if tensor.name == name]
        self.graph.outputs = found
        self.outputs = tuple(found)
        self.model.signatureDefs = None

    def put_metadata(self, name: str, text: str | bytes) -> None:
        """Add or replace the metadata entry ``name``."""
        entry = schema.MetadataT()
        entry.name = name.encode()
        entry.buffer = len(self.model.buffers)
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(text if isinstance(text, bytes) else text.encode(), "uint8")
        self.model.buffers.append(buffer)
        others = [e for e in self.model.metadata or [] if e.name != entry.name]
        self.model.metadata = [*others, entry]

    def metadata(self, name: str) -> str | None:
        """Text of the metadata entry ``name``, or None."""
        with self._intact():
            held = self.raw_metadata(name)
            return None if held is None else held.decode()

    def raw_metadata(self, name: str) -> bytes | None:
        """Bytes of the metadata entry ``name``, or None."""
        with self._intact():
            for entry in self.model.metadata or []:
                if entry.name == name.encode():
                    return bytes(bytearray(self.model.buffers[entry.buffer].data))
        return None

    def pack(self) -> bytes:
        """The bytes of the file."""
        return bytes(flatbuffer_utils.convert_object_to_bytearray(self.model))


def _nibbles(data: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Two 4-bit integers a byte, the low half first."""
    halves = np.stack([data & 15, data >> 4], axis=-1).ravel()[: int(np.prod(shape))]
    return ((halves ^ 8).astype("int8") - 8).reshape(shape)


def census(data: bytes) -> Census:
    """Operators and tensor types of a file, in all its subgraphs; float I/O at its edges is not an island.

    Example: see ``kompakt.export(...).census``.
    """
    main, *loops = TFLiteFile(data).parts()
    parts = [main, *loops]
    ops: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    float_ops: list[str] = []
    float_tensors: list[str] = []
    for part in parts:
        edges = {*part.inputs, *part.outputs} if part is main else set()
        used = sorted({i for op in part.ops for i in (*op.inputs, *op.outputs) if i >= 0} | edges)
        ops.update(op.name for op in part.ops)
        kinds.update(part.tensors[i].kind for i in used)
        float_ops += [f"{op.name} ({part.tensors[op.outputs[0]].name})" for op in part.ops if _is_float(part, op)]
        float_tensors += [part.tensors[i].name for i in used if i not in edges and part.tensors[i].kind in FLOATS]
    return Census(ops=dict(ops), tensors=dict(kinds), float_ops=tuple(float_ops), float_tensors=tuple(float_tensors))


def _is_float(file: TFLiteFile, op: Op) -> bool:
    """Whether an operator computes with floats; converting at the edges of the file is no computing."""
    return op.name not in BOUNDARY and any(file.tensors[i].kind in FLOATS for i in (*op.inputs, *op.outputs) if i >= 0)
