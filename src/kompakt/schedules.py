"""Functions from the training step to a value, as frozen dataclasses. Steps count batches from 0."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from kompakt.errors import InputError

_DEFINED: dict[str, type[Schedule]] = {}
"""Name in a configuration -> the class, of every schedule that is defined in this process."""


def _name_of(kind: type) -> str:
    """What a configuration calls a schedule: kompakt's by their class alone, others with their module."""
    return kind.__name__ if kind.__module__ == __name__ else f"{kind.__module__}.{kind.__qualname__}"


class Schedule(ABC):
    """A value a step, and whether the step is one at which the value acts.

    One of your own is a frozen dataclass made of this. A saved model that it prunes is loaded where its class has been
    defined: import the module first.

    Example:
        >>> @dataclass(frozen=True, kw_only=True)
        ... class Halves(Schedule):
        ...     begin: int = 0
        ...     end: int = -1
        ...     frequency: int = 100
        ...     def __call__(self, step):
        ...         return 1.0 - 0.5 ** (1 + step // 100)
        >>> Halves()(250), Halves().acts(250), Halves().acts(300)
        (0.875, False, True)
    """

    begin: int
    end: int
    frequency: int

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _DEFINED[_name_of(cls)] = cls

    @abstractmethod
    def __call__(self, step: int) -> float:
        """The value at ``step``."""

    def acts(self, step: int) -> bool:
        """Whether the mask is recomputed at ``step``: every ``frequency`` steps from ``begin`` to ``end``."""
        if step < self.begin or (0 <= self.end < step):
            return False
        return (step - self.begin) % self.frequency == 0 or step == self.end

    def last_act(self, first: int, last: int) -> int | None:
        """The last step in ``first..last`` at which the value acts, or None where there is none.

        Example:
            >>> Constant(0.5, begin=10, frequency=100).last_act(0, 500)
            410
        """
        if 0 <= self.end <= last:
            return self.end if first <= self.end else None
        found = last - (last - self.begin) % self.frequency
        return found if found >= max(first, self.begin) else None

    def to_config(self) -> dict[str, Any]:
        """Plain data that :func:`from_config` turns back into the schedule."""
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        return {"name": _name_of(type(self)), **{f.name: getattr(self, f.name) for f in fields if f.init}}


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
        if self.end != -1 and self.end < self.begin:
            raise InputError(
                f"Constant(begin={self.begin}, end={self.end}): would never act, expected end >= begin, "
                "or -1 for no end"
            )

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
        _check_rise(self, self.initial, self.final)
        if not isinstance(self.power, Real) or not 0 < self.power < math.inf:
            raise InputError(f"Polynomial(power={self.power!r}): expected more than 0, 3 is usual")

    def __call__(self, step: int) -> float:
        return self.final + (self.initial - self.final) * (1.0 - _done(self, step)) ** self.power


@dataclass(frozen=True)
class Cosine(Schedule):
    r"""Rise from ``initial`` to ``final`` along half a cosine between the steps ``begin`` and ``end``.

    .. math:: s_t = s_f + \frac{s_i - s_f}{2}\left(1 + \cos\left(\pi \frac{t - t_0}{t_1 - t_0}\right)\right)

    The form of Loshchilov and Hutter 2017, "SGDR", arXiv:1608.03983, section 3, equation (5), on a sparsity.

    Example:
        >>> s = Cosine(0.0, 0.8, begin=0, end=1000)
        >>> s(0), round(s(500), 6), s(1000)
        (0.0, 0.4, 0.8)
    """

    initial: float
    final: float
    begin: int
    end: int
    frequency: int = 100

    def __post_init__(self) -> None:
        _check_rise(self, self.initial, self.final)

    def __call__(self, step: int) -> float:
        return self.final + (self.initial - self.final) * (1.0 + math.cos(math.pi * _done(self, step))) / 2.0


@dataclass(frozen=True)
class OneShot(Schedule):
    """Nothing before ``begin``, then ``value``, acting once.

    Example:
        >>> s = OneShot(0.5, begin=10)
        >>> s(9), s(10), s.acts(10), s.acts(11)
        (0.0, 0.5, True, False)
    """

    value: float
    begin: int = 0
    end: int = dataclasses.field(init=False, default=-1)
    frequency: int = dataclasses.field(init=False, default=1)

    def __post_init__(self) -> None:
        object.__setattr__(self, "end", self.begin)
        _check_steps(self)
        _check_share(self, self.value)

    def __call__(self, step: int) -> float:
        return self.value if step >= self.begin else 0.0


