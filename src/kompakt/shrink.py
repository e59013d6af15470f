"""``shrink``: a smaller plain model, with the channels that matter least really removed."""

from __future__ import annotations

import fnmatch
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from kompakt.attach import wrapped
from kompakt.errors import InputError
from kompakt.ranking import Evidence, relative, scores
from kompakt.rewrite.channel_groups import OF_MODEL, Fixed, Reading, read_channels
from kompakt.rewrite.remove_channels import Masks, masks_by_group, remove_channels
from kompakt.schedules import is_share, is_whole
from kompakt.selection import OF, Choice, Costs, Size, Steps, search
from kompakt.sites import check_finite, sites
from kompakt.spelling import nearest
from kompakt.targets import find_target
from kompakt.targets.target import Request

log = logging.getLogger("kompakt")

NEAR = 0.05
"""How far under its target a share may be without a word."""

FAR = "%.3f of the %s is left where %g was allowed: channels go in steps of round_to=%d; a smaller one comes nearer"

SCOPES = ("global", "group")
"""Whether channels of all groups are ranked together, or each group keeps the same share of its own."""


@dataclass(frozen=True, kw_only=True)
class Shrunk:
    """What becomes of one group.

    Attributes:
        name: of the group. layers: that make its channels. before, after: how many channels.
    """

    name: str
    layers: tuple[str, ...]
    before: int
    after: int


@dataclass(frozen=True, kw_only=True)
class ShrinkPlan:
    """What ``shrink`` does to a model.

    Attributes:
        masks: for each group, which channels stay; ``shrink`` and ``mask_channels`` take them.
        groups: one row a group. fixed: channels that cannot be removed, with the reason.
        skipped: groups that were left whole because ``skip`` or the ranking leaves them out.
        of: what ``keep`` was a share of; None where masks were given. asked, reached: the shares.
        before, after: what the model costs.

    Example:
        >>> m = keras.Sequential([keras.Input((8,)), keras.layers.Dense(32, name="a"), keras.layers.Dense(2)])
        >>> plan = plan_shrink(m, {"a": [True] * 8 + [False] * 24})
        >>> isinstance(plan, ShrinkPlan), plan.groups[0].layers, plan.groups[0].before, plan.groups[0].after
        (True, ('a',), 32, 8)
    """

    masks: dict[str, tuple[bool, ...]]
    groups: tuple[Shrunk, ...]
    fixed: tuple[Fixed, ...]
    skipped: tuple[str, ...]
    of: str | None
    asked: float | None
    reached: float | None
    before: Size
    after: Size


def shrink(
    model: keras.Model,
    keep: float | Masks,
    *,
    of: str = "macs",
    rank: str = "l1",
    scope: str = "global",
    round_to: int = 8,
    min_channels: int = 1,
    data: Any = None,
    loss: Any = None,
    seed: int = 0,
    skip: str | Sequence[str] = (),
    layer_norms: bool = False,
) -> keras.Model:
    """A smaller plain Keras model: channels are removed from ``model``, with everything that belongs to them.

    This is the pruning that makes a model faster everywhere. The result equals the model with those channels at
    zero (see ``mask_channels``); train it on to win back what they were good for. Channels that cannot be
    removed are named in a warning and in ``plan_shrink``, which also says what remains of each layer.

    Args:
        model: functional, sequential, nested or traceable; not changed.
        keep: the share of ``of`` that is to remain, over 0 to 1, or masks (see ``remove_channels``).
        of: "macs" (multiply-accumulates), "parameters", "bytes" (of the weights), "file" (bytes of the float TFLite
            file, which is made of ``model`` to see; that needs Keras on TensorFlow) or "channels".
        rank: "l1" or "l2" (norm of the filters), "bn_scale", "taylor" (gradient times weight) or "random".
        scope: "global" ranks the channels of all groups together, each relative to the mean of its group;
            "group" removes the same share of each.
        round_to: numbers of channels are multiples of it, which is what kernels are fast on; smaller groups
            stay whole. min_channels: the least that a layer keeps.
        data: (x, y) for "taylor". loss: for "taylor"; by default the one the model was compiled with.
        seed: for "random". skip: glob patterns of layers whose channels all stay.
        layer_norms: whether channels that a LayerNormalization averages over may go. It is then taken over those
            that are left, which differs from having the others at zero.

    Raises:
        InputError: nothing can be removed, the target cannot be reached, or an argument cannot be used.

    Example:
        >>> i = keras.Input((8, 8, 3))
        >>> x = keras.layers.Conv2D(32, 3, name="a")(i)
        >>> x = keras.layers.Conv2D(32, 3, name="b")(x)
        >>> m = keras.Model(i, keras.layers.Dense(10)(keras.layers.GlobalAveragePooling2D()(x)))
        >>> small = shrink(m, 0.6, scope="group")
        >>> [layer.filters for layer in small.layers[1:3]]
        [24, 24]
    """
    plan = plan_shrink(
        model,
        keep,
        of=of,
        rank=rank,
        scope=scope,
        round_to=round_to,
        min_channels=min_channels,
        data=data,
        loss=loss,
        seed=seed,
        skip=skip,
        layer_norms=layer_norms,
    )
    left = left_whole(plan.fixed)
    if left:
        log.warning("channels that stay: %s", left)
    if plan.asked is not None and plan.reached is not None and plan.reached < plan.asked - NEAR:
        log.warning(FAR, plan.reached, plan.of, plan.asked, round_to)
    masks = {name: np.array(mask) for name, mask in plan.masks.items()}
    return remove_channels(model, masks, layer_norms=layer_norms)


