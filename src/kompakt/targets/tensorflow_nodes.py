"""Nodes of TensorFlow, as ``model.json`` has them (a ``NodeDef`` as JSON is the same), as a graph of any format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from kompakt.targets.graph_view import Node, Part, Value
from kompakt.targets.tensorflow_attributes import attributes, decoded
from kompakt.targets.tensorflow_channels import channels

CONSTANT, PLACEHOLDER = "Const", "Placeholder"

TYPED = ("dtype", "DstT", "output_type", "out_type", "Tout", "T")
"""Attributes that may have the type of what a node makes."""

COMPARES = {
    "Less",
    "LessEqual",
    "Greater",
    "GreaterEqual",
    "Equal",
    "NotEqual",
    "LogicalAnd",
    "LogicalOr",
    "LogicalNot",
}
"""Operations that make truth values of whatever type."""

KINDS = {"FLOAT": "FLOAT32", "HALF": "FLOAT16", "DOUBLE": "FLOAT64"}
"""TensorFlow's words -> ours."""

LONGEST = 60
"""Characters of an option that are shown."""


def kind_of(text: Any) -> str:
    """``FLOAT32`` of ``DT_FLOAT``; "" where it is none.

    Example:
        >>> kind_of("DT_HALF"), kind_of("DT_INT8"), kind_of(None)
        ('FLOAT16', 'INT8', '')
    """
    if not isinstance(text, str) or not text.startswith("DT_"):
        return ""
    plain = text.removeprefix("DT_").removesuffix("_REF")
    return KINDS.get(plain, plain)


def shape_of(told: Any) -> tuple[int | None, ...] | None:
    """The shape in a ``TensorShapeProto`` as JSON; None where it has none.

    Example:
        >>> shape_of({"dim": [{"size": "-1"}, {"size": "8"}]}), shape_of({"unknownRank": True})
        ((None, 8), None)
    """
    if not isinstance(told, Mapping) or told.get("unknownRank"):
        return None
    try:
        sizes = [int(dim.get("size", 0)) for dim in told.get("dim", [])]
    except (AttributeError, TypeError, ValueError):
        return None
    return tuple(None if n < 0 else n for n in sizes)


def part_of(
    name: str,
    nodes: Sequence[Mapping[str, Any]],
    *,
    given: Sequence[Value] = (),
    constants: Mapping[str, Value],
    outputs: Sequence[str],
) -> Part:
    """A subgraph of ``nodes``.

    Args:
        given: arguments of a function, or inputs. constants: name of a node -> its tensor. outputs: tensors.
    """
    made = _Tensors(given)
    for node in nodes:
        label = str(node["name"])
        if node["op"] == CONSTANT:
            made.put(label, constants.get(label) or Value(name=label, dtype=_type(node), constant=True))
        elif node["op"] == PLACEHOLDER:
            made.put(
                label,
                Value(name=label, dtype=_type(node), shape=shape_of(attributes(node).get("shape", {}).get("shape"))),
            )
    works = [node for node in nodes if node["op"] not in (CONSTANT, PLACEHOLDER, "NoOp")]
    about = {str(node["name"]): node for node in works}
    inputs = [tuple(made.at(r, about) for r in node.get("input", []) if not r.startswith("^")) for node in works]
    ends = tuple(made.at(ref, about) for ref in outputs)
    known = tuple(_node(node, i, made.of(str(node["name"]), about)) for node, i in zip(works, inputs, strict=True))
    for at, axes in channels(works, known).items():
        made.values[at] = replace(made.values[at], channels=axes)
    return Part(
        name=name,
        nodes=known,
        values=tuple(made.values),
        inputs=tuple(range(len(given))) or made.placeholders(nodes),
        outputs=ends,
    )


