"""A TF.js graph model as a graph of any format."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from kompakt.contents import Signature
from kompakt.errors import InputError, first_line
from kompakt.targets.graph_view import Part, Value, View
from kompakt.targets.tensorflow_nodes import kind_of, part_of
from kompakt.targets.tfjs_model import End, GraphModel
from kompakt.targets.tfjs_weights import Weight


def view_of(model: GraphModel) -> View:
    """What is in ``model``.

    Raises:
        InputError: it is damaged.
    """
    try:
        return _view(model)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"broken model.json: its nodes cannot be read ({first_line(error)}); make it again") from None


def _view(model: GraphModel) -> View:
    constants = {weight.name: _value(weight) for weight in model.weights}
    ends = [end.tensor for end in model.outputs]
    main = _with_ends(part_of("main", model.topology["node"], constants=constants, outputs=ends), model)
    functions = tuple(_functions(model.topology, constants))
    signature = Signature(
        name="serving_default", subgraph=0, inputs=_names(model.inputs), outputs=_names(model.outputs)
    )
    metadata = {name: json.dumps(held).encode() for name, held in model.metadata.items()}
    return View(parts=(main, *functions), signatures=(signature,), metadata=metadata)


def _with_ends(part: Part, model: GraphModel) -> Part:
    """``part`` with the types and shapes of its inputs and outputs, which the signature tells."""
    told = {_plain(end): (end.dtype.upper(), end.shape) for end in (*model.inputs, *model.outputs)}
    values = [
        replace(value, dtype=told[value.name][0], shape=told[value.name][1]) if value.name in told else value
        for value in part.values
    ]
    return replace(part, values=tuple(values))


def _value(weight: Weight) -> Value:
    gridded = weight.compression in ("uint8", "uint16")
    return Value(
        name=weight.name,
        dtype=(weight.compression or weight.dtype).upper(),
        shape=weight.stored.shape,
        constant=True,
        values=weight.stored,
        bytes=weight.stored.nbytes,
        buffer=weight.name,
        scale=(weight.scale,) if gridded else (),
        zero_point=(0,) if gridded else (),
        offset=weight.minimum if gridded else 0.0,
    )


def _functions(topology: Mapping[str, Any], constants: Mapping[str, Value]) -> Iterator[Part]:
    for each in (topology.get("library") or {}).get("function", []):
        signature = each.get("signature") if isinstance(each.get("signature"), Mapping) else {}
        arguments = signature.get("inputArg", [])
        given = [
            Value(name=str(a.get("name", "")), dtype=kind_of(a.get("type")))
            for a in (arguments if isinstance(arguments, list) else [])
            if isinstance(a, Mapping)
        ]
        returned = each.get("ret") if isinstance(each.get("ret"), Mapping) else {}
        outputs = [str(ref) for ref in returned.values()]
        nodes = each.get("nodeDef", [])
        yield part_of(str(signature.get("name", "")), nodes, given=given, constants=constants, outputs=outputs)


def _names(ends: Any) -> dict[str, str]:
    return {end.name: _plain(end) for end in ends}


def _plain(end: End) -> str:
    return end.tensor.removesuffix(":0")
