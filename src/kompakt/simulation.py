"""The integer file, in Keras: an attached model computing as the runtime's integer kernels do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import layers, ops, tree

from kompakt.attach import Transformed
from kompakt.graph import copy_layer, map_layers
from kompakt.placement import input_grids, output_grids
from kompakt.records import Encoding
from kompakt.sites import OUTPUT

LINEAR = (layers.Dense, layers.Conv1D, layers.Conv2D, layers.DepthwiseConv2D)
"""Layers that the runtime computes in 32-bit integers and requantizes with one multiplier a channel."""


class IntegerLayer(layers.Layer):  # type: ignore[misc]
    r"""A linear layer in integers, as XNNPACK computes it.

    .. math:: acc = \sum q_w (q_x - z_x) + b_q, \quad y = s_y \cdot round(acc \cdot (s_x s_w / s_y))

    Jacob et al. 2018, section 2.2, equations (4) and (7), with the multiplier and its product in float32 (XNNPACK's
    ``fp32`` requantization) and :math:`b_q = round(b / (s_x s_w))`, section 2.4. The sum is exact (float64).
    Training leaves these roundings out; they move a value in a thousand by one step, but each layer multiplies that.

    Args:
        layer: plain, its weights on the grid of ``kernel``. given, result: the grids of its input and output.
    """

    def __init__(self, layer: Any, kernel: Encoding, given: Encoding, result: Encoding) -> None:
        super().__init__(name=layer.name, dtype="float32")
        self.activation = layer.activation
        self.step_in, self.step_out = np.float32(given.scale[0]), np.float32(result.scale[0])
        scale = np.asarray(kernel.scale, "float32")
        self.multiplier = self.step_in * scale / self.step_out
        config = {**layer.get_config(), "dtype": "float64", "activation": None}
        self.exact = layer.__class__.from_config(config)
        self.exact.build(layer._build_shapes_dict["input_shape"])
        weight = np.asarray(ops.convert_to_numpy(layer.kernel), "float64")
        self.exact.kernel.assign(np.round(weight / _along(scale.astype("float64"), weight.shape, kernel.axis)))
        if layer.use_bias:
            self.exact.bias.assign(integer_bias(np.asarray(layer.bias), kernel, given))

    def call(self, x: Any) -> Any:
        steps = ops.round(ops.cast(x, "float32") / self.step_in)
        total = ops.cast(self.exact(ops.cast(steps, "float64")), "float32")
        return self.activation(ops.round(total * self.multiplier) * self.step_out)

    def compute_output_shape(self, shape: Any) -> Any:
        return self.exact.compute_output_shape(shape)


class IntegerAdd(layers.Layer):  # type: ignore[misc]
    r"""The sum of two tensors in integers, as XNNPACK computes it.

    .. math:: y = s_y \lfloor (m_a (q_a - z_a) + m_b (q_b - z_b) + 2^{n-1}) / 2^n \rfloor,
        \quad m_i = round(2^n s_i / s_y)

    with :math:`n = 20 - \lfloor \log_2 \max(s_a, s_b) / s_y \rfloor`, so that the multipliers have 21 bits.
    """

    def __init__(self, name: str, given: tuple[Encoding, Encoding], result: Encoding) -> None:
        super().__init__(name=name, dtype="float32")
        self.steps = [np.float32(g.scale[0]) for g in given]
        self.step_out = np.float32(result.scale[0])
        ratios = [step / self.step_out for step in self.steps]
        shift = 20 - int(np.floor(np.log2(max(ratios))))
        self.unit = 2.0**shift
        self.multipliers = [float(np.round(np.float64(ratio) * self.unit)) for ratio in ratios]

    def call(self, inputs: Any) -> Any:
        terms = [
            ops.cast(ops.round(ops.cast(x, "float32") / step), "float64") * multiplier
            for x, step, multiplier in zip(inputs, self.steps, self.multipliers, strict=True)
        ]
        steps = ops.floor((terms[0] + terms[1] + self.unit / 2) / self.unit)
        return ops.cast(steps, "float32") * self.step_out

    def compute_output_shape(self, shapes: Any) -> Any:
        return layers.Add().compute_output_shape(shapes)


def simulation(
    model: keras.Model, plain: keras.Model, encodings: Mapping[str, Encoding]
) -> keras.Model:
    """A copy of an attached ``model`` in which linear layers compute in integers, as the file does.

    Args:
        model: from ``quantize``. plain, encodings: from ``finalize(model)``.
    """
    given, result = input_grids(model), output_grids(model)

    def grid(site: str | None) -> Encoding | None:
        found = encodings.get(site or "")
        return found if found is not None and found.scale else None

    def make(layer: Any) -> Any:
        inner = getattr(layer, "transformed_layer", layer)
        kernel, after = encodings.get(f"{layer.name}/kernel"), grid(result.get(layer.name))
        before = [grid(site) for site in given.get(layer.name, ())]
        if after is None or not before or None in before:
            return copy_layer(layer)
        if isinstance(inner, LINEAR) and kernel is not None:
            integer = IntegerLayer(plain.get_layer(layer.name), kernel, before[0], after)
        elif isinstance(inner, layers.Add) and len(before) == 2:
            integer = IntegerAdd(layer.name, (before[0], before[1]), after)
        else:
            return copy_layer(layer)
        chain = getattr(layer, "chains", {}).get(OUTPUT)
        return integer if chain is None else Transformed(integer, {OUTPUT: copy_layer(chain)})

    return map_layers(model, make)


def integer_bias(bias: np.ndarray, kernel: Encoding, given: Encoding) -> np.ndarray:
    """Whole numbers ``round(bias / (input scale * weight scale))``, (channels,) float64.

    Example:
        >>> grid = Encoding(bits=8, scale=(0.5,), zero_point=(0,))
        >>> integer_bias(np.array([0.3, 0.9]), grid, grid).tolist()
        [1.0, 4.0]
    """
    return np.round(np.asarray(bias, "float64") / (np.asarray(kernel.scale, "float64") * given.scale[0]))


def _along(scale: np.ndarray, shape: tuple[int, ...], axis: tuple[int, ...]) -> np.ndarray:
    """``scale`` shaped to divide a kernel of ``shape`` over its channel axes."""
    kept = {a % len(shape) for a in axis}
    return scale.reshape([n if i in kept else 1 for i, n in enumerate(shape)])


def simulate(model: keras.Model, inputs: Any, batch_size: int = 256) -> list[np.ndarray]:
    """Outputs of a Keras model at inference, one float array an output."""
    return [np.asarray(v) for v in tree.flatten(model.predict(inputs, batch_size=batch_size, verbose=0))]


def up_to(model: keras.Model, site: str) -> keras.Model:
    """The functional ``model`` cut off after the layer of ``site``."""
    return keras.Model(model.inputs, model.get_layer(site.rsplit("/", 1)[0]).output)
