"""What the transforms of a model tell, read time after time while it trains. Reading changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from kompakt.attach import chains_of
from kompakt.calibrate import batches, by_name
from kompakt.sites import is_graph
from kompakt.summaries import Fact, Histogram, pool

SAMPLES = "samples to watch"

AT_ONCE = 256
"""Samples that go through a model together."""


Where = tuple[str, str]
"""(name of a fact, site); the site is "" for all sites together."""


@dataclass(frozen=True)
class Told:
    """What a model told at one moment.

    Attributes:
        numbers: by name and site. histograms: (k, 3) buckets, by name and site. names: of all that can have a number,
            as ``name/site``, or ``name`` of all sites together: some facts are numbers from the second time on.
    """

    numbers: Mapping[Where, float]
    histograms: Mapping[Where, np.ndarray]
    names: Sequence[str]

    @property
    def values(self) -> dict[str, float]:
        """The numbers by ``name/site`` or ``name``."""
        return {in_one(*where): value for where, value in self.numbers.items()}


def in_one(name: str, site: str = "") -> str:
    """A fact of a site, or of all together, in one word."""
    return f"{name}/{site}" if site else name


class Watcher:
    """Reads a model again and again; knows what it was told last, so that it can tell what has changed.

    Args:
        data: a few samples (as for ``kompakt.calibrate``) that go through the model at each reading, in inference
            mode, so that activations can be looked at; None: what is known of them without.

    Example:
        >>> import kompakt as kp
        >>> m = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, name="a"), keras.layers.Dense(2)])
        >>> Watcher().read(kp.prune(m, 0.5, sites="a/kernel")).values["sparsity/a/kernel"]
        0.5
    """

    def __init__(self, data: Any = None) -> None:
        self._data = data
        self._batches: list[Any] | None = None if data is not None else []
        self._before: dict[Where, Fact] = {}

    def read(self, model: keras.Model) -> Told:
        """What the transforms of ``model`` tell now."""
        numbers: dict[Where, float] = {}
        histograms: dict[Where, np.ndarray] = {}
        names: dict[str, None] = {}
        parts: dict[str, list[tuple[str, float, int]]] = {}
        for site, name, fact, size in facts_of(model, self._seen(model)):
            if isinstance(fact, Histogram):
                histograms[name, site] = fact.buckets()
                continue
            names |= dict.fromkeys([name, in_one(name, site)] if fact.pooled else [in_one(name, site)])
            value = fact.since(self._before.get((name, site)))
            self._before[name, site] = fact
            if value is not None:
                numbers[name, site] = value
                parts.setdefault(name, []).append((fact.pooled, value, size))
        totals = {(name, ""): value for name, each in parts.items() if (value := pool(each)) is not None}
        return Told({**totals, **numbers}, histograms, sorted(names, key=lambda name: (name.count("/"), name)))

    def _seen(self, model: keras.Model) -> Mapping[str, np.ndarray]:
        if self._batches is None:  # kept: an iterator is gone through once
            shapes = [tuple(t.shape) for t in model.inputs] if is_graph(model) else None
            given = batches(self._data, AT_ONCE, shapes=shapes, what=SAMPLES)
            self._batches = [by_name(model, each, SAMPLES) for each in given]
        return activations(model, self._batches)


def facts_of(model: keras.Model, seen: Mapping[str, Any]) -> Iterator[tuple[str, str, Fact, int]]:
    """(site, name, fact, number of values) of all that the transforms of ``model`` tell.

    Args:
        seen: site of an activation -> values that came by. Of two transforms of a site that tell the same the last
            counts, since what it makes is what is used.
    """
    for site, chain, variable in chains_of(model):
        value = seen.get(site) if variable is None else variable
        told: dict[str, Fact] = {}
        if value is None:
            for transform in chain:
                told |= transform.summaries(None)
        else:
            for transform, given in chain.inputs(ops.convert_to_tensor(value)):
                told |= transform.summaries(given)
        size = 0 if value is None else int(np.prod(value.shape, dtype=int))
        for name, fact in told.items():
            yield site, name, fact, size


def activations(model: keras.Model, data: Sequence[Any]) -> dict[str, np.ndarray]:
    """Site -> what goes into its transforms, flat, where the ``data`` goes through ``model`` in inference mode.

    What layers would update or add to the loss is thrown away.

    Args:
        data: batches of inputs.
    """
    chains = {site: chain for site, chain, variable in chains_of(model) if variable is None}
    seen: dict[str, list[Any]] = {site: [] for site in chains}
    try:
        for site, chain in chains.items():
            chain.look = seen[site].append
        for inputs in data:
            with keras.StatelessScope():
                model(tree.map_structure(ops.convert_to_tensor, inputs), training=False)
    finally:
        for chain in chains.values():
            chain.look = None
    flat = {site: [ops.convert_to_numpy(ops.cast(x, "float32")).ravel() for x in each] for site, each in seen.items()}
    return {site: np.concatenate(each) for site, each in flat.items() if each}
