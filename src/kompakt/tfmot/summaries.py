"""TensorBoard callbacks that take what tfmot's take."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from kompakt.callbacks import TensorBoard
from kompakt.errors import InputError

log = logging.getLogger("kompakt")

KERAS_OPTIONS = (
    "histogram_freq",
    "write_graph",
    "write_images",
    "write_steps_per_second",
    "update_freq",
    "profile_batch",
    "embeddings_freq",
    "embeddings_metadata",
)
"""Of ``keras.callbacks.TensorBoard``, which tfmot's classes are made of."""


class Summaries(TensorBoard):
    """:class:`kompakt.callbacks.TensorBoard` with the arguments of tfmot's callbacks.

    tfmot's are made of ``keras.callbacks.TensorBoard`` and hand its options on. Here the options that ask for graphs,
    images, profiles or embeddings are left out, with a line in the log: give ``keras.callbacks.TensorBoard`` beside
    this one for those. The losses and metrics of ``fit`` are written as ``fit/NAME``.

    Args:
        log_dir: folder. update_freq: "epoch", "batch" or a number of batches. data: a few samples, for facts of
            activations. kwargs: see above.

    Raises:
        InputError: an option that neither has.
    """

    prefix = ""

    def __init__(
        self, log_dir: str | Path = "logs", update_freq: str | int = "epoch", data: Any = None, **kwargs: Any
    ) -> None:
        for name in kwargs:
            if name not in KERAS_OPTIONS:
                raise InputError(f"{type(self).__name__}({name}=): expected one of {', '.join(KERAS_OPTIONS)}, or data")
        histograms = bool(kwargs.pop("histogram_freq", 1))
        asked = [name for name, value in kwargs.items() if value]
        if asked:
            log.warning(
                "%s: %s left out; give keras.callbacks.TensorBoard beside it for that",
                type(self).__name__,
                ", ".join(asked),
            )
        super().__init__(log_dir, 1 if update_freq == "batch" else update_freq, data, histograms)

    def tag(self, name: str, site: str = "") -> str:
        plain = super().tag(name, site)
        return f"{self.prefix}/{plain}" if self.prefix and name != "fit" else plain