class _Tensors:
    """Tensors in the order in which they are met; each by the texts that refer to it."""

    def __init__(self, given: Sequence[Value]) -> None:
        self.values: list[Value] = list(given)
        self.places = {value.name: i for i, value in enumerate(given)}
        self.made: dict[str, list[int]] = {}

    def put(self, ref: str, value: Value) -> int:
        self.places[ref] = len(self.values)
        self.values.append(value)
        return self.places[ref]

    def at(self, ref: str, nodes: Mapping[str, Mapping[str, Any]]) -> int:
        """Index of what ``ref`` refers to: "node", "node:1", or in a function "node:port:1"."""
        label, _, port = ref.partition(":")
        plain = label if port in ("", "0") or (port.endswith(":0") and self._single(nodes.get(label))) else ref
        if plain not in self.places:
            plain = label if label in self.places and label not in nodes else plain
        if plain in self.places:
            return self.places[plain]
        node = nodes.get(label)
        index = self.put(plain, _made(plain, node, port))
        self.made.setdefault(label, []).append(index)
        return index

    def of(self, label: str, nodes: Mapping[str, Mapping[str, Any]]) -> tuple[int, ...]:
        """What the node makes: what is read of it, else one tensor."""
        if label not in self.made:
            self.at(label, nodes)
        return tuple(self.made.get(label, ()))

    def placeholders(self, nodes: Sequence[Mapping[str, Any]]) -> tuple[int, ...]:
        return tuple(self.places[str(node["name"])] for node in nodes if node["op"] == PLACEHOLDER)

    @staticmethod
    def _single(node: Mapping[str, Any] | None) -> bool:
        """Whether a node of a function is known to make one tensor, so that its name alone is clear."""
        return node is None or len(_shapes(node)) == 1


def _made(ref: str, node: Mapping[str, Any] | None, port: str) -> Value:
    if node is None:
        return Value(name=ref)
    shapes, last = _shapes(node), port.rpartition(":")[2]
    at = int(last) if last.isdecimal() and ":" not in port else 0
    known = at < len(shapes) and (":" not in port or len(shapes) == 1)
    return Value(name=ref, dtype=_type(node), shape=shape_of(shapes[at]) if known else None)


def _shapes(node: Mapping[str, Any]) -> list[Any]:
    found = attributes(node).get("_output_shapes", {})
    inner = found.get("list", {}) if isinstance(found, Mapping) else {}
    shapes = inner.get("shape", []) if isinstance(inner, Mapping) else []
    return list(shapes) if isinstance(shapes, list) else []


def _type(node: Mapping[str, Any]) -> str:
    if node["op"] in COMPARES:
        return "BOOL"
    held = attributes(node)
    return next((kind for key in TYPED if (kind := kind_of(held.get(key, {}).get("type")))), "")


def _node(node: Mapping[str, Any], inputs: tuple[int, ...], outputs: tuple[int, ...]) -> Node:
    label, op = str(node["name"]), str(node["op"])
    held = attributes(node)
    fused = _words(held.get("fused_ops", {}).get("list", {}).get("s"))
    options = {
        name.replace("_", " "): text
        for name, value in sorted(held.items())
        if not name.startswith("_") and name not in (*TYPED, "fused_ops") and (text := _text(value))
    }
    return Node(name=op, label=label, inputs=inputs, outputs=outputs, options=options, activation=" + ".join(fused))


def _words(texts: Any) -> list[str]:
    return [decoded(each) for each in texts] if isinstance(texts, list) else []


def _text(value: Mapping[str, Any]) -> str:
    """An attribute in words; "" for what says nothing: an empty list, no, a tensor."""
    (kind, held), *_ = [*value.items(), ("", None)]
    if kind == "list" and isinstance(held, Mapping):
        inner = [_one(k, each) for k, many in held.items() for each in (many if isinstance(many, list) else [many])]
        text = "x".join(inner) if all(each.lstrip("-").isdecimal() for each in inner) else ", ".join(inner)
    else:
        text = _one(kind, held)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def _one(kind: str, held: Any) -> str:
    if kind == "b":
        return "yes" if held else ""
    if kind == "s":
        return decoded(held)
    if kind == "type":
        return kind_of(held)
    if kind == "func":
        return str(held.get("name", "")) if isinstance(held, Mapping) else ""
    if kind == "shape":
        found = shape_of(held)
        return "" if found is None else "x".join("?" if n is None else str(n) for n in found)
    return f"{held}" if kind in ("i", "f") else ""
