"""An ONNX file as it is read and run in a process of its own (:mod:`kompakt.isolated`): arrays in, arrays out.

Nothing here imports Keras or TensorFlow, so that the process starts quickly.
"""

from __future__ import annotations

import functools
import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

from kompakt.errors import InputError, first_line
from kompakt.files import sha256
from kompakt.isolated import Answer
from kompakt.targets.batches import filled
from kompakt.targets.laps import lapped
from kompakt.targets.onnx_layout import graphs
from kompakt.targets.protobuf import parsed

NOTE = "kompakt"
"""Key of what kompakt wrote into the file's metadata about it."""

BATCH = 256
"""Samples at once where any number may come."""

FATAL = 4


@functools.lru_cache(maxsize=4)
def session(data: bytes, threads: int = 0) -> Any:
    """The file, ready to run.

    Args:
        threads: 0 for as many as there are cores.

    Raises:
        InputError: onnxruntime refuses it.
    """
    parse(data)
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = FATAL, threads
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise InputError(f"onnxruntime refuses the file: {first_line(error)}; make it again") from error


@functools.lru_cache(maxsize=4)
def parse(data: bytes) -> Any:
    """The message ``onnx.ModelProto``.

    Raises:
        InputError: it is none, or it has its weights in files beside it, which could be any.
    """
    model = parsed(onnx.ModelProto, data)
    if model is None or not model.graph.node:
        raise InputError("broken ONNX file: it is cut off or no ONNX at all; make it again")
    outside = [t.name for t in tensors(model.graph) if t.data_location == onnx.TensorProto.EXTERNAL]
    if outside:
        raise InputError(f"the ONNX file has {outside[0]!r} in another file, which is not read; put all into one")
    return model


