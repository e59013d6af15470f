"""TF.js: a graph model for the web, converted by kompakt itself, and run in Node on two backends."""

from __future__ import annotations

import functools
import importlib.metadata
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import keras
import numpy as np

from kompakt.errors import InputError
from kompakt.folders import packed, unpacked
from kompakt.graph import symbolic_inputs, with_weights
from kompakt.inference import infer
from kompakt.isolated import begin
from kompakt.records import Census
from kompakt.sites import sites
from kompakt.targets import tfjs_page, tfjs_runtime
from kompakt.targets.float_target import NOTE, FloatTarget, check_mode, folded, note_of, sealed
from kompakt.targets.graph_view import View
from kompakt.targets.notes import read_note
from kompakt.targets.target import Converted, Outputs, Request, check_backend
from kompakt.targets.tfjs_graph import GRAPPLER, Graph, frozen, owner, unknown_operators
from kompakt.targets.tfjs_links import Held, from_json, named_by_site, to_json
from kompakt.targets.tfjs_model import MODEL, GraphModel, packed_model, shard_names, unpacked_model
from kompakt.targets.tfjs_runtime import BACKENDS, session
from kompakt.targets.tfjs_view import view_of
from kompakt.targets.tfjs_weights import COMPRESSED, Weight, compressed
from kompakt.targets.web_packages import node, packages
from kompakt.targets.words import MODES

LARGE = 4096
"""Values of a constant that stays float though weights are compressed, from which on it is named."""


class TFJS(FloatTarget):
    """Folders with a ``model.json``, its shards and a page that tries them; the weights compressed or not.

    It computes in floats. The two backends of TF.js that run in Node must agree.
    """

    name = "tfjs"
    runtime = "TF.js in Node"
    modes = MODES["tfjs"]
    suffix = ""
    main = MODEL
    rounds = tuple(COMPRESSED)
    nearest: ClassVar[Mapping[str, str]] = {
        "int8": "uint8",
        "w4a8": "uint8",
        "dynamic_int8": "uint8",
        "weight_only_int8": "uint8",
        "mixed": "uint8",
        "int16x8": "uint16",
        "float16": "float16",
    }

    def ready(self) -> None:
        node()
        packages("node")

    def shipped(self, data: bytes) -> Mapping[str, bytes]:
        files = self.files(data)
        return {name: files[name] for name in (MODEL, *shard_names(files))}

    def convert(self, request: Request) -> Converted:
        check_mode(self, request.quantization)
        check_backend("converting to TF.js")
        begin(GRAPPLER)
        model = folded(request.model)
        graph = frozen(model, request.batch)
        held = named_by_site(graph, model)
        how = None if request.quantization == "float" else request.quantization
        weights, large = _weights(graph, held, how)
        note = note_of(request)
        made = GraphModel(
            topology=graph.topology,
            weights=weights,
            inputs=graph.inputs,
            outputs=graph.outputs,
            metadata={"kompakt": {**note, "sites": to_json(held)}},
        )
        files = packed_model(made, made_by=f"kompakt {importlib.metadata.version('kompakt')}")
        sample = _sample(model, request.samples)
        backends, notes = _tried(files, made, graph, model, sample)
        expected = infer(_as_stored(model, made, held) if how else model, sample)
        files |= tfjs_page.page(made, sample, expected, title=request.model.name, mode=request.quantization)
        whole = sealed(files, {**note, "backends": backends})
        return Converted(data=packed(whole), notes=(*notes, *_lost(request, held), *large))

    def run(self, data: bytes, inputs: Any, *, at: Sequence[str] | None = None) -> Outputs:
        files, model = opened(data)
        given = tfjs_runtime.fed(model.inputs, inputs)
        with session(files, model) as place:
            found = tfjs_runtime.on_backends(place, given, backends_of(files))
        values = tuple(np.asarray(each, "float32") for each in found[BACKENDS[0]])
        return Outputs(values=values, lsb=(None,) * len(values), breaches=tuple(tfjs_runtime.apart(found)))

    def ends(self, data: bytes) -> tuple[tuple[str, ...], tuple[str, ...]]:
        _, model = opened(data)
        return tuple(end.name for end in model.inputs), tuple(end.name for end in model.outputs)

    def graph(self, data: bytes) -> View:
        return view_of(opened(data)[1])

    def census(self, data: bytes) -> Census:
        _, model = opened(data)
        ops = Counter(str(node["op"]) for node in model.nodes if node["op"] not in ("Const", "Placeholder", "NoOp"))
        tensors = Counter((weight.compression or weight.dtype).upper() for weight in model.weights)
        return Census(ops=dict(ops), tensors=dict(tensors))

    def is_ours(self, data: bytes) -> bool:
        return "kompakt" in opened(data)[1].metadata

    def weights(self, data: bytes) -> dict[str, np.ndarray]:
        _, model = opened(data)
        by_name = {weight.name: weight for weight in model.weights}
        return {site: held.keras_weight(by_name[held.weight].values) for site, held in held_sites(model).items()}

    def dtype(self, data: bytes, site: str) -> str:
        _, model = opened(data)
        weight = held_sites(model)[site].weight
        return next((w.compression or w.dtype).upper() for w in model.weights if w.name == weight)


