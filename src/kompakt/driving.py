"""Count training steps for the schedules of a model's transforms; nothing numeric is here."""

from __future__ import annotations

from itertools import chain
from typing import Any

import keras
from keras import ops

from kompakt.attach import chains_of, drive
from kompakt.transform import Chain


def trained(model: Any) -> keras.Model:
    """The model that has the transforms: of a distillation the student."""
    return model.student if isinstance(model, keras.distillation.Distiller) else model


def synced(model: Any) -> None:
    """Take the weights back from the JAX trainer, which keeps them to itself between batches."""
    if keras.backend.backend() == "jax":
        model.jax_state_sync()


class Update(keras.callbacks.Callback):  # type: ignore[misc]
    """Counts training steps for the schedules of the model's transforms.

    In your own loop call ``set_model(model)``, ``on_train_begin()``, ``on_train_batch_begin(step)`` before each
    step and ``on_train_end()`` at the end. Where Keras runs several steps at once (``steps_per_execution``), what
    is due between them acts after the last of them: give it before callbacks that save the model there.

    How many steps are done is saved with the model, in each of Keras' formats: training goes on there with a new
    optimizer, too.

    Example:
        >>> import kompakt as kp, numpy as np
        >>> m = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8), keras.layers.Dense(2)])
        >>> p = kp.prune(m, 0.5, schedule=kp.schedules.Constant(0.5, begin=2, frequency=1))
        >>> p.compile("sgd", "mse")
        >>> x, y = np.zeros((32, 4)), np.zeros((32, 2))
        >>> _ = p.fit(x, y, batch_size=8, verbose=0, callbacks=[kp.callbacks.Update()])
    """

    def __init__(self) -> None:
        super().__init__()
        self.step: int | None = None  # the next that nothing has acted at yet
        self._before = 0
        self._epoch = 0
        self._chains: list[Chain] = []

    def on_train_begin(self, logs: Any = None) -> None:
        chains = [each for _, each, _ in chains_of(trained(self.model))]
        self._drive(False)  # a training that was broken off had no end
        self._chains = chains
        self._drive(True)
        self.step = None
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch
        self._before = self.step if self.step is not None else 0

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if self.step is None:
            done, counted = self._steps_done()
            self._before = done - batch
            # A file that was written while several steps ran at once lacks what was due between them.
            self.step = counted or done
            self._check_plan(done, batch)
        self._act_up_to(self._before + batch)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Here ``batch`` is the last of the steps that were run at once, or would have been in a longer epoch."""
        steps = self._planned("steps")
        if self.step is not None:
            self._act_up_to(self._before + (min(batch, steps - 1) if steps else batch))

    def _act_up_to(self, last: int) -> None:
        assert self.step is not None
        for step in range(self.step, last + 1):
            if any(each.acts(step) for each in self._chains):
                synced(self.model)
                drive(trained(self.model), step)
        self.step = max(self.step, last + 1)

    def _check_plan(self, first: int, batch: int) -> None:
        """What training would spoil, or never do, is an error before its first step."""
        epochs, steps = self._planned("epochs") - self._epoch, self._planned("steps")
        planned = epochs * steps - batch if steps else 0
        optimizer = getattr(self.model, "optimizer", None)
        for transform in chain.from_iterable(self._chains):
            if optimizer is not None:
                transform.check_optimizer(optimizer)
            if planned > 0:
                transform.check_plan(first, first + planned - 1)

    def _planned(self, what: str) -> int:
        """How many "epochs", or "steps" an epoch, ``fit`` is to run; 0 where nobody knows."""
        return int((self.params or {}).get(what) or 0)

    def _steps_done(self) -> tuple[int, int]:
        """Steps trained before, by the optimizer's count or, where it is a new one, the transforms'; and by theirs."""
        optimizer = getattr(self.model, "optimizer", None)
        made = 0 if optimizer is None else int(ops.convert_to_numpy(optimizer.iterations))
        counted = max((each.steps_done() for each in chain.from_iterable(self._chains)), default=0)
        return max(made, counted), counted

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Have the count written: not all that reads weights does so by Keras' ways of saving."""
        for transform in chain.from_iterable(self._chains):
            if transform.driven:
                transform.follow(self._told)

    def on_train_end(self, logs: Any = None) -> None:
        self._drive(False)
        # A compiled step would go on without us: have Keras trace it again, and ask for us again.
        self.model.train_function = None

    def _drive(self, on: bool) -> None:
        for transform in chain.from_iterable(self._chains):
            transform.driven = on
            transform.follow(self._told if on else None)

    def _told(self) -> int | None:
        """Steps done with the one that is running; None before the first."""
        return self.step
