"""How a weight of Keras stands in an ONNX graph: axes and gates in another order."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

GATES = {4: (0, 3, 1, 2)}
"""Gates of a recurrent layer -> their order in ONNX (input, output, forget, cell), of those of Keras."""


def graphs(graph: Any) -> Iterator[Any]:
    """``graph`` and those in its nodes: bodies of loops and branches."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [attribute.g] if attribute.HasField("g") else list(attribute.graphs):
                yield from graphs(inner)


def layout_of(weight: np.ndarray, values: np.ndarray) -> Any:
    """How ``values`` are ``weight``: {"shape", "axes", "gates"}, or None where they are not."""
    if values.dtype != weight.dtype or not np.array_equal(np.sort(values, None), np.sort(weight, None)):
        return None
    for gates in (None, *(order for count, order in GATES.items() if weight.shape[-1] % count == 0)):
        for axes in itertools.permutations(range(weight.ndim)):
            if np.array_equal(gated(weight, gates).transpose(axes).ravel(), values.ravel()):
                return {"shape": weight.shape, "axes": axes, "gates": gates}
    return None


def gated(weight: np.ndarray, gates: Sequence[int] | None) -> np.ndarray:
    """``weight`` with its gates, blocks of the last axis, in another order."""
    if gates is None:
        return weight
    parts = np.split(weight, len(gates), axis=-1)
    return np.concatenate([parts[i] for i in gates], axis=-1)
