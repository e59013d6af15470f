"""``inspect``: what an artifact is made of, read without running it; and what TensorFlow's own analyzer says of it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kompakt.compare import zeros_and_distinct
from kompakt.contents import Contents, Entry, Grid, OperatorFact, Subgraph, TensorFact, ValueFacts
from kompakt.errors import InputError
from kompakt.files import sha256
from kompakt.isolated import call
from kompakt.records import Artifact
from kompakt.targets import target_at
from kompakt.targets.graph_view import EDGES, FLOATS, Part, Value, View
from kompakt.targets.target import Target

NOTE = "kompakt"
"""Name under which kompakt's note stands in a file; with "/" and its name that of one of several signatures."""


def inspect(artifact: str | Path | Artifact, *, target: str | None = None) -> Contents:
    """What an artifact of any target is made of: operators, tensors with their grids, signatures, and what it says.

    The file may be of any program's making. It is read, and nothing in it is run.

    Args:
        artifact: path of a file or folder, or the record of one that was exported.
        target: of the artifact, by default told from its path.

    Raises:
        InputError: it is missing or damaged.

    Example:
        >>> import keras, tempfile, kompakt as kp
        >>> m = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="relu", name="d")])
        >>> x = np.random.default_rng(0).random((64, 4), dtype="float32")
        >>> found = inspect(kp.export(m, tempfile.mkdtemp() + "/m.tflite", quantization="int8", calibration=x))
        >>> found.operators, found.note["quantization"], found.float_operators
        ({'FULLY_CONNECTED': 1}, 'int8', ())
        >>> kernel = next(t for _, t in found.constants() if t.name == "d/kernel")
        >>> kernel.dtype, kernel.text_shape, kernel.values.size
        ('INT8', '3x4', 12)
    """
    return contents_of(opened(artifact, target))


def analyzer(path: str | Path, *, gpu: bool = False, target: str | None = None) -> str:
    """What TensorFlow's own analyzer (``tf.lite.experimental.Analyzer``) says of a TFLite file, in its words.

    It runs in a process of its own.

    Args:
        path: a ``.tflite`` file, or a TFLite Micro folder. gpu: say too what TFLite's GPU delegate cannot take.
        target: of the artifact, by default told from its path.

    Raises:
        InputError: it is no TFLite file, or damaged.

    Example:
        >>> import keras, tempfile, kompakt as kp
        >>> m = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        >>> x = np.random.default_rng(0).random((64, 4), dtype="float32")
        >>> path = kp.export(m, tempfile.mkdtemp() + "/m.tflite", verify=x).path
        >>> "FULLY_CONNECTED" in analyzer(path)
        True
    """
    place = target_at(path, target)
    file = np.frombuffer(place.flatbuffer(place.read(path)), "uint8")
    _, text = call("kompakt.targets.tflite_analyzer:analyze", [file], of="TensorFlow's analyzer", gpu=gpu)
    return str(text)


@dataclass(frozen=True, kw_only=True)
class Opened:
    """An artifact that was read: its path and target, its bytes, and the graph in them."""

    path: str
    place: Target
    data: bytes
    view: View

    @staticmethod
    def is_note(name: str) -> bool:
        """Whether the metadata of this name is kompakt's note, or that of one of several signatures."""
        return name == NOTE or name.startswith(f"{NOTE}/")


def opened(artifact: str | Path | Artifact, target: str | None = None) -> Opened:
    """The artifact, read.

    Raises:
        InputError: it is missing or damaged; the text begins with the path.
    """
    path = artifact.path if isinstance(artifact, Artifact) else artifact
    place = target_at(path, target)
    data = place.read(path)
    try:
        return Opened(path=str(path), place=place, data=data, view=place.graph(data))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def contents_of(artifact: Opened) -> Contents:
    """What is in it.

    Raises:
        InputError: it is damaged; the text begins with the path.
    """
    try:
        return _contents(artifact)
    except InputError as error:
        raise InputError(f"{artifact.path}: {error}") from error


def _contents(artifact: Opened) -> Contents:
    place, data, view = artifact.place, artifact.data, artifact.view
    faults: list[str] = []
    parts = tuple(_subgraph(part, faults) for part in view.parts)
    return Contents(
        path=artifact.path,
        target=place.name,
        bytes=sum(map(len, place.shipped(data).values())),
        constant_bytes=_constant_bytes(view),
        note=note_of(place, data, view),
        subgraphs=parts,
        signatures=view.signatures,
        metadata=tuple(
            Entry(name=name, bytes=len(content), sha256=sha256(content)) for name, content in view.metadata.items()
        ),
        integer=_is_integer(view),
        float_operators=tuple(_float_operators(view)) if _is_integer(view) else (),
        notes=view.remarks,
        faults=(*faults, *map(str, place.altered(data))),
    )


