"""``student``: a smaller model of the same family as a teacher, to be trained on what the teacher says."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from typing import Any

import keras

from kompakt.attach import wrapped
from kompakt.copies import copy_layer
from kompakt.errors import InputError
from kompakt.graph import as_functional, map_layers
from kompakt.ranking import Evidence, scores
from kompakt.rewrite.channel_groups import Reading, read_channels
from kompakt.rewrite.initialize import initialize, seeded
from kompakt.rewrite.remove_blocks import remove_blocks
from kompakt.rewrite.remove_channels import remove_channels
from kompakt.rewrite.repeated_blocks import Block, Stage, find_stages
from kompakt.schedules import is_share, is_whole
from kompakt.selection import Choice, Steps
from kompakt.shrink import left_whole, reasons, skipped_groups
from kompakt.sites import check_finite, is_graph, sites, units
from kompakt.spelling import nearest

log = logging.getLogger("kompakt")

WEIGHTS = ("none", "teacher")
"""Where a student's weights come from: its layers' initializers, or the teacher's layers."""

MADE = "student of %s: %d of %d parameters, width %g, depth %g%s"

WHOLE = "student of %s: all channels stay in %s: round_to=%d leaves them nothing smaller"


def student(
    teacher: keras.Model,
    width: float = 0.5,
    depth: float = 1.0,
    *,
    weights: str = "none",
    seed: int = 0,
    round_to: int = 1,
    skip: str | Sequence[str] = (),
) -> keras.Model:
    r"""A smaller plain Keras model of the same family as ``teacher``, for knowledge distillation.

    ``width`` :math:`\alpha` makes a layer of :math:`n` channels one of :math:`\alpha n`, rounded (the width
    multiplier of Howard et al. 2017, arXiv:1704.04861, section 3.3), the same share in each group of channels that go
    together. ``depth`` :math:`d` leaves :math:`d k`, rounded and at least one, of the :math:`k` blocks of a stage
    (as Tan and Le 2019, arXiv:1905.11946, section 3.3, scale it up): blocks of one kind and shape in a row, with the
    one that changes the shape. The first of a stage stays, and the others evenly spread behind it; the identity takes
    the place of those that go. A block is a residual sum with a side that is its input, or a linear or recurrent layer
    whose output has the shape of its input, with what follows it; where several repeat together (the attention and
    the feed-forward sum of a transformer), they are one block.

    Inputs, outputs and the names of the layers that remain are the teacher's. What is made, and what could not
    be made smaller, goes to the log "kompakt".

    Args:
        teacher: functional, sequential, nested or traceable; not changed.
        width: the share of its channels that each layer keeps, over 0 to 1. depth: the share of the blocks of
            each stage, over 0 to 1.
        weights: "none" initializes all anew, but for what a Normalization has learned of the data; "teacher" starts
            from the teacher's weights, with the channels of the largest L1 norm: with width and depth 1 the student
            predicts as the teacher. All layers can be trained, also where the teacher's are frozen.
        seed: of the new weights, from 0. round_to: numbers of channels are multiples of it (8 is fast on most
            kernels); smaller groups stay whole.
        skip: glob patterns of layers whose channels all stay, and that stay in their place.

    Raises:
        InputError: nothing can be made narrower or shallower where that is asked, or an argument cannot be used.

    Example:
        >>> L = keras.layers
        >>> body = [L.Conv2D(32, 3, padding="same", activation="relu", name=name) for name in "abcd"]
        >>> head = [L.GlobalAveragePooling2D(), L.Dense(10, name="head")]
        >>> teacher = keras.Sequential([keras.Input((8, 8, 3)), *body, *head])
        >>> small = student(teacher, width=0.25, depth=0.5)
        >>> [(layer.name, layer.filters) for layer in small.layers[:2]]
        [('a', 8), ('c', 8)]
        >>> teacher.count_params(), small.count_params(), small.output_shape
        (28970, 898, (None, 10))
    """
    _check(width, depth, weights, seed, round_to)
    if wrapped(teacher):
        raise InputError("the teacher holds transforms: give the plain one, kompakt.finalize(teacher)[0]")
    for site in sites(teacher):
        check_finite(site)
    graph = teacher if is_graph(teacher) else as_functional(teacher)
    patterns = _patterns(graph, skip)
    gone = [] if depth == 1 else _gone_blocks(find_stages(graph), depth, patterns, teacher.name)
    with seeded(seed):
        made = remove_blocks(graph, gone) if gone else map_layers(graph, copy_layer)
        if width < 1:
            made = _narrower(made, width, round_to, patterns)
        if weights == "none":
            made = initialize(made, seed)
    for layer in made._flatten_layers():  # one by one: on TensorFlow True on a model that has it reaches no layer
        layer.trainable = True
    out = f", without {'; '.join(' '.join(block.layers) for block in gone)}" if gone else ""
    log.info(MADE, teacher.name, made.count_params(), teacher.count_params(), width, depth, out)
    return made


