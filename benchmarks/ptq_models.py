"""The models that ``ptq.py`` quantizes: what to calibrate on, and how a file's outputs are scored."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from sklearn.metrics import roc_auc_score

from kompakt.loading import load_model


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line says."""

    shared: Path
    images: int
    iterations: int
    seed: int


@dataclass(frozen=True, kw_only=True)
class Job:
    """A model, samples to calibrate on, inputs to score on, and the score of a file's outputs on them.

    Attributes:
        labels: of ``inputs``, None where outputs are no classes. more: other inputs to agree on, without labels.
    """

    name: str
    model: keras.Model
    calibration: Any
    inputs: Any
    score: Callable[[np.ndarray], float]
    labels: np.ndarray | None = None
    more: Any = None


def accuracy(labels: np.ndarray) -> Callable[[np.ndarray], float]:
    """The share of outputs whose largest is the label's."""
    return lambda outputs: float((outputs.argmax(-1) == labels).mean())


def resnet(name: str, file: str) -> Callable[[Options], Job]:
    """A ResNet of MLPerf Tiny."""

    def job(options: Options) -> Job:
        folder, images = options.shared, options.images
        with np.load(folder / "cifar10_lossless4k" / "cifar10_train_first4000.npz", allow_pickle=False) as held:
            x, y = held["x"].astype("float32"), held["y"]
        with np.load(folder / "mlperf_tiny" / "ic01.npz", allow_pickle=False) as held:
            ic01 = held["x"].astype("float32")
        test = slice(500, 500 + images)
        model = load_model(folder / "mlperf_tiny" / file)
        return Job(
            name=name, model=model, calibration=x[:500], inputs=x[test], score=accuracy(y[test]), labels=y[test],
            more=ic01,
        )  # fmt: skip

    return job


def autoencoder(options: Options) -> Job:
    """The anomaly detector: its score is the pooled area under the curve of the mean reconstruction error a clip."""
    folder = options.shared
    with np.load(folder / "mlperf_tiny" / "ad01_logmel_f16.npz", allow_pickle=False) as held:
        frames, labels = held["x"].astype("float32"), held["y"]
    windows = np.concatenate([frames[:, k : frames.shape[1] - 4 + k] for k in range(5)], axis=-1)  # five frames each
    clips, per_clip = windows.shape[:2]
    x = windows.reshape(clips * per_clip, -1)

    def score(outputs: np.ndarray) -> float:
        errors = np.square(outputs - x).mean(-1).reshape(clips, per_clip).mean(-1)
        return float(roc_auc_score(labels, errors))

    model = load_model(folder / "mlperf_tiny" / "ad_autoencoder.keras")
    return Job(name="autoencoder", model=model, calibration=x[:: len(x) // 500], inputs=x, score=score)


def transformer(options: Options) -> Job:
    """Words of SST-2 through one block of attention."""
    train, test = (_sst2(options.shared, split) for split in ("train", "test"))
    lookup = keras.layers.TextVectorization(4000, output_sequence_length=24)
    lookup.adapt(train[0])
    x, x_test = (np.asarray(lookup(np.asarray(text))).astype("int32") for text in (train[0], test[0]))
    keras.utils.set_random_seed(options.seed)
    i = keras.Input((24,), dtype="int32", name="words")
    h = keras.layers.Embedding(4000, 32, name="table")(i)
    h = keras.layers.Add(name="sum1")([h, keras.layers.MultiHeadAttention(2, 16, name="attention")(h, h)])
    h = keras.layers.LayerNormalization(name="norm")(h)
    h = keras.layers.Add(name="sum2")(
        [h, keras.layers.Dense(32, name="down")(keras.layers.Dense(64, activation="relu", name="up")(h))]
    )
    h = keras.layers.Dropout(0.3)(keras.layers.GlobalAveragePooling1D(name="mean")(h))
    model = keras.Model(i, keras.layers.Dense(2, name="logits")(h))
    _train(model, x, train[1], 4)
    return Job(
        name="transformer", model=model, calibration=x[:500], inputs=x_test, score=accuracy(test[1]),
        labels=test[1],
    )  # fmt: skip


def _sst2(folder: Path, split: str) -> tuple[list[str], np.ndarray]:
    sys.path.insert(0, str(folder))
    import load  # type: ignore[import-not-found]

    text, labels = load.sst2(split)
    return [str(t) for t in text], np.asarray(labels).astype("int32")


def har(options: Options) -> Job:
    """Smartphone motion through convolutions and an LSTM."""
    with np.load(options.shared / "uci_har_2400" / "uci_har_2400_950.npz", allow_pickle=False) as held:
        x, y, x_test, y_test = (held[name] for name in ("x_train", "y_train", "x_test", "y_test"))
    first = y.min()
    y, y_test = y - first, y_test - first
    keras.utils.set_random_seed(options.seed)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input(x.shape[1:]),
            layers.Conv1D(16, 5, strides=4, activation="relu", name="c1"),
            layers.Conv1D(24, 5, strides=3, activation="relu", name="c2"),
            layers.LSTM(24, name="lstm"),
            layers.Dense(6, name="logits"),
        ]
    )
    _train(model, x.astype("float32"), y, 12)
    x_test = x_test.astype("float32")
    return Job(
        name="har", model=model, calibration=x[:500].astype("float32"), inputs=x_test, score=accuracy(y_test),
        labels=y_test,
    )  # fmt: skip


def _train(model: keras.Model, x: Any, y: Any, epochs: int) -> None:
    model.compile(keras.optimizers.Adam(2e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(x, y, epochs=epochs, batch_size=64, verbose=0)


JOBS: dict[str, Callable[[Options], Job]] = {
    "resnet8": resnet("resnet8", "ic_resnet8.keras"),
    "large": resnet("large", "ic02_resnet_large_bnfolded.keras"),
    "autoencoder": autoencoder,
    "transformer": transformer,
    "har": har,
}
