"""``sensitivity``: which layer hurts when it alone is quantized."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import tree

from kompakt.attach import chains_of
from kompakt.compare import agreement, has_classes
from kompakt.data import sample_rows
from kompakt.errors import InputError
from kompakt.gauges import settled
from kompakt.noise import layer_grids, logits_model, only, outputs_of, sqnr
from kompakt.placement import is_marker
from kompakt.precision import FEWEST_BITS, MOST_BITS
from kompakt.quantization import quantize
from kompakt.sites import BOTH, MARK, OUTPUT, check_built
from kompakt.transforms.quantize import FakeQuant

LOOKED_AT = 512
"""Samples that errors are measured on."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Numbers of one tensor: least, largest, mean, standard deviation, and the 0.1 and 99.9 percentiles.

    ``reach``: the largest magnitude over the root mean square, which is large where there are outliers.
    """

    low: float
    high: float
    mean: float
    std: float
    p001: float
    p999: float
    reach: float


@dataclass(frozen=True, kw_only=True)
class BitError:
    """What a layer costs when only it is quantized, its weights to ``bits`` and its output to 8.

    Attributes:
        sqnr: signal to quantization noise at the model's output, dB; before a final softmax where there is one.
        drop: accuracy lost, a share (0.01 is a point), where labels were given or outputs have classes; else the
            error of the output in parts of its spread.
    """

    bits: int
    sqnr: float
    drop: float


@dataclass(frozen=True, kw_only=True)
class LayerSensitivity:
    """A layer of the model, the most sensitive first in :func:`sensitivity`.

    Attributes:
        layer, kind: its name and class. weights: how many.
        errors: one a number of bits. output, kernel: of what it makes and of its largest weight tensor, or None.
    """

    layer: str
    kind: str
    weights: int
    errors: tuple[BitError, ...]
    output: Spread | None
    kernel: Spread | None


def sensitivity(
    model: keras.Model, data: Any, *, bits: Sequence[int] = (8, 4), calibration: Any = None
) -> list[LayerSensitivity]:
    """For each layer, the error and the accuracy lost when only it is quantized.

    The layers are those of the model as it is deployed: nested models are entered, BatchNormalization is folded, and
    a ReLU counts to the layer that it is fused into.

    Args:
        model: built float model; not changed.
        data: inputs, or a pair (inputs, labels); up to 512 are used.
        bits: of the weights, 2..8; the layer's output has 8.
        calibration: samples for the ranges; ``data`` where there are none.

    Returns:
        The layers, the one with the lowest SQNR at the last of ``bits`` first.

    Raises:
        InputError: bits out of range, data of another shape, no layer to quantize.

    Example:
        >>> i = keras.Input((4,), name="input")
        >>> m = keras.Model(i, keras.layers.Dense(3, name="b")(keras.layers.Dense(8, name="a")(i)))
        >>> rows = sensitivity(m, np.random.default_rng(0).normal(size=(64, 4)).astype("float32"))
        >>> sorted(row.layer for row in rows), [e.bits for e in rows[0].errors]
        (['a', 'b', 'input'], [8, 4])
    """
    for width in bits:
        if not isinstance(width, int) or not FEWEST_BITS <= width <= MOST_BITS:
            raise InputError(f"bits={tuple(bits)}: expected whole numbers from {FEWEST_BITS} to {MOST_BITS}")
    check_built(model)
    inputs, labels = data if isinstance(data, tuple) and len(data) == 2 else (data, None)
    inputs = sample_rows(tree.map_structure(np.asarray, inputs), LOOKED_AT)
    labels = None if labels is None else sample_rows(np.asarray(labels), LOOKED_AT)
    given = inputs if calibration is None else calibration
    attached = settled(quantize(model, "int8", calibration=given, ranges="minmax"))
    probe = logits_model(attached)
    grids = layer_grids(attached)
    with only([], grids, None):
        expected = outputs_of(probe, inputs)
        spreads = _output_spreads(attached, inputs)
    kernels = _kernels(attached)
    rows = []
    for layer in attached.layers:
        held = grids.get(layer.name, [])
        if not held or all(each.fixed for each in held):
            continue
        errors = []
        for width in bits if any(each.on_weights for each in held) else (8,):
            with only(held, grids, width):
                found = outputs_of(probe, inputs)
            errors.append(BitError(bits=width, sqnr=sqnr(expected, found), drop=_drop(expected, found, labels)))
        inner = getattr(layer, "transformed_layer", layer)
        rows.append(
            LayerSensitivity(
                layer=layer.name.removesuffix(MARK) if is_marker(inner) else layer.name,
                kind="Input" if is_marker(inner) else type(inner).__name__,
                weights=sum(int(np.prod(v.shape)) for v in kernels.get(layer.name, ())),
                errors=tuple(errors),
                output=spreads.get(layer.name),
                kernel=_spread(np.asarray(max(kernels[layer.name], key=lambda v: v.size)))
                if layer.name in kernels
                else None,
            )
        )
    return sorted(rows, key=lambda row: row.errors[-1].sqnr)


def _kernels(model: keras.Model) -> dict[str, list[np.ndarray]]:
    found: dict[str, list[np.ndarray]] = {}
    for site, _, variable in chains_of(model):
        if variable is not None:
            found.setdefault(site.split("/")[0], []).append(np.asarray(keras.ops.convert_to_numpy(variable)))
    return found


def _output_spreads(model: keras.Model, inputs: Any) -> dict[str, Spread]:
    """Layer -> the numbers that it makes."""
    sites = [
        site.rsplit("/", 1)[0]
        for site, chain, _ in chains_of(model)
        if site.rsplit("/", 1)[-1] in (OUTPUT, BOTH) and any(isinstance(each, FakeQuant) for each in chain)
    ]
    from_layers = keras.Model(model.inputs, [model.get_layer(name).output for name in sites])
    return {name: _spread(values) for name, values in zip(sites, outputs_of(from_layers, inputs), strict=True)}


def _spread(values: np.ndarray) -> Spread:
    flat = np.asarray(values, "float64").ravel()
    usual = float(np.sqrt(np.mean(flat**2)))
    return Spread(
        low=float(flat.min()),
        high=float(flat.max()),
        mean=float(flat.mean()),
        std=float(flat.std()),
        p001=float(np.percentile(flat, 0.1)),
        p999=float(np.percentile(flat, 99.9)),
        reach=float(np.abs(flat).max() / usual) if usual > 0.0 else 1.0,
    )


def _drop(expected: Sequence[np.ndarray], found: Sequence[np.ndarray], labels: np.ndarray | None) -> float:
    """Accuracy lost on the first output's labels; without labels, argmax lost; without classes, the relative error."""
    if not has_classes(expected[0]):
        return float(agreement(expected, found, [None] * len(expected)).relative or 0.0)
    if labels is None:
        return 1.0 - float((expected[0].argmax(-1) == found[0].argmax(-1)).mean())
    classes = labels.argmax(-1) if labels.shape == expected[0].shape else labels.reshape(expected[0].shape[:-1])
    before, after = (float((values[0].argmax(-1) == classes).mean()) for values in (expected, found))
    return before - after