def _check(width: Any, depth: Any, weights: Any, seed: Any, round_to: Any) -> None:
    for name, share in (("width", width), ("depth", depth)):
        if not is_share(share) or not share > 0:
            raise InputError(f"{name}={share!r}: expected a share over 0 and at most 1, such as 0.5")
    if weights not in WEIGHTS:
        raise InputError(f"weights={weights!r}: expected one of {', '.join(WEIGHTS)}")
    for name, number, least in (("seed", seed, 0), ("round_to", round_to, 1)):
        if not is_whole(number) or number < least:
            raise InputError(f"{name}={number!r}: expected a whole number from {least}")


def _patterns(graph: keras.Model, skip: Any) -> list[str]:
    """The patterns of ``skip``, each of which matches a layer."""
    found = [skip] if isinstance(skip, str) else skip
    if not isinstance(found, (list, tuple)) or not all(isinstance(each, str) for each in found):
        raise InputError(f"skip={skip!r}: expected names or patterns of layers, such as ['stem', 'block3_*']")
    known = list(units(graph))
    for pattern in found:
        if not any(fnmatch(name, pattern) for name in known):
            raise InputError(f"skip={pattern!r} matches no layer{nearest(pattern, known)}")
    return list(found)


def _gone_blocks(stages: Sequence[Stage], depth: float, patterns: Sequence[str], name: str) -> list[Block]:
    gone = [
        block
        for stage in stages
        for block in _surplus(stage, depth)
        if not any(fnmatch(layer, pattern) for layer in block.layers for pattern in patterns)
    ]
    if not gone:
        raise InputError(f"depth={depth:g}: no block of {name!r} can go: {_why(stages, depth)}")
    return gone


def _surplus(stage: Stage, depth: float) -> Iterator[Block]:
    """The blocks of ``stage`` that are too many; those that stay are spread over it, from the first one on."""
    count = _count(stage.size, depth)
    stay = {place * stage.size // count for place in range(count)}
    first = stage.size - len(stage.blocks)
    yield from (block for place, block in enumerate(stage.blocks, first) if place not in stay)


def _count(size: int, depth: float) -> int:
    return max(1, math.floor(depth * size + 0.5))


def _why(stages: Sequence[Stage], depth: float) -> str:
    if not stages:
        return (
            "it has no residual sum with a side that is its input, and no layer whose output has the shape of its "
            "input; use width alone"
        )
    size = max(stage.size for stage in stages)
    if size == 1:
        return "each is the first of its stage, which stays; use width alone"
    if _count(size, depth) == size:
        return f"its longest stage has {size} blocks, of which {depth:g} is rounded to {size}; lower depth"
    return "skip names a layer in each that would; name fewer layers"


def _narrower(model: keras.Model, width: float, round_to: int, patterns: Sequence[str]) -> keras.Model:
    """``model`` with the same share of each group of channels, those of the largest L1 norm."""
    reading = read_channels(model, layer_norms=True)
    groups = reading.found.groups
    if not groups:
        raise InputError(f"width={width:g}: no channel of {model.name!r} can go: {reasons(reading.found.fixed)}")
    skipped = skipped_groups(reading, [each for each in patterns if _has_channels(reading, each)])
    steps = {group.name: Steps.of(group, round_to, 1) for group in groups if group.name not in skipped}
    counts = {name: step.nearest(width * step.size) for name, step in steps.items()}
    whole = [name for name, count in counts.items() if count == steps[name].size]
    if len(whole) == len(counts):
        raise InputError(
            f"width={width:g}: no layer of {model.name!r} gets narrower with round_to={round_to} and "
            f"skip={list(patterns)!r}; lower width or round_to, or skip fewer"
        )
    if whole:
        log.warning(WHOLE, model.name, ", ".join(whole), round_to)
    ranked = scores("l1", Evidence(model=model, reading=reading, layer_norms=True))
    masks = Choice({name: ranked[name] for name in counts}, steps, "group").masks(counts)
    left = left_whole(reading.found.fixed)
    if left:
        log.warning("channels that stay: %s", left)
    return remove_channels(model, masks, layer_norms=True)


def _has_channels(reading: Reading, pattern: str) -> bool:
    return any(fnmatch(name, pattern) for name in reading.outputs)
