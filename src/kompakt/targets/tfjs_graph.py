"""A Keras model as a frozen, optimized TensorFlow graph with what TF.js can take in it."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from keras import tree
from tensorflow.core.framework import graph_pb2
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from kompakt.errors import InputError, first_line
from kompakt.graph import symbolic_inputs
from kompakt.isolated import call
from kompakt.scopes import tensorflow_names
from kompakt.targets.quiet import quiet
from kompakt.targets.tfjs_model import End
from kompakt.targets.tfjs_rewrite import without_einsum, without_erfc, without_order

GRAPPLER = "kompakt.targets.grappler:simplify"

TYPES: dict[Any, str] = {tf.float32: "float32", tf.int32: "int32", tf.bool: "bool"}
"""TensorFlow's types that TF.js has, and what it calls them."""

WIDER: dict[Any, Any] = {tf.int64: tf.int32, tf.float64: tf.float32, tf.uint8: tf.int32, tf.int8: tf.int32}
"""Types that become others in TF.js."""


@dataclass(kw_only=True)
class Graph:
    """A frozen graph: its nodes but for the numbers of its constants, and these by the name of their node."""

    proto: Any
    constants: dict[str, np.ndarray]
    inputs: list[End]
    outputs: list[End]

    @property
    def topology(self) -> dict[str, Any]:
        """The nodes as JSON."""
        made = dict(json_format.MessageToDict(self.proto))
        for node in made["node"]:  # the order of a map is another in each process
            node["attr"] = dict(sorted(node.get("attr", {}).items()))
        return made

    def rename(self, names: Mapping[str, str]) -> None:
        """Give nodes other names, wherever they are read."""
        for node in self.proto.node:
            node.name = names.get(node.name, node.name)
            node.input[:] = [_renamed(each, names) for each in node.input]
        self.constants = {names.get(name, name): value for name, value in self.constants.items()}

    def merge(self, same: Mapping[str, str]) -> None:
        """Have the second of each pair of constants read where the first was, which goes."""
        self.proto = _with_nodes(self.proto, [node for node in self.proto.node if node.name not in same])
        for node in self.proto.node:
            node.input[:] = [_renamed(each, same) for each in node.input]
        self.constants = {name: value for name, value in self.constants.items() if name not in same}


def frozen(model: keras.Model, batch: int | None) -> Graph:
    """``model`` as a graph in which every weight is a constant.

    Raises:
        InputError: TensorFlow cannot make a graph of it, or a constant is of a type that TF.js has not.
    """
    try:
        with quiet():
            traced, names = _traced(model, batch)
            constant = convert_variables_to_constants_v2(traced, lower_control_flow=True)
            proto = _optimized(constant)
    except Exception as error:
        raise InputError(
            f"TensorFlow cannot make a graph of the model {model.name!r}: {first_line(error)}; replace the layer it "
            "names"
        ) from error
    for rewrite in (without_erfc, without_einsum, without_order):
        rewrite(proto)
    proto = _reached(proto, [t.name.split(":")[0] for t in (*constant.outputs, *constant.inputs)])
    inputs = [_end(*each) for each in zip(names[0], constant.inputs, strict=True)]
    outputs = [_end(*each) for each in zip(names[1], constant.outputs, strict=True)]
    return Graph(proto=proto, constants=_constants(proto), inputs=inputs, outputs=outputs)


def _traced(model: keras.Model, batch: int | None) -> tuple[Any, tuple[list[str], list[str]]]:
    """(the model as a concrete function, (names of its inputs, names of its outputs))."""
    inputs = symbolic_inputs(model, batch)
    flat = tree.flatten(inputs)
    specs = [tf.TensorSpec(t.shape, t.dtype, name=f"input_{i}") for i, t in enumerate(flat)]
    found: list[str] = []

    def call(*tensors: Any) -> dict[str, Any]:
        with tensorflow_names(model):
            made = model(tree.pack_sequence_as(inputs, list(tensors)), training=False)
        found[:] = _output_names(model, made)
        return {f"output_{i:04d}": tensor for i, tensor in enumerate(tree.flatten(made))}

    traced = tf.function(call, autograph=False).get_concrete_function(*specs)
    return traced, ([t.name.split(":")[0] for t in flat], found)


def _output_names(model: keras.Model, made: Any) -> list[str]:
    """A name for each output: the keys of a dict, else the layers that they come of."""
    count = len(tree.flatten(made))
    names = sorted(made) if isinstance(made, dict) else list(getattr(model, "output_names", None) or ())
    unique = len(names) == count == len(set(names))
    return [str(name) for name in names] if unique else [f"output_{i}" for i in range(count)]


