"""``saved_model.pb``: what its graph does, before anything of it runs, and the same bytes for the same graph."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from kompakt.errors import InputError
from kompakt.targets.protobuf import parsed

PB = "saved_model.pb"

TOUCHES = re.compile(
    r"PyFunc|File|Dataset|Iterator|Reader|LMDB|Summary|PrintV2|Debug|DumpTensor|StatisticsSaver|Rpc|Remote|DataService"
    r"|^Save|^Restore|Checkpoint|DistributedSave|DTensorRestore|ImportEvent|RecordInput|LoadAndRemap|VocabRemapping"
    r"|FixedUnigram|Mlir|^TPU|^Configure|^Xla(Send|Recv|Host)|^_"
)
"""Operations that read or write files, speak to other machines, run Python, or carry a program of their own."""

SAVER = {"SaveV2", "RestoreV2", "MergeV2Checkpoints", "ShardedFilename"}
"""Those with which every SavedModel keeps its variables, in functions that nothing else calls."""


COUNTED = "_user_specified_name"
"""Attribute of what a function is given: of a variable, TensorFlow's count of all things made so far."""


GRADIENT = "_gradient_op_type"
"""Attribute of a node with a gradient of its own: what that is called, with such a count."""

PLACEHOLDER = re.compile(r"_(\d+)(?=___redundant_placeholder)")
"""The count of a function in the names of arguments that it has no use for."""


def parse(content: bytes) -> Any:
    """The message ``tensorflow.SavedModel``.

    Raises:
        InputError: it is none.
    """
    from tensorflow.core.protobuf import saved_model_pb2

    model = parsed(saved_model_pb2.SavedModel, content)
    if model is None or not model.meta_graphs:
        raise InputError(f"broken SavedModel: {PB} is cut off or no SavedModel at all; make it again")
    return model


def refuse_dangers(model: Any) -> None:
    """Raise where a graph in ``model`` does more than compute.

    Raises:
        InputError: it reads or writes files, runs Python, or the like; the text names the operations.
    """
    found = sorted({op for graph in model.meta_graphs for op in dangers(graph)})
    if found:
        raise InputError(
            f"the graph in {PB} does more than compute: {', '.join(found)} (operations that touch files or other "
            "machines, or run Python or programs of their own); it was not loaded. Give a SavedModel without them"
        )


def dangers(graph: Any) -> Iterator[str]:
    """Operations of one graph that are refused."""
    saver, library = saver_functions(graph), graph.graph_def.library.function
    called = Counter(name for nodes in _bodies(graph) for node in nodes for name in calls(node))
    reachable = {*graph.object_graph_def.concrete_functions, *(f for f in saver if called[f] > 1)}
    for node in graph.graph_def.node:
        if TOUCHES.search(node.op):
            yield node.op
    for function in library:
        own = SAVER if function.signature.name in saver - reachable else set()
        yield from (node.op for node in function.node_def if TOUCHES.search(node.op) and node.op not in own)


def saver_functions(graph: Any) -> set[str]:
    """Functions that the graph calls to save and restore its variables."""
    nodes = {graph.saver_def.save_tensor_name.split(":")[0], graph.saver_def.restore_op_name.split(":")[0]}
    return {name for node in graph.graph_def.node if node.name in nodes for name in calls(node)}


def _bodies(graph: Any) -> Iterator[Iterable[Any]]:
    yield graph.graph_def.node
    for function in graph.graph_def.library.function:
        yield function.node_def


def calls(node: Any) -> Iterator[str]:
    """Names of the functions that a node calls."""
    for value in node.attr.values():
        if value.HasField("func"):
            yield value.func.name
        yield from (each.name for each in value.list.func)


def operations(model: Any) -> dict[str, int]:
    """Operation -> how often it stands in the functions that compute, bookkeeping aside."""
    graph = model.meta_graphs[0]
    saver = saver_functions(graph)
    functions = [f for f in graph.graph_def.library.function if f.signature.name not in saver]
    found = Counter(node.op for f in functions for node in f.node_def)
    return {op: count for op, count in sorted(found.items()) if op not in ("NoOp", "Identity", "Const")}


def canonical(content: bytes) -> bytes:
    """``saved_model.pb`` with its functions counted from 0: TensorFlow counts them on in one process."""
    model = parse(content)
    for graph in model.meta_graphs:
        functions = graph.graph_def.library.function
        functions.sort(key=lambda f: _stem_and_count(f.signature.name))
        names = [f.signature.name for f in functions]
        new = {name: f"{_stem_and_count(name)[0]}_{i}" for i, name in enumerate(names)}
        counts = {f"_{_stem_and_count(name)[1]}": f"_{i}" for i, name in enumerate(names)}
        _rename(graph, {**counts, **new})
        _recount(graph)
    return bytes(model.SerializeToString(deterministic=True))


def _recount(graph: Any) -> None:
    """Take TensorFlow's counts of variables out of ``graph``, and count its gradients from 0."""
    for function in graph.graph_def.library.function:
        for argument in function.arg_attr.values():
            argument.attr.pop(COUNTED, None)
    counts: dict[bytes, bytes] = {}
    for nodes in _bodies(graph):
        for node in nodes:
            if GRADIENT in node.attr:
                name = node.attr[GRADIENT].s
                node.attr[GRADIENT].s = counts.setdefault(name, b"CustomGradient-%d" % len(counts))


def _stem_and_count(name: str) -> tuple[str, int]:
    stem, _, count = name.rpartition("_")
    return (stem, int(count)) if stem and count.isdecimal() else (name, -1)


def _rename(message: Any, names: Mapping[str, str]) -> None:
    """Put the new ``names`` in place of the old wherever a text field of ``message`` has one of them."""
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE and field.message_type.GetOptions().map_entry:
            _rename_in_map(value, names)
        elif field.type == field.TYPE_MESSAGE:
            for each in value if field.is_repeated else [value]:
                _rename(each, names)
        elif field.type == field.TYPE_STRING:
            if field.is_repeated:
                value[:] = [_renamed(each, names) for each in value]
            else:
                setattr(message, field.name, _renamed(value, names))


def _renamed(text: str, names: Mapping[str, str]) -> str:
    """The new name for ``text``, or ``text`` with the new count of a function in it: its last part, in ``names``."""
    return names.get(text) or PLACEHOLDER.sub(lambda found: names.get(found[0], found[0]), text)


def _rename_in_map(entries: Any, names: Mapping[str, str]) -> None:
    if entries.GetEntryClass().DESCRIPTOR.fields_by_name["value"].message_type is None:
        return
    for key in list(entries):
        _rename(entries[key], names)
    moved = {key: entries[key].SerializeToString() for key in entries if key in names}
    for key in moved:
        del entries[key]
    for key, content in moved.items():
        entries[names[key]].ParseFromString(content)