def tensors(graph: Any) -> Iterator[Any]:
    """Every constant of ``graph`` and of those in its nodes."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for inner in [attribute.g] if attribute.HasField("g") else list(attribute.graphs):
                yield from tensors(inner)


def _fed(runs: Any, given: Sequence[np.ndarray], names: Sequence[str] | None) -> tuple[dict[str, np.ndarray], int]:
    """(``given`` by the names of the inputs, the batch size that is fixed or 0).

    Raises:
        InputError: they are not as many, or have other shapes.
    """
    ends = {end.name: end for end in runs.get_inputs()}
    if len(given) != len(ends):
        raise InputError(f"the ONNX file takes {len(ends)} inputs, received {len(given)}")
    known = names if names is not None and set(names) == set(ends) else list(ends)
    named = dict(zip(known, given, strict=True))
    for name, values in named.items():
        sizes = ends[name].shape[1:]
        same = len(sizes) == values.ndim - 1
        if not same or any(isinstance(n, int) and n != m for n, m in zip(sizes, values.shape[1:], strict=True)):
            raise InputError(
                f"the ONNX file's input {name!r} takes {tuple(sizes)} a sample, received {values.shape[1:]}: give the "
                "model that it was made from"
            )
        named[name] = values.astype(TYPES.get(ends[name].type, values.dtype))
    batch = next((end.shape[0] for end in ends.values() if end.shape and isinstance(end.shape[0], int)), 0)
    return named, int(batch)


TYPES = {
    f"tensor({name})": kind
    for name, kind in {
        "float": "float32",
        "float16": "float16",
        "double": "float64",
        "int8": "int8",
        "uint8": "uint8",
        "int32": "int32",
        "int64": "int64",
        "bool": "bool",
    }.items()
}
"""What onnxruntime calls a type -> what NumPy does."""


def run(arrays: list[np.ndarray], *, inputs: Sequence[str] | None, at: Sequence[str] | None = None) -> Answer:
    """Outputs of a file, in its order, and the step of each one's grid.

    Args:
        arrays: the bytes of the file, then its inputs, (samples, ...). inputs: their names, where they are known.
        at: tensors that are shown in place of the outputs.
    """
    data, *given = arrays
    model = _showing(parse(data.tobytes()), at)
    runs = session(data.tobytes() if at is None else model.SerializeToString())
    named, batch = _fed(runs, given, inputs)
    rows = [_run(runs, each) for each in _batches(named, batch or BATCH, full=batch > 0)]
    columns = [np.concatenate(column) for column in zip(*rows, strict=True)]
    steps = _steps(model.graph)
    return [column[: len(given[0])].astype("float32") for column in columns], [
        steps[e.name] for e in model.graph.output
    ]


def _showing(model: Any, names: Sequence[str] | None) -> Any:
    """``model``, or a copy with the tensors ``names`` as its outputs."""
    if names is None:
        return model
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    copy.graph.ClearField("output")
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return copy


def _steps(graph: Any) -> dict[str, float | None]:
    """Output -> the step of the grid that it is on, or None."""
    maker = {name: node for node in graph.node for name in node.output}
    held = {tensor.name: tensor for tensor in graph.initializer}
    found: dict[str, float | None] = {}
    for end in graph.output:
        node = maker.get(end.name)
        while node is not None and node.op_type in MOVES:
            node = maker.get(node.input[0])
        scale = held.get(node.input[1]) if node is not None and node.op_type == "DequantizeLinear" else None
        found[end.name] = None if scale is None else float(numpy_helper.to_array(scale).ravel()[0])
    return found


MOVES = ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity")
"""Operators that leave the numbers as they are."""

FOLLOWS = {*MOVES, "Slice", "Concat", "Gather", "Cast", "Shape", "QuantizeLinear", "DequantizeLinear", "ReorderInput"}
"""Operators that compute nothing."""


def floats(arrays: list[np.ndarray]) -> Answer:
    """Operators that onnxruntime leaves to floats when it has fused the pairs of a graph: [name, count]."""
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.log_severity_level, options.optimized_model_filepath = FATAL, f"{folder}/fused.onnx"
        onnxruntime.InferenceSession(arrays[0].tobytes(), options, providers=["CPUExecutionProvider"])
        fused = onnx.load(options.optimized_model_filepath)
    kept = Counter(n.op_type for n in fused.graph.node if not n.op_type.startswith(("QLinear", "QGemm", "Reorder")))
    return [], sorted([name, count] for name, count in kept.items() if name not in FOLLOWS)


def _run(runs: Any, batch: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    try:
        return [np.asarray(values) for values in runs.run(None, dict(batch))]
    except Exception as error:
        raise InputError(f"onnxruntime cannot run the file: {first_line(error)}; make it again") from error


def _batches(named: Mapping[str, np.ndarray], size: int, *, full: bool) -> Iterator[dict[str, np.ndarray]]:
    """``named`` in batches of ``size``; ``full``: the last filled up by repeating its last sample."""
    for start in range(0, len(next(iter(named.values()))), size):
        yield {name: filled(values[start : start + size], size if full else 0) for name, values in named.items()}


def seconds(arrays: list[np.ndarray], *, inputs: Sequence[str] | None, threads: int, times: int) -> Answer:
    """Seconds of each of ``times`` runs on the smallest batch a file takes, of the first of its inputs, and of all."""
    data, *given = arrays
    runs = session(data.tobytes(), threads)
    named, batch = _fed(runs, given, inputs)
    first = next(_batches(named, batch or 1, full=True))
    _run(runs, first)
    return lapped(lambda: runs.run(None, first), times)


def look(arrays: list[np.ndarray]) -> Answer:
    """Its constants with names, floats in float32, off their grids, and what else is in the file.

    That is {"ops", "tensors", "names": [name, type] of the constants, "grids": {tensor: [scales, zero point]},
    "note", "changed"}.
    """
    model = parse(arrays[0].tobytes())
    nodes = [node for graph in graphs(model.graph) for node in graph.node]
    held = [(tensor.name, numpy_helper.to_array(tensor)) for tensor in tensors(model.graph)]
    named = {name: (values.dtype.name.upper(), values) for name, values in held if name and values.dtype.kind in "fiu"}
    grids = {}
    for node in nodes:
        if node.op_type == "DequantizeLinear" and len(node.input) == 3 and {*node.input[1:]} <= set(named):
            scale, zero = (named[name][1] for name in node.input[1:])
            grids[node.output[0]] = [np.ravel(scale).tolist(), int(np.ravel(zero)[0])]
            if node.input[0] in named:
                kind, values = named[node.input[0]]
                named[node.output[0]] = kind, _off_grid(node, values, scale, zero)
    text = next((entry.value for entry in model.metadata_props if entry.key == NOTE), None)
    return [np.asarray(v, "float32") if v.dtype.kind == "f" else v for _, v in named.values()], {
        "ops": dict(sorted(Counter(node.op_type for node in nodes).items())),
        "tensors": dict(sorted(Counter(values.dtype.name.upper() for _, values in held).items())),
        "names": [[name, kind] for name, (kind, _) in named.items()],
        "grids": grids,
        "note": text,
        "changed": [] if text is None else _changed(model, text),
    }


def _off_grid(node: Any, values: np.ndarray, scale: np.ndarray, zero: np.ndarray) -> np.ndarray:
    shape = [1] * values.ndim
    if scale.ndim:
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
        shape[axis] = len(scale)
    return (values.astype("float32") - zero.reshape(shape).astype("float32")) * scale.reshape(shape)


def sealed(arrays: list[np.ndarray], *, note: Mapping[str, Any]) -> Answer:
    """The bytes of the file with ``note`` in its metadata, and in that digests of its constants and of its graph."""
    model = onnx.ModelProto.FromString(arrays[0].tobytes())
    text = json.dumps({**note, "sha256": digests(model)})
    model.metadata_props.add(key=NOTE, value=text)
    return [np.frombuffer(model.SerializeToString(deterministic=True), "uint8")], None


def digests(model: Any) -> dict[str, str]:
    """Name -> digest of each constant, and "graph" -> that of everything else."""
    rest = onnx.ModelProto()
    rest.CopyFrom(model)
    rest.ClearField("metadata_props")
    rest.graph.ClearField("initializer")
    found = {tensor.name: sha256(tensor.SerializeToString(deterministic=True)) for tensor in model.graph.initializer}
    return {**found, "graph": sha256(rest.SerializeToString(deterministic=True))}


def _changed(model: Any, text: str) -> list[list[str]]:
    """[name, what happened to it] of each constant that is not as it was when ``text`` was noted."""
    try:
        before = dict(json.loads(text)["sha256"])
    except (KeyError, TypeError, ValueError, RecursionError):
        return [["metadata", "kompakt's note has no digests in it"]]
    now = digests(model)
    lines = [[name, "is gone"] for name in before if name not in now]
    lines += [[name, "was not there when it was written"] for name in now if name not in before]
    return lines + [[n, "changed since it was written"] for n in now if n in before and now[n] != before[n]]