@functools.lru_cache(maxsize=2)
def opened(data: bytes) -> tuple[dict[str, bytes], GraphModel]:
    """The files of an artifact, and the model in them."""
    files = unpacked(data)
    return files, unpacked_model(files)


def held_sites(model: GraphModel) -> dict[str, Held]:
    """Site -> the constant that holds its weight, as kompakt noted it."""
    own = model.metadata.get("kompakt")
    sizes = {weight.name: int(weight.stored.size) for weight in model.weights}
    return from_json(own.get("sites", {}) if isinstance(own, dict) else {}, sizes)


def backends_of(files: Mapping[str, bytes]) -> Sequence[str]:
    """The backends that a model runs on, as its note says; both where it has none."""
    said = read_note(files.get(NOTE)).get("backends")
    return BACKENDS if said is None or BACKENDS[0] not in said else [b for b in BACKENDS if b in said]


def _weights(graph: Graph, held: Mapping[str, Held], how: str | None) -> tuple[list[Weight], list[str]]:
    """(the constants as they are stored, a line for large ones that are no weight of a layer kompakt knows).

    The weights of the sites are compressed. Biases, normalizations and what layers compute with stay float32: they
    are few, and all that is compressed can be read back and compared with the model.
    """
    known = {each.weight for each in held.values()}
    weights, large = [], []
    for name, values in graph.constants.items():
        if values.dtype != np.float32:
            stored = values.astype("u1") if values.dtype == bool else values
            weights.append(Weight(name=name, dtype=values.dtype.name, stored=stored))
            continue
        weights.append(compressed(name, values, how if name in known else None))
        if how and name not in known and values.size >= LARGE:
            large.append(f"{name}: {values.size} values stay float32, they are no weight of a layer that kompakt knows")
    return weights, large


def _tried(
    files: Mapping[str, bytes], made: GraphModel, graph: Graph, model: keras.Model, sample: Any
) -> tuple[list[str], list[str]]:
    """(the backends that run the model, a line for each that does not).

    Raises:
        InputError: TF.js has not all of its operators.
    """
    with session(files, made) as place:
        unknown = unknown_operators(graph, place.operators(), owner(model))
        if unknown:
            raise InputError(
                f"TF.js has no operator {'; '.join(unknown[:4])}: replace the layer by others that do the same, or "
                "choose another target"
            )
        found = tfjs_runtime.on_backends(place, tfjs_runtime.fed(made.inputs, sample), BACKENDS)
    notes = [f"not on {b}: {v}; the page and the check use the others" for b, v in found.items() if isinstance(v, str)]
    return [backend for backend, values in found.items() if not isinstance(values, str)], notes


def _sample(model: keras.Model, samples: Any) -> Any:
    """The first of ``samples``; without any, numbers at random."""
    if samples is not None:
        return keras.tree.map_structure(lambda leaf: np.asarray(leaf)[:1], samples)
    random = np.random.default_rng(0)

    def draw(tensor: Any) -> np.ndarray:
        shape = (1, *(n or 1 for n in tensor.shape[1:]))
        floats = keras.backend.is_float_dtype(tensor.dtype)
        return (random.uniform(-1.0, 1.0, shape) if floats else random.integers(0, 2, shape)).astype(tensor.dtype)

    return keras.tree.map_structure(draw, symbolic_inputs(model))


def _as_stored(model: keras.Model, made: GraphModel, held: Mapping[str, Held]) -> keras.Model:
    """A copy of ``model`` with the weights as they are in the file."""
    by_name = {weight.name: weight for weight in made.weights}
    return with_weights(model, {site: each.keras_weight(by_name[each.weight].values) for site, each in held.items()})


def _lost(request: Request, held: Mapping[str, Held]) -> list[str]:
    """A line for the sites whose weights are no constant of the file: they are not compressed, nor counted."""
    lost = [site.name for site in sites(request.model) if site.variable is not None and site.name not in held]
    if not lost or (request.quantization == "float" and not request.encodings):
        return []
    return [f"the file has no constant with the numbers of {', '.join(lost)}: they stay float32, and are not counted"]