def _optimized(constant: Any) -> Any:
    """A frozen function as Grappler simplifies it (:mod:`kompakt.targets.grappler`)."""
    ends = [t.name for t in (*constant.inputs, *constant.outputs)]
    given = [np.frombuffer(constant.graph.as_graph_def().SerializeToString(), "uint8")]
    (made,), _ = call(GRAPPLER, given, of="TensorFlow's Grappler", ends=ends)
    return graph_pb2.GraphDef.FromString(made.tobytes())


def _reached(proto: Any, ends: Iterable[str]) -> Any:
    """The nodes that ``ends`` depend on: inlining loops leaves placeholders that nothing reads."""
    nodes = {node.name: node for node in proto.node}
    found: set[str] = set()
    left = list(ends)
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left += [parts(each)[1] for each in nodes[name].input]
    return _with_nodes(proto, [node for node in proto.node if node.name in found])


def _with_nodes(proto: Any, nodes: Iterable[Any]) -> Any:
    """A graph of some nodes; no functions: loops and branches were inlined."""
    made = type(proto)(versions=proto.versions)
    made.node.extend(nodes)
    return made


def _constants(proto: Any) -> dict[str, np.ndarray]:
    """Take the numbers out of the constants of ``proto``; 64 bits become 32.

    Raises:
        InputError: integers that do not fit, or a type that TF.js has not.
    """
    found = {}
    for node in proto.node:
        if node.op == "Const":
            found[node.name] = _in_32_bits(node.name, tf.make_ndarray(node.attr["value"].tensor))
            kind = tf.as_dtype(found[node.name].dtype).as_datatype_enum
            node.attr["dtype"].type = kind
            node.attr["value"].tensor.Clear()
            node.attr["value"].tensor.dtype = kind
            node.attr["value"].tensor.tensor_shape.CopyFrom(tf.TensorShape(found[node.name].shape).as_proto())
    return found


def _in_32_bits(name: str, value: np.ndarray) -> np.ndarray:
    kind = tf.as_dtype(value.dtype)
    if kind in TYPES:
        return value
    if kind not in WIDER:
        raise InputError(f"the constant {name!r} is {kind.name}: TF.js has {', '.join(TYPES.values())}")
    limits = np.iinfo("int32")
    if kind.is_integer and value.size and not limits.min <= value.min() <= value.max() <= limits.max:
        raise InputError(f"the constant {name!r} has integers up to {np.abs(value).max()}: TF.js has 32 bits alone")
    return value.astype(WIDER[kind].as_numpy_dtype)


def _end(name: str, tensor: Any) -> End:
    kind = WIDER.get(tensor.dtype, tensor.dtype)
    if kind not in TYPES:
        raise InputError(
            f"{name!r} is {tensor.dtype.name}: inputs and outputs in TF.js are {', '.join(TYPES.values())}"
        )
    return End(name=name, tensor=tensor.name, dtype=TYPES[kind], shape=tuple(tensor.shape))


def parts(reader: str) -> tuple[str, str, str]:
    """An entry of a node's inputs apart: "^" where it is only waited for, the node, ":1" for its second result.

    Example:
        >>> parts("a/b:1"), parts("^a")
        (('', 'a/b', ':1'), ('^', 'a', ''))
    """
    found = re.fullmatch(r"(\^?)(.*?)(:\d+)?", reader)
    assert found is not None
    return found[1], found[2], found[3] or ""


def _renamed(reader: str, names: Mapping[str, str]) -> str:
    before, node, behind = parts(reader)
    return f"{before}{names.get(node, node)}{behind}"


def unknown_operators(graph: Graph, known: Collection[str], layer_of: Callable[[str], str | None]) -> list[str]:
    """A line for each operator that TF.js has not, with the layer it is of."""
    lines = {}
    for node in graph.proto.node:
        if node.op not in known or any(each.HasField("func") for each in node.attr.values()):
            layer = layer_of(node.name)
            lines[node.op, layer] = f"{node.op} of " + (f"the layer {layer!r}" if layer else f"{node.name!r}")
    return list(lines.values())


def owner(model: keras.Model) -> Callable[[str], str | None]:
    """A function from the name of a node to that of the layer which made it.

    Keras calls the scope of a layer by its name, with a number behind where it was called before.
    """
    names = {layer.name for layer in model._flatten_layers(include_self=False)}

    def layer_of(node: str) -> str | None:
        for part in reversed(node.split("/")):
            found = next((each for each in (part, re.sub(r"_\d+$", "", part)) if each in names), None)
            if found is not None:
                return found
        return None

    return layer_of
