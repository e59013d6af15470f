"""The layer at which a file and its simulation part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from kompakt.compare import agreement, relative_error
from kompakt.deploy import Job
from kompakt.errors import InputError
from kompakt.graph import as_functional, calls, users
from kompakt.numerics import WIDE
from kompakt.placement import MOVING_OPERATIONS
from kompakt.records import Agreement, Encoding
from kompakt.rewrite.inline import inline
from kompakt.simulation import at_sites, simulate
from kompakt.sites import BOTH, OUTPUT, is_graph
from kompakt.targets.target import Target
from kompakt.verdicts import SLACK

FOUND = {"float": 1e-3, "weight_only_int8": 1e-3, "float16": 0.03, "dynamic_int8": 0.1}
"""Mode -> relative error within which a tensor of the file is a layer's output: looser than the outputs' own."""

LOOKED_AT = 32
"""Samples, the worst, on which the first layer that is off is looked for: every tensor is held in memory."""


def coarsest(lsb: Sequence[float | None], encodings: Mapping[str, Encoding]) -> tuple[float | None, ...]:
    """Steps to count by: of a 16-bit tensor in a file that has 8-bit ones too, those of 8 bits over the same reach.

    One step of an 8-bit tensor is up to 256 of a 16-bit one that is made from it.

    Example:
        >>> wide = Encoding(bits=16, scale=(0.5,), zero_point=(0,))
        >>> coarsest([0.5, None], {"a/output": wide, "b/output": Encoding(bits=8, scale=(1.0,), zero_point=(3,))})
        (128.0, None)
    """
    grids = {site: e for site, e in encodings.items() if site.rsplit("/", 1)[-1] in (OUTPUT, BOTH) and e.scale}
    wide = [e.scale[0] for e in grids.values() if e.bits == WIDE]
    if len(wide) == len(grids):
        return tuple(lsb)
    return tuple(step * 256.0 if step and np.isclose(step, wide, rtol=1e-4).any() else step for step in lsb)


def agreement_at(place: Target, data: bytes, job: Job, inputs: Any, sites: Sequence[str]) -> list[Agreement]:
    """How the tensor at each site agrees: one run of the file, one of the model."""
    found = place.run(data, inputs, at=sites)
    expected = simulate(at_sites(job.reference, sites), inputs)
    return [
        agreement([e.reshape(f.shape)], [f], [step])
        for e, f, step in zip(expected, found.values, coarsest(found.lsb, job.encodings), strict=True)
    ]


def first_apart(place: Target, data: bytes, job: Job, inputs: Any, *, most: float) -> list[str]:
    """The first site, in the order of the graph, that is more than ``most`` steps away.

    Where none is, the first that is away at all, and the operations that have no grid to compare.
    """
    order = {layer.name: i for i, layer in enumerate(job.reference.layers)}
    held = set(place.activations(data))
    found = [site for site in job.encodings if site.rsplit("/", 1)[-1] in (OUTPUT, BOTH) and site in held]
    found = sorted(found, key=lambda site: order[site.rsplit("/", 1)[0]])
    agrees = agreement_at(place, data, job, inputs, found) if found else []
    for least in (most, 0.0):
        for site, agree in zip(found, agrees, strict=True):
            if agree.max_lsb is not None and agree.max_lsb > least + SLACK:
                layers = ", ".join(job.owners.get(site, ())) or site.rsplit("/", 1)[0]
                off = f"the first tensor that is off is {site} (layers: {layers}), by {agree.max_lsb:.1f} LSB"
                return [off] if least else [_all_near(found, most), off, *gridless(job.plain)]
    return [_all_near(found, most), *gridless(job.plain)]


def _all_near(found: Sequence[str], most: float) -> str:
    return f"every tensor of the {len(found)} with a grid of its own is within {most:.0f} LSB"


def gridless(model: keras.Model) -> list[str]:
    """A line for each operation of a flat ``model`` that computes and has no site, and so no grid of its own.

    Example:
        >>> i = keras.Input((4,))
        >>> gridless(keras.Model(i, keras.ops.cumsum(i, axis=1)))
        ['cumsum (Cumsum): no layer stands for it, its range was measured at export']
    """
    return [
        f"{each.name} ({type(each).__name__}): no layer stands for it, its range was measured at export"
        for each in model.operations
        if not isinstance(each, keras.layers.Layer) and type(each).__name__ not in MOVING_OPERATIONS
    ]


def masked(model: keras.Model) -> list[str]:
    """A line for each layer of a flat ``model`` that computes with a mask: an integer file has no operators for it."""
    found = {
        call.layer.name: type(call.layer).__name__
        for call in calls(model)
        if getattr(call.layer, "_call_has_mask_arg", False)
        and any(getattr(tensor, "_keras_mask", None) is not None for tensor in call.inputs)
    }
    return [
        f"{name} ({kind}) takes the mask of an Embedding(mask_zero=True) or a Masking, which is computed with in "
        "floats: build the model without it, or export it as 'dynamic_int8'"
        for name, kind in found.items()
    ]


def lambdas(model: keras.Model) -> list[str]:
    """A line where a flat ``model`` has Lambda layers: a converter may fold what they compute into their neighbours."""
    names = [layer.name for layer in model.layers if isinstance(layer, keras.layers.Lambda)]
    if not names:
        return []
    return [
        f"{', '.join(names)} (Lambda): what it computes may be folded into the layers beside it; write it with "
        "keras.ops, or as a layer such as Rescaling"
    ]


def first_off(place: Target, data: bytes, job: Job, inputs: Any, mode: str) -> list[str]:
    """The first layer of a float model whose output the file does not hold; [] where none is found.

    A tensor that the file never makes (before a ReLU that was taken in) is no difference: a layer is off where
    neither its output is in the file nor what its readers make of it.
    """
    flat = _flat(job.reference)
    if flat is None:
        return []
    made = [call for call in calls(flat) if len(call.outputs) == 1]
    expected = simulate(keras.Model(flat.inputs, [call.outputs[0] for call in made]), inputs)
    for call, values in zip(made, expected, strict=True):
        if not np.isfinite(values).all():
            return [f"the first layer whose output is NaN or infinite is {call.layer.name}"]
    found = [*place.run(data, inputs, at=place.activations(data)).values, *keras.tree.flatten(inputs)]
    near = FOUND.get(mode, FOUND["dynamic_int8"])
    same = {
        id(call.outputs[0]): any(e.size == f.size and relative_error(e.ravel(), f.ravel()) <= near for f in found)
        for call, e in zip(made, expected, strict=True)
    }
    readers = users(flat)
    for call in reversed(made):
        tensor = call.outputs[0]
        after = [same.get(id(t), True) for c in readers[id(tensor)] if c is not None for t in c.outputs]
        if not same[id(tensor)] and None not in readers[id(tensor)]:
            same[id(tensor)] = bool(after) and all(after)
    off = next((call.layer.name for call in made if not same[id(call.outputs[0])]), None)
    return [] if off is None else [f"the first layer that is off is {off}"]


def _flat(model: keras.Model) -> keras.Model | None:
    """``model`` as one graph of layers, or None where it cannot be followed."""
    if is_graph(model) and not any(map(is_graph, model.layers)):
        return as_functional(model)
    try:
        return inline(model)[0]
    except InputError:
        return None


def worst_samples(expected: Sequence[np.ndarray], found: Sequence[np.ndarray], inputs: Any) -> Any:
    """The samples of ``inputs`` whose outputs differ most."""
    apart = np.zeros(len(found[0]))
    for e, f in zip(expected, found, strict=True):
        if e.shape == f.shape and e.size:
            apart += np.nan_to_num(np.abs(e - f).astype("float64"), nan=1e300).reshape(len(e), -1).max(-1)
    rows = np.sort(np.argsort(-apart, kind="stable")[:LOOKED_AT])
    return keras.tree.map_structure(lambda a: np.asarray(a)[rows], inputs)
