"""What drives pruning in training, and what shows it, by tfmot's names."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from keras import ops

from kompakt.attach import chains_of
from kompakt.callbacks import Update
from kompakt.errors import InputError
from kompakt.tfmot.summaries import Summaries
from kompakt.transforms.patterns import Unstructured
from kompakt.transforms.prune import Prune
from kompakt.watching import Told

OWN_LOOP = -1
"""What the guides give as number of the batch, and of the epoch, in a loop of their own."""


class UpdatePruningStep(Update):
    """Counts training steps for the schedules: ``kompakt.callbacks.Update``, which tfmot's own loops can call, too.

    In a loop of your own: ``set_model(model)``, ``model.optimizer = optimizer``, ``on_train_begin()``, then
    ``on_train_batch_begin(batch=-1)`` before each step and ``on_epoch_end(batch=-1)`` after each epoch. Training
    without it is an error, as is a schedule that would not act once in a ``fit``.

    Example:
        >>> import keras, kompakt.tfmot.sparsity.keras as sparsity
        >>> model = sparsity.prune_low_magnitude(
        ...     keras.Sequential([keras.Input((4,)), keras.layers.Dense(8)]),
        ...     sparsity.ConstantSparsity(0.5, begin_step=1),
        ... )
        >>> step = UpdatePruningStep()
        >>> step.set_model(model)
        >>> step.on_train_begin()
        >>> for _ in range(2):
        ...     step.on_train_batch_begin(batch=-1)
        >>> float((sparsity.strip_pruning(model).get_weights()[0] == 0).mean())
        0.5
    """

    def __init__(self) -> None:
        super().__init__()
        self._calls = 0

    def on_train_begin(self, logs: Any = None) -> None:
        super().on_train_begin(logs)
        self._calls = 0

    def on_epoch_begin(self, epoch: int = OWN_LOOP, logs: Any = None) -> None:
        super().on_epoch_begin(max(epoch, 0), logs)
        self._calls = 0

    def on_train_batch_begin(self, batch: int = OWN_LOOP, logs: Any = None) -> None:
        super().on_train_batch_begin(self._calls if batch == OWN_LOOP else batch, logs)
        self._calls += 1

    def on_epoch_end(self, epoch: int = OWN_LOOP, logs: Any = None, batch: int = OWN_LOOP) -> None:
        """Weights are masked wherever the model uses them; what is to be saved is the count of the steps."""
        super().on_epoch_end(max(epoch, 0), logs)


class PruningSummaries(Summaries):
    """Writes the sparsity and the threshold of each pruned tensor for TensorBoard: tags ``SITE/sparsity``,
    ``SITE/threshold``, as in ``conv1/kernel/sparsity`` (tfmot has the name of its mask variable for SITE), and
    ``sparsity`` of all together.

    The threshold is the least magnitude that is kept; blocks and m by n have none. Written as training begins and after
    each epoch (or every so many batches), and by ``on_epoch_begin(epoch=-1)`` in a loop of your own. The other facts of
    :class:`kompakt.callbacks.TensorBoard` are written under its tags (docs/watching.md).

    Args:
        log_dir: folder. update_freq: "epoch", "batch" or a number of batches.
        kwargs: of ``keras.callbacks.TensorBoard`` (see :class:`kompakt.tfmot.summaries.Summaries`).

    Raises:
        InputError: no folder, or an unknown option.

    Example:
        >>> import keras, tempfile, kompakt.tfmot.sparsity.keras as sparsity
        >>> m = sparsity.prune_low_magnitude(keras.Sequential([keras.Input((4,)), keras.layers.Dense(8)]))
        >>> m.compile("sgd", "mse")
        >>> watch = [UpdatePruningStep(), PruningSummaries(log_dir=tempfile.mkdtemp())]
        >>> _ = m.fit(np.zeros((8, 4)), np.zeros((8, 8)), verbose=0, callbacks=watch)
    """

    last_in_tag = ("sparsity", "threshold")

    def __init__(self, log_dir: str | Path, update_freq: str | int = "epoch", **kwargs: Any) -> None:
        if not isinstance(log_dir, (str, Path)) or not str(log_dir):
            raise InputError(f"log_dir {log_dir!r}: expected the path of a folder")
        super().__init__(log_dir, update_freq, **kwargs)

    def tag(self, name: str, site: str = "") -> str:
        return f"{site}/{name}" if site and name in self.last_in_tag else super().tag(name, site)

    def tags(self, name: str) -> str:
        return f"(.*/)?{name}$" if name in self.last_in_tag else super().tags(name)

    def on_epoch_begin(self, epoch: int = OWN_LOOP, logs: Any = None) -> None:
        super().on_epoch_begin(epoch, logs)
        if epoch == OWN_LOOP:
            self.look()

    def show(self, told: Told, logs: dict[str, Any]) -> None:
        thresholds = {
            ("threshold", site): threshold_of(transform, ops.convert_to_numpy(variable))
            for site, chain, variable in chains_of(self.model)
            for transform in chain
            if isinstance(transform, Prune) and isinstance(transform.pattern, Unstructured)
        }
        super().show(dataclasses.replace(told, numbers={**told.numbers, **thresholds}), logs)


def threshold_of(prune: Prune, value: np.ndarray) -> float:
    """The least magnitude of ``value`` that is kept; 0 where none is.

    Example:
        >>> prune = Prune(0.5)
        >>> prune.prepare(ops.array([[0.1, -2.0], [3.0, 0.2]]), (-1,))
        >>> threshold_of(prune, np.array([[0.1, -2.0], [3.0, 0.2]]))
        2.0
    """
    kept = np.abs(value)[ops.convert_to_numpy(prune.mask) > 0]
    return float(kept.min()) if kept.size else 0.0
