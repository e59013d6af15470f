"""BatchNorm re-estimation: moving statistics measured anew on what the layers compute now."""

from __future__ import annotations

import logging
from typing import Any

import keras
import numpy as np
from keras import layers

from kompakt.attach import wrapped
from kompakt.errors import InputError
from kompakt.graph import copy_model
from kompakt.repairs.walk import CALLED_AGAIN, Given, Visit, layer_by_layer
from kompakt.sites import check_built

log = logging.getLogger("kompakt")


def reestimate_batchnorm(model: keras.Model, data: Any, *, reference: keras.Model | None = None) -> keras.Model:
    r"""A copy of ``model`` whose BatchNormalizations hold the statistics of ``data``.

    .. math:: \mu_c = E[x_c], \quad \sigma^2_c = E[(x_c - \mu_c)^2]

    over samples and positions, layer after layer: each sees what those before it make with their new
    statistics, at inference (no Dropout). Sun et al. 2019, "Hybrid 8-bit Floating Point Training", section 2.3;
    Nagel et al. 2022, arXiv:2203.11086, section 4.1. It helps where weights have changed since the statistics
    were gathered: pruned, clustered, or on a grid. ``gamma``, ``beta`` and all other weights stay. A layer that is
    called more than once is left, and named in the log.

    Statistics of some hundred samples are not those of the whole training set, and samples of another kind move
    the model towards that kind. With ``reference``, the model as it was, only what its own statistics of ``data``
    and the new ones differ by is taken over:

    .. math:: \mu'_c = \mu_c + E[x_c] - E[x^{ref}_c], \quad
        \sigma'^2_c = \sigma^2_c \, Var[x_c] / Var[x^{ref}_c]

    Args:
        model: plain, or from ``prune``, ``cluster`` or :func:`kompakt.attach`, with its BatchNormalizations
            (``kompakt.quantize`` folds them); not changed.
        data: some hundred samples of real input (arrays), or an iterable of batches.
        reference: the model before its weights changed, with the same layers; a channel that does not vary there
            keeps its variance.

    Raises:
        InputError: no BatchNormalization in the model, a reference with other layers, or bad data.

    Example:
        >>> m = keras.Sequential([keras.Input((2,)), layers.BatchNormalization(name="n")])
        >>> new = reestimate_batchnorm(m, np.array([[1.0, 5.0], [3.0, 5.0]], "float32"))
        >>> [w.tolist() for w in new.get_weights()[2:]]  # means and variances
        [[2.0, 5.0], [1.0, 0.0]]
    """
    check_built(model)
    copy = copy_model(model)
    if not has_batchnorm(copy):
        made = "kompakt.quantize has folded them: ask it for repairs=('batchnorm',)" if wrapped(model) else "none there"
        raise InputError(f"reestimate_batchnorm: the model {model.name!r} has no BatchNormalization ({made})")

    shared: dict[int, str] = {}

    def visit(at: Visit) -> None:
        norm = getattr(at.layer, "transformed_layer", at.layer)
        if isinstance(norm, layers.BatchNormalization) and not at.alone:
            shared.setdefault(id(norm), at.name or norm.name)
        elif isinstance(norm, layers.BatchNormalization):
            mean, variance = statistics(at.given, norm.axis)
            if reference is not None:
                mean, variance = _moved(norm, (mean, variance), statistics(at.expected_given, norm.axis))
            norm.moving_mean.assign(mean)
            norm.moving_variance.assign(variance)

    layer_by_layer(copy, data, visit, reference=reference)
    for name in shared.values():
        log.warning(CALLED_AGAIN, name, "reestimate_batchnorm")
    return copy


def _moved(norm: Any, new: tuple[Any, Any], old: tuple[Any, Any]) -> tuple[Any, Any]:
    """The statistics of ``norm``, moved as those of the data have moved from ``old`` to ``new``."""
    mean, variance = (
        np.asarray(keras.ops.convert_to_numpy(v), "float64") for v in (norm.moving_mean, norm.moving_variance)
    )
    ratio = np.divide(new[1], old[1], out=np.ones_like(variance), where=np.asarray(old[1]) > 0)
    return mean + new[0] - old[0], variance * ratio


def has_batchnorm(model: keras.Model) -> bool:
    """Whether there is a BatchNormalization anywhere in ``model``."""
    return any(isinstance(layer, layers.BatchNormalization) for layer in model._flatten_layers())


def statistics(given: Given, axis: Any) -> tuple[np.ndarray, np.ndarray]:
    """(mean, variance) a channel over all batches, in two passes of float64."""
    batches = [args[0] if args else next(iter(kwargs.values())) for args, kwargs in given]
    rank = batches[0].ndim
    kept = (axis if isinstance(axis, int) else axis[0]) % rank
    others = tuple(a for a in range(rank) if a != kept)
    count = sum(x.size for x in batches) // batches[0].shape[kept]
    mean = sum(np.sum(x, axis=others, dtype="float64") for x in batches) / count
    shape = [-1 if a == kept else 1 for a in range(rank)]
    spread = sum(np.sum((x - mean.reshape(shape)) ** 2, axis=others) for x in batches)
    return mean, spread / count
