"""Sparsity: multiply a weight by a mask."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kompakt.counted import Counted
from kompakt.errors import InputError
from kompakt.records import Encoding
from kompakt.schedules import Schedule, from_config, is_share, is_whole
from kompakt.summaries import Assigned, Fact, Share
from kompakt.topk import share_out
from kompakt.transform import Members, Tensor
from kompakt.transforms.patterns import Pattern, dropped, find_pattern, rounded
from kompakt.transforms.scores import find_score, masked_and_watched

SCOPES = ("layer", "global")


@keras.saving.register_keras_serializable(package="kompakt")
class Prune(Counted):
    r"""Pruning, :math:`w' = w \odot m`, with a mask of exactly the asked number of ones.

    At step :math:`t` of the schedule the :math:`\lfloor s_t n + 1/2 \rfloor` groups of weights of the lowest score are
    masked (Han et al. 2015, arXiv:1506.02626, section 3; Zhu and Gupta 2017, arXiv:1710.01878, section 3).
    Exact gradient: masked weights get none.

    Args:
        sparsity: share of zeros, 0..1; None keeps the zeros that are there ("keep"), or means what the pattern's
            name says ("2:4": a half) or the schedule ends at.
        schedule: sparsity a step, driven by ``callbacks.Update``; without one the mask is made at once.
        pattern: which weights go together: None (each alone), "2:4", "1x16", "channels", or a Pattern.
        score: which go first: "l1", "l2", "taylor", "movement" or "random".
        scope: "layer" (the share of each tensor) or "global" (of all tensors ranked together).
        limits: least and most share of zeros in this tensor where the scope is "global".
        rewind: training step whose weights are restored each time the mask grows (Frankle et al. 2020, "Linear
            Mode Connectivity and the Lottery Ticket Hypothesis", arXiv:1912.05671, section 4); None: no rewinding.
        seed: of the score "random".
        shortfall: what an earlier Prune, whose zeros this one keeps, did not come to; told with the file.

    Raises:
        InputError: a value out of range, an unknown pattern or score, or options that exclude each other.

    Example:
        >>> prune = Prune(0.5)
        >>> w = ops.array([[0.1, -2.0], [3.0, 0.2]])
        >>> prune.prepare(w, (-1,))
        >>> ops.convert_to_numpy(prune(w)).tolist()
        [[0.0, -2.0], [3.0, 0.0]]
    """

    spares_ends = True

    def __init__(
        self,
        sparsity: float | None = None,
        *,
        schedule: Schedule | Mapping[str, Any] | None = None,
        pattern: Pattern | str | Mapping[str, Any] | None = None,
        score: str = "l1",
        scope: str = "layer",
        limits: Sequence[float] = (0.0, 1.0),
        rewind: int | None = None,
        seed: int = 0,
        shortfall: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.sparsity = sparsity
        self.shortfall = shortfall
        self.schedule = _schedule(schedule)
        self.pattern = find_pattern(pattern)
        self.score = score
        self.scope = scope
        self.limits = _pair(limits)
        self.rewind = rewind
        self.seed = seed
        self._score = find_score(score)
        if self.sparsity is None and self.schedule is None:
            self.sparsity = self.pattern.natural()
        self._check()
        if self.schedule is None:
            self.frozen = True

    def _check(self) -> None:
        if self.sparsity is not None and not (is_share(self.sparsity) and self.sparsity < 1.0):
            raise InputError(f"sparsity {self.sparsity!r}: expected a share from 0 to below 1, such as 0.75")
        if self.schedule is not None and max(self.schedule(self.schedule.begin), self.goal or 0.0) >= 1.0:
            raise InputError(
                f"{self.schedule} reaches 1, which leaves no weight: expected shares below 1, such as 0.75"
            )
        if not is_whole(self.seed):
            raise InputError(f"seed {self.seed!r}: expected a whole number")
        if self.scope not in SCOPES:
            raise InputError(f"scope {self.scope!r}: expected one of {', '.join(SCOPES)}")
        self._check_scope()
        self._check_natural()
        self._check_steps()

    def _check_scope(self) -> None:
        if self.scope == "global" and not self.pattern.rankable:
            raise InputError(f"scope 'global' with {self.pattern}: it masks the same share everywhere; leave scope out")
        if self.scope == "layer" and self.limits != (0.0, 1.0):
            raise InputError("limits= belongs to scope='global': in scope 'layer' each tensor has the share asked")

    def _check_natural(self) -> None:
        wanted, named = self.goal, self.pattern.natural()
        if self.sparsity is not None and wanted is not None and abs(wanted - self.sparsity) > 1e-6:
            raise InputError(f"sparsity {self.sparsity}, but the schedule ends at {wanted:g}: expected the same")
        if wanted is not None and named is not None and abs(wanted - named) > 1e-6:
            raise InputError(f"{self.pattern} masks a share of {named}: received {wanted}; leave the sparsity out")

    def _check_steps(self) -> None:
        if self._score.learn is not None and (self.schedule is None or self.schedule.begin < 1):
            raise InputError(
                f"score {self.score!r} is gathered in training: give a schedule= that begins after step 0, such as "
                "kompakt.schedules.Polynomial(0.0, 0.75, begin=100, end=1000)"
            )
        if self.rewind is None:
            return
        if not is_whole(self.rewind) or self.schedule is None or not 0 <= self.rewind <= self.schedule.begin:
            raise InputError(
                f"rewind={self.rewind!r}: expected a step, a whole number from 0 to the schedule's begin, and a "
                "schedule= that masks in rounds, such as kompakt.schedules.Iterative"
            )

    @property
    def trains_alone(self) -> bool:  # type: ignore[override]
        """A mask with a schedule needs somebody to count the steps."""
        return self.schedule is None

    @property
    def along_inputs(self) -> bool:  # type: ignore[override]
        """Whether its pattern has groups of input channels, all of the same size."""
        return not self.keeps and self.pattern.along_inputs

    @property
    def goal(self) -> float | None:
        """The sparsity at the end of the schedule, or the one asked."""
        if self.schedule is None:
            return self.sparsity
        return self.schedule(max(self.schedule.begin, self.schedule.end))

    @property
    def keeps(self) -> bool:
        """Whether it only keeps the zeros that are there."""
        return self.sparsity is None and self.schedule is None

    def build(self, shape: Sequence[int]) -> None:
        shape = tuple(shape)
        self.mask = self.add_weight(shape=shape, initializer="ones", trainable=False, name="mask")
        if self.schedule is not None:
            start = keras.initializers.Constant(-1.0)  # it has not acted yet
            self.reached = self.add_weight(shape=(), initializer=start, trainable=False, name="reached")
        if self._score.learn is not None:
            self.memory = self.add_weight(shape=shape, initializer="zeros", trainable=False, name="memory")
            # The optimizer overwrites it with its "gradient": gradient times weight of the last step.
            self.product = self.add_weight(
                shape=shape, initializer="zeros", name="product", overwrite_with_gradient=True
            )
        if self.rewind is not None:
            self.early = self.add_weight(shape=shape, initializer="zeros", trainable=False, name="early")
        if self.schedule is not None:
            self.build_steps()
        self.built = True

    def prepare(self, value: Tensor, axis: Sequence[int]) -> None:
        super().prepare(value, axis)
        reason = self.unfit(value.shape, self.axis or ())
        if reason is not None:
            raise InputError(f"a tensor of shape {tuple(value.shape)} cannot be pruned like this: {reason}")
        if self.keeps:
            self.mask.assign(ops.cast(value != 0, "float32"))
        elif self.schedule is not None:
            self.update(0, value)
        elif self.pool() is None:
            self.mask_to(self.sparsity or 0.0, value)

    def unfit(self, shape: Sequence[int], axis: Sequence[int]) -> str | None:
        return None if self.keeps else self.pattern.unfit(shape, axis)

    def scores(self, value: Tensor) -> Tensor:
        """Score of each weight of ``value``, of its shape."""
        memory = None if self._score.learn is None else self._score.learn(self.memory, self.product)
        return self._score.of(value, memory, self.seed)

    def mask_to(self, sparsity: float, value: Tensor) -> None:
        """Mask the ``sparsity`` share of the groups of ``value`` with the lowest score, exactly that many."""
        self.mask.assign(self.pattern.mask(self.scores(value), sparsity, self.axis or ()))

    def call(self, x: Tensor, training: bool = False) -> Tensor:
        self.check_driven(training)
        if training and self._score.learn is not None and not self.frozen:
            self.memory.assign(self._score.learn(self.memory, self.product))
            mask, product = ops.convert_to_tensor(self.mask), ops.convert_to_tensor(self.product)
            return masked_and_watched(x, mask, product)
        return x * self.mask

    def acts(self, step: int) -> bool:
        return self.schedule is not None and (step == self.rewind or self.schedule.acts(step))

    def keep(self) -> Prune:
        return Prune(shortfall=self._shortfall(tuple(self.mask.shape)))

    def pool(self) -> Hashable | None:
        if self.scope == "layer" or self.keeps:
            return None
        return (self.sparsity, self.schedule, self.pattern, self.score)

    def update(self, step: int, value: Tensor) -> Tensor | None:
        if self.schedule is None or not self.acts(step):
            return None
        if step == self.rewind:
            self.early.assign(_copied(value))
        if not self.schedule.acts(step):
            return None
        if self.pool() is None:
            self.mask_to(self.schedule(step), value)
        self.reached.assign(float(step))
        return None if self.rewind is None or step == self.rewind else _copied(self.early)

    @classmethod
    def update_pool(cls, step: int, members: Members) -> None:
        """Mask what is least among all tensors together, to the share of the schedule or the one asked."""
        first = members[0][0]
        _check_within(first.goal or 0.0, members)
        if first.schedule is not None and not first.schedule.acts(step):
            return
        share = first.sparsity or 0.0 if first.schedule is None else first.schedule(step)
        found = [(t, t.scores(value), math.prod(value.shape)) for t, value in members]
        groups = [t.pattern.groups(score.shape, t.axis or ()) for t, score, _ in found]
        counts = share_out(
            [t.pattern.group_scores(score, t.axis or ()) for t, score, _ in found],
            [size // n for (_, _, size), n in zip(found, groups, strict=True)],
            dropped(sum(size for _, _, size in found), share),
            [_least_and_most(n, t.limits) for (t, _, _), n in zip(found, groups, strict=True)],
        )
        for (transform, score, _), count in zip(found, counts, strict=True):
            transform.mask.assign(transform.pattern.keep(score, count, transform.axis or ()))

    def last_step(self) -> int:
        """The training step at which the schedule acted last; -1 where it has not acted yet."""
        return 0 if self.schedule is None else int(ops.convert_to_numpy(self.reached))

    def steps_done(self) -> int:
        """The count, or, of files from before there was one, what the last act tells: its step was made, too."""
        last = self.last_step()
        return max(super().steps_done(), last + 1 if last > 0 else 0)

    def check_plan(self, first: int, last: int) -> None:
        if self.schedule is None or self.frozen or first > self.schedule.end >= 0:
            return
        if self.last_step() >= 0 and self.schedule(self.last_step()) > 0.0:  # it has masked something
            return
        if self.rewind is not None and self.rewind < first and not np.any(ops.convert_to_numpy(self.early)):
            raise InputError(
                f"rewind={self.rewind}: this training starts at step {first}, and the weights of that step were not "
                f"kept: give a rewind= from {first} to the schedule's begin, or compile with a new optimizer"
            )
        act = self.schedule.last_act(first, last)
        if act is None or self.schedule(act) == 0.0:
            raise InputError(
                f"{self.schedule} would do nothing in the {last - first + 1} steps of this training (steps are "
                "batches): begin earlier, act more often (frequency=), or train longer"
            )

    def check_optimizer(self, optimizer: Any) -> None:
        if self._score.learn is None or self.frozen:
            return
        spoils = {
            "gradient_accumulation_steps": optimizer.gradient_accumulation_steps,
            "use_ema": optimizer.use_ema,
            "a loss scale that changes (compile with auto_scale_loss=False)": isinstance(
                optimizer, keras.optimizers.LossScaleOptimizer
            ),
        }
        found = [name for name, used in spoils.items() if used]
        if found:
            raise InputError(
                f"score {self.score!r} is gathered from the gradients of each step, which the optimizer changes by "
                f"{' and '.join(found)}: leave that out, or give score='l1'"
            )

    def describe(self, value: Tensor, so_far: Encoding) -> Encoding:
        zeros = int(ops.convert_to_numpy(ops.sum(ops.cast(value == 0, "int32"))))
        return dataclasses.replace(so_far, zeros=zeros, shortfall=self._shortfall(value.shape))

    def _shortfall(self, shape: Sequence[int]) -> str:
        """What was asked of a tensor of ``shape`` and is not there, in words."""
        if self.keeps:
            return self.shortfall
        goal = self.goal or 0.0
        reached = goal if self.schedule is None else self.schedule(self.last_step())
        if reached < goal:
            digits = 3 if f"{reached:.3g}" != f"{goal:.3g}" else 9  # 0.8 of 0.8 says nothing
            return (
                f"pruned to {reached:.{digits}g} of the {goal:g} asked: training ended before the schedule "
                f"{self.schedule} did"
            )
        return self._spared(shape, goal)

    def _spared(self, shape: Sequence[int], goal: float) -> str:
        """The one group that is kept where all of them would have been masked, in words."""
        groups = self.pattern.groups(shape, self.axis or ())
        text = f"1 of its {groups} groups of weights is kept"
        if self.scope == "layer":
            whole = rounded(groups, goal) == groups
            return (
                f"{text}, though a share of {goal:g} of them comes to all: no tensor is masked whole" if whole else ""
            )
        kept = int(ops.convert_to_numpy(ops.sum(self.pattern.group_scores(self.mask, self.axis or ()))))
        if kept > 1 or int(self.limits[1] * groups) < groups:
            return ""
        return f"{text}, the least in scope 'global': give lower limits= to keep more"

    def summaries(self, value: Tensor | None) -> dict[str, Fact]:
        """The share of zeros that there is and that was asked by now (all over in scope "global"), and the mask."""
        if value is None:
            return {}
        zeros = ops.convert_to_numpy(value * self.mask) == 0
        told: dict[str, Fact] = {"sparsity": Share(float(zeros.mean()))}
        if not self.keeps:
            told["sparsity_asked"] = Share(self._asked())
        if not self.frozen:
            told["mask_change"] = Assigned(ops.convert_to_numpy(self.mask) > 0)
        return told

    def _asked(self) -> float:
        """The sparsity of the schedule where it acted last, or the one asked."""
        return self.sparsity or 0.0 if self.schedule is None else self.schedule(self.last_step())

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "sparsity": self.sparsity,
            "schedule": None if self.schedule is None else self.schedule.to_config(),
            "pattern": self.pattern.to_config(),
            "score": self.score,
            "scope": self.scope,
            "limits": list(self.limits),
            "rewind": self.rewind,
            "seed": self.seed,
            "shortfall": self.shortfall,
        }


def _schedule(given: Any) -> Schedule | None:
    if given is None or isinstance(given, Schedule):
        return given
    if isinstance(given, Mapping):
        return from_config(given)
    raise InputError(
        f"schedule {given!r}: expected one of kompakt.schedules, such as Polynomial(0.0, 0.75, begin=0, end=1000)"
    )


def _pair(limits: Any) -> tuple[float, float]:
    try:
        low, high = limits
    except (TypeError, ValueError):
        low = high = None
    if not (is_share(low) and is_share(high) and low <= high):
        raise InputError(f"limits {limits!r}: expected (least, most), two shares from 0 to 1, the lower first")
    return float(low), float(high)


def _check_within(goal: float, members: Members) -> None:
    """Refuse a share that the limits of the tensors do not admit."""
    sizes = [math.prod(value.shape) for _, value in members]
    least, most = (sum(n * t.limits[i] for n, (t, _) in zip(sizes, members, strict=True)) / sum(sizes) for i in (0, 1))
    if not least - 1e-6 <= goal <= most + 1e-6:
        raise InputError(
            f"sparsity {goal:g} with limits= that admit shares from {least:.3g} to {most:.3g} of all {len(members)} "
            "tensors together: expected one between, change either"
        )


def _least_and_most(groups: int, limits: tuple[float, float]) -> tuple[int, int]:
    """Fewest and most groups that may go; not all of them where fewer are enough."""
    least = dropped(groups, limits[0])
    return least, max(least, min(int(limits[1] * groups), groups - 1))


def _copied(value: Tensor) -> np.ndarray:
    """In memory of its own: the JAX trainer gives the memory of a variable away, and two cannot share it."""
    return np.array(ops.convert_to_numpy(value))
