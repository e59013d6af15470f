"""A transform that knows how many training steps it has been through, whatever becomes of the optimizer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras import ops

from kompakt.transform import Transform


class Counted(Transform):
    """A Transform with a count of training steps among its weights: saved with the model, as its other state is.

    To write the weight at each step is dear where the JAX trainer has to hand all weights back for it (9 ms a step of
    a MobileNetV2, whose step takes 200). So the number is only kept in mind, and written when somebody is about to read
    it: as the model's config is asked, which comes first in each way of saving or copying it; as weights are saved
    alone; and where :meth:`follow` is called, which ``callbacks.Update`` does after each epoch and at the end.

    Example:
        >>> class Doubled(Counted):
        ...     def build(self, shape):
        ...         self.build_steps()
        ...     def call(self, x, training=False):
        ...         return 2.0 * x
        >>> doubled = Doubled()
        >>> doubled.build(())
        >>> doubled.follow(lambda: 7)  # what a callback does as training begins
        >>> doubled.follow(None)
        >>> doubled.steps_done()
        7
    """

    steps: Any = None
    """The weight, or None where there is no schedule that would need it."""

    _told: Callable[[], int | None] | None = None
    _known: int | None = None  # what was told when other weights were loaded: it is not of these

    def build_steps(self) -> None:
        """Make the weight, as the last one: files from before it was there have the others alone."""
        self.steps = self.add_weight(shape=(), dtype="int", initializer="zeros", trainable=False, name="steps")

    def steps_done(self) -> int:
        return 0 if self.steps is None else int(ops.convert_to_numpy(self.steps))

    def follow(self, told: Callable[[], int | None] | None) -> None:
        self._settle()
        self._told, self._known = told, None

    def _settle(self) -> None:
        done = None if self._told is None else self._told()
        if self.steps is not None and done is not None and done != self._known:
            self.steps.assign(done)

    def get_config(self) -> dict[str, Any]:
        self._settle()
        return super().get_config()

    def save_own_variables(self, store: Any) -> None:
        self._settle()
        super().save_own_variables(store)

    def load_own_variables(self, store: Any) -> None:
        self._known = None if self._told is None else self._told()
        own = [*self._trainable_variables, *self._non_trainable_variables]
        if self.steps is None or len(store.keys()) != len(own) - 1:
            super().load_own_variables(store)
            return
        for i, variable in enumerate(own[:-1]):  # a file from before there was the count
            variable.assign(store[str(i)])
        self.steps.assign(0)
