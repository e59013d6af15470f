"""Sparsity: multiply a weight by a mask."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kompakt.errors import InputError
from kompakt.numerics import keep_topk
from kompakt.records import Encoding
from kompakt.schedules import Schedule, from_config
from kompakt.transform import Tensor, Transform


@keras.saving.register_keras_serializable(package="kompakt")
class Prune(Transform):
    r"""Unstructured magnitude pruning, :math:`w' = w \odot m` with a mask of exactly the asked number of ones.

    At step :math:`t` of the schedule the :math:`\lfloor s_t n + 1/2 \rfloor` weights smallest in magnitude are
    masked (Han et al. 2015, arXiv:1506.02626, section 3; Zhu and Gupta 2017, arXiv:1710.01878, section 3).
    Exact gradient: masked weights get none.

    Args:
        sparsity: share of zeros, 0..1; None keeps the zeros that are there ("keep").
        schedule: sparsity a step, driven by ``callbacks.Update``; without one the mask is made at once.

    Example:
        >>> prune = Prune(0.5)
        >>> w = ops.array([[0.1, -2.0], [3.0, 0.2]])
        >>> prune.prepare(w, (-1,))
        >>> ops.convert_to_numpy(prune(w)).tolist()
        [[0.0, -2.0], [3.0, 0.0]]
    """

    def __init__(
        self,
        sparsity: float | None = None,
        *,
        schedule: Schedule | dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if sparsity is not None and not 0.0 <= sparsity < 1.0:
            raise InputError(f"sparsity {sparsity}: expected a share from 0 to below 1, such as 0.75")
        self.sparsity = sparsity
        self.schedule = from_config(schedule) if isinstance(schedule, dict) else schedule
        self._check_end()
        if self.schedule is None:
            self.frozen = True

    def _check_end(self) -> None:
        """Refuse a schedule that leads elsewhere than ``sparsity``: only one of the two would be done."""
        if self.schedule is None:
            return
        if self.sparsity is None:
            raise InputError("schedule= needs a sparsity: Prune(0.75, schedule=...)")
        final = self.schedule(max(self.schedule.begin, self.schedule.end))
        if abs(final - self.sparsity) > 1e-6:
            raise InputError(f"sparsity {self.sparsity}, but the schedule ends at {final}: expected the same")

    @property
    def trains_alone(self) -> bool:  # type: ignore[override]
        """A mask with a schedule needs somebody to count the steps."""
        return self.schedule is None

    def build(self, shape: Sequence[int]) -> None:
        self.mask = self.add_weight(shape=tuple(shape), initializer="ones", trainable=False, name="mask")
        if self.schedule is not None:
            self.reached = self.add_weight(shape=(), initializer="zeros", trainable=False, name="reached")
        self.built = True

    def prepare(self, value: Tensor, axis: Sequence[int]) -> None:
        super().prepare(value, axis)
        if self.sparsity is None:
            self.mask.assign(ops.cast(value != 0, "float32"))
        elif self.schedule is None:
            self.mask_to(self.sparsity, value)
        else:
            self.update(0, value)

    def mask_to(self, sparsity: float, value: Tensor) -> None:
        """Mask the ``sparsity`` share of ``value`` that is smallest in magnitude, exactly that many."""
        size = 1
        for n in value.shape:
            size *= int(n)
        self.mask.assign(keep_topk(ops.abs(value), size - int(sparsity * size + 0.5)))

    def call(self, x: Tensor, training: bool = False) -> Tensor:
        self.check_driven(training)
        return x * self.mask

    def acts(self, step: int) -> bool:
        return self.schedule is not None and self.schedule.acts(step)

    def keep(self) -> Prune:
        return Prune()

    def update(self, step: int, value: Tensor) -> None:
        if self.schedule is not None and self.acts(step):
            self.mask_to(self.schedule(step), value)
            self.reached.assign(float(step))

    def last_step(self) -> int:
        return 0 if self.schedule is None else int(ops.convert_to_numpy(self.reached))

    def describe(self, value: Tensor, so_far: Encoding) -> Encoding:
        zeros = int(ops.convert_to_numpy(ops.sum(ops.cast(value == 0, "int32"))))
        return dataclasses.replace(so_far, zeros=zeros)

    def get_config(self) -> dict[str, Any]:
        schedule = None if self.schedule is None else self.schedule.to_config()
        return {**super().get_config(), "sparsity": self.sparsity, "schedule": schedule}
