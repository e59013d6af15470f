"""SavedModel: a folder for TensorFlow Serving, ``tf.saved_model.load`` and ``keras.layers.TFSMLayer``."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from keras import tree

from kompakt.compare import relative_error
from kompakt.errors import InputError
from kompakt.folders import packed, unpacked
from kompakt.isolated import Answer, begin, call
from kompakt.records import Census
from kompakt.targets.endpoints import Endpoints, endpoints
from kompakt.targets.float_target import NOTE, FloatTarget, check_mode, note_of, sealed
from kompakt.targets.graph_view import View, from_answer
from kompakt.targets.notes import read_note
from kompakt.targets.savedmodel_graph import PB
from kompakt.targets.savedmodel_write import WEIGHTS, written
from kompakt.targets.target import Converted, Outputs, Request, check_backend, keys, with_bytes
from kompakt.targets.warm_up import PLACE, requests
from kompakt.targets.words import MODES

SERVER = "kompakt.targets.savedmodel_server"

WARM_UP = 4
"""Requests that a server is warmed up with."""

ALIKE = 1e-5
"""Relative error up to which two ways to call one function agree: its sums may be split among threads otherwise."""

WAYS = ("serve of tf.saved_model.load", "keras.layers.TFSMLayer")
"""What a SavedModel is called by, its signature aside."""


class SavedModel(FloatTarget):
    """Folders that TensorFlow Serving loads. In float16 and in Keras' own modes only the weights are small."""

    name = "savedmodel"
    runtime = "TensorFlow"
    modes = MODES["savedmodel"]
    suffix = ""
    main = PB
    rounds = ("float16",)
    nearest = dict.fromkeys(("int8", "w4a8", "int16x8", "mixed", "dynamic_int8", "weight_only_int8"), "float")

    def convert(self, request: Request) -> Converted:
        check_mode(self, request.quantization)
        check_backend("a SavedModel")
        begin(f"{SERVER}:run")
        ends = endpoints(request.model, request.batch, request.output_names)
        files = written(request.model, ends, half=request.quantization == "float16")
        note = note_of(request, inputs=ends.input_names, outputs=ends.output_names)
        if request.samples is None:
            return Converted(data=packed(sealed(files, note)), notes=("no samples: no requests for a warm-up",))
        few = [np.asarray(a)[: WARM_UP * (request.batch or 1)] for a in tree.flatten(request.samples)]
        files[PLACE] = requests(request.model.name, _sent(ends, few, request.batch or 1))
        data = packed(sealed(files, note))
        return Converted(data=data, breaches=tuple(_disagreements(data, few, ends)))

    def run(self, data: bytes, inputs: Any, *, at: Sequence[str] | None = None) -> Outputs:
        if at is not None:
            raise InputError("a SavedModel shows its outputs only")
        values, _ = _ask("run", data, inputs, outputs=noted(data, "outputs"))
        return Outputs(values=tuple(values), lsb=(None,) * len(values))

    def graph(self, data: bytes) -> View:
        view = from_answer(call("kompakt.targets.savedmodel_view:look", with_bytes(data, []), of="TensorFlow"))
        named = [
            dataclasses.replace(part, values=tuple(dataclasses.replace(v, name=_plain(v.name)) for v in part.values))
            for part in view.parts
        ]
        return dataclasses.replace(view, parts=tuple(named))

    def census(self, data: bytes) -> Census:
        ops: dict[str, int] = _ask("census", data)[1]
        return Census(ops=ops, tensors=dict(Counter(kind for kind, _ in variables(data).values())))

    def is_ours(self, data: bytes) -> bool:
        return any(name.startswith(f"{WEIGHTS}/") for name, _ in _checkpoint(data)[1])

    def weights(self, data: bytes) -> Mapping[str, np.ndarray]:
        """As in the base class; what Keras stores in integers is left out."""
        return {site: values for site, (_, values) in variables(data).items() if values.dtype.kind == "f"}

    def dtype(self, data: bytes, site: str) -> str:
        return variables(data)[site][0]


def _ask(function: str, data: bytes, inputs: Any = None, **values: Any) -> Answer:
    """What a function of the server gives for the artifact and ``inputs``."""
    if inputs is not None:
        values["inputs"] = noted(data, "inputs") or keys(inputs)
    arrays = with_bytes(data, [] if inputs is None else inputs)
    return call(f"{SERVER}:{function}", arrays, of="TensorFlow", **values)


def _sent(ends: Endpoints, samples: Sequence[np.ndarray], size: int) -> list[dict[str, np.ndarray]]:
    """``samples`` in requests of ``size``; those that are left over go into none."""
    kinds = [np.dtype(t.dtype) for t in tree.flatten(ends.inputs)]
    named = {n: a.astype(k) for n, a, k in zip(ends.input_names, samples, kinds, strict=True)}
    starts = range(0, len(samples[0]) - size + 1, size)
    return [{name: values[start : start + size] for name, values in named.items()} for start in starts]


def _disagreements(data: bytes, samples: Sequence[np.ndarray], ends: Endpoints) -> list[str]:
    """A line for each way to call the SavedModel that gives something else than its signature does."""
    made, counts = call(
        f"{SERVER}:ways",
        [np.frombuffer(data, "uint8"), *samples],
        of="TensorFlow",
        inputs=ends.input_names,
        outputs=ends.output_names,
    )
    signature, *others = (made[sum(counts[:i]) : sum(counts[: i + 1])] for i in range(len(counts)))
    lines = []
    for way, found in zip(WAYS, others, strict=True):
        worst = max(relative_error(a, b) for a, b in zip(signature, found, strict=True))
        if not worst <= ALIKE:
            lines.append(f"{way} differs from the signature by {worst:.3g} of the outputs' spread")
    return lines


def noted(data: bytes, what: str) -> list[str] | None:
    """Names of the "inputs" or "outputs" in the model's order, as kompakt noted them; None where it did not."""
    names = read_note(unpacked(data).get(NOTE)).get(what)
    return names if names and all(isinstance(name, str) for name in names) else None


@functools.lru_cache(maxsize=2)
def _checkpoint(data: bytes) -> Answer:
    """The values in the checkpoint, and [name there, type] of each."""
    return _ask("variables", data)


@functools.lru_cache(maxsize=2)
def variables(data: bytes) -> dict[str, tuple[str, np.ndarray]]:
    """Site (else path of the object) -> type of the variable there, and its values."""
    values, about = _checkpoint(data)
    return {_plain(name): (kind, held) for (name, kind), held in zip(about, values, strict=True)}


def _plain(name: str) -> str:
    """``conv1/kernel`` of ``weights/conv1.Skernel``, as it is called in a checkpoint."""
    return re.sub(r"\.([.S])", lambda found: "/" if found[1] == "S" else ".", name.removeprefix(f"{WEIGHTS}/"))
