"""How much each channel of a group matters: one score a channel, the larger the more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from kompakt.copies import copy_layer
from kompakt.errors import InputError
from kompakt.graph import as_functional, map_layers
from kompakt.rewrite.channel_groups import Member, Reading, read_channels
from kompakt.rewrite.channel_scope import CARRIES, MAKES, variable_of
from kompakt.sites import is_graph

Scores = dict[str, np.ndarray]
"""Name of a group -> a score for each of its channels; a group that the ranking says nothing about is missing."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a ranking may look at.

    Attributes:
        reading: the model's groups, read with ``layer_norms``. data: inputs and targets. loss: of Keras.
        seed: of what is random.
    """

    model: keras.Model
    reading: Reading
    layer_norms: bool = False
    data: Any = None
    loss: Any = None
    seed: int = 0


def scores(rank: str, evidence: Evidence) -> Scores:
    """One score for each channel of each group, by the ranking of that name.

    Raises:
        InputError: no such ranking, or one that cannot work with what it was given.
    """
    if rank not in RANKINGS:
        raise InputError(f"rank={rank!r}: expected one of {', '.join(RANKINGS)}")
    return RANKINGS[rank](evidence)


def relative(found: Scores) -> Scores:
    """Scores over the mean of their group, so that groups compare: layers differ in scale, not only in use."""
    return {name: score / max(float(score.mean()), np.finfo(float).tiny) for name, score in found.items()}


def _l1(evidence: Evidence) -> Scores:
    r""":math:`s_c = \sum |w|` over the filters that make channel c (Li et al. 2017, arXiv:1608.08710, section 3.1)."""
    return _sums(evidence.reading, lambda m: m.role == MAKES, np.abs)


def _l2(evidence: Evidence) -> Scores:
    r""":math:`s_c = \sqrt{\sum w^2}` over the filters that make channel c."""
    squares = _sums(evidence.reading, lambda m: m.role == MAKES, lambda w: w * w)
    return {name: np.sqrt(score) for name, score in squares.items()}


def _bn_scale(evidence: Evidence) -> Scores:
    r""":math:`s_c = \sum |\gamma_c|` over the BatchNormalizations of channel c (Liu et al. 2017, arXiv:1708.06519)."""
    known = evidence.reading.layers

    def is_scale(member: Member) -> bool:
        return member.tensor == "gamma" and isinstance(known[member.layer], layers.BatchNormalization)

    found = _sums(evidence.reading, is_scale, np.abs)
    if not found:
        raise InputError("rank='bn_scale': no channels go through a BatchNormalization with a scale; use rank='l1'")
    return found


def _random(evidence: Evidence) -> Scores:
    """Uniform numbers."""
    random = np.random.default_rng(evidence.seed)
    return {group.name: random.random(group.size) for group in evidence.reading.found.groups}


def _taylor(evidence: Evidence) -> Scores:
    r""":math:`s_c = \sum |g w|` over the weights of channel c, added up over batches of 32.

    The first-order estimate of what the loss changes by where a weight is zeroed, with the weights of a
    channel added up one by one: Molchanov et al. 2019, arXiv:1906.10771, section 3.1, there squared.
    """
    inputs, targets = _pair(evidence.data)
    loss = evidence.loss if evidence.loss is not None else getattr(evidence.model, "loss", None)
    if loss is None:
        raise InputError("rank='taylor' needs the loss: give loss=, or compile the model with one")
    model = evidence.model
    twin = map_layers(model if is_graph(model) else as_functional(model), copy_layer)
    twin.trainable = True
    seen = _Importance()
    twin.compile(optimizer=seen, loss=loss, jit_compile=keras.backend.backend() == "jax")
    twin.fit(inputs, targets, batch_size=32, epochs=1, shuffle=False, verbose=0)
    totals = seen.totals(twin.trainable_variables)
    reading = read_channels(twin, layer_norms=evidence.layer_norms)

    def total(variable: Any) -> np.ndarray:
        return totals.get(id(variable), np.zeros(variable.shape))

    found = _sums(reading, lambda m: m.role in (MAKES, CARRIES), lambda w: w, total)
    if not all(np.isfinite(score).all() for score in found.values()):
        raise InputError("rank='taylor': gradients are NaN or infinite on the data given; check data= and loss=")
    return found


def _pair(data: Any) -> tuple[Any, Any]:
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        raise InputError("rank='taylor' needs data=(x, y): some hundred samples and their targets")
    return data[0], data[1]


def _values(variable: Any) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(variable), float)


def _sums(
    reading: Reading,
    choose: Callable[[Member], bool],
    each: Callable[[np.ndarray], np.ndarray],
    read: Callable[[Any], np.ndarray] = _values,
) -> Scores:
    """For each channel, the sum of ``each(weight)`` over the members chosen; groups without any are left out."""
    found: Scores = {}
    for group in reading.found.groups:
        for member in filter(choose, group.members):
            value = each(read(variable_of(reading.layers[member.layer], member.tensor)))
            rest = tuple(axis for axis in range(value.ndim) if axis != member.axis)
            along = value.sum(axis=rest)[list(member.positions)]
            total = found.setdefault(group.name, np.zeros(group.size))
            total += np.bincount(member.channels, weights=along, minlength=group.size)
    return found


class _Importance(keras.optimizers.Optimizer):  # type: ignore[misc]
    """An optimizer that moves nothing and adds up ``|gradient x weight|``: every backend can run it in ``fit``."""

    def __init__(self) -> None:
        super().__init__(learning_rate=0.0, name="importance")

    def build(self, variables: list[Any]) -> None:
        if not self.built:
            super().build(variables)
            self._sums = [self.add_variable_from_reference(v, name="sum") for v in variables]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        product = ops.abs(ops.cast(ops.convert_to_tensor(gradient), variable.dtype) * variable)
        self.assign_add(self._sums[self._get_variable_index(variable)], product)

    def totals(self, variables: list[Any]) -> dict[int, np.ndarray]:
        return {id(v): np.asarray(ops.convert_to_numpy(s), float) for v, s in zip(variables, self._sums, strict=True)}


RANKINGS: dict[str, Callable[[Evidence], Scores]] = {
    "l1": _l1,
    "l2": _l2,
    "bn_scale": _bn_scale,
    "taylor": _taylor,
    "random": _random,
}
"""Name -> the scores it gives."""
