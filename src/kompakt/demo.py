"""The main job on the digits that ship with scikit-learn: train, try every recipe, verify, report."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

from kompakt.data import CALIBRATION, Data, load_data, sample_rows
from kompakt.files import writable_folder, write_atomic
from kompakt.loading import save_model
from kompakt.recipe import load_recipe, recipe_names
from kompakt.records import Run, to_json
from kompakt.run import optimize_all
from kompakt.run_measure import BASELINE
from kompakt.run_progress import Report, silent
from kompakt.sensitivity import sensitivity

QUICK = ("ptq_int8", "qat_int8", "pcqat_int8")
"""Recipes of ``--quick``."""

ORDER = (
    "ptq_float16",
    "ptq_weight_only_int8",
    "ptq_dynamic_int8",
    "ptq_int8",
    "qat_int8",
    "distill_qat_int8",
    "ptq_w4a8",
    "qat_w4a8",
    "ptq_int16x8",
    "qat_int16x8",
    "prune_ptq_int8",
    "prune_2_4_ptq_int8",
    "cluster_ptq_int8",
    "prune_cluster_ptq_int8",
    "shrink_ptq_int8",
    "shrink_qat_int8",
    "pqat_int8",
    "cqat_int8",
    "pcqat_int8",
)
"""Recipes from the simplest to the smallest; one that is not named here comes last."""


LEFT = (BASELINE, "distill", "distill_pqat_int8")
"""Recipes that are not shown: of those that distil one is enough."""

MOMENTUM = 0.9
"""Of BatchNormalizations: an epoch of the digits has 42 steps, in which Keras' 0.99 would hardly follow."""


def digits(seed: int = 0) -> Data:
    """1,797 handwritten digits, (8, 8, 1) float32 in 0..1, a quarter of each class for the test.

    Alpaydin and Kaynak 1998, UCI Machine Learning Repository; the copy that scikit-learn ships.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    images = (bunch.images / 16.0).astype("float32")[..., None]
    x_train, x_test, y_train, y_test = train_test_split(
        images, bunch.target, test_size=0.25, random_state=seed, stratify=bunch.target
    )
    return load_data({"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test})


def digits_model() -> keras.Model:
    """A small CNN with what small CNNs are made of: Conv-BN-ReLU, depthwise, residual add, pooling, Dense."""
    inputs = keras.Input((8, 8, 1), name="image")
    x = _conv_bn_relu(inputs, 24, "conv1")
    shortcut = x
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="depthwise")(x)
    x = layers.BatchNormalization(momentum=MOMENTUM, name="depthwise_bn")(x)
    x = layers.ReLU(name="depthwise_relu")(x)
    x = layers.Conv2D(24, 1, use_bias=False, name="pointwise")(x)
    x = layers.BatchNormalization(momentum=MOMENTUM, name="pointwise_bn")(x)
    x = layers.ReLU(name="residual_relu")(layers.Add(name="residual")([x, shortcut]))
    x = _conv_bn_relu(x, 48, "conv2", strides=2)
    x = _conv_bn_relu(x, 64, "conv3")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, layers.Dense(10, name="logits")(x), name="digits")


def _conv_bn_relu(x: Any, filters: int, name: str, strides: int = 1) -> Any:
    x = layers.Conv2D(filters, 3, strides=strides, padding="same", use_bias=False, name=name)(x)
    return layers.ReLU(name=f"{name}_relu")(layers.BatchNormalization(momentum=MOMENTUM, name=f"{name}_bn")(x))


def train(model: keras.Model, data: Data, *, epochs: int, seed: int, report: Report) -> keras.Model:
    """``model`` trained from scratch on ``data``."""
    keras.utils.set_random_seed(seed)
    steps = epochs * (len(data.y_train) // 64 + 1)
    rate = keras.optimizers.schedules.CosineDecay(3e-3, steps)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss)
    progress = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, _: report("training the float model", (epoch + 1) / epochs)
    )
    report("training the float model", 0.0)
    model.fit(data.x_train, data.y_train, epochs=epochs, batch_size=64, verbose=0, callbacks=[progress])
    return model


def demo(out: str | Path, *, quick: bool = False, seed: int = 0, report: Report = silent) -> Run:
    """Train the digits model, carry out every recipe, write files, ``records.json`` and ``report.html``.

    Args:
        out: folder. quick: three recipes only. seed: of everything. report: told what goes on.

    Returns:
        The Run that ``records.json`` holds.

    Example: ``kompakt demo --quick --out build/demo``
    """
    from kompakt.report import html

    folder = writable_folder(out)
    data = digits(seed)
    keras.utils.set_random_seed(seed)
    model = train(digits_model(), data, epochs=30, seed=seed, report=lambda what, done: report(what, 0.1 * done))
    save_model(model, folder / "digits.keras")
    packed = io.BytesIO()
    np.savez_compressed(
        packed,
        x_train=np.asarray(data.x_train),
        y_train=np.asarray(data.y_train),
        x_test=np.asarray(data.x_test),
        y_test=np.asarray(data.y_test),
    )
    write_atomic(folder / "digits.npz", packed.getvalue())
    wanted = QUICK if quick else (*ORDER, *(n for n in recipe_names() if n not in (*ORDER, *LEFT)))
    run = optimize_all(
        model,
        data,
        [load_recipe(name) for name in (BASELINE, *wanted)],
        folder,
        teacher=None if quick else model,  # it teaches its own integer form
        seed=seed,
        title=f"Handwritten digits: a small CNN through {'three recipes' if quick else 'every recipe'}",
        report=lambda what, done: report(what, 0.1 + 0.85 * done),
    )
    report("which layers are sensitive", 0.95)
    samples = sample_rows(data.x_train, CALIBRATION)
    found = sensitivity(model, (data.x_test, data.y_test), calibration=samples)
    run = dataclasses.replace(run, sensitivity=tuple(found))
    write_atomic(folder / "records.json", to_json(run))
    html.write(run, folder / "report.html")
    return run
