"""How much each weight matters: a number a weight, the lowest go first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from kompakt.axes import Tensor
from kompakt.errors import InputError
from kompakt.numerics import incoming
from kompakt.spelling import one_of

MOMENTUM = 0.9
"""Share of the old Taylor score that a training step keeps."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """A way to score weights.

    Attributes:
        name: as a user gives it. of: (weights, memory or None, seed) -> score of each weight.
        learn: (memory, product) -> new memory, where ``product`` is gradient times weight of the last training
            step; None where the weights alone decide.
    """

    name: str
    of: Callable[[Tensor, Tensor | None, int], Tensor]
    learn: Callable[[Tensor, Tensor], Tensor] | None = None


def magnitude_l1(value: Tensor, _memory: Tensor | None, _seed: int) -> Tensor:
    r""":math:`|w|`. Han et al. 2015, arXiv:1506.02626, section 3."""
    return ops.abs(value)


def magnitude_l2(value: Tensor, _memory: Tensor | None, _seed: int) -> Tensor:
    r""":math:`w^2`: ranks single weights as L1 does, but groups (blocks, channels) by their energy.

    Li et al. 2017, arXiv:1608.08710, section 4.4 compares the two.
    """
    return ops.square(value)


def remembered(_value: Tensor, memory: Tensor | None, _seed: int) -> Tensor:
    """What training has gathered."""
    return memory


def random(value: Tensor, _memory: Tensor | None, seed: int) -> Tensor:
    """Uniform noise that the seed alone decides: the baseline that a score has to beat."""
    return keras.random.uniform(tuple(value.shape), seed=seed)


def taylor(memory: Tensor, product: Tensor) -> Tensor:
    r"""Moving average of :math:`(g w)^2`, the squared change of the loss if the weight were zero, to first order.

    Molchanov et al. 2019, "Importance Estimation for Neural Network Pruning", arXiv:1906.10771, equation (8).

    Example:
        >>> round(float(taylor(ops.array(0.0), ops.array(2.0))), 6)
        0.4
    """
    return MOMENTUM * memory + (1.0 - MOMENTUM) * ops.square(product)


def movement(memory: Tensor, product: Tensor) -> Tensor:
    r""":math:`S \leftarrow S - g w`: high where training moves the weight away from zero.

    Sanh, Wolf and Rush 2020, "Movement Pruning", arXiv:2005.07683, section 3, equation (3), without its
    learning rate, which scales all scores alike.

    Example:
        >>> float(movement(ops.array(1.0), ops.array(0.25)))
        0.75
    """
    return memory - product


SCORES: dict[str, Score] = {
    score.name: score
    for score in (
        Score(name="l1", of=magnitude_l1),
        Score(name="l2", of=magnitude_l2),
        Score(name="taylor", of=remembered, learn=taylor),
        Score(name="movement", of=remembered, learn=movement),
        Score(name="random", of=random),
    )
}
"""Name -> score. The contract tests run over every row."""


def find_score(name: str) -> Score:
    """The score called ``name``.

    Raises:
        InputError: there is none; the text has the nearest.

    Example:
        >>> find_score("l1").learn is None
        True
    """
    if not isinstance(name, str) or name not in SCORES:
        raise InputError(f"score {name!r}: {one_of(name, SCORES)}")
    return SCORES[name]


@ops.custom_gradient  # type: ignore[untyped-decorator]
def masked_and_watched(x: Tensor, mask: Tensor, product: Tensor) -> Any:
    """``x * mask``, whose backward pass gives ``product`` the gradient times ``x``, masked weights included.

    ``product`` takes no part in the value. Its variable is one that the optimizer overwrites with its gradient.
    """

    def gradient(*args: Tensor, upstream: Tensor | None = None, **_: Any) -> tuple[Tensor, Tensor, Tensor]:
        g = incoming(args, upstream)
        return g * mask, ops.zeros_like(mask), g * x + 0.0 * product

    return x * mask, gradient
