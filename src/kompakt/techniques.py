"""``prune`` and ``cluster``: the techniques as a user calls them, each a plan and an ``attach``."""

from __future__ import annotations

import glob
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from kompakt.errors import InputError
from kompakt.planning import Sites, attach_after, carry
from kompakt.policies import POLICIES
from kompakt.schedules import Schedule, is_whole
from kompakt.sites import Site, match, sites
from kompakt.spelling import nearest, one_of
from kompakt.transform import Transform
from kompakt.transforms.cluster import Cluster
from kompakt.transforms.patterns import Pattern, find_pattern
from kompakt.transforms.prune import Prune


def prune(
    model: keras.Model,
    sparsity: float | None = None,
    *,
    keep: str | None = None,
    schedule: Schedule | None = None,
    pattern: Pattern | str | None = None,
    score: str = "l1",
    scope: str = "layer",
    limits: Sequence[float] | Mapping[str, Sequence[float]] = (0.0, 1.0),
    rewind: int | None = None,
    policy: str | None = None,
    seed: int = 0,
    sites: Sites | Sequence[Sites] = "*",
) -> keras.Model:
    """A trainable copy of ``model`` whose weights are multiplied by a mask of zeros and ones.

    Zeros make a file smaller where it is compressed (a download, a zipped flash image) or stored sparse; they do
    not make it faster. Removed channels do: see :func:`kompakt.shrink`. Biases are never pruned.

    Args:
        model: any built Keras model; not changed.
        sparsity: share of zeros, 0..1; a schedule or "2:4" says it too. keep: "zeros" keeps those that are there
            instead.
        schedule: sparsity a step, e.g. ``schedules.Polynomial``; ``fit`` then needs ``callbacks.Update()``.
            Without one the mask is made now and stays.
        pattern: which weights go together: None (each alone), "2:4", "1x16" (output by input channels) or
            "channels".
        score: which go first: "l1", "l2" (magnitude), "taylor", "movement" (gathered in training, so they need
            a schedule that begins after step 0) or "random".
        scope: "layer" (the share in each tensor) or "global" (all tensors ranked together).
        limits: with "global", least and most share of zeros in a tensor; or glob pattern -> (least, most).
        rewind: training step whose weights are restored each time the mask grows (lottery tickets).
        policy: "xnnpack" prunes what XNNPACK's sparse kernels can run, and refuses a model they cannot help.
        seed: of the score "random".
        sites: glob patterns of weight sites, types of layers, or predicates on a ``Site``. "*" leaves out
            depthwise kernels, and the first and last layer of a model that has three or more with weights.

    Raises:
        InputError: no such site, nothing to prune, both or neither of ``sparsity`` and ``keep``, or options that
            exclude each other.

    Example:
        >>> import kompakt
        >>> m = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, name="d")])
        >>> plain, encodings = kompakt.finalize(prune(m, 0.75))
        >>> encodings["d/kernel"].zeros
        24
        >>> kompakt.finalize(prune(m, pattern="2:4"))[1]["d/kernel"].zeros
        16
    """
    chosen = find_pattern(pattern)
    asked = next((wanted for wanted in (sparsity, schedule, chosen.natural()) if wanted is not None), None)
    _one_of(keep, "zeros", asked, "sparsity")
    if policy is not None:
        sites = _policy_sites(model, policy, sites)
    if keep is not None:
        return attach_after(model, sites, lambda _: Prune(), spares_ends=False)
    limits_of = _limits(model, limits)
    counter = itertools.count(seed) if is_whole(seed) else itertools.repeat(seed)  # Prune refuses what is no number

    def make(site: Site) -> Transform:
        return Prune(
            sparsity,
            schedule=schedule,
            pattern=chosen,
            score=score,
            scope=scope,
            limits=limits_of(site.name),
            rewind=rewind,
            seed=next(counter),
        )

    return attach_after(model, sites, make, spares_ends=Prune.spares_ends)


def _limits(model: keras.Model, limits: Any) -> Callable[[str], Any]:
    """The limits of a site by its name: of the first pattern that matches it."""
    if not isinstance(limits, Mapping):
        return lambda _: limits
    names = [site.name for site in sites(model) if site.variable is not None]
    found: dict[str, Any] = {}
    for pattern, pair in limits.items():
        for name in match(str(pattern), names):
            found.setdefault(name, pair)
    return lambda name: found.get(name, (0.0, 1.0))


def _policy_sites(model: keras.Model, policy: str, patterns: Any) -> list[Sites]:
    if not isinstance(policy, str) or policy not in POLICIES:
        raise InputError(f"policy {policy!r}: {one_of(policy, POLICIES)}")
    if patterns != "*":
        raise InputError("policy= chooses the sites itself: leave sites= out")
    return [glob.escape(name) for name in POLICIES[policy](carry(model)[0])]


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
    sites: Sites | Sequence[Sites] = "*",
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
        sites: glob patterns of weight sites, types of layers, or predicates on a ``Site``. "*" leaves out depthwise
            kernels.

    Raises:
        InputError: no such site, nothing to cluster, or both or neither of ``clusters`` and ``keep``.

    Example:
        >>> import kompakt
        >>> import numpy as np
        >>> m = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, name="d")])
        >>> plain, _ = kompakt.finalize(cluster(m, 4))
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

    return attach_after(model, sites, make)


def _one_of(keep: str | None, word: str, value: Any, name: str) -> None:
    if keep is not None and keep != word:
        raise InputError(f"keep={keep!r}: expected {word!r}{nearest(str(keep), [word])}")
    if (keep is None) == (value is None):
        raise InputError(f"give {name} or keep={word!r}, one of the two")
