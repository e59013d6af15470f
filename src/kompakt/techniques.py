"""``prune``, ``cluster`` and ``quantize``: the techniques as a user calls them, each a plan and an ``attach``."""

from __future__ import annotations

import fnmatch
import logging
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import layers

from kompakt.attach import attach, chains_of, finalize, wrapped
from kompakt.calibrate import calibrate
from kompakt.errors import InputError
from kompakt.graph import Copier, copy_layer, rebuild
from kompakt.placement import activation_grids, input_marker
from kompakt.rewrite.affine_to_depthwise import affine_to_depthwise
from kompakt.rewrite.fold_batchnorm import fold_batchnorm
from kompakt.rewrite.inline import inline
from kompakt.rewrite.layered_operations import layered_operations
from kompakt.rewrite.plain_operators import plain_operators
from kompakt.rewrite.split_activation import split_activation
from kompakt.rewrite.split_separable import split_separable
from kompakt.schedules import Schedule
from kompakt.sites import Site, match, nearest, sites
from kompakt.transform import Transform
from kompakt.transforms.cluster import Cluster
from kompakt.transforms.prune import Prune
from kompakt.transforms.quantize import FakeQuant

log = logging.getLogger("kompakt")

TRAINABLE_MODES = ("int8", "dynamic_int8")
"""Modes of ``quantize``: int8 weights and activations, or int8 weights alone."""

QUANTIZE_OPTIONS = ("ranges", "momentum", "method")
"""Keyword arguments of ``quantize`` that a recipe may set."""

LEFT_OUT = "%s: left as it is (depthwise kernels have few values a channel; name it in sites= to include it)"
"""What is said of weights that "*" does not include."""

SMALL = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
"""Layers with so few weights a channel that zeros or shared values cost accuracy and save nothing."""


def prune(
    model: keras.Model,
    sparsity: float | None = None,
    *,
    keep: str | None = None,
    schedule: Schedule | None = None,
    sites: str | Sequence[str] = "*",
) -> keras.Model:
    """A trainable copy of ``model`` whose weights are multiplied by a mask of zeros and ones.

    Unstructured zeros make a file smaller where it is compressed (a download, a zipped flash image); they do
    not make it faster.

    Args:
        model: any built Keras model; not changed.
        sparsity: share of zeros a weight tensor, 0..1. keep: "zeros" keeps those that are there instead.
        schedule: sparsity a step, e.g. ``schedules.Polynomial``; ``fit`` then needs ``callbacks.Update()``.
            Without one the mask is made now and stays.
        sites: glob patterns of weight sites; depthwise kernels are left out of "*".

    Raises:
        InputError: no such site, nothing to prune, or both or neither of ``sparsity`` and ``keep``.

    Example:
        >>> m = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, name="d")])
        >>> plain, encodings = finalize(prune(m, 0.75))
        >>> encodings["d/kernel"].zeros
        24
    """
    _one_of(keep, "zeros", sparsity, "sparsity")
    if schedule is not None and sparsity is None:
        raise InputError("schedule= needs a sparsity: kompakt.prune(model, 0.75, schedule=...)")
    return _attach_after(model, sites, lambda _: Prune(sparsity, schedule=schedule))


def cluster(
    model: keras.Model,
    clusters: int | None = None,
    *,
    keep: str | None = None,
    start: str = "kmeans++",
    per_channel: bool = False,
    pin_zero: bool | None = None,
    gradient: str = "mean",
    soft: float | None = None,
    seed: int = 0,
    sites: str | Sequence[str] = "*",
) -> keras.Model:
    """A trainable copy of ``model`` whose weight tensors hold at most ``clusters`` distinct values each.

    Args:
        model: any built Keras model; not changed. Zeros of a pruned tensor stay zeros.
        clusters: values a tensor (a channel with ``per_channel``). keep: "clusters" keeps those that are there.
        start: "kmeans++", "linear", "density" or "random". seed: for "kmeans++" and "random".
        pin_zero: one of the values is 0; None where the tensor has zeros already.
        gradient: of a shared value: "mean" of its members' or their "sum".
        soft: temperature of a differentiable assignment in training, such as 0.1 (see
            :class:`kompakt.transforms.Cluster`).
        sites: glob patterns of weight sites.

    Raises:
        InputError: no such site, nothing to cluster, or both or neither of ``clusters`` and ``keep``.

    Example:
        >>> import numpy as np
        >>> m = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, name="d")])
        >>> plain, _ = finalize(cluster(m, 4))
        >>> len(np.unique(plain.get_weights()[0]))
        4
    """
    _one_of(keep, "clusters", clusters, "clusters")

    def make(_: Site) -> Transform:
        return Cluster(
            clusters,
            start=start,
            per_channel=per_channel,
            pin_zero=pin_zero,
            gradient=gradient,
            soft=soft,
            seed=seed,
        )

    return _attach_after(model, sites, make)


