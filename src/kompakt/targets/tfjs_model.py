"""The files of a TF.js graph model: ``model.json`` and its shards, made of a graph, and read whoever wrote them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kompakt.errors import InputError
from kompakt.targets.tfjs_weights import SHARD, Weight, joined, sharded

MODEL = "model.json"

TO_JSON = {"float32": "DT_FLOAT", "int32": "DT_INT32", "bool": "DT_BOOL"}
"""TF.js' types -> what they are called in a signature."""

FROM_JSON = {name: kind for kind, name in TO_JSON.items()}

MOST_JSON = 256 * 1024 * 1024
"""Most bytes of a model.json that is read."""


@dataclass(frozen=True, kw_only=True)
class End:
    """An input or output: the model's own name, the graph's name for it, its type and shape (None: any size)."""

    name: str
    tensor: str
    dtype: str
    shape: tuple[int | None, ...]

    @property
    def entry(self) -> dict[str, Any]:
        """What stands for it in a signature."""
        dims = [{"size": str(-1 if n is None else n)} for n in self.shape]
        return {"name": self.tensor, "dtype": TO_JSON[self.dtype], "tensorShape": {"dim": dims}}


@dataclass(frozen=True, kw_only=True)
class GraphModel:
    """A graph model: nodes as JSON, constants, ends in the model's own order, and what kompakt wrote about it."""

    topology: Mapping[str, Any]
    weights: Sequence[Weight]
    inputs: Sequence[End]
    outputs: Sequence[End]
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def nodes(self) -> Sequence[Mapping[str, Any]]:
        """Of the graph and of the functions in it."""
        functions = self.topology.get("library", {}).get("function", [])
        return [*self.topology["node"], *(node for each in functions for node in each.get("nodeDef", []))]


def packed_model(model: GraphModel, *, made_by: str, most: int = SHARD) -> dict[str, bytes]:
    """The files of ``model``.

    Args:
        made_by: the program and its version. most: bytes of a shard.
    """
    manifest, files = sharded(model.weights, most=most)
    whole = {
        "format": "graph-model",
        "generatedBy": str(model.topology.get("versions", {}).get("producer", "")),
        "convertedBy": made_by,
        "signature": {
            "inputs": {end.name: end.entry for end in model.inputs},
            "outputs": {end.name: end.entry for end in model.outputs},
        },
        "modelTopology": model.topology,
        "weightsManifest": manifest,
        "userDefinedMetadata": model.metadata,
    }
    return {MODEL: json.dumps(whole, separators=(",", ":")).encode(), **files}


def unpacked_model(files: Mapping[str, bytes]) -> GraphModel:
    """The graph model in ``files`` (relative path -> bytes).

    Raises:
        InputError: there is none, or it is broken.
    """
    if MODEL not in files:
        raise InputError(f"no {MODEL} in the folder; a TF.js graph model is that and the shards beside it")
    whole = _json(files[MODEL])
    if whole.get("format") != "graph-model":
        raise InputError(f"model.json has the format {whole.get('format')!r:.40}, expected 'graph-model'")
    topology: Any = whole.get("modelTopology")
    metadata: Any = whole.get("userDefinedMetadata") or {}
    if not isinstance(metadata, dict):
        raise InputError("broken model.json: userDefinedMetadata is no mapping")
    _check_topology(topology)
    shards = {name: data for name, data in files.items() if name != MODEL}
    return GraphModel(
        topology=topology,
        weights=joined(whole.get("weightsManifest"), shards),
        inputs=_ends(whole, "inputs"),
        outputs=_ends(whole, "outputs"),
        metadata=metadata,
    )


def shard_names(files: Mapping[str, bytes]) -> list[str]:
    """The files of ``files`` that hold weights.

    Raises:
        InputError: the model does not name them, or one of them is not there.
    """
    try:
        names = [str(path) for group in _json(files[MODEL])["weightsManifest"] for path in group["paths"]]
    except (KeyError, TypeError):
        raise InputError(
            f"broken {MODEL}: its weightsManifest does not name the files of weights; make it again"
        ) from None
    gone = [name for name in names if name not in files]
    if gone:
        raise InputError(f"broken {MODEL}: it names {gone[0]!r}, which is not there; copy the whole folder")
    return names


def _json(data: bytes) -> dict[str, Any]:
    if len(data) > MOST_JSON:
        raise InputError(f"model.json has {len(data)} bytes, more than {MOST_JSON}: its weights belong into shards")
    return read_json(data, MODEL)


def read_json(data: bytes, name: str) -> dict[str, Any]:
    """A mapping from JSON, whoever wrote it.

    Raises:
        InputError: it is none.
    """
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(f"broken {name}: it is no JSON ({error}); make it again") from None
    if not isinstance(found, dict):
        raise InputError(f"broken {name}: it is {type(found).__name__}, expected a mapping")
    return found


def _check_topology(topology: Any) -> None:
    if not isinstance(topology, dict) or not isinstance(topology.get("node"), list):
        raise InputError("broken model.json: modelTopology has no list 'node'")
    library = topology.get("library") or {}
    functions = library.get("function", []) if isinstance(library, dict) else None
    if not isinstance(functions, list) or not all(isinstance(each, dict) for each in functions):
        raise InputError("broken model.json: the functions of modelTopology are no list")
    nodes = list(topology["node"])
    for each in functions:
        inner = each.get("nodeDef", [])
        nodes += inner if isinstance(inner, list) else [None]
    bad = next((node for node in nodes if not _is_node(node)), "")
    if bad != "":
        raise InputError(f"broken model.json: a node of modelTopology is {bad!r:.80}, expected a name and an op")


def _is_node(node: Any) -> bool:
    return (
        isinstance(node, dict)
        and isinstance(node.get("name"), str)
        and isinstance(node.get("op"), str)
        and isinstance(node.get("input", []), list)
        and all(isinstance(each, str) for each in node.get("input", []))
    )


def _ends(whole: Mapping[str, Any], side: str) -> list[End]:
    signature = whole.get("signature")
    entries = signature.get(side) if isinstance(signature, dict) else None
    if not isinstance(entries, dict) or not entries:
        raise InputError(f"broken model.json: its signature has no {side}")
    return [_read_end(name, entry) for name, entry in entries.items()]


def _read_end(name: str, entry: Any) -> End:
    try:
        dims = entry["tensorShape"].get("dim", [])
        sizes = [int(dim["size"]) for dim in dims]
        return End(
            name=name,
            tensor=str(entry["name"]),
            dtype=FROM_JSON[entry["dtype"]],
            shape=tuple(None if n < 0 else n for n in sizes),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise InputError(
            f"broken model.json: the signature says {entry!r:.120} of {name!r}, expected name, dtype and tensorShape"
        ) from None