def plan_shrink(
    model: keras.Model,
    keep: float | Masks,
    *,
    of: str = "macs",
    rank: str = "l1",
    scope: str = "global",
    round_to: int = 8,
    min_channels: int = 1,
    data: Any = None,
    loss: Any = None,
    seed: int = 0,
    skip: str | Sequence[str] = (),
    layer_norms: bool = False,
) -> ShrinkPlan:
    """What :func:`shrink` would do with the same arguments, as a record; nothing is built.

    Raises:
        InputError: as :func:`shrink`.

    Example:
        >>> m = keras.Sequential([keras.Input((8,)), keras.layers.Dense(32, name="a"), keras.layers.Dense(2)])
        >>> plan = plan_shrink(m, 0.6, of="parameters")
        >>> plan.groups[0].after, plan.before.parameters, plan.after.parameters, plan.reached
        (16, 354, 178, 0.502...)
    """
    if wrapped(model):
        raise InputError("the model holds transforms: shrink the plain one, kompakt.finalize(model)[0]")
    reading = read_channels(model, layer_norms=layer_norms)
    for site in sites(model):
        check_finite(site)
    if isinstance(keep, Mapping):
        return _plan(reading, Costs(model, reading), masks_by_group(reading, keep))
    _check(keep, of, scope, round_to, min_channels)
    costs = Costs(model, reading, _file_bytes(model) if of == "file" else None)
    evidence = Evidence(model=model, reading=reading, layer_norms=layer_norms, data=data, loss=loss, seed=seed)
    if not reading.found.groups:
        raise InputError(f"no channel of the model {model.name!r} can be removed: {reasons(reading.found.fixed)}")
    found = scores(rank, evidence)
    skipped = skipped_groups(reading, skip)
    ranked = {name: score for name, score in relative(found).items() if name not in skipped}
    if not ranked:
        raise InputError(f"skip={skip!r} leaves no channel to remove; name fewer layers")
    steps = {g.name: Steps.of(g, round_to, min_channels) for g in reading.found.groups if g.name in ranked}
    choice = Choice(ranked, steps, scope)
    counts = search(choice, costs, of, float(keep), round_to, min_channels)
    left = tuple(group.name for group in reading.found.groups if group.name not in ranked)
    return _plan(reading, costs, choice.masks(counts), of=of, asked=float(keep), skipped=left)


def _file_bytes(model: keras.Model) -> int:
    return len(find_target("tflite").convert(Request(model=model)).data)


def _check(keep: Any, of: str, scope: str, round_to: Any, min_channels: Any) -> None:
    if not is_share(keep) or not keep > 0.0:
        raise InputError(f"keep={keep!r}: expected a share over 0 and at most 1, such as 0.5, or masks by layer")
    for name, value, known in (("of", of, OF), ("scope", scope, SCOPES)):
        if value not in known:
            raise InputError(f"{name}={value!r}: expected one of {', '.join(known)}")
    for name, number in (("round_to", round_to), ("min_channels", min_channels)):
        if not is_whole(number) or number < 1:
            raise InputError(f"{name}={number!r}: expected a whole number from 1")


def skipped_groups(reading: Reading, skip: str | Sequence[str]) -> set[str]:
    """Groups whose channels a layer that matches a pattern makes, or gives out."""
    made: dict[str, set[str]] = {}
    for group in reading.found.groups:
        for member in group.makers:
            made.setdefault(member.layer, set()).add(group.name)
    known = sorted(reading.outputs)
    found: set[str] = set()
    for pattern in [skip] if isinstance(skip, str) else skip:
        layers = fnmatch.filter(known, pattern)
        if not layers:
            raise InputError(f"skip={pattern!r} matches no layer with channels{nearest(pattern, known)}")
        for layer in layers:
            found |= made.get(layer, set())
            found |= {place[0] for place in reading.where(layer) if not isinstance(place, str)}
    return found


def _plan(
    reading: Reading,
    costs: Costs,
    masks: Mapping[str, np.ndarray],
    *,
    of: str | None = None,
    asked: float | None = None,
    skipped: tuple[str, ...] = (),
) -> ShrinkPlan:
    before, after = costs.size({}), costs.size(masks)
    return ShrinkPlan(
        masks={name: tuple(mask.tolist()) for name, mask in masks.items()},
        groups=tuple(
            Shrunk(
                name=group.name,
                layers=tuple(dict.fromkeys(member.layer for member in group.makers)),
                before=group.size,
                after=int(masks[group.name].sum()) if group.name in masks else group.size,
            )
            for group in reading.found.groups
        ),
        fixed=reading.found.fixed,
        skipped=skipped,
        of=of,
        asked=asked,
        reached=None if of is None else getattr(after, of) / getattr(before, of),
        before=before,
        after=after,
    )


def left_whole(found: Sequence[Fixed]) -> str:
    """What was asked for and is not done: channels that stay, other than those of the model's outputs."""
    return reasons([fixed for fixed in found if fixed.reason != OF_MODEL])


def reasons(fixed: Sequence[Fixed], most: int = 3) -> str:
    """'a, b (reason); c (another)': layers by the reason why their channels stay, ``most`` names and reasons."""
    by_reason: dict[str, list[str]] = {}
    for each in fixed:
        by_reason.setdefault(each.reason, []).append(each.layer)
    parts = [f"{_some(layers, most)} ({reason})" for reason, layers in by_reason.items()]
    return _some(parts, most, "; ")


def _some(names: Sequence[str], most: int, between: str = ", ") -> str:
    more = len(names) - most
    return between.join(names[:most]) + (f"{between}and {more} more" if more > 0 else "")
