"""Show what goes on in training, and (``Update``, in ``driving``) drive what it has to; nothing numeric is here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
from keras import ops

from kompakt.driving import Update as Update
from kompakt.driving import synced, trained
from kompakt.errors import InputError
from kompakt.event_file import EventFile
from kompakt.schedules import is_whole
from kompakt.spelling import one_of
from kompakt.summaries import LossTerms
from kompakt.watching import Told, Watcher, in_one


class Watch(keras.callbacks.Callback):  # type: ignore[misc]
    """Looks at the transforms of a model, and at nothing else, at the ends of epochs or every so many steps.

    What is done with what they tell is in the classes made of this one. Training goes on as if nobody looked.

    Args:
        update_freq: "epoch", or a number of steps after each of which it looks, too. data: a few samples, without which
            activations cannot be looked at: they go through the model each time, in inference mode.

    Raises:
        InputError: another ``update_freq``.

    Example:
        >>> class Print(Watch):
        ...     def show(self, told, logs):
        ...         print(told.values["sparsity"])
        >>> import kompakt as kp, numpy as np
        >>> p = kp.prune(keras.Sequential([keras.Input((4,)), keras.layers.Dense(8)]), 0.5)
        >>> p.compile("sgd", "mse")
        >>> _ = p.fit(np.zeros((8, 4)), np.zeros((8, 8)), verbose=0, callbacks=[Print()])
        0.5
    """

    def __init__(self, update_freq: str | int = "epoch", data: Any = None) -> None:
        super().__init__()
        if update_freq != "epoch" and not (is_whole(update_freq) and int(update_freq) > 0):
            raise InputError(f"update_freq {update_freq!r}: expected 'epoch' or a number of steps, 1 or more")
        self.every = 0 if update_freq == "epoch" else int(update_freq)
        # Keras hands on steps in the background where nobody looks at them.
        self.async_safe = not self.every
        self._watcher = Watcher(data)
        self._done = self._before = 0

    def show(self, told: Told, logs: dict[str, Any]) -> None:
        """Show what the model told; ``logs`` are those of Keras, and can be added to."""

    def on_train_begin(self, logs: Any = None) -> None:
        self._done = self.step()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._before = self._done

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Here ``batch`` is the last of the steps that were run at once, or would have been in a longer epoch."""
        if not self.every:
            return
        steps = int((self.params or {}).get("steps") or 0)
        last, self._done = self._done, self._before + 1 + (min(batch, steps - 1) if steps else batch)
        if self._done // self.every > last // self.every:
            self.look(logs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.look(logs)

    def look(self, logs: Any = None) -> None:
        """Look now."""
        synced(self.model)  # before anything is read
        self.show(self._watcher.read(trained(self.model)), {} if logs is None else logs)

    def step(self) -> int:
        """Steps that the optimizer has made; without one, those that were counted here."""
        synced(self.model)
        optimizer = getattr(self.model, "optimizer", None)
        return self._done if optimizer is None else int(ops.convert_to_numpy(optimizer.iterations))


class TensorBoard(Watch):
    """Writes what the transforms of the model do in training, and the logs of ``fit``, for TensorBoard.

    Tags are ``name/site``, such as ``sparsity/conv1/kernel``; ``name`` alone is of all sites together. The steps are
    the optimizer's: a training that is taken up goes on in the same curves. Works on each backend, without TensorFlow,
    and beside ``keras.callbacks.TensorBoard``. The names are in docs/watching.md.

    Args:
        log_dir: folder, on this machine. update_freq: "epoch", or a number of steps. data: a few samples, for what is
            clipped of activations, and their integers. histograms: whether integers are written.

    Raises:
        InputError: TensorBoard is not installed (extra ``tensorboard``), the folder cannot be written, or another
            ``update_freq``.

    Example:
        >>> import kompakt as kp, numpy as np, tempfile
        >>> p = kp.prune(keras.Sequential([keras.Input((4,)), keras.layers.Dense(8)]), 0.5)
        >>> p.compile("sgd", "mse")
        >>> watch = kp.callbacks.TensorBoard(tempfile.mkdtemp(), update_freq=100)
        >>> _ = p.fit(np.zeros((8, 4)), np.zeros((8, 8)), verbose=0, callbacks=[watch])
    """

    def __init__(
        self,
        log_dir: str | Path = "logs",
        update_freq: str | int = "epoch",
        data: Any = None,
        histograms: bool = True,
    ) -> None:
        super().__init__(update_freq, data)
        self.file = EventFile(log_dir)
        self.histograms = histograms
        self._shown: set[str] = set()

    def tag(self, name: str, site: str = "") -> str:
        """What a fact of a site, or of all together, is called in TensorBoard."""
        return in_one(name, site)

    def tags(self, name: str) -> str:
        """Regular expression of the tags of a fact, of each site and of all together."""
        return f"{self.tag(name)}(/.*)?$"

    def on_train_begin(self, logs: Any = None) -> None:
        super().on_train_begin(logs)
        self.file.begin(self._done)
        self.look()

    def show(self, told: Told, logs: dict[str, Any]) -> None:
        terms = self.model.loss_terms(logs) if isinstance(self.model, LossTerms) else {}
        of_fit = {name: float(value) for name, value in logs.items() if name not in terms}
        scalars = {self.tag(*where): value for where, value in told.numbers.items()}
        scalars |= {self.tag("distillation", name): value for name, value in terms.items()}
        scalars |= {self.tag("fit", name): value for name, value in {**of_fit, **self._rate()}.items()}
        buckets = {self.tag(*where): each for where, each in told.histograms.items()}
        self._arrange({name for name, site in told.numbers if site})
        self.file.write(self.step(), scalars, buckets if self.histograms else {})

    def _arrange(self, names: set[str]) -> None:
        """One chart a fact, with all its sites, in TensorBoard's page "Custom Scalars"."""
        if not names <= self._shown:
            self._shown |= names
            self.file.arrange({name: self.tags(name) for name in sorted(self._shown)})

    def _rate(self) -> dict[str, float]:
        optimizer = getattr(self.model, "optimizer", None)
        return {} if optimizer is None else {"learning_rate": float(ops.convert_to_numpy(optimizer.learning_rate))}


class Metrics(Watch):
    """Puts what the transforms tell into the logs of ``fit``: the progress line, History, CSVLogger and EarlyStopping.

    Give it before callbacks that read the logs, such as EarlyStopping. Values of other epochs than the last are in
    ``History.history``, as those of any metric.

    Args:
        names: of facts ("sparsity", "distinct", "clipping", ...), of all sites together, or of one as in
            "sparsity/conv1/kernel". update_freq: "epoch", or a number of steps, after which the progress line has new
            values. data: a few samples, for what activations clip.

    Raises:
        InputError: the model has no such fact (as training begins), or ``update_freq``.

    Example:
        >>> import kompakt as kp, numpy as np
        >>> p = kp.prune(keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, name="d")]), 0.5)
        >>> p.compile("sgd", "mse")
        >>> watch = kp.callbacks.Metrics(["sparsity"])
        >>> p.fit(np.zeros((8, 4)), np.zeros((8, 8)), verbose=0, callbacks=[watch]).history["sparsity"]
        [0.5]
    """

    def __init__(
        self, names: str | Sequence[str] = ("sparsity",), update_freq: str | int = "epoch", data: Any = None
    ) -> None:
        super().__init__(update_freq, data)
        self.names = [names] if isinstance(names, str) else list(names)
        self._now: dict[str, float] = {}

    def on_train_begin(self, logs: Any = None) -> None:
        super().on_train_begin(logs)
        self.look()  # changes are told from here on

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        super().on_train_batch_end(batch, logs)
        if self.every and logs is not None:  # the progress line begins anew with each epoch
            logs.update(self._now)

    def show(self, told: Told, logs: dict[str, Any]) -> None:
        for name in self.names:
            if name not in told.names:
                raise InputError(f"metric {name!r}: {one_of(name, told.names)}; what activations clip needs data=")
        self._now = {name: told.values[name] for name in self.names if name in told.values}
        logs.update(self._now)
