"""Drive what training has to drive; nothing numeric is here."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from kompakt.attach import chains_of, drive
from kompakt.transform import Chain


class Update(keras.callbacks.Callback):  # type: ignore[misc]
    """Counts training steps for the schedules of the model's transforms.

    In your own loop call ``set_model(model)``, ``on_train_begin()``, ``on_train_batch_begin(step)`` before each
    step and ``on_train_end()`` at the end. Where Keras runs several steps at once (``steps_per_execution``), what
    is due between them acts after the last of them.

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
        self._chains: list[tuple[Chain, Any]] = []

    def on_train_begin(self, logs: Any = None) -> None:
        self._chains = [(chain, variable) for _, chain, variable in chains_of(self._trained)]
        self._drive(True)
        self.step = None
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch
        self._before = self.step if self.step is not None else 0

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if self.step is None:
            self.step = self._steps_done()
            self._before = self.step - batch
            self._check_plan(self.step, batch)
        self._act_up_to(self._before + batch)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Here ``batch`` is the last of the steps that were run at once, or would have been in a longer epoch."""
        steps = self._planned("steps")
        if self.step is not None:
            self._act_up_to(self._before + (min(batch, steps - 1) if steps else batch))

    def _act_up_to(self, last: int) -> None:
        assert self.step is not None
        for step in range(self.step, last + 1):
            if any(chain.acts(step) for chain, _ in self._chains):
                self._sync()
                drive(self._trained, step)
        self.step = max(self.step, last + 1)

    def _check_plan(self, first: int, batch: int) -> None:
        """What training would spoil, or never do, is an error before its first step."""
        epochs, steps = self._planned("epochs") - self._epoch, self._planned("steps")
        planned = epochs * steps - batch if steps else 0
        optimizer = getattr(self.model, "optimizer", None)
        for chain, _ in self._chains:
            for transform in chain:
                if optimizer is not None:
                    transform.check_optimizer(optimizer)
                if planned > 0:
                    transform.check_plan(first, first + planned - 1)

    def _planned(self, what: str) -> int:
        """How many "epochs", or "steps" an epoch, ``fit`` is to run; 0 where nobody knows."""
        return int((self.params or {}).get(what) or 0)

    def _steps_done(self) -> int:
        """Steps trained before: by the optimizer's count, or, where it is a new one, by the transforms' own."""
        optimizer = getattr(self.model, "optimizer", None)
        counted = 0 if optimizer is None else int(ops.convert_to_numpy(optimizer.iterations))
        return max(counted, *(t.last_step() for chain, _ in self._chains for t in chain), 0)

    def on_train_end(self, logs: Any = None) -> None:
        self._drive(False)
        # A compiled step would go on without us: have Keras trace it again, and ask for us again.
        self.model.train_function = None

    @property
    def _trained(self) -> keras.Model:
        """The model that has the transforms: of a distillation the student."""
        return self.model.student if isinstance(self.model, keras.distillation.Distiller) else self.model

    def _sync(self) -> None:
        """Take the weights back from the JAX trainer, which keeps them to itself between batches."""
        if keras.backend.backend() == "jax":
            self.model.jax_state_sync()

    def _drive(self, on: bool) -> None:
        for chain, _ in self._chains:
            for transform in chain:
                transform.driven = on
