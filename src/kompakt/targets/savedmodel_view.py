"""A SavedModel as a graph of any format, read in a process of its own: nothing in it is loaded or run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from google.protobuf import json_format
from tensorflow.python.framework import tensor_util

from kompakt.contents import Signature
from kompakt.errors import InputError, first_line
from kompakt.folders import unpacked
from kompakt.isolated import Answer
from kompakt.targets.graph_view import Part, Value, View, stored, to_answer
from kompakt.targets.savedmodel_graph import PB, calls, dangers, parse, saver_functions
from kompakt.targets.savedmodel_server import variables
from kompakt.targets.tensorflow_nodes import kind_of, part_of, shape_of

INTERNAL = "__saved_model"
"""Begins the names of signatures that TensorFlow has for itself."""

VARIABLES = "variables/variables.index"


def look(arrays: list[np.ndarray]) -> Answer:
    """What is in the artifact in the first of ``arrays``, by :func:`to_answer`.

    Raises:
        InputError: it is damaged.
    """
    files = unpacked(arrays[0].tobytes())
    graph = parse(files.get(PB, b"")).meta_graphs[0]
    try:
        return to_answer(_view(graph, _variables(arrays) if VARIABLES in files else {}))
    except InputError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"broken SavedModel: {PB} cannot be read ({first_line(error)}); make it again") from None


def _view(graph: Any, held: Mapping[str, Value]) -> View:
    saver = saver_functions(graph)
    functions = [f for f in graph.graph_def.library.function if f.signature.name not in saver]
    parts = _with_channels([_function(f, _captured(graph, f, held)) for f in functions])
    if not parts:
        parts = [_whole(graph)]
    remarks = ["functions that keep and restore variables are not shown"] if saver else []
    more = sorted(set(dangers(graph)))
    if more:
        remarks.append(f"its graph does more than compute: {', '.join(more)}")
    named = {name for part in parts for name in (value.name for value in part.values)}
    lost = {name: value for name, value in held.items() if name not in named}
    if lost:
        parts.append(Part(name="other variables", nodes=(), values=tuple(lost.values()), inputs=(), outputs=()))
    about = graph.meta_info_def
    metadata = {"tags": ", ".join(about.tags).encode(), "tensorflow": about.tensorflow_version.encode()}
    return View(
        parts=tuple(parts), signatures=tuple(_signatures(graph, parts)), metadata=metadata, remarks=tuple(remarks)
    )


def _variables(arrays: list[np.ndarray]) -> dict[str, Value]:
    """Name in the checkpoint -> the variable."""
    values, about = variables(arrays)
    return {
        name: Value(
            name=name,
            dtype=kind,
            shape=held.shape,
            constant=True,
            values=stored(held),
            buffer=name,
            bytes=_size(held, kind),
        )
        for (name, kind), held in zip(about, values, strict=True)
    }


def _size(held: np.ndarray, kind: str) -> int:
    half = kind in ("FLOAT16", "BFLOAT16")  # read as float32
    return int(held.nbytes) // (2 if half else 1)


def _captured(graph: Any, function: Any, held: Mapping[str, Value]) -> dict[str, Value]:
    """Argument of ``function`` -> the variable that it is given, by the objects that the file binds to it."""
    objects = graph.object_graph_def
    bound = objects.concrete_functions.get(function.signature.name)
    if bound is None or not bound.bound_inputs:
        return {}
    paths = _paths(objects)
    arguments = [argument.name for argument in function.signature.input_arg][-len(bound.bound_inputs) :]
    return {
        argument: held[path]
        for argument, node in zip(arguments, bound.bound_inputs, strict=True)
        for path in paths.get(node, ())
        if path in held
    }


def _paths(objects: Any) -> dict[int, list[str]]:
    """Number of an object -> the names by which the checkpoint may have it."""
    found: dict[int, list[str]] = {0: [""]}
    waiting = [0]
    for number in waiting:  # grows while it is walked
        if number >= len(objects.nodes):
            raise InputError("broken SavedModel: its objects refer to one that is not there; make it again")
        for child in objects.nodes[number].children:
            name = child.local_name.replace(".", "..").replace("/", ".S")
            paths = [f"{path}/{name}" if path else name for path in found[number][:4]]
            if child.node_id not in found:
                waiting.append(child.node_id)
            found.setdefault(child.node_id, []).extend(paths)
    return found


def _function(function: Any, captured: Mapping[str, Value]) -> Part:
    nodes = [_json(node) for node in function.node_def]
    given = [
        Value(name=a.name, dtype=kind_of(_kind(a.type)), shape=_argument_shape(function, i))
        for i, a in enumerate(function.signature.input_arg)
    ]
    made = part_of(
        function.signature.name,
        nodes,
        given=given,
        constants=_constants(function.node_def),
        outputs=[function.ret[a.name] for a in function.signature.output_arg if a.name in function.ret],
    )
    values = tuple(_bound(value, captured) if i < len(given) else value for i, value in enumerate(made.values))
    inputs = tuple(i for i in made.inputs if values[i].dtype != "RESOURCE" and not values[i].constant)
    return Part(name=made.name, nodes=made.nodes, values=values, inputs=inputs, outputs=made.outputs)


def _bound(argument: Value, captured: Mapping[str, Value]) -> Value:
    """The variable that an argument is, with the channels that the function's operations give it."""
    held = captured.get(argument.name)
    return argument if held is None else replace(held, channels=argument.channels)


