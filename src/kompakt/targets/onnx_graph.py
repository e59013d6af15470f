"""A Keras model as an ONNX graph, with or without integer grids in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from keras import tree

from kompakt.folders import packed
from kompakt.inference import infer
from kompakt.isolated import call
from kompakt.sites import sites
from kompakt.targets.endpoints import endpoints, output_names
from kompakt.targets.onnx_marks import marked
from kompakt.targets.savedmodel_write import written
from kompakt.targets.target import Request

CONVERTER, GRIDS = "kompakt.targets.onnx_converter:convert", "kompakt.targets.onnx_grids:put"
RUN = "kompakt.targets.onnx_server:run"

OFFSET = 128
"""Between signed integers and those in the file."""

PROBES = 4
"""Samples on which the layout of a tensor is told."""


@dataclass(frozen=True, kw_only=True)
class Graph:
    """An ONNX model.

    Attributes:
        array: its bytes. inputs: names, in the model's order. layouts: site of a weight -> its tensor and layout.
        at: site of an activation -> (its tensor, the axes that give it the layout of Keras, or nothing).
        lost: a line for each grid that has no place in it.
    """

    array: np.ndarray
    inputs: Sequence[str]
    layouts: Mapping[str, Any]
    at: Mapping[str, Any] = field(default_factory=dict)
    lost: tuple[str, ...] = ()

    @property
    def data(self) -> bytes:
        """Its bytes."""
        return self.array.tobytes()


def graph_of(model: keras.Model, batch: int | None, outputs: Sequence[str] = ()) -> Graph:
    """``model`` through a SavedModel and tf2onnx.

    Args:
        batch: of its inputs. outputs: names of its outputs, where they are known.

    Raises:
        InputError: a part of it has no ONNX operator.
    """
    ends = endpoints(model, batch, outputs)
    weights = {s.name: keras.ops.convert_to_numpy(s.variable) for s in sites(model) if s.variable is not None}
    (made,), layouts = call(
        CONVERTER,
        [np.frombuffer(packed(written(model, ends)), "uint8"), *weights.values()],
        of="tf2onnx",
        inputs=ends.input_names,
        outputs=ends.output_names,
        sites=list(weights),
    )
    return Graph(array=made, inputs=ends.input_names, layouts=layouts)


def integer_graph(request: Request) -> Graph:
    """The model of ``request`` with the grids that its encodings ask for, in pairs of Q and DQ.

    Raises:
        InputError: a part of it has no ONNX operator.
    """
    model, places = marked(request.model, request.encodings)
    made = graph_of(model, request.batch, request.output_names or output_names(request.model))
    asked = {site: e for site, e in request.encodings.items() if e.scale and site not in places}
    (array,), on = call(
        GRIDS,
        [made.array],
        of="onnx",
        marks=[(site, request.encodings[site].scale[0], request.encodings[site].zero_point[0]) for site in places],
        kernels={site: (e.scale, e.axis) for site, e in asked.items()},
        layouts=made.layouts,
    )
    found = {*on, *made.layouts}
    lost = [f"{site}: the ONNX graph has no place for its grid" for site in (*places, *asked) if site not in found]
    return Graph(
        array=array,
        inputs=made.inputs,
        layouts=made.layouts,
        at=_tensors(array, made.inputs, {site: on[site] for site in places if site in on}, request),
        lost=tuple(lost),
    )


def _tensors(
    array: np.ndarray, inputs: Sequence[str], on: Mapping[str, Sequence[str]], request: Request
) -> dict[str, Any]:
    """Site -> (the tensor there, axes): channels are the second axis in ONNX where an operator wants them there.

    Told by the numbers of the float model. A concatenation has one grid on all sides, and tf2onnx puts a pair on each
    side of what only moves numbers; shapes do not tell an 8x8x8 tensor from one whose axes were moved.
    """
    leaves = [np.asarray(leaf)[: max(PROBES, request.batch or 0)] for leaf in tree.flatten(request.samples)]
    names = [name for each in on.values() for name in each]
    values, _ = call(RUN, [array, *leaves], of="onnxruntime", inputs=inputs, at=names)
    held = dict(zip(names, values, strict=True))
    outputs = [request.model.get_layer(site.rsplit("/", 1)[0]).output for site in on]
    wanted = infer(keras.Model(request.model.inputs, outputs), leaves)
    found = {}
    for (site, tensors), expected in zip(on.items(), wanted, strict=True):
        offs = [(*_off(held[name], expected), name) for name in tensors]
        _, axes, name = min(offs, key=lambda each: each[0])
        found[site] = (name, axes)
    return found


def _off(found: np.ndarray, wanted: np.ndarray) -> tuple[float, list[int] | None]:
    """(mean difference, the axes that put ``found`` into the layout of ``wanted``, None where it is in it)."""
    moved = [0, *range(2, found.ndim), 1] if found.ndim > 2 else [*range(found.ndim)]
    ways = ((found, None), (found.transpose(moved), moved))
    offs = [float(np.abs(a - wanted).mean()) if a.shape == wanted.shape else np.inf for a, _ in ways]
    return (offs[1], moved) if offs[1] < offs[0] else (offs[0], None)
