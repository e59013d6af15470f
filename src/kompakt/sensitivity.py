"""``sensitivity``: which layer hurts when it alone is quantized."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from numbers import Integral
from typing import Any

import keras
import numpy as np
from keras import tree

from kompakt.assignment import origin
from kompakt.attach import chains_of
from kompakt.calibrate import checked_kind, is_whole, without_labels
from kompakt.compare import agreement, has_classes
from kompakt.data import sample_rows
from kompakt.errors import InputError
from kompakt.gauges import settled
from kompakt.graph import calls
from kompakt.inference import outputs_of
from kompakt.noise import layer_grids, logits_model, only, sqnr
from kompakt.placement import is_marker, output_grids
from kompakt.precision import FEWEST_BITS, MOST_BITS
from kompakt.quantization import quantize
from kompakt.records_layers import BitError, LayerSensitivity, Spread
from kompakt.repairs import held
from kompakt.sites import BOTH, MARK, OUTPUT, check_built, is_graph
from kompakt.transforms.quantize import FakeQuant

LOOKED_AT = 512
"""Samples that errors are measured on."""

BINS = 32
"""Bars of a histogram."""


def sensitivity(
    model: keras.Model, data: Any, *, bits: Sequence[int] = (8, 4), calibration: Any = None
) -> list[LayerSensitivity]:
    """For each layer, the error and the accuracy lost when only it is quantized.

    The layers are those of the model as it is deployed: nested models are entered, BatchNormalization is folded, and
    a ReLU counts to the layer that it is fused into.

    Args:
        model: built float model; not changed.
        data: inputs, or a pair (inputs, labels), or an iterable of batches of either (a ``tf.data.Dataset``, a
            generator); all are read, up to 512 samples of them are used.
        bits: of the weights, 2..8; the layer's output has 8. A layer without weights has one error, for 8.
        calibration: samples for the ranges; ``data`` where there are none.

    Returns:
        The layers, the one with the lowest SQNR first: at the fewest bits that every layer has an error for, which
        are 8 if some layer has no weights. Where they have none in common, each at the fewest that it has.

    Raises:
        InputError: bits out of range, data of another shape, labels of another number or shape, no layer to quantize.

    Example:
        >>> i = keras.Input((4,), name="input")
        >>> m = keras.Model(i, keras.layers.Dense(3, name="b")(keras.layers.Dense(8, name="a")(i)))
        >>> rows = sensitivity(m, np.random.default_rng(0).normal(size=(64, 4)).astype("float32"))
        >>> [(row.layer, [e.bits for e in row.errors]) for row in sorted(rows, key=lambda row: row.layer)]
        [('a', [8, 4]), ('b', [8, 4]), ('input', [8])]
    """
    bits = _checked_bits(bits)
    check_built(model)
    inputs, labels = _samples(model, data)
    given = inputs if calibration is None else calibration
    attached = settled(quantize(model, "int8", calibration=given, ranges="minmax"))
    probe, grids = logits_model(attached), layer_grids(attached)
    with only([], grids, None):
        expected = outputs_of(probe, inputs)
        spreads = _output_spreads(attached, inputs)
    judge = _judge(probe, expected, labels)
    kernels, rounded = _kernels(attached), output_grids(attached)
    known = [layer.name for layer in model._flatten_layers(include_self=False)]
    rows = []
    for layer in attached.layers:
        own_grids = grids.get(layer.name, [])
        if not own_grids or all(each.fixed for each in own_grids):
            continue
        errors = []
        for width in bits if any(each.on_weights for each in own_grids) else (8,):
            with only(own_grids, grids, width):
                found = outputs_of(probe, inputs)
            errors.append(BitError(bits=width, sqnr=sqnr(expected, found), drop=judge(found)))
        own = kernels.get(layer.name, [])
        inner = getattr(layer, "transformed_layer", layer)
        name = layer.name.removesuffix(MARK) if is_marker(inner) else layer.name
        rows.append(
            LayerSensitivity(
                layer=name,
                of=origin(name, known) or name,
                kind="Input" if is_marker(inner) else type(inner).__name__,
                weights=sum(int(np.prod(v.shape)) for v in own),
                errors=tuple(errors),
                output=spreads.get(rounded.get(layer.name, layer.name).rsplit("/", 1)[0]),
                kernel=_spread(max(own, key=lambda v: v.size)) if own else None,
            )
        )
    return _worst_first(rows)


def _checked_bits(bits: Any) -> tuple[int, ...]:
    given = tuple(bits) if isinstance(bits, Iterable) and not isinstance(bits, str) else ()
    if not given or not all(isinstance(each, Integral) and FEWEST_BITS <= int(each) <= MOST_BITS for each in given):
        raise InputError(
            f"bits={bits!r}: expected a list of whole numbers from {FEWEST_BITS} to {MOST_BITS}, such as (8, 4)"
        )
    return tuple(int(each) for each in given)


def _worst_first(rows: Sequence[LayerSensitivity]) -> list[LayerSensitivity]:
    """By the SQNR at the fewest bits that all have; where there are none, each at its own fewest."""
    by_bits = [{error.bits: error.sqnr for error in row.errors} for row in rows]
    common = set.intersection(*map(set, by_bits)) if rows else set()
    key = [errors[min(common or errors)] for errors in by_bits]
    return [rows[i] for i in np.argsort(key, kind="stable")]


def _samples(model: keras.Model, data: Any) -> tuple[Any, np.ndarray | None]:
    """(inputs, labels or None): up to LOOKED_AT samples of ``data``."""
    labelled = isinstance(data, tuple) and len(data) in (2, 3) and not isinstance(data[0], tuple)
    inputs, labels = data[:2] if labelled else (without_labels(data, "data"), None)
    if not is_whole(inputs, [tuple(t.shape) for t in model.inputs] if is_graph(model) else None):
        inputs, labels = _collected(model, data)
    inputs = tree.map_structure(np.asarray, inputs)
    count = len(tree.flatten(inputs)[0])
    if labels is None:
        return sample_rows(inputs, LOOKED_AT), None
    labels = np.asarray(labels)
    if labels.dtype.kind not in "biuf":
        raise InputError(f"labels are of type {labels.dtype}, expected numbers of classes, or a column a class")
    if labels.ndim == 0 or len(labels) != count:
        raise InputError(f"labels of shape {labels.shape} for {count} samples: expected one label a sample")
    return sample_rows(inputs, LOOKED_AT), sample_rows(labels, LOOKED_AT)


def _collected(model: keras.Model, data: Any) -> tuple[Any, np.ndarray | None]:
    """(all inputs, all labels or None) of batches."""
    labels: list[np.ndarray] = []

    def inputs_of(given: Iterable[Any]) -> Iterable[Any]:
        for batch in given:
            if isinstance(batch, tuple) and len(batch) > 1:
                labels.append(np.asarray(batch[1]))
            yield batch

    inputs = held(model, inputs_of(checked_kind(data, "data")))
    return inputs, np.concatenate(labels) if labels else None


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
        counts=tuple(int(n) for n in np.histogram(flat, BINS, (flat.min(), flat.max()))[0]),
    )


def _judge(
    probe: keras.Model, expected: Sequence[np.ndarray], labels: np.ndarray | None
) -> Callable[[Sequence[np.ndarray]], float]:
    """outputs -> accuracy lost on the first output; argmax lost without labels, the error without classes."""
    first = expected[0]
    if not has_classes(first):
        if labels is None or labels.size != first.size or not np.isin(labels, (0, 1)).all():
            return lambda found: float(agreement(expected, found, [None] * len(expected)).relative or 0.0)
        least, ones = (0.5 if _ends_in_sigmoid(probe) else 0.0), labels.ravel() > 0
        return lambda found: _right(first.ravel() > least, ones) - _right(found[0].ravel() > least, ones)
    if labels is None:
        return lambda found: 1.0 - _right(found[0].argmax(-1), first.argmax(-1))
    classes = labels.argmax(-1) if labels.shape == first.shape else labels
    if classes.size != first[..., 0].size:
        raise InputError(
            f"labels of shape {labels.shape[1:]} a sample for outputs of shape {first.shape[1:]}: expected whole "
            "numbers of classes, or the shape of the outputs"
        )
    most = first.shape[-1]
    if classes.min() < 0 or classes.max() >= most or (classes != np.round(classes)).any():
        raise InputError(
            f"labels from {classes.min()} to {classes.max()} for outputs of {most} classes: expected whole numbers "
            f"from 0 to {most - 1}"
        )
    classes = classes.reshape(first.shape[:-1])
    return lambda found: _right(first.argmax(-1), classes) - _right(found[0].argmax(-1), classes)


def _right(found: np.ndarray, wanted: np.ndarray) -> float:
    return float((found == wanted).mean())


def _ends_in_sigmoid(model: keras.Model) -> bool:
    """Whether a sigmoid makes the first output."""
    made = next(call.layer for call in calls(model) if any(t is model.outputs[0] for t in call.outputs))
    return getattr(getattr(made, "transformed_layer", made), "activation", None) is keras.activations.sigmoid
