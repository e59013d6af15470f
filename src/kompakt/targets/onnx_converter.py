"""tf2onnx, as it is called in a process of its own (:mod:`kompakt.isolated`): a SavedModel to an ONNX graph."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import tensorflow as tf
import tf2onnx
from onnx import numpy_helper
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from kompakt.errors import InputError, first_line
from kompakt.isolated import Answer
from kompakt.targets.onnx_layout import graphs, layout_of
from kompakt.targets.quiet import quiet
from kompakt.targets.savedmodel_server import load

OPSET = 15
"""The newest set of operators that tf2onnx 1.17 is tested with: in 18 it writes reductions that are slower."""

BATCH = "batch"
"""What the first dimension of inputs and outputs is called where any number may come."""


def convert(arrays: list[np.ndarray], *, inputs: Sequence[str], outputs: Sequence[str], sites: Sequence[str]) -> Answer:
    """The bytes of an ONNX model, and for each site that it has a tensor for how that is laid out.

    Args:
        arrays: the bytes of a SavedModel, then the weight of each of ``sites``, in Keras' layout.
        inputs, outputs: their names, in the model's order.

    Raises:
        InputError: tf2onnx has no operator for a part of it.
    """
    data, *weights = arrays
    try:
        with quiet():
            model = _converted(load(data.tobytes()), inputs, outputs)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"tf2onnx refuses it: {_reason(error)}") from error
    left = _left(model)
    if left:
        raise InputError(f"tf2onnx has no ONNX operator for {', '.join(left)}")
    layouts = _name_weights(model.graph, dict(zip(sites, weights, strict=True)))
    _sort(model.graph)
    _rename(model.graph, {*inputs, *outputs, *(each["tensor"] for each in layouts.values())})
    return [np.frombuffer(model.SerializeToString(deterministic=True), "uint8")], layouts


def _converted(model: Any, inputs: Sequence[str], outputs: Sequence[str]) -> Any:
    def ordered(*given: Any) -> list[Any]:
        made = model.signature(**dict(zip(inputs, given, strict=True)))
        return [tf.identity(made[name]) for name in outputs]  # an output may be an input

    traced = tf.function(ordered, input_signature=[model.specs[name] for name in inputs], autograph=False)
    frozen = convert_variables_to_constants_v2(  # with the loops of recurrent layers whole: they are operators
        traced.get_concrete_function(), lower_control_flow=False, aggressive_inlining=True
    )
    ends = [t.name for t in frozen.inputs], [t.name for t in frozen.outputs]
    made, _ = tf2onnx.convert.from_graph_def(
        frozen.graph.as_graph_def(),
        name="kompakt",
        input_names=ends[0],
        output_names=ends[1],
        opset=OPSET,
        tensors_to_rename=dict(zip((*ends[0], *ends[1]), (*inputs, *outputs), strict=True)),
    )
    for end in (*made.graph.input, *made.graph.output):
        first = end.type.tensor_type.shape.dim[:1]
        if first and not first[0].HasField("dim_value"):
            first[0].dim_param = BATCH
    made.doc_string, made.graph.doc_string, made.producer_version = "", "", tf2onnx.__version__
    return made


def _left(model: Any) -> list[str]:
    """Operators that are none of ONNX: tf2onnx leaves what it does not know as it is."""
    known = {schema.name for schema in onnx.defs.get_all_schemas()}
    return sorted({node.op_type for graph in graphs(model.graph) for node in graph.node} - known)


def _name_weights(graph: Any, weights: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Call each constant that has the numbers of a weight by its site; site -> how it is laid out.

    Sites of the same numbers share one: the name is the first one's.
    """
    layouts: dict[str, Any] = {}
    held = [(part, tensor) for part in graphs(graph) for tensor in part.initializer]
    for part, tensor in held:
        values, name = numpy_helper.to_array(tensor), tensor.name
        for site, weight in weights.items():
            layout = None if site in layouts or weight.size != values.size else layout_of(weight, values)
            if layout is not None:
                if tensor.name == name:
                    _replace(part, {name: site})
                layouts[site] = {"tensor": tensor.name, **layout}
    return layouts


def _sort(graph: Any) -> None:
    """Put nodes in the order in which the outputs lead to them: that of tf2onnx is another in every run."""
    for part in graphs(graph):
        nodes = list(part.node)
        maker = {name: i for i, node in enumerate(nodes) for name in node.output if name}
        order: dict[int, None] = {}
        stack = [maker[end.name] for end in reversed(part.output) if end.name in maker]
        while stack:
            before = [maker[name] for name in _reads(nodes[stack[-1]]) if name in maker]
            left = [i for i in before if i not in order]
            if left:
                stack.extend(reversed(left))
            else:
                order[stack.pop()] = None
        part.ClearField("node")
        part.node.extend(nodes[i] for i in order)


def _reads(node: Any) -> Iterator[str]:
    """What a node reads, and what the graphs in it do."""
    yield from node.input
    for attribute in node.attribute:
        for inner in [attribute.g] if attribute.HasField("g") else list(attribute.graphs):
            for part in graphs(inner):
                yield from (name for each in part.node for name in each.input)
                yield from (end.name for end in part.output)


def _rename(graph: Any, kept: set[str]) -> None:
    """Count tensors and nodes from 0: tf2onnx counts them on, and has addresses of memory in some of their names."""
    new: dict[str, str] = {"": ""}
    for part in graphs(graph):
        uses = itertools.chain(*((*node.input, *node.output) for node in part.node))
        for name in itertools.chain(uses, (end.name for end in part.input)):
            if name not in kept:
                new.setdefault(name, f"t{len(new)}")
    for part in graphs(graph):
        _replace_here(part, new)
        part.ClearField("value_info")
        part.initializer.sort(key=lambda tensor: tensor.name)
    for count, node in enumerate(node for part in graphs(graph) for node in part.node):
        node.name = f"{node.op_type}_{count}"


def _replace(graph: Any, names: Mapping[str, str]) -> None:
    """Put the new ``names`` of tensors in place of the old in ``graph`` and those inside it."""
    for part in graphs(graph):
        _replace_here(part, names)


def _replace_here(part: Any, names: Mapping[str, str]) -> None:
    for tensor in (*part.initializer, *part.input, *part.output):
        tensor.name = names.get(tensor.name, tensor.name)
    for node in part.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]


def _reason(error: Exception) -> str:
    """What it could not convert, of an error that is as long as the graph."""
    named = re.search(r"Tensorflow op \[([^\]:]+)[^\]]*\] is not supported", str(error))
    return f"{named[1]} has no ONNX operator" if named else first_line(error)
