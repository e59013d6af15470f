"""What clustering does in training, in TensorBoard, under tfmot's names."""

from __future__ import annotations

from typing import Any

from kompakt.tfmot.summaries import Summaries


class ClusteringSummaries(Summaries):
    """Writes what the clustered layers do to TensorBoard, with ``clustering/`` before each name.

    How many values each tensor has, and how many weights have moved to another since the last time; tfmot writes a
    histogram of each variable. The facts are those of :class:`kompakt.callbacks.TensorBoard` (docs/watching.md).

    Args:
        log_dir: folder. cluster_update_freq: "epoch", "batch" or a number of batches.
        kwargs: of ``keras.callbacks.TensorBoard``: those about graphs, profiles and embeddings are not taken (see
            :class:`kompakt.tfmot.summaries.Summaries`).

    Example:
        >>> import keras, numpy as np, tempfile, kompakt.tfmot as tfmot
        >>> m = tfmot.clustering.keras.cluster_weights(keras.Sequential([keras.Input((4,)), keras.layers.Dense(8)]), 4)
        >>> m.compile("sgd", "mse")
        >>> watch = ClusteringSummaries(tempfile.mkdtemp(), cluster_update_freq="batch")
        >>> _ = m.fit(np.zeros((8, 4)), np.zeros((8, 8)), verbose=0, callbacks=[watch])
    """

    prefix = "clustering"

    def __init__(self, log_dir: str = "logs", cluster_update_freq: str | int = "epoch", **kwargs: Any) -> None:
        kwargs.pop("update_freq", None)  # of the losses, which are written where this looks
        super().__init__(log_dir, cluster_update_freq, **kwargs)
