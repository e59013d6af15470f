"""How much is pruned at which step, as tfmot writes it: thin names over :mod:`kompakt.schedules`."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import keras
from keras import ops

from kompakt.errors import InputError
from kompakt.schedules import Constant, Polynomial, Schedule, is_share, is_whole

Pair = tuple[Any, Any]
"""(whether the mask is made anew, share of zeros from 0 to below 1)."""


class PruningSchedule(ABC):
    """Says for a step, by a call, whether the mask is made anew and with what share of zeros.

    A class of your own drives the masks as it is. Steps are batches, counted from 0, whole numbers of Python; those
    below take tensors too, also in a function that is compiled (``tf.function``). To load a model that has one of your
    own, name its class in ``keras.saving.custom_object_scope`` or ``custom_objects=``.

    Example:
        >>> class Twice(PruningSchedule):
        ...     def __call__(self, step):
        ...         return step in (0, 50), 0.25 if step < 50 else 0.5
        ...     def get_config(self):
        ...         return {"class_name": "Twice", "config": {}}
        >>> Twice()(50), Twice()(51)
        ((True, 0.5), (False, 0.5))
    """

    @abstractmethod
    def __call__(self, step: Any) -> Pair:
        """(should prune, sparsity) at ``step``."""

    @abstractmethod
    def get_config(self) -> dict[str, Any]:
        """``{"class_name": ..., "config": what __init__ takes}``."""

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> PruningSchedule:
        """The schedule of which this is :meth:`get_config`, or the "config" in it."""
        return cls(**_inner(config))

    def as_kompakt(self) -> Schedule:
        """The schedule by which kompakt prunes."""
        return Called(self)

    def _should_prune_in_step(self, step: Any, begin_step: int, end_step: int, frequency: int) -> Any:
        """For classes made of this one: every ``frequency`` steps from ``begin_step`` to ``end_step`` (-1: no end)."""
        return (step >= begin_step) & ((step <= end_step) | (end_step < 0)) & ((step - begin_step) % frequency == 0)

    def _validate_step(self, begin_step: int, end_step: int, frequency: int, allow_negative_1: bool) -> None:
        """For classes made of this one: refuse steps that make no schedule."""
        name = type(self).__name__
        for key, value in (("begin_step", begin_step), ("end_step", end_step), ("frequency", frequency)):
            if not is_whole(value):
                raise InputError(f"{name}({key}={value!r}): expected a whole number of steps (batches)")
        if end_step == -1 and not allow_negative_1:
            raise InputError(f"{name}(end_step=-1): expected a step, at which its sparsity is reached")
        if begin_step < 0 or frequency < 1:
            raise InputError(
                f"{name}(begin_step={begin_step}, frequency={frequency}): expected begin_step >= 0 and frequency >= 1 "
                "(steps are batches)"
            )
        if end_step != -1 and end_step < begin_step:
            raise InputError(
                f"{name}(begin_step={begin_step}, end_step={end_step}): would never act, expected an end after the "
                f"begin{', or -1 for no end' if allow_negative_1 else ''}"
            )

    def _validate_sparsity(self, sparsity: float, variable_name: str) -> None:
        """For classes made of this one: refuse what is no share below 1."""
        if not (is_share(sparsity) and sparsity < 1.0):
            raise InputError(
                f"{type(self).__name__}({variable_name}={sparsity!r}): expected a share from 0 to below 1, such as 0.75"
            )


class ConstantSparsity(PruningSchedule):
    """The same share of zeros from ``begin_step`` on: :class:`kompakt.schedules.Constant`.

    The mask is made at ``begin_step`` itself, at ``end_step`` and every ``frequency`` steps between. tfmot, which
    counts from 1, first acts at step 100 where this begins at 0, so that a short training prunes nothing there.

    Args:
        target_sparsity: 0 to below 1. begin_step, end_step: batches; -1: no end. frequency: batches.

    Raises:
        InputError: one of them out of its range.

    Example:
        >>> act, sparsity = ConstantSparsity(0.5, begin_step=0)(100)
        >>> bool(act), float(sparsity)
        (True, 0.5)
    """

    def __init__(self, target_sparsity: float, begin_step: int, end_step: int = -1, frequency: int = 100) -> None:
        self._validate_sparsity(target_sparsity, "target_sparsity")
        self._validate_step(begin_step, end_step, frequency, True)
        self.target_sparsity = target_sparsity
        self.begin_step, self.end_step, self.frequency = begin_step, end_step, frequency

    def _schedule(self) -> Schedule:
        return Constant(self.target_sparsity, self.begin_step, self.end_step, self.frequency)

    def __call__(self, step: Any) -> Pair:
        return _acts(self._schedule(), step), _share_tensor(self.target_sparsity)

    def as_kompakt(self) -> Schedule:
        return self._schedule() if type(self) is ConstantSparsity else super().as_kompakt()

    def get_config(self) -> dict[str, Any]:
        names = ("target_sparsity", "begin_step", "end_step", "frequency")
        return {"class_name": type(self).__name__, "config": {name: getattr(self, name) for name in names}}


class PolynomialDecay(PruningSchedule):
    """The share rises from one to another along a polynomial: :class:`kompakt.schedules.Polynomial`.

    It also acts at the last step, whatever ``frequency`` is, so that ``final_sparsity`` is reached where ``end_step``
    is the number of steps: tfmot counts them from 1, so that a mask is driven to the end one step earlier here.

    Args:
        initial_sparsity, final_sparsity: 0 to below 1. begin_step, end_step, frequency: batches. power: of the curve.

    Raises:
        InputError: one of them out of its range, or an end that is not after the begin.

    Example:
        >>> schedule = PolynomialDecay(0.0, 0.8, begin_step=0, end_step=1000)
        >>> [round(float(schedule(step)[1]), 3) for step in (0, 500, 1000)], bool(schedule(1000)[0])
        ([0.0, 0.7, 0.8], True)
    """

    def __init__(
        self,
        initial_sparsity: float,
        final_sparsity: float,
        begin_step: int,
        end_step: int,
        power: float = 3,
        frequency: int = 100,
    ) -> None:
        self._validate_sparsity(initial_sparsity, "initial_sparsity")
        self._validate_sparsity(final_sparsity, "final_sparsity")
        self._validate_step(begin_step, end_step, frequency, False)
        self.initial_sparsity, self.final_sparsity, self.power = initial_sparsity, final_sparsity, power
        self.begin_step, self.end_step, self.frequency = begin_step, end_step, frequency
        if end_step == begin_step:
            raise InputError(
                f"{type(self).__name__}(begin_step={begin_step}, end_step={end_step}): expected an end after the begin"
            )
        if not (isinstance(power, Real) and 0 < power < math.inf):
            raise InputError(f"{type(self).__name__}(power={power!r}): expected more than 0, 3 is usual")

    def _schedule(self) -> Polynomial:
        return Polynomial(
            self.initial_sparsity, self.final_sparsity, self.begin_step, self.end_step, self.power, self.frequency
        )

    def __call__(self, step: Any) -> Pair:
        schedule = self._schedule()
        if is_whole(step):
            return _acts(schedule, step), _share_tensor(schedule(int(step)))
        return _acts(schedule, step), _rising(schedule, step)

    def as_kompakt(self) -> Schedule:
        if type(self) is not PolynomialDecay:
            return super().as_kompakt()
        end = max(self.end_step - 1, self.begin_step + 1)
        return dataclasses.replace(self._schedule(), end=end)

    def get_config(self) -> dict[str, Any]:
        names = ("initial_sparsity", "final_sparsity", "power", "begin_step", "end_step", "frequency")
        return {"class_name": type(self).__name__, "config": {name: getattr(self, name) for name in names}}


@dataclass(frozen=True)
class Called(Schedule):
    """A user's PruningSchedule as one of kompakt's: what its call says.

    Example:
        >>> schedule = Called(ConstantSparsity(0.5, 0))
        >>> schedule.acts(100), schedule.acts(101), schedule(101)
        (True, False, 0.5)
    """

    asked: PruningSchedule
    begin: int = field(init=False, default=0)
    end: int = field(init=False, default=-1)
    frequency: int = field(init=False, default=1)

    def __post_init__(self) -> None:
        _IN_MEMORY[_where(type(self.asked))] = type(self.asked)

    def __call__(self, step: int) -> float:
        return self._pair(step)[1]

    def acts(self, step: int) -> bool:
        return self._pair(step)[0]

    def last_act(self, first: int, last: int) -> int | None:
        return next((step for step in range(last, first - 1, -1) if self.acts(step)), None)

    def _pair(self, step: int) -> tuple[bool, float]:
        said = self.asked(step)
        try:
            act, share = said
            found = bool(act), float(share)
        except (TypeError, ValueError):
            found = None
        if found is None or not (is_share(found[1]) and found[1] < 1.0):
            raise InputError(
                f"{type(self.asked).__name__}()({step}) gave {said!r}: expected (whether to prune, sparsity from 0 to "
                "below 1)"
            )
        return found

    def __str__(self) -> str:
        return type(self.asked).__name__

    def to_config(self) -> dict[str, Any]:
        kind = type(self.asked)
        return {"class_name": kind.__name__, "where": _where(kind), "config": _inner(self.asked.get_config())}


_IN_MEMORY: dict[str, type[PruningSchedule]] = {}
"""Where a class is defined -> the class, of schedules that prune something in this process: copies need no scope."""


def read_called(config: Mapping[str, Any]) -> Called:
    """The :class:`Called` of which this is ``to_config``.

    Raises:
        InputError: its class is not known here.
    """
    name = config["class_name"]
    kind = keras.saving.get_registered_object(name) or _IN_MEMORY.get(str(config.get("where")))
    if kind is None:
        raise InputError(
            f"the pruning schedule {name!r} is not known here: load the model in "
            f"keras.saving.custom_object_scope({{{name!r}: {name}}})"
        )
    return Called(kind.from_config(config["config"]))


def schedule_of(given: Any) -> Schedule:
    """kompakt's schedule of a PruningSchedule, or one of kompakt's as it is.

    Raises:
        InputError: neither.

    Example:
        >>> schedule_of(ConstantSparsity(0.5, 0))
        Constant(value=0.5, begin=0, end=-1, frequency=100)
    """
    if isinstance(given, PruningSchedule):
        return given.as_kompakt()
    if isinstance(given, Schedule):
        return given
    raise InputError(
        f"pruning_schedule {given!r}: expected a PruningSchedule, such as PolynomialDecay(0.0, 0.8, 0, 1000)"
    )


def _inner(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is for ``__init__`` in a config that may have the name of the class around it."""
    return config["config"] if set(config) == {"class_name", "config"} else config


def _where(kind: type) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


def _acts(schedule: Schedule, step: Any) -> Any:
    """``schedule.acts`` as a tensor; of a tensor too, which has no value where a function is compiled."""
    if is_whole(step):
        return ops.convert_to_tensor(schedule.acts(int(step)))
    step = ops.convert_to_tensor(step)
    due = ops.logical_or(ops.equal((step - schedule.begin) % schedule.frequency, 0), ops.equal(step, schedule.end))
    inside = (
        ops.logical_and(step >= schedule.begin, step <= schedule.end) if schedule.end >= 0 else step >= schedule.begin
    )
    return ops.logical_and(inside, due)


def _rising(schedule: Polynomial, step: Any) -> Any:
    """What ``schedule`` gives at a step that is a tensor, float32."""
    since = ops.cast(ops.convert_to_tensor(step) - schedule.begin, "float32")
    left = 1.0 - ops.clip(since / (schedule.end - schedule.begin), 0.0, 1.0)
    return schedule.final + (schedule.initial - schedule.final) * left**schedule.power


def _share_tensor(share: float) -> Any:
    return ops.convert_to_tensor(share, dtype="float32")
