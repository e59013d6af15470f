"""AdaRound: whether a weight is rounded up or down is learned from what the layer then computes."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from kompakt.attach import chains_of
from kompakt.copies import copy_layer
from kompakt.errors import InputError
from kompakt.gauges import settled
from kompakt.graph import map_layers
from kompakt.numerics import integer_limits
from kompakt.progress import Report, shown
from kompakt.repairs.soft import SoftRounding, Steps, best_scale, own_scale, round_to_grid
from kompakt.repairs.walk import Visit, bare, check_attached, layer_by_layer, without_grids
from kompakt.schedules import is_whole
from kompakt.transforms.prune import Prune
from kompakt.transforms.quantize import FakeQuant

log = logging.getLogger("kompakt")

LEFT = "%s: adaround left its weights rounded to nearest (%s)"
"""What is said of a layer that is not mended, and why."""


def adaround(
    model: keras.Model,
    data: Any,
    *,
    reference: keras.Model | None = None,
    iterations: int = 1000,
    batch_size: int = 32,
    learning_rate: float = 0.03,
    seed: int = 0,
    progress: bool | Report = False,
) -> keras.Model:
    r"""A copy of a quantized ``model`` whose weights are rounded up or down as its layers' outputs ask for.

    .. math:: \min_V \; \|W x - \tilde{W} \tilde{x}\|^2 + \lambda \sum_{ij} 1 - |2 h(V_{ij}) - 1|^\beta,
        \quad \tilde{W} = s \cdot clip(\lfloor W / s \rfloor + h(V), q_{min}, q_{max})

    with the rectified sigmoid :math:`h(V) = clip(1.2 \sigma(V) - 0.1, 0, 1)` and :math:`\beta` annealed from 20 to
    2. Nagel et al. 2020, arXiv:2004.10568, equations (21) to (25): layer after layer, with inputs
    :math:`\tilde{x}` from the model as it is so far and targets from the float model. Before the activation: with it,
    as in equation (25), a ResNet-8 with 4-bit weights lost half a point more (two seeds).
    :math:`s` a channel is the one with the least squared error of the weights, and stays: ``FakeQuant`` is frozen on
    it, and the weights lie on its grid. An output channel that nearest rounding serves better on ``data`` is
    rounded to nearest. Zeros stay zeros.

    Args:
        model: from ``kompakt.quantize`` or :func:`kompakt.attach`; not changed. Where activations have
            ranges already, layers see rounded inputs.
        data: some hundred samples of real input (arrays), or an iterable of batches.
        reference: the model to agree with, of the same layers; by default ``model`` without its grids.
        iterations: steps of Adam a layer. batch_size, learning_rate: of those. seed: of the batches drawn.
        progress: show a bar where there is a terminal, or a report (see :mod:`kompakt.progress`).

    Raises:
        InputError: a model without grids, a reference with other layers, bad data or numbers out of range.

    Example:
        >>> from kompakt.attach import attach
        >>> m = keras.Sequential([keras.Input((2,)), layers.Dense(1, use_bias=False, name="d")])
        >>> m.get_layer("d").set_weights([np.array([[3.0], [1.4]])])
        >>> q = attach(m, {"d/kernel": [FakeQuant(3)]})  # the grid -3, -2 .. 3
        >>> x = np.array([[0.01, 1.0], [-0.01, -1.0]], "float32")
        >>> mended = adaround(q, x, iterations=20)
        >>> mended.layers[0].transformed_layer.get_weights()[0].ravel().tolist()
        [3.0, 1.0]
    """
    check_attached(model, "adaround")
    for name, value in (("iterations", iterations), ("batch_size", batch_size)):
        if not is_whole(value) or value < 1:
            raise InputError(f"adaround({name}={value!r}): expected a whole number of 1 or more")
    if not learning_rate > 0:
        raise InputError(f"adaround(learning_rate={learning_rate!r}): expected more than 0")
    model = settled(model)
    float_model = without_grids(model) if reference is None else reference
    copy = map_layers(model, copy_layer)
    steps = Steps(count=iterations, batch_size=batch_size, learning_rate=learning_rate)
    random = np.random.default_rng(seed)

    layers_begun, whole = itertools.count(), _weight_grids(copy)
    with shown(progress) as report:

        def visit(at: Visit) -> None:
            found = _rounded(at)
            if isinstance(found, str):
                log.warning(LEFT, at.name, found)
            elif found is not None:
                begun, what = next(layers_begun), f"adaround: {at.name}"
                done = (min(1.0, (begun + i / iterations) / whole) for i in itertools.count(1))
                _learn(at, *found, steps, random, lambda: report(what, next(done)))

        layer_by_layer(copy, data, visit, reference=float_model)
    return copy


def _weight_grids(model: keras.Model) -> int:
    """How many weights are on grids."""
    return sum(
        variable is not None and any(isinstance(t, FakeQuant) for t in chain) for _, chain, variable in chains_of(model)
    )


def _rounded(at: Visit) -> tuple[str, FakeQuant] | str | None:
    """The slot and the grid of the weight to mend in a layer, or why there is none, or None if it has no grid."""
    every = getattr(at.layer, "chains", {})
    chains = {slot: chain for slot, chain in every.items() if at.layer.variable(slot) is not None}
    grids = {slot: t for slot, chain in chains.items() for t in chain if isinstance(t, FakeQuant)}
    if not grids or isinstance(at.layer.transformed_layer, layers.Embedding):
        return None  # rounding to nearest is the best there is for a table that is only looked up
    (slot, grid), *others = grids.items()
    if others or "/" in slot or len(at.given[0][0]) != 1:
        return "it has several weights on a grid"
    if not at.alone:
        return "it is called more than once"
    if any(not isinstance(t, (FakeQuant, Prune)) for t in chains[slot]):
        return "its values are shared, and rounding some of them up makes more of them"
    if list(chains[slot])[-1] is not grid:
        return "another transform comes after its grid"
    if grid.frozen:
        return "its grid is frozen"
    return slot, grid


def _learn(
    at: Visit, slot: str, grid: FakeQuant, steps: Steps, random: np.random.Generator, tick: Callable[[], None]
) -> None:
    """Put the weight of a layer on its grid, rounded as its output asks for, and freeze the grid."""
    variable, axis = at.layer.variable(slot), grid.axis or ()
    weight = ops.convert_to_tensor(variable)
    for transform in list(at.layer.chains[slot])[:-1]:
        weight = transform(weight)
    weight = np.array(ops.convert_to_numpy(weight), "float32")
    scale, best = (make(weight, grid.bits, axis) for make in (own_scale, best_scale))
    chosen = round_to_grid(weight, scale, grid.bits)
    linear = bare(at.reference)
    x = np.concatenate([args[0] for args, _ in at.given])
    y = np.concatenate([ops.convert_to_numpy(linear(*args, **kwargs)) for args, kwargs in at.expected_given])
    soft = SoftRounding(bare(at.layer.transformed_layer), slot, weight, best, grid.bits)
    errors = soft.errors(x, y, chosen)
    if errors.mean() > 0:
        soft.learn(x, y, steps, random, norm=float(errors.mean()), tick=tick)
        learned = soft.hard()
        better = _better(soft.errors(x, y, learned), errors, scale)
        chosen, scale = np.where(better, learned, chosen), np.where(better, best, scale)
    reach = scale * np.float32(integer_limits(grid.bits, symmetric=True)[1])
    grid.set_range(-reach, reach)
    grid.freeze()
    variable.assign(grid(chosen))  # to the last bit what the frozen grid gives back


def _better(learned: np.ndarray, nearest: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Where the ``learned`` weights leave less error: a channel each, all of them where outputs are not channels."""
    if learned.size != scale.size:
        return np.full(scale.shape, learned.mean() < nearest.mean())
    return (learned < nearest).reshape(scale.shape)