def note_of(place: Target, data: bytes, view: View) -> dict[str, str]:
    """What kompakt wrote into an artifact about itself, as text; of several signatures with their names in front."""
    several = {name: text for name, text in view.metadata.items() if name.startswith(f"{NOTE}/")}
    found: dict[str, str] = {}
    for name, content in several.items():
        for key, text in _told(content.decode(errors="replace")).items():
            found[f"{name.removeprefix(f'{NOTE}/')}: {key}"] = text
    return found or _told(place.note(data) or "{}")


def _told(text: str) -> dict[str, str]:
    try:
        note = json.loads(text)
    except (ValueError, RecursionError):
        return {"broken": text[:200]}
    if not isinstance(note, Mapping):
        return {"broken": text[:200]}
    return {key: held if isinstance(held, str) else json.dumps(held) for key, held in note.items()}


def _constant_bytes(view: View) -> int:
    apart, shared = 0, {}
    for value in _values(view):
        if value.constant and value.buffer is None:
            apart += value.takes or 0
        elif value.constant:
            shared[value.buffer] = value.takes or 0
    return apart + sum(shared.values())


def _values(view: View) -> Iterator[Value]:
    for part in view.parts:
        yield from part.values


def _is_integer(view: View) -> bool:
    return not view.paired and any(value.scale and not value.constant for value in _values(view))


def _float_operators(view: View) -> Iterator[str]:
    """Operators with floats: name (what it makes)."""
    for part in view.parts:
        for node in part.nodes:
            kinds = {part.values[i].dtype for i in (*node.inputs, *node.outputs) if 0 <= i < len(part.values)}
            if node.name not in EDGES and kinds & {*FLOATS}:
                made = part.values[node.outputs[0]].name if node.outputs else ""
                yield f"{node.name} ({made})"


def _subgraph(part: Part, faults: list[str]) -> Subgraph:
    return Subgraph(
        name=part.name,
        operators=tuple(
            OperatorFact(
                index=i,
                name=node.name,
                label=node.label,
                inputs=node.inputs,
                outputs=node.outputs,
                options=node.options,
                activation=node.activation,
            )
            for i, node in enumerate(part.nodes)
        ),
        tensors=tuple(tensor_fact(value, i, faults) for i, value in enumerate(part.values)),
        inputs=part.inputs,
        outputs=part.outputs,
    )


def tensor_fact(value: Value, index: int, faults: list[str]) -> TensorFact:
    """``value`` as a record; what is wrong with its grid is added to ``faults``."""
    wrong = _wrong_grid(value)
    if wrong:
        faults.append(f"{value.name}: {wrong}")
    sound = value.scale and not wrong
    zeros = value.zero_point[:1] if len(set(value.zero_point)) == 1 else value.zero_point
    many = len(value.scale) > 1
    grid = (
        Grid(scale=value.scale, zero_point=zeros or (0,), axis=value.axis if many else None, offset=value.offset)
        if sound
        else None
    )
    return TensorFact(
        index=index,
        name=value.name,
        dtype=value.dtype,
        shape=value.shape,
        constant=value.constant,
        bytes=value.takes,
        sparse=value.sparse,
        grid=grid,
        values=None if value.values is None or wrong else value_facts(value),
    )


def _wrong_grid(value: Value) -> str:
    """What is wrong with the grid of a tensor, or ""."""
    if not all(math.isfinite(s) for s in (*value.scale, value.offset)):
        return f"its scale is {next((s for s in value.scale if not math.isfinite(s)), value.offset)}"
    if len(value.scale) < 2 or value.shape is None:
        return ""
    if not 0 <= value.axis < len(value.shape) or value.shape[value.axis] not in (len(value.scale), None):
        return f"it has {len(value.scale)} scales along dimension {value.axis} of the shape {value.shape}"
    return ""


def value_facts(value: Value) -> ValueFacts | None:
    """The numbers of a constant; None where it has none."""
    if value.values is None:
        return None
    stored, real = value.values, value.real
    assert real is not None
    finite = real[np.isfinite(real)]
    zeros, distinct = zeros_and_distinct(stored, None) if stored.size else (0, 0)
    fits = all(-stored.ndim <= axis < stored.ndim for axis in value.channels)
    by_channel = bool(value.channels) and fits and stored.ndim > 1 and stored.size > 0
    return ValueFacts(
        size=int(stored.size),
        zeros=int((real == 0.0).sum()) if value.scale else zeros,
        distinct=distinct,
        channel_distinct=zeros_and_distinct(stored, value.channels)[1] if by_channel else None,
        low=float(finite.min()) if finite.size else None,
        high=float(finite.max()) if finite.size else None,
        not_finite=int(real.size - finite.size),
    )