def _with_channels(parts: Sequence[Part]) -> list[Part]:
    """``parts``, with the channels of a variable in those too that only hand it on."""
    told = {value.buffer: value.channels for part in parts for value in part.values if value.buffer and value.channels}
    return [
        replace(part, values=tuple(replace(v, channels=told.get(v.buffer or "", v.channels)) for v in part.values))
        for part in parts
    ]


def _whole(graph: Any) -> Part:
    """The graph itself, of a file without functions."""
    nodes = graph.graph_def.node
    ends = [end.name for each in graph.signature_def.values() for end in each.outputs.values() if end.name]
    return part_of("main", [_json(n) for n in nodes], constants=_constants(nodes), outputs=list(dict.fromkeys(ends)))


def _signatures(graph: Any, parts: Sequence[Part]) -> Iterator[Signature]:
    """Each signature with the function behind it, which one node of the graph calls."""
    nodes = {node.name: node for node in graph.graph_def.node}
    places = {part.name: i for i, part in enumerate(parts)}
    for name, signature in sorted(graph.signature_def.items()):
        if name.startswith(INTERNAL):
            continue
        ends = [end for end in signature.outputs.values() if end.name]
        node = nodes.get(ends[0].name.split(":")[0]) if ends else None
        index = next((places[f] for f in calls(node) if f in places), None) if node is not None else None
        if node is not None and index is not None:
            yield _called(name, signature, node, parts[index], index)
        elif ends:
            names = [{k: _plain(e) for k, e in sorted(s.items())} for s in (signature.inputs, signature.outputs)]
            yield Signature(name=name, subgraph=0, inputs=names[0], outputs=names[1])


def _called(name: str, signature: Any, node: Any, part: Part, index: int) -> Signature:
    given = [ref.split(":")[0] for ref in node.input]
    inputs = {k: part.values[given.index(_plain(end))].name for k, end in sorted(signature.inputs.items())}
    ports = {k: int(end.name.partition(":")[2] or 0) for k, end in sorted(signature.outputs.items())}
    outputs = {k: part.values[part.outputs[port]].name for k, port in ports.items()}
    return Signature(name=name, subgraph=index, inputs=inputs, outputs=outputs)


def _plain(end: Any) -> str:
    return str(end.name).removesuffix(":0")


def _constants(nodes: Sequence[Any]) -> dict[str, Value]:
    return {node.name: _constant(node) for node in nodes if node.op == "Const"}


def _constant(node: Any) -> Value:
    proto = node.attr["value"].tensor
    kind = kind_of(_kind(proto.dtype))
    try:
        values = np.asarray(tensor_util.MakeNdarray(proto))
    except (TypeError, ValueError, OverflowError):
        return Value(name=node.name, dtype=kind, constant=True)
    return Value(
        name=node.name,
        dtype=kind,
        shape=values.shape,
        constant=True,
        values=stored(values),
        bytes=None if values.dtype.kind == "O" else int(values.nbytes),
    )


def _json(node: Any) -> dict[str, Any]:
    """A node as ``model.json`` has it, without the numbers of a constant."""
    found = type(node)()
    found.CopyFrom(node)
    found.attr.pop("value", None)
    return {"input": [], **json_format.MessageToDict(found)}


def _argument_shape(function: Any, index: int) -> tuple[int | None, ...] | None:
    if index not in function.arg_attr:
        return None
    shapes = list(function.arg_attr[index].attr["_output_shapes"].list.shape)
    return shape_of(json_format.MessageToDict(shapes[0])) if len(shapes) == 1 else None


def _kind(number: int) -> str:
    from tensorflow.core.framework import types_pb2

    return str(types_pb2.DataType.Name(number)) if number in types_pb2.DataType.values() else ""
