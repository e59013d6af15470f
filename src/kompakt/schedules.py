"""Functions from the training step to a value, as frozen dataclasses. Steps count batches from 0."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Any

from kompakt.errors import InputError


class Schedule(ABC):
    """A value a step, and whether the step is one at which the value acts."""

    begin: int
    end: int
    frequency: int

    @abstractmethod
    def __call__(self, step: int) -> float:
        """The value at ``step``."""

    def acts(self, step: int) -> bool:
        """Whether the mask is recomputed at ``step``: every ``frequency`` steps from ``begin`` to ``end``."""
        if step < self.begin or (0 <= self.end < step):
            return False
        return (step - self.begin) % self.frequency == 0 or step == self.end

    def to_config(self) -> dict[str, Any]:
        """Plain data that :func:`from_config` turns back into the schedule."""
        return {"name": type(self).__name__, **dataclasses.asdict(self)}  # type: ignore[call-overload]


@dataclass(frozen=True)
class Constant(Schedule):
    """The same value from ``begin`` on, 0 before; ``end`` -1 means for ever.

    Example:
        >>> Constant(0.5, begin=10)(9), Constant(0.5, begin=10)(10)
        (0.0, 0.5)
    """

    value: float
    begin: int = 0
    end: int = -1
    frequency: int = 100

    def __post_init__(self) -> None:
        _check_steps(self)
        _check_share(self, self.value)

    def __call__(self, step: int) -> float:
        return self.value if step >= self.begin else 0.0


@dataclass(frozen=True)
class Polynomial(Schedule):
    r"""Rise from ``initial`` to ``final`` between the steps ``begin`` and ``end``.

    .. math:: s_t = s_f + (s_i - s_f)\left(1 - \frac{t - t_0}{t_1 - t_0}\right)^{power}

    Zhu and Gupta 2017, "To prune, or not to prune", arXiv:1710.01878, section 3, equation (1).

    Example:
        >>> s = Polynomial(0.0, 0.75, begin=0, end=1000)
        >>> s(0), s(1000), s(5000)
        (0.0, 0.75, 0.75)
    """

    initial: float
    final: float
    begin: int
    end: int
    power: float = 3.0
    frequency: int = 100

    def __post_init__(self) -> None:
        _check_steps(self)
        _check_share(self, self.initial)
        _check_share(self, self.final)
        if self.end <= self.begin:
            raise InputError(f"Polynomial(begin={self.begin}, end={self.end}): expected end > begin")
        if not self.power > 0:
            raise InputError(f"Polynomial(power={self.power}): expected more than 0, 3 is usual")

    def __call__(self, step: int) -> float:
        done = min(1.0, max(0.0, (step - self.begin) / (self.end - self.begin)))
        return self.final + (self.initial - self.final) * (1.0 - done) ** self.power


SCHEDULES: dict[str, type[Schedule]] = {"Constant": Constant, "Polynomial": Polynomial}


def from_config(config: Mapping[str, Any]) -> Schedule:
    """The schedule that ``to_config`` described.

    Example:
        >>> from_config(Constant(0.5).to_config()) == Constant(0.5)
        True
    """
    values = dict(config)
    name = values.pop("name", None)
    if not isinstance(name, str) or name not in SCHEDULES:
        raise InputError(f"unknown schedule {name!r}; known: {', '.join(SCHEDULES)}")
    try:
        return SCHEDULES[name](**values)
    except TypeError as error:
        raise InputError(f"schedule {name}: {error}") from None


def _check_steps(schedule: Schedule) -> None:
    for name in ("begin", "end", "frequency"):
        value = getattr(schedule, name)
        if not isinstance(value, Integral):
            raise InputError(
                f"{type(schedule).__name__}({name}={value!r}): expected a whole number of steps; "
                'shares of the training are for recipes, with "unit": "share"'
            )
    if schedule.begin < 0 or schedule.frequency < 1:
        raise InputError(
            f"{type(schedule).__name__}(begin={schedule.begin}, frequency={schedule.frequency}): "
            "expected begin >= 0 and frequency >= 1 (steps are batches)"
        )


def _check_share(schedule: Schedule, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise InputError(f"{type(schedule).__name__}: received {value}, expected a share from 0 to 1")
