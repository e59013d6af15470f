"""How many channels of each group stay: the search for a share of the cost that is to remain."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import keras
import numpy as np

from kompakt.cost import layer_costs
from kompakt.errors import InputError
from kompakt.graph import as_functional
from kompakt.ranking import Scores
from kompakt.rewrite.channel_groups import Group, Reading
from kompakt.rewrite.channel_scope import variable_of
from kompakt.rewrite.remove_channels import is_weight

OF = ("macs", "parameters", "bytes", "file", "channels")
"""What a target can be a share of."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """What a model costs.

    Attributes:
        macs: multiply-accumulates a sample, of the layers that a rule is known for; None where the sizes of the
            input are not fixed. parameters: values in its weights. bytes: of the weights in their own types.
        channels: of the groups that channels can be removed from. file: bytes of the float file; None where that
            was not asked.
    """

    macs: int | None
    parameters: int
    bytes: int
    channels: int
    file: int | None = None


class Costs:
    """What a model costs with some channels gone, without building it.

    Args:
        file: bytes of the float file of ``model``, where ``Size.file`` is wanted. A smaller model has the same
            operators, so its file is less by what its weights are: those of a BatchNormalization are in it once,
            as the bias of the layer that it is folded into.
    """

    def __init__(self, model: keras.Model, reading: Reading, file: int | None = None) -> None:
        self._model = as_functional(model)
        self._file = file
        self._folded = {
            id(weight)
            for layer in self._model._flatten_layers()
            if isinstance(layer, keras.layers.BatchNormalization)
            for weight in layer.weights
            if weight is not layer.moving_mean
        }
        self._groups = reading.found.groups
        self._weights = [
            (id(w), tuple(w.shape), _bytes(keras.backend.standardize_dtype(w.dtype))) for w in self._model.weights
        ]
        self._axes: dict[int, list[_Share]] = {}
        for group in self._groups:
            for member in filter(is_weight, group.members):
                variable = variable_of(reading.layers[member.layer], member.tensor)
                each = np.bincount(member.channels, minlength=group.size)
                share = _Share(group.name, member.axis, each, int(each[0]) if (each == each[0]).all() else None)
                self._axes.setdefault(id(variable), []).append(share)
        self.counted = all(None not in tensor.shape[1:] for tensor in self._model.inputs)

    def size(self, masks: Mapping[str, np.ndarray]) -> Size:
        """The cost where ``masks``, by group, say which channels stay."""
        gone = {name: len(mask) - int(mask.sum()) for name, mask in masks.items()}
        shapes = {
            key: tuple(self._shape(shape, key, masks, gone)) for key, shape, _ in self._weights if key in self._axes
        }
        values = [(math.prod(shapes.get(key, shape)), width) for key, shape, width in self._weights]
        return Size(
            macs=sum(row.macs or 0 for row in layer_costs(self._model, shapes)) if self.counted else None,
            parameters=sum(count for count, _ in values),
            bytes=sum(count * width for count, width in values),
            channels=sum(group.size - gone.get(group.name, 0) for group in self._groups),
            file=None if self._file is None else self._file - self._gone_from_file(shapes),
        )

    def _gone_from_file(self, shapes: Mapping[int, tuple[int, ...]]) -> int:
        """Bytes that a float file is less where weights have ``shapes``."""
        return 4 * sum(
            math.prod(shape) - math.prod(shapes[key])
            for key, shape, _ in self._weights
            if key in shapes and key not in self._folded
        )

    def _shape(
        self, shape: tuple[int, ...], key: int, masks: Mapping[str, np.ndarray], gone: Mapping[str, int]
    ) -> list[int]:
        new = list(shape)
        for share in self._axes[key]:
            if gone.get(share.group):
                even = share.even
                new[share.axis] -= (
                    int(share.each[~masks[share.group]].sum()) if even is None else gone[share.group] * even
                )
        return new


@dataclass(frozen=True)
class _Share:
    """How many positions of an axis each channel of a group takes; ``even`` where that is one number."""

    group: str
    axis: int
    each: np.ndarray
    even: int | None


def _bytes(dtype: str) -> int:
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize


@dataclass(frozen=True, kw_only=True)
class Steps:
    """The numbers of channels that a group may keep: multiples of ``step`` from ``least``, and all of them."""

    size: int
    step: int
    least: int

    @classmethod
    def of(cls, group: Group, round_to: int, min_channels: int) -> Steps:
        step = round_to // math.gcd(round_to, group.width)
        least = step * max(1, math.ceil(min_channels / group.width / step))
        return cls(size=group.size, step=step, least=min(least, group.size))

    def nearest(self, count: float) -> int:
        rounded = self.step * math.floor(count / self.step + 0.5)
        return min(max(rounded, self.least), self.size)

    def above(self, count: int) -> int:
        return min(count + self.step, self.size)


class Choice:
    """How many channels each group keeps, from 0 (the fewest) to ``top`` (all)."""

    def __init__(self, ranked: Scores, steps: dict[str, Steps], scope: str) -> None:
        self._ranked, self.steps = ranked, steps
        self._sorted = {name: np.sort(score)[::-1] for name, score in ranked.items()}
        self._all = np.sort(np.concatenate(list(ranked.values())))[::-1]
        self._global = scope == "global"
        self.top = len(self._all)

    def counts(self, place: int) -> dict[str, int]:
        if not self._global:
            return {name: step.nearest(step.size * place / self.top) for name, step in self.steps.items()}
        least = self._all[place - 1] if place else np.inf
        return {name: step.nearest(float((self._ranked[name] >= least).sum())) for name, step in self.steps.items()}

    def next_score(self, name: str, count: int) -> float:
        """Of the best channel that the group does not keep."""
        return float(self._sorted[name][count]) if count < self.steps[name].size else -np.inf

    def masks(self, counts: Mapping[str, int]) -> dict[str, np.ndarray]:
        """The best ``counts`` channels of each group; of equal ones the first."""
        masks = {}
        for name, count in counts.items():
            masks[name] = np.zeros(self.steps[name].size, bool)
            masks[name][np.argsort(-self._ranked[name], kind="stable")[:count]] = True
        return masks


def search(choice: Choice, costs: Costs, of: str, keep: float, round_to: int, min_channels: int) -> dict[str, int]:
    """The most channels in the order of their rank whose cost is within the target.

    Bisection finds the place in the order; then single groups take a step more where there is room.
    """
    whole = getattr(costs.size({}), of)
    if not whole:
        raise InputError(
            f"of={of!r}: the model has none that can be counted (its inputs have no fixed size, or no layer has a "
            "rule); choose another of=, or fix the input's shape"
        )

    def share(counts: Mapping[str, int]) -> float:
        return float(getattr(costs.size(choice.masks(counts)), of) / whole)

    low, high = 0, choice.top
    least = share(choice.counts(low))
    if least > keep:
        raise InputError(
            f"keep={keep:g} of the {of} cannot be reached: the least that can remain is {least:.3f}, with "
            f"round_to={round_to}, min_channels={min_channels} and what stays; raise keep, or lower those"
        )
    if share(choice.counts(high)) <= keep:
        return choice.counts(high)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if share(choice.counts(middle)) <= keep else (low, middle)
    return _filled(choice, choice.counts(low), lambda counts: share(counts) <= keep)


def _filled(choice: Choice, counts: dict[str, int], fits: Callable[[Mapping[str, int]], bool]) -> dict[str, int]:
    """``counts`` with a step more for one group after the other, the best next channel first, as long as it fits."""
    open_groups = {name for name, count in counts.items() if count < choice.steps[name].size}
    while open_groups:
        name = max(sorted(open_groups), key=lambda n: choice.next_score(n, counts[n]))
        more = {**counts, name: choice.steps[name].above(counts[name])}
        if fits(more):
            counts = more
        if counts is not more or counts[name] == choice.steps[name].size:
            open_groups.discard(name)
    return counts
