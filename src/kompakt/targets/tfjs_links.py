"""Which constant of a frozen graph is which weight of the Keras model, told by their numbers."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from kompakt.errors import InputError
from kompakt.sites import sites
from kompakt.targets.tfjs_graph import Graph

MOST_AXES = 5
"""Of a weight whose orders of axes are all tried."""


@dataclass(frozen=True, kw_only=True)
class Held:
    """Where a graph model has the weight of a site.

    Attributes:
        weight: name of the constant.
        order: of the Keras axes in it. shape: the Keras shape in that order; the constant may be reshaped.
    """

    weight: str
    order: tuple[int, ...]
    shape: tuple[int, ...]

    def keras_weight(self, values: np.ndarray) -> np.ndarray:
        """The constant's values in the layout and shape of Keras."""
        return values.reshape(self.shape).transpose(np.argsort(self.order))


def named_by_site(graph: Graph, model: keras.Model) -> dict[str, Held]:
    """Site -> where ``graph`` has its weight, of those that it has; their constants get the names of the sites.

    Two sites with the same numbers may be one constant.
    """
    merge_equal(graph)
    by_bytes: dict[bytes, str] = {}
    for name, value in graph.constants.items():
        if value.dtype == np.float32:
            by_bytes.setdefault(value.tobytes(), name)
    found: dict[str, Held] = {}
    for site in sites(model):
        if site.variable is not None:
            value = np.asarray(keras.ops.convert_to_numpy(site.variable), "float32")
            held = next((h for h in _layouts(value, by_bytes)), None)
            if held is not None:
                found[site.name] = held
    names: dict[str, str] = {}
    for site_name, held in found.items():
        names.setdefault(held.weight, _node_name(site_name))
    taken = {node.name for node in graph.proto.node} - set(names)
    names = {old: _unused(new, taken) for old, new in names.items()}
    graph.rename(names)
    return {site: Held(weight=names[held.weight], order=held.order, shape=held.shape) for site, held in found.items()}


def _layouts(value: np.ndarray, by_bytes: Mapping[bytes, str]) -> Iterator[Held]:
    """The constants that have the numbers of ``value``, in its own order of axes first."""
    orders = itertools.permutations(range(value.ndim)) if value.ndim <= MOST_AXES else [tuple(range(value.ndim))]
    for order in orders:
        laid = np.ascontiguousarray(value.transpose(order))
        name = by_bytes.get(laid.tobytes())
        if name is not None:
            yield Held(weight=name, order=tuple(order), shape=laid.shape)


def _node_name(site: str) -> str:
    """``site`` with signs that mean something in the name of a node replaced."""
    return re.sub(r"[^A-Za-z0-9_./\\-]", "_", site).lstrip("_/-\\") or "weight"


def _unused(name: str, taken: set[str]) -> str:
    tries = itertools.chain([name], (f"{name}_{i}" for i in itertools.count(1)))
    found = next(each for each in tries if each not in taken)
    taken.add(found)
    return found


def merge_equal(graph: Graph) -> None:
    """Have equal constants once: inlining a loop leaves two of each weight in it."""
    first: dict[tuple[str, tuple[int, ...], bytes], str] = {}
    same: dict[str, str] = {}
    for name, value in graph.constants.items():
        kept = first.setdefault((value.dtype.str, value.shape, value.tobytes()), name)
        if kept != name:
            same[name] = kept
    graph.merge(same)


def to_json(held: Mapping[str, Held]) -> dict[str, Any]:
    """What the file says about its sites, see :func:`from_json`."""
    return {site: {"weight": h.weight, "order": list(h.order), "shape": list(h.shape)} for site, h in held.items()}


def from_json(entries: Any, sizes: Mapping[str, int]) -> dict[str, Held]:
    """Site -> where its weight is, as a file says.

    Args:
        sizes: name of each constant -> how many values it has.

    Raises:
        InputError: it says what cannot be.
    """
    if not isinstance(entries, dict):
        raise InputError("broken model.json: kompakt's sites in it are no mapping")
    return {site: _held(site, entry, sizes) for site, entry in entries.items()}


def _held(site: str, entry: Any, sizes: Mapping[str, int]) -> Held:
    try:
        weight, order, shape = entry["weight"], tuple(entry["order"]), tuple(entry["shape"])
        fits = sorted(order) == list(range(len(shape))) and math.prod(shape) == sizes[weight]
        whole = all(type(n) is int and n >= 0 for n in (*order, *shape))
    except (KeyError, TypeError):
        fits = whole = False
    if not (fits and whole):
        raise InputError(f"broken model.json: it says {entry!r:.120} of the site {site!r}, which fits no weight in it")
    return Held(weight=weight, order=order, shape=shape)
