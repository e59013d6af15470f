"""Several TFLite files in one, a signature each: what they hold in common is stored once. And one taken out again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from kompakt.errors import InputError
from kompakt.targets.tflite_file import TFLiteFile
from kompakt.targets.tflite_seal import ENTRY as SEAL

NOTE = "kompakt"
ENTRIES = (NOTE, SEAL)
"""Metadata of kompakt, which each signature keeps as its own."""

SUBGRAPH = "SubgraphIndex"
"""End of the names of options that refer to another subgraph: the body of a loop."""


def names_of(data: bytes) -> list[str]:
    """The signatures of a file, in its order.

    Example: see :func:`kompakt.join_signatures`.
    """
    return [_key(each) for each in TFLiteFile(data).model.signatureDefs or []]


def joined(files: Mapping[str, bytes]) -> bytes:
    """One file with a signature for each of ``files``; operators, constants and metadata that are equal are one.

    Args:
        files: name of a signature -> a file that has one signature.

    Raises:
        InputError: a file has none, or several.
    """
    parts = {name: TFLiteFile(data) for name, data in files.items()}
    for name, part in parts.items():
        found = [_key(each) for each in part.model.signatureDefs or []]
        if len(found) != 1:
            raise InputError(f"signature {name!r}: expected a file with one signature, this one has {found}")
    made = _Pool()
    for name, part in parts.items():
        made.add(name, part)
    return made.pack(list(parts))


def taken_out(data: bytes, name: str) -> bytes:
    """The file that :func:`joined` was given for the signature ``name``, with its own note and seal.

    Raises:
        InputError: there is no such signature.
    """
    file = TFLiteFile(data)
    chosen = next((each for each in file.model.signatureDefs or [] if _key(each) == name), None)
    if chosen is None:
        raise InputError(f"signature {name!r}: the file has {', '.join(map(repr, names_of(data))) or 'none'}")
    made = _Pool()
    made.add(name, file, first=int(chosen.subgraphIndex), metadata=f"/{name}")
    return made.pack([name], apart=False)


def ends_of(part: bytes) -> tuple[list[str], list[str]]:
    """What the only signature of a file calls its inputs, and its outputs, in the file's order."""
    file = TFLiteFile(part)
    signature = file.model.signatureDefs[0]
    inputs = {int(entry.tensorIndex): entry.name.decode() for entry in signature.inputs}
    outputs = {int(entry.tensorIndex): entry.name.decode() for entry in signature.outputs}
    return [inputs[index] for index in file.inputs], [outputs[index] for index in file.outputs]


class _Pool:
    """A file in the making, to which the subgraphs of others are added."""

    def __init__(self) -> None:
        self.model = schema.ModelT()
        self.model.version, self.model.description = 3, b"kompakt"
        self.model.subgraphs, self.model.operatorCodes, self.model.signatureDefs = [], [], []
        self.model.buffers, self.model.metadata = [schema.BufferT()], []
        self.held: dict[bytes, int] = {}
        self.codes: dict[tuple[Any, ...], int] = {}

    def add(self, name: str, file: TFLiteFile, *, first: int = 0, metadata: str = "") -> None:
        """Add what the subgraph ``first`` of ``file`` needs, under the signature ``name``."""
        places = {old: len(self.model.subgraphs) + i for i, old in enumerate(_reached(file, first))}
        for old in places:
            graph = file.model.subgraphs[old]
            for tensor in graph.tensors:
                tensor.buffer = self._buffer(file.model.buffers[tensor.buffer].data)
            for op in graph.operators or []:
                op.opcodeIndex = self._code(file.model.operatorCodes[op.opcodeIndex])
                for option, index in _loops(op):
                    setattr(_options(op, option), option, places[index])
            self.model.subgraphs.append(graph)
        signature = next(each for each in file.model.signatureDefs if int(each.subgraphIndex) == first)
        signature.signatureKey, signature.subgraphIndex = name.encode(), places[first]
        self.model.signatureDefs.append(signature)
        for entry in ENTRIES:
            held = file.raw_metadata(entry + metadata)
            if held is not None:
                self._metadata(f"{entry}/{name}", held)

    def pack(self, names: list[str], *, apart: bool = True) -> bytes:
        """The bytes; ``apart``: the metadata of each signature has its name, else that of the only one has none."""
        if apart:
            self._metadata(NOTE, json.dumps({"signatures": names}, separators=(",", ":")).encode())
        else:
            for entry in self.model.metadata:
                entry.name = entry.name.removesuffix(f"/{names[0]}".encode())
        return bytes(flatbuffer_utils.convert_object_to_bytearray(self.model))

    def _buffer(self, data: Any) -> int:
        """Where ``data`` is stored; 0 where there is none."""
        if data is None or len(data) == 0:
            return 0
        key = np.asarray(data, "uint8").tobytes()
        if key not in self.held:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(key, "uint8")
            self.held[key] = len(self.model.buffers)
            self.model.buffers.append(buffer)
        return self.held[key]

    def _code(self, code: Any) -> int:
        key = (code.builtinCode, code.deprecatedBuiltinCode, code.customCode)
        if key not in self.codes:
            self.codes[key] = len(self.model.operatorCodes)
            self.model.operatorCodes.append(code)
        kept = self.model.operatorCodes[self.codes[key]]
        kept.version = max(kept.version, code.version)
        return self.codes[key]

    def _metadata(self, name: str, data: bytes) -> None:
        entry = schema.MetadataT()
        entry.name, entry.buffer = name.encode(), self._buffer(np.frombuffer(data, "uint8"))
        self.model.metadata.append(entry)


def _key(signature: Any) -> str:
    return (signature.signatureKey or b"").decode(errors="replace")


def _reached(file: TFLiteFile, first: int) -> list[int]:
    """A subgraph and those that its operators refer to, each once, it first."""
    found = [first]
    for index in found:  # grows while it is walked
        if not 0 <= index < len(file.model.subgraphs):
            raise InputError(f"broken TFLite file: an operator refers to subgraph {index}, which is not there")
        for op in file.model.subgraphs[index].operators or []:
            found += [other for _, other in _loops(op) if other not in found]
    return found


def _options(op: Any, name: str) -> Any:
    return op.builtinOptions if hasattr(op.builtinOptions, name) else op.builtinOptions2


def _loops(op: Any) -> Iterator[tuple[str, int]]:
    """(option, the subgraph that it refers to) of an operator."""
    for options in (op.builtinOptions, getattr(op, "builtinOptions2", None)):
        for name, value in vars(options).items() if options is not None else ():
            if name.endswith(SUBGRAPH) and int(value) >= 0:
                yield name, int(value)
