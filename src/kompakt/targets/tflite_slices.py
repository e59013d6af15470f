"""Each operator of a TFLite file as a file of its own."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from kompakt.targets.tflite_file import TFLiteFile
from kompakt.targets.tflite_work import Graph


@dataclass(frozen=True, kw_only=True)
class Slice:
    """A file with one operator, and what unpacks its constants.

    Attributes:
        inputs: the tensors of the whole file that it has to be fed, in the order in which it takes them.
    """

    data: bytes
    inputs: tuple[int, ...]


def slices(data: bytes) -> Iterator[Slice]:
    """A slice for each operator of the main graph, in its order, but those that only unpack constants.

    These go with the operators that read them: a runtime does their work once, when it loads a file. The bodies of
    loops go with theirs.
    """
    file = TFLiteFile(data)
    graph = Graph(file)
    makers = {i: number for number, op in enumerate(file.ops) if op in graph.makers for i in op.outputs}
    for number, op in enumerate(file.ops):
        if not set(makers).issuperset(op.outputs):
            yield _slice(graph, [*_needed(file, makers, op.inputs), number])


def _needed(file: TFLiteFile, makers: dict[int, int], inputs: Iterable[int]) -> list[int]:
    """The operators that make ``inputs`` of constants, in the order of the file."""
    found: set[int] = set()
    waiting = [makers[i] for i in inputs if i in makers]
    while waiting:
        number = waiting.pop()
        found.add(number)
        waiting += [makers[i] for i in file.ops[number].inputs if i in makers]
    return sorted(found)


def _slice(graph: Graph, numbers: Sequence[int]) -> Slice:
    file, original = graph.file, graph.file.graph
    operators = [original.operators[number] for number in numbers]
    made = {int(i) for number in numbers[:-1] for i in file.ops[number].outputs}
    last = file.ops[numbers[-1]]
    read = dict.fromkeys(i for i in last.inputs if i >= 0)
    fed = tuple(i for i in read if not graph.is_held(i) and i not in made and not original.tensors[i].isVariable)
    used = sorted({int(i) for op in operators for i in _tensors_of(op) if i >= 0})
    place = {index: i for i, index in enumerate(used)} | {-1: -1}
    cut = schema.SubGraphT()
    cut.name = b"main"
    cut.tensors = [copy.copy(original.tensors[i]) for i in used]
    cut.operators = [_moved(op, place) for op in operators]
    cut.inputs = np.asarray([place[i] for i in fed], "int32")
    cut.outputs = np.asarray([place[i] for i in last.outputs], "int32")
    return Slice(data=_packed(file, cut), inputs=fed)


def _tensors_of(op: Any) -> Iterator[int]:
    for indices in (op.inputs, op.outputs, op.intermediates):
        yield from () if indices is None else (int(i) for i in indices)


def _moved(op: Any, place: dict[int, int]) -> Any:
    moved = copy.copy(op)
    for name in ("inputs", "outputs", "intermediates"):
        indices = getattr(op, name)
        if indices is not None:
            setattr(moved, name, np.asarray([place[int(i)] for i in indices], "int32"))
    return moved


def _packed(file: TFLiteFile, cut: Any) -> bytes:
    """``cut`` in place of the main graph, with the other graphs where it has an operator that calls one."""
    whole = file.model
    calls = any(hasattr(op.builtinOptions, "bodySubgraphIndex") or _branches(op) for op in cut.operators)
    others = [_copied(graph) for graph in whole.subgraphs[1:]] if calls else []
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs = whole.version, whole.operatorCodes, [cut, *others]
    model.buffers, places = [schema.BufferT()], {}
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            held = whole.buffers[tensor.buffer]
            if held.data is None or not len(held.data):
                tensor.buffer = 0
                continue
            if tensor.buffer not in places:
                places[tensor.buffer] = len(model.buffers)
                model.buffers.append(held)
            tensor.buffer = places[tensor.buffer]
    made = copy.copy(file)
    made.model = model
    return made.pack()


def _branches(op: Any) -> bool:
    return hasattr(op.builtinOptions, "thenSubgraphIndex") or hasattr(op.builtinOptions, "subgraph")


def _copied(graph: Any) -> Any:
    made = copy.copy(graph)
    made.tensors = [copy.copy(tensor) for tensor in graph.tensors]
    return made
