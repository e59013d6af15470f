"""What can be judged on data: a Keras model, or an artifact in its own runtime. Inputs in, arrays out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kompakt.distillation.outputs import PROBABILITIES, forms
from kompakt.errors import InputError
from kompakt.files import gzip_bytes, read_file
from kompakt.graph import symbolic_inputs
from kompakt.inference import infer
from kompakt.loading import load_model
from kompakt.samples import checked
from kompakt.sites import check_built, is_graph
from kompakt.targets import target_at
from kompakt.targets.endpoints import endpoints
from kompakt.targets.target import Outputs

KERAS = "keras"
"""The kind of a Keras model, beside the names of the targets."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is judged.

    Attributes:
        name: path, or the model's name. kind: "keras" or the name of a target.
        inputs, outputs: their names in the order in which they go in and come out; () where they are not known, None
            where mappings are taken as they are.
        run: inputs, (samples, ...) each -> outputs. path: of the artifact, None of a Keras model.
        probabilities: whether a single output is one, where that is known. masked: Keras leaves padding out of metrics.
        bytes, gzip_bytes: of the file, or of what of a folder ships.
    """

    name: str
    kind: str
    run: Callable[[Any], Outputs]
    inputs: tuple[str, ...] | None = None
    outputs: tuple[str, ...] | None = None
    path: Path | None = None
    probabilities: bool | None = None
    masked: bool = False
    bytes: int | None = None
    gzip_bytes: int | None = None


def subject(thing: Any, *, safe: bool = True) -> Subject:
    """``thing`` ready to run: a Keras model, or the path of a ``.keras`` file or of an artifact.

    Args:
        safe: False lets a ``.keras`` file run the code in its Lambda layers.

    Raises:
        InputError: neither, or it cannot be read or run here.

    Example:
        >>> m = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="score")], name="small")
        >>> found = subject(m)
        >>> found.name, found.kind, found.run(np.ones((3, 2), "float32")).values[0].shape
        ('small', 'keras', (3, 1))
    """
    if isinstance(thing, Subject):
        return thing
    if isinstance(thing, keras.Model):
        return _of_model(thing, thing.name)
    if not isinstance(thing, (str, Path)):
        raise InputError(
            f"received {type(thing).__name__}, expected a Keras model, or the path of a .keras file or of an artifact"
        )
    path = Path(thing)
    if path.suffix == ".keras":
        return _of_model(load_model(path, safe=safe), str(path), read_file(path))
    return _of_artifact(path)


def _of_model(model: keras.Model, name: str, data: bytes | None = None) -> Subject:
    check_built(model)
    inputs = symbolic_inputs(model)
    several = isinstance(inputs, (list, tuple)) and len(inputs) > 1
    form = forms(model)
    ends = model.outputs if is_graph(model) else keras.tree.flatten(model(inputs))

    def run(given: Any) -> Outputs:
        values = infer(model, checked(model, given, "data"))
        return Outputs(values=tuple(values), lsb=(None,) * len(values))

    return Subject(
        name=name,
        kind=KERAS,
        run=run,
        inputs=tuple(t.name for t in inputs) if several else None,
        outputs=endpoints(model).output_names,
        probabilities=form[0].holds == PROBABILITIES if len(form) == 1 else None,
        masked=any(getattr(t, "_keras_mask", None) is not None for t in ends),
        bytes=None if data is None else len(data),
        gzip_bytes=None if data is None else gzip_bytes(data),
    )


def _of_artifact(path: Path) -> Subject:
    place = target_at(path)
    place.ready()
    try:
        data = place.part(place.read(path), None)
    except InputError as error:
        raise InputError(str(error) if str(path) in str(error) else f"{path}: {error}") from error
    shipped = place.shipped(data).values()
    inputs, outputs = place.ends(data)
    return Subject(
        name=str(path),
        kind=place.name,
        run=lambda inputs: place.run(data, inputs),
        inputs=inputs,
        outputs=outputs,
        path=path,
        bytes=sum(map(len, shipped)),
        gzip_bytes=sum(map(gzip_bytes, shipped)),
    )


def in_order(values: Any, names: Sequence[str] | None, what: str) -> Any:
    """A mapping as a list in the order of ``names``; anything else, and all where they are None, as it is.

    Raises:
        InputError: it has other names, or there are several and nobody knows which is which.

    Example:
        >>> in_order({"b": 2, "a": 1}, ["b", "a"], "data"), in_order([1, 2], ["b", "a"], "data")
        ([2, 1], [1, 2])
    """
    if names is None or not isinstance(values, Mapping):
        return values
    if not names and len(values) > 1:
        raise InputError(f"{what}: received a mapping, and the file does not say its names; give a list in its order")
    if names and set(values) != set(names):
        given, wanted = (", ".join(map(repr, each)) for each in (values, names))
        raise InputError(f"{what}: received the names {given}, expected {wanted}: rename them, or give a list")
    return [values[name] for name in names or values]


def single(values: Any) -> Any:
    """The first sample of inputs.

    Example:
        >>> single([np.zeros((5, 2))])[0].shape
        (1, 2)
    """
    return keras.tree.map_structure(lambda leaf: np.asarray(leaf)[:1], values)
