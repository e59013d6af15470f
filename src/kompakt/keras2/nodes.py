"""How the layers of a functional model of Keras 2 are called, in the form of Keras 3."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import replace
from typing import Any

from kompakt.errors import InputError
from kompakt.keras2.constants import filled, operand
from kompakt.keras2.dtypes import dtype_beside
from kompakt.keras2.layers import RECURRENT
from kompakt.keras2.operators import OPERATORS, Call, operation

Config = dict[str, Any]

CONSTANT = "_CONSTANT_VALUE"
"""Stands in place of a layer's name where numbers are the first argument."""


class Graph:
    """Names of a functional model's layers, and which of them are models: their first node is their own.

    Args:
        layers: configs of the model's layers. models: names of those that are models.
    """

    def __init__(self, layers: list[Config], models: Set[str]) -> None:
        self._layers = {layer["name"]: layer for layer in layers}
        self._models = models

    def value(self, given: Any) -> Any:
        """An argument: ``[layer, node, output]`` as Keras 3 writes a tensor, lists of these, anything else as it is."""
        if self.is_tensor(given):
            return self._tensor(*given[:3])
        if isinstance(given, (list, tuple)):
            return [self.value(each) for each in given]
        if isinstance(given, Mapping):
            return {key: self.value(each) for key, each in given.items()}
        return given

    def is_tensor(self, given: Any) -> bool:
        """Whether ``given`` is ``[layer, node, output]``, of a layer that is here, or a constant in such a place."""
        return (
            isinstance(given, (list, tuple))
            and len(given) in (3, 4)
            and isinstance(given[0], str)
            and (given[0] in self._layers or given[0] == CONSTANT)
            and isinstance(given[1], int)
        )

    def index(self, layer: str, node: int) -> int:
        """The number of a call of ``layer``: Keras 2 counts a model's own graph as its first."""
        return node - 1 if layer in self._models else node

    def dtype(self, node: Any) -> str:
        """The type of the first tensor that a layer is called with."""
        return dtype_beside(self._layers, node)

    def _tensor(self, layer: str, node: int, output: Any) -> Any:
        if layer == CONSTANT:
            return operand(output)
        history = [layer, self.index(layer, node), output]
        # Shape and type are read from the layer when the model is built.
        return {"class_name": "__keras_tensor__", "config": {"shape": [], "dtype": "float32", "keras_history": history}}


def arguments(graph: Graph, node: Any) -> tuple[Any, Config]:
    """(the first argument, the others by name) of one call, in the form of Keras 3.

    Example:
        >>> graph = Graph([{"name": "a"}, {"name": "b"}], set())
        >>> first, rest = arguments(graph, [["a", 0, 0, {"training": False}]])
        >>> first["config"]["keras_history"], rest
        (['a', 0, 0], {'training': False})
    """
    rest: Config = {}
    if graph.is_tensor(node):
        entries: Any = node
        rest = node[3] if len(node) == 4 else {}
    elif isinstance(node, Mapping):
        entries = dict(node)
        rest = next((each[3] for each in node.values() if len(each) == 4), {})
    else:
        entries = node[0] if len(node) == 1 else node
        rest = next((each[3] for each in node if graph.is_tensor(each) and len(each) == 4), {})
    named = {key: graph.value(value) for key, value in rest.items() if value is not None}
    return graph.value(entries), named


def call_of(kind: str, graph: Graph, node: Any) -> Config:
    """One call of a layer, in the form of Keras 3."""
    return dict(filled(called(kind, *arguments(graph, node)), graph.dtype(node)))


def called(kind: str, first: Any, rest: Config) -> Config:
    """A call of a layer: initial states come beside the sequence in Keras 3, and not behind it in a list.

    Example:
        >>> called("LSTM", ["x", "h", "c"], {})
        {'args': ['x'], 'kwargs': {'initial_state': ['h', 'c']}}
    """
    if kind in (*RECURRENT, "Bidirectional") and isinstance(first, list) and len(first) > 1:
        return {"args": first[:1], "kwargs": {**rest, "initial_state": first[1:]}}
    return {"args": [first], "kwargs": rest}


def operated(graph: Graph, layer: Config) -> Config:
    """A function of TensorFlow as an operation of Keras 3, calls and all.

    Raises:
        InputError: it has none.
    """
    name, function = layer["name"], str(layer["config"].get("function", layer["class_name"]))
    if layer["class_name"] not in OPERATORS[:2]:
        function = f"{layer['class_name']} {function}"
    calls = [_operation(graph, name, function, node) for node in layer["inbound_nodes"]]
    if not calls or any((call.module, call.kind, call.config) != _made_of(calls[0]) for call in calls):
        raise InputError(f"layer {name!r} calls TensorFlow's tf.{function} in several ways; expected one")
    module, kind, config = _made_of(calls[0])
    return {
        "module": module,
        "class_name": kind,
        "config": {"name": name, **config},
        "registered_name": kind,
        "name": name,
        "inbound_nodes": [{"args": call.args, "kwargs": {}} for call in calls],
    }


def _made_of(call: Call) -> tuple[str, str, Config]:
    return call.module, call.kind, call.config


def _operation(graph: Graph, name: str, function: str, node: Any) -> Call:
    several = isinstance(node, list) and not graph.is_tensor(node)
    first, rest = arguments(graph, node)
    if several and not isinstance(first, list):
        first = [first]
    call = operation(name, function, first, rest)
    return replace(call, args=filled(call.args, graph.dtype(node)))