def quantize(
    model: keras.Model,
    mode: str = "int8",
    *,
    calibration: Any = None,
    ranges: str = "moving_average",
    momentum: float = 0.99,
    method: str = "moving_average",
) -> keras.Model:
    """A trainable copy of ``model`` that computes as its quantized file will: quantization-aware training.

    The copy is flat and functional: nested models are entered, each BatchNormalization is folded into the layer
    before it, activations that the runtime does not fuse get a layer of their own. Zeros of ``prune`` and
    values of ``cluster`` are kept, each layer's by itself.

    Args:
        model: a float model or one from ``prune`` / ``cluster``; not changed.
        mode: "int8" (weights a scale a channel, activations a scale a tensor) or "dynamic_int8" (weights alone).
        calibration: samples (or an iterable of batches) that activation ranges start from. Without them they
            start from the first training batch.
        ranges: "moving_average" follows training batches with ``momentum``; "minmax" stays as calibrated.
        method: how calibration batches are put together: "minmax" or "moving_average".

    Raises:
        InputError: unknown mode, no layer to quantize, bad calibration data.

    Example:
        >>> import numpy as np
        >>> m = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="d")])
        >>> q = quantize(m, "int8", calibration=np.random.rand(32, 4).astype("float32"))
        >>> plain, encodings = finalize(q)
        >>> encodings["d/kernel"].bits, len(encodings["d/kernel"].scale)
        (8, 2)
    """
    if mode not in TRAINABLE_MODES:
        raise InputError(
            f"quantize(mode={mode!r}): expected one of {', '.join(TRAINABLE_MODES)}; "
            "float16 needs no training: kompakt.export(model, path, quantization='float16')"
        )
    flat, keeps = _deployable(model)
    wanted: dict[str, list[Transform]] = {}
    for site in sites(flat):
        if site.variable is not None:
            wanted[site.name] = [*keeps.get(site.name, []), FakeQuant(8, symmetric=True)]
    if not wanted:
        raise InputError(
            f"the model {model.name!r} has no layer to quantize: expected at least one Dense, convolution, "
            "embedding or recurrent layer"
        )
    if mode == "int8":
        for grid in activation_grids(flat):
            wanted[grid.site] = [
                FakeQuant(
                    8,
                    symmetric=False,
                    ranges=ranges,
                    momentum=momentum,
                    low=grid.low,
                    high=grid.high,
                )
            ]
    attached = attach(flat, wanted)
    if calibration is not None:
        calibrate(attached, calibration, method=method)
    return attached


def _attach_after(model: keras.Model, patterns: str | Sequence[str], make: Callable[[Site], Transform]) -> keras.Model:
    """Attach to the plain model, behind what preserves the techniques that were there before."""
    plain, keeps = carry(model)
    wanted = {name: list(kept) for name, kept in keeps.items()}
    for name, made in plan(plain, patterns, make).items():
        wanted.setdefault(name, []).extend(made)
    return attach(plain, wanted)


def plan(
    model: keras.Model, patterns: str | Sequence[str], make: Callable[[Site], Transform]
) -> dict[str, list[Transform]]:
    """``make(site)`` for each weight site that a pattern matches; "*" leaves depthwise kernels out.

    Raises:
        InputError: a pattern matches no weight site.
    """
    inner = getattr(model, "transformed_layer", model)
    known = {site.name: site for site in sites(inner) if site.variable is not None}
    if not known:
        raise InputError(
            f"the model {model.name!r} has no weights to work on: expected at least one Dense, convolution, "
            "embedding or recurrent layer"
        )
    left = left_out(model, patterns)
    chosen: dict[str, list[Transform]] = {}
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        for name in match(pattern, known):
            if name not in left:
                chosen.setdefault(name, [make(known[name])])
    if not chosen:
        raise InputError(f"nothing left to work on: {patterns!r} matches only depthwise kernels")
    if left:
        log.warning(LEFT_OUT, ", ".join(left))
    return chosen


def left_out(model: keras.Model, patterns: str | Sequence[str]) -> list[str]:
    """The depthwise kernels that "*" does not include and no other pattern names."""
    named = [p for p in ([patterns] if isinstance(patterns, str) else patterns) if p != "*"]
    inner = getattr(model, "transformed_layer", model)
    small = [s.name for s in sites(inner) if s.variable is not None and isinstance(s.layer, SMALL)]
    return [name for name in small if not any(fnmatch.fnmatchcase(name, p) for p in named)]


def carry(model: keras.Model) -> tuple[keras.Model, dict[str, list[Transform]]]:
    """(the plain model, {site: transforms that keep what earlier techniques did there})."""
    if not wrapped(model):
        return model, {}
    keeps: dict[str, list[Transform]] = {}
    for name, chain, _ in chains_of(model):
        kept = [keep for keep in (transform.keep() for transform in chain) if keep is not None]
        if kept:
            keeps[name] = kept
    return finalize(model)[0], keeps


def _deployable(model: keras.Model) -> tuple[keras.Model, dict[str, list[Transform]]]:
    """(a flat float model in the form the file will have, {its site: what earlier techniques left there})."""
    plain, keeps = carry(model)
    flat, names = inline(plain)
    renamed = {}
    for site in sites(plain):
        owner = names.get(id(site.layer))
        renamed[site.name] = site.name if owner is None else f"{owner}/{site.slot.split('/')[-1]}"
    flat, moved = split_separable(layered_operations(flat))
    flat, _ = fold_batchnorm(split_activation(flat))
    flat = _mark_inputs(plain_operators(affine_to_depthwise(flat)))
    return flat, {moved.get(renamed[name], renamed[name]): kept for name, kept in keeps.items()}


def _mark_inputs(model: keras.Model) -> keras.Model:
    """An Identity after each float input, so that the input tensor has a site for its grid."""

    def mark(tensor: Any) -> Any:
        if not keras.backend.is_float_dtype(tensor.dtype):
            return tensor
        return layers.Identity(name=input_marker(tensor.name.split(":")[0]))(tensor)

    copier = Copier(copy_layer)
    return rebuild(model, lambda call, args, kwargs: copier(call.layer)(*args, **kwargs), on_input=mark)


def _one_of(keep: str | None, word: str, value: Any, name: str) -> None:
    if keep is not None and keep != word:
        raise InputError(f"keep={keep!r}: expected {word!r}{nearest(keep, [word])}")
    if (keep is None) == (value is None):
        raise InputError(f"give {name} or keep={word!r}, one of the two")
