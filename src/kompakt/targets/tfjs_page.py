"""The page beside a TF.js model: it loads the model, runs a test vector and times it, in whatever browser opens it."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from kompakt.targets.tfjs_model import End, GraphModel
from kompakt.targets.tfjs_runtime import fed
from kompakt.targets.tfjs_weights import PLAIN
from kompakt.targets.web_packages import WEB

PAGE = ("index.html", "page.mjs")
"""The same for every model: what they show of it they read from beside them, as text."""

VECTOR = "test_vector.json"

TOLERANCE = 1e-3
"""Of the largest expected value: what a browser's backend may be off. WebGL computes in float32, by other formulas."""


def page(made: GraphModel, sample: Any, expected: Sequence[Any], *, title: str, mode: str) -> dict[str, bytes]:
    """The files of the page.

    Args:
        sample: inputs with one row, in the structure that the model takes. expected: what comes of it.
        title: what the page is headed with. mode: how the weights are stored.
    """
    given = fed(made.inputs, sample)
    vector = {
        "title": title,
        "weights": mode,
        "tolerance": TOLERANCE,
        "inputs": tensors(made.inputs, given),
        "outputs": tensors(made.outputs, [np.asarray(values) for values in expected]),
    }
    files = {name: (WEB / "page" / name).read_bytes() for name in PAGE}
    return {**files, VECTOR: json.dumps(vector, indent=1).encode()}


def tensors(ends: Sequence[End], arrays: Sequence[np.ndarray]) -> list[dict[str, Any]]:
    """Inputs or outputs as a page reads them: names, shapes, types, and the numbers in base64."""
    made = []
    for end, values in zip(ends, arrays, strict=True):
        raw = np.ascontiguousarray(values.astype(PLAIN[end.dtype])).tobytes()
        about = {"name": end.name, "tensor": end.tensor, "dtype": end.dtype, "shape": list(values.shape)}
        made.append({**about, "base64": base64.b64encode(raw).decode()})
    return made
