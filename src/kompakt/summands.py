"""Grids of what is added: the runtime takes none that is too fine for the sum's."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras
from keras import layers

from kompakt.graph import Call, calls, users
from kompakt.precision import USUAL_BITS
from kompakt.records import Encoding
from kompakt.requantize import LEAST_STEP
from kompakt.sites import OUTPUT

SUMS = (layers.Add, layers.Subtract)


def coarse_enough(
    model: keras.Model, encodings: Mapping[str, Encoding], sites: Mapping[str, str]
) -> dict[str, Encoding]:
    """``encodings`` with a coarser grid for each summand that is next to nothing: a branch that makes only zeros.

    What rounding it costs is at most half of :data:`kompakt.requantize.LEAST_STEP` steps of the sum.

    Args:
        model: flat and functional. sites: layer -> the site of its result where that is not its own output.

    Example:
        >>> i = keras.Input((2,), name="i")
        >>> z = layers.ReLU(name="zeros")(i)
        >>> m = keras.Model(i, layers.Add(name="sum")([layers.ReLU(name="some")(i), z]))
        >>> grids = {"zeros/output": 1e-11, "some/output": 0.1, "sum/output": 0.5}
        >>> grids = {site: Encoding(bits=8, scale=(step,), zero_point=(0,)) for site, step in grids.items()}
        >>> coarse_enough(m, grids, {})["zeros/output"].scale
        (0.0009765625,)
    """
    reading, made = _Reading(model, encodings, sites), dict(encodings)
    for call in calls(model):
        total = encodings.get(reading.site_of(call))
        if not isinstance(call.layer, SUMS) or total is None or total.bits != USUAL_BITS:
            continue
        least = total.scale[0] * LEAST_STEP
        for tensor in map(reading.origin, call.inputs):
            site = reading.made_at(tensor)
            grid = made.get(site)
            if grid is None or grid.bits != USUAL_BITS or grid.scale[0] >= least or not reading.only_added(tensor):
                continue
            made[site] = dataclasses.replace(grid, scale=(least,), zero_point=(0,))
    return made


class _Reading:
    """Where the numbers of a tensor come from and who reads them, past layers that only move them."""

    def __init__(self, model: keras.Model, encodings: Mapping[str, Encoding], sites: Mapping[str, str]) -> None:
        self._gridded, self._sites, self._readers = encodings, sites, users(model)
        self._makers = {id(t): call for call in calls(model) for t in call.outputs}

    def site_of(self, call: Call) -> str:
        return self._sites.get(call.layer.name, f"{call.layer.name}/{OUTPUT}")

    def made_at(self, tensor: Any) -> str:
        return self.site_of(self._makers[id(tensor)]) if id(tensor) in self._makers else ""

    def _moves(self, call: Call) -> bool:
        return self.site_of(call) not in self._gridded and len(call.inputs) == len(call.outputs) == 1

    def origin(self, tensor: Any) -> Any:
        call = self._makers.get(id(tensor))
        return self.origin(call.inputs[0]) if call is not None and self._moves(call) else tensor

    def only_added(self, tensor: Any) -> bool:
        """Whether no reader wants it on a grid that others have too."""
        return all(
            call is not None
            and (isinstance(call.layer, SUMS) or (self._moves(call) and self.only_added(call.outputs[0])))
            for call in self._readers[id(tensor)]
        )