@dataclass(frozen=True)
class Iterative(Schedule):
    r"""``rounds`` rounds, ``every`` steps apart: prune, fine-tune, prune again, each the same share of what is left.

    .. math:: s_r = 1 - (1 - s_f)^{r / n}, \quad r = 1 \ldots n

    Han et al. 2015, arXiv:1506.02626, section 3.3; Frankle and Carbin 2019, arXiv:1803.03635, section 2. With
    ``rewind=`` of ``kompakt.prune`` each round starts from the weights of an early step again.

    Example:
        >>> s = Iterative(0.75, rounds=2, begin=100, every=50)
        >>> s(0), s(100), s(149), s(150), s.acts(100), s.acts(101)
        (0.0, 0.5, 0.5, 0.75, True, False)
    """

    final: float
    rounds: int
    begin: int
    every: int
    end: int = dataclasses.field(init=False, default=-1)
    frequency: int = dataclasses.field(init=False, default=1)

    def __post_init__(self) -> None:
        if not (is_whole(self.rounds) and is_whole(self.every)) or self.rounds < 1 or self.every < 1:
            raise InputError(
                f"Iterative(rounds={self.rounds!r}, every={self.every!r}): expected both whole and 1 or more (every is "
                "in steps)"
            )
        if not is_whole(self.begin):
            _check_steps(self)
        object.__setattr__(self, "frequency", self.every)
        object.__setattr__(self, "end", self.begin + (self.rounds - 1) * self.every)
        _check_steps(self)
        _check_share(self, self.final)

    def __call__(self, step: int) -> float:
        done = min(self.rounds, (step - self.begin) // self.every + 1)
        return 0.0 if step < self.begin else 1.0 - (1.0 - self.final) ** (done / self.rounds)


SCHEDULES: dict[str, type[Schedule]] = {
    kind.__name__: kind for kind in (Constant, Polynomial, Cosine, OneShot, Iterative)
}


def from_config(config: Mapping[str, Any]) -> Schedule:
    """The schedule that ``to_config`` described.

    Example:
        >>> from_config(Constant(0.5).to_config()) == Constant(0.5)
        True
    """
    values = dict(config)
    name = values.pop("name", None)
    kind: Any = _DEFINED.get(name) if isinstance(name, str) else None
    if kind is None:
        own = f"; import {name.rpartition('.')[0]} first" if isinstance(name, str) and "." in name else ""
        raise InputError(f"unknown schedule {name!r}; known: {', '.join(SCHEDULES)}{own}")
    try:
        return kind(**values)
    except TypeError as error:
        raise InputError(f"schedule {name}: {error}") from None


def options(name: Any) -> tuple[str, ...]:
    """What the schedule called ``name`` is given; () for an unknown one.

    Example:
        >>> options("OneShot")
        ('value', 'begin')
    """
    kind: Any = SCHEDULES.get(name)
    return () if kind is None else tuple(f.name for f in dataclasses.fields(kind) if f.init)


def is_share(value: Any) -> bool:
    """Whether ``value`` is a number from 0 to 1.

    Example:
        >>> is_share(0.5), is_share("0.5"), is_share(True)
        (True, False, False)
    """
    return isinstance(value, Real) and not isinstance(value, bool) and 0.0 <= float(value) <= 1.0


def is_whole(value: Any) -> bool:
    """Whether ``value`` is a whole number, of Python or of NumPy.

    Example:
        >>> is_whole(2), is_whole(2.0), is_whole(True)
        (True, False, False)
    """
    return isinstance(value, Integral) and not isinstance(value, bool)


def _done(schedule: Schedule, step: int) -> float:
    """Share of the way from ``begin`` to ``end``, 0..1."""
    return min(1.0, max(0.0, (step - schedule.begin) / (schedule.end - schedule.begin)))


def _check_rise(schedule: Schedule, initial: float, final: float) -> None:
    _check_steps(schedule)
    _check_share(schedule, initial)
    _check_share(schedule, final)
    if schedule.end <= schedule.begin:
        name = type(schedule).__name__
        raise InputError(f"{name}(begin={schedule.begin}, end={schedule.end}): expected end > begin")


def _check_steps(schedule: Schedule) -> None:
    for name in ("begin", "end", "frequency"):
        value = getattr(schedule, name)
        if not is_whole(value):
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
    if not is_share(value):
        raise InputError(f"{type(schedule).__name__}: received {value!r}, expected a share from 0 to 1")
