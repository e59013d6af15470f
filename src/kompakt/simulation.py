"""The integer file, in Keras: an attached model whose biases are on the file's grid too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import tree

from kompakt.graph import copy_layer, map_layers
from kompakt.placement import input_grids
from kompakt.records import Encoding


def simulation(model: keras.Model, encodings: Mapping[str, Encoding]) -> keras.Model:
    r"""A copy of an attached ``model`` with each bias rounded to the file's 32-bit grid.

    .. math:: b_q = round(b / (s_{in} s_w)), \quad z = 0

    Jacob et al. 2018, section 2.4, equation (11). A bias step is about a thousandth of an output step: it moves
    no accuracy, but without it one output value in a thousand is off by one, and each layer multiplies that.

    Args:
        model: from ``quantize``. encodings: from ``finalize(model)``.
    """
    grids = input_grids(model) if hasattr(model, "_nodes_by_depth") else {}

    def make(layer: Any) -> Any:
        copy = copy_layer(layer)
        inner = getattr(copy, "transformed_layer", None)
        kernel, given = encodings.get(f"{layer.name}/kernel"), encodings.get(grids.get(layer.name, ""))
        if inner is not None and getattr(inner, "bias", None) is not None and kernel and given and given.scale:
            inner.bias.assign(integer_bias(np.asarray(inner.bias), kernel, given))
        return copy

    return map_layers(model, make)


def integer_bias(bias: np.ndarray, kernel: Encoding, given: Encoding) -> np.ndarray:
    """``bias`` on the grid of step ``input scale * weight scale``, as real numbers (channels,) float32.

    Example:
        >>> grid = Encoding(bits=8, scale=(0.5,), zero_point=(0,))
        >>> integer_bias(np.array([0.3, 0.9]), grid, grid).tolist()
        [0.25, 1.0]
    """
    step = np.asarray(kernel.scale, "float64") * given.scale[0]
    return (np.round(np.asarray(bias, "float64") / step) * step).astype("float32")


def simulate(model: keras.Model, inputs: Any, batch_size: int = 256) -> list[np.ndarray]:
    """Outputs of a Keras model at inference, one float array an output."""
    return [np.asarray(v) for v in tree.flatten(model.predict(inputs, batch_size=batch_size, verbose=0))]


def up_to(model: keras.Model, site: str) -> keras.Model:
    """The functional ``model`` cut off after the layer of ``site``."""
    return keras.Model(model.inputs, model.get_layer(site.rsplit("/", 1)[0]).output)
