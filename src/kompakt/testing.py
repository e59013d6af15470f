"""The laws of a Transform as checks that anyone can run over their own.

Each check raises :class:`LawBroken` with what it found. ``check_transform`` runs all that apply. The laws about files
(train = serve, no silent loss) are checked by every ``kompakt.export``.

Example:
    >>> from kompakt.transforms import Prune
    >>> check_transform(lambda: Prune(0.5))
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from kompakt.attach import attach, chains_of, finalize
from kompakt.callbacks import Update
from kompakt.copies import copy_layer
from kompakt.sites import sites
from kompakt.transform import Transform

Factory = Callable[[], Transform]
"""Makes one transform; called once a site, since a transform belongs to its site alone."""


class LawBroken(AssertionError):
    """A transform breaks one of its laws; the text has the values found.

    Example:
        >>> try:
        ...     check_exactly_k(np.array([1.0, 0.0, 1.0]), 1)
        ... except LawBroken as error:
        ...     print(error)
        exactly k: 1 ones were asked for, the mask holds 2.0 of 3
    """


def toy_model(seed: int = 0) -> keras.Model:
    """A small classifier for (8, 8, 2) inputs: convolution, BatchNormalization, Dropout, Dense.

    Example:
        >>> toy_model().output_shape
        (None, 3)
    """
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            layers.Conv2D(4, 3, use_bias=False, name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.ReLU(name="relu"),
            layers.Dropout(0.2, seed=1, name="drop"),
            layers.Flatten(name="flatten"),
            layers.Dense(3, name="dense"),
        ],
        name="toy",
    )


def toy_data(count: int = 24, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (count, 8, 8, 2) float32 and labels (count,) of three classes.

    Example:
        >>> [array.shape for array in toy_data(5)]
        [(5, 8, 8, 2), (5,)]
    """
    random = np.random.default_rng(seed)
    return random.normal(size=(count, 8, 8, 2)).astype("float32"), random.integers(0, 3, count)


def check_transform(factory: Factory) -> None:
    """All the laws, on a small model.

    Raises:
        LawBroken: with the first law that does not hold.

    Example:
        >>> from kompakt.transforms import Cluster
        >>> check_transform(lambda: Cluster(clusters=4))
    """
    model, (x, y) = toy_model(), toy_data()
    check_layer_law(factory, layers.Dense(5), x.reshape(len(x), -1))
    check_layer_law(factory, layers.Conv2D(5, 3), x)
    check_gradient_law(factory)
    check_frozen_idempotent(factory)
    check_undo(factory, model, x)
    check_unchanged(factory, model, x, y)
    check_round_trip(factory, model, x)
    check_resume(factory, x, y)


def check_layer_law(factory: Factory, layer: Any, inputs: Any, **call: Any) -> None:
    """Law 1: the transformed layer equals the plain layer on the transformed weight. Exactly.

    Args:
        layer: not yet built, with weight sites. inputs: what it is called on. call: more arguments of the call.

    Raises:
        LawBroken: it does not hold.

    Example:
        >>> from kompakt.transforms import Prune
        >>> check_layer_law(lambda: Prune(sparsity=0.5), layers.Dense(3), toy_data()[0].reshape(24, -1))
    """
    tensors = [ops.convert_to_tensor(t) for t in (inputs if isinstance(inputs, tuple) else (inputs,))]
    symbolic = [
        keras.Input(batch_shape=(None, *t.shape[1:]), dtype=keras.backend.standardize_dtype(t.dtype)) for t in tensors
    ]
    model = keras.Model(symbolic, layer(*symbolic, **call))
    names = [site.name for site in sites(model) if site.variable is not None]
    attached = attach(model, {name: [factory()] for name in names})
    plain, _ = finalize(attached)
    found, wanted = attached(tensors, training=False), plain(tensors, training=False)
    for a, b in zip(keras.tree.flatten(found), keras.tree.flatten(wanted), strict=True):
        _same(a, b, f"layer law: {type(layer).__name__} differs from the plain layer on the transformed weight")


def check_gradient_law(factory: Factory, shape: tuple[int, ...] = (6, 4)) -> None:
    """Law 2: the gradient is finite everywhere, at zeros and ties too, and reaches the weight.

    The gradient is read off some steps of plain gradient descent, which every backend has.

    Raises:
        LawBroken: it does not hold.

    Example:
        >>> from kompakt.transforms import Prune
        >>> check_gradient_law(lambda: Prune(sparsity=0.5))
    """
    values = np.random.default_rng(0).normal(size=shape).astype("float32")
    values[0] = 0.0
    values[1] = values[2]
    model = keras.Sequential([keras.Input(shape[:1]), layers.Dense(shape[1], use_bias=False, name="dense")])
    model.layers[0].kernel.assign(values)
    attached = attach(model, {"dense/kernel": [factory()]})
    before = np.array(ops.convert_to_numpy(_weight(attached)))
    attached.compile(keras.optimizers.SGD(0.1), "mse")
    x = np.eye(shape[0], dtype="float32")
    attached.fit(x, np.ones((shape[0], shape[1])), batch_size=shape[0], epochs=6, verbose=0, callbacks=[Update()])
    after = np.array(ops.convert_to_numpy(_weight(attached)))
    if not np.isfinite(after).all():
        raise LawBroken(f"gradient law: {int((~np.isfinite(after)).sum())} gradients are not finite")
    if (after == before).all():
        raise LawBroken("gradient law: no gradient reaches the weight")


def check_frozen_idempotent(factory: Factory, shape: tuple[int, ...] = (6, 4)) -> None:
    """Law 5: a frozen transform applied twice is applied once.

    Raises:
        LawBroken: it does not hold.

    Example:
        >>> from kompakt.transforms import Prune
        >>> check_frozen_idempotent(lambda: Prune(sparsity=0.5))
    """
    value = ops.convert_to_tensor(np.random.default_rng(0).normal(size=shape).astype("float32"))
    transform = factory()
    transform.prepare(value, (-1,))
    transform.finish(value)
    transform.freeze()
    once = transform(value)
    _same(transform(once), once, "frozen is idempotent: applied twice it differs from once")


def check_exactly_k(mask: Any, k: int) -> None:
    """Law 6: a mask holds exactly ``k`` ones and nothing but zeros and ones.

    Raises:
        LawBroken: it does not hold.

    Example:
        >>> check_exactly_k(np.array([1.0, 0.0, 1.0]), 2)
    """
    values = ops.convert_to_numpy(mask)
    if not np.isin(values, (0.0, 1.0)).all() or int(values.sum()) != k:
        raise LawBroken(f"exactly k: {k} ones were asked for, the mask holds {values.sum()} of {values.size}")


def check_lowest_go(mask: Any, scores: Any, groups: Any, k: int) -> None:
    """Law 6: exactly ``k`` groups of weights are masked, each whole, and they are those of the lowest mean score.

    Args:
        mask, scores: one value a weight. groups: a whole number a weight, the same for those that go together.

    Example:
        >>> check_lowest_go([1, 1, 0, 0], scores=[4.0, 3.0, 2.0, 1.0], groups=[0, 0, 1, 1], k=1)
    """
    values, score = (np.asarray(a, "float64").ravel() for a in (mask, scores))
    names, group = np.unique(np.ravel(groups), return_inverse=True)
    other = values[~np.isin(values, (0.0, 1.0))]
    if other.size:
        raise LawBroken(f"lowest go: the mask holds {other[0]:g}, expected zeros and ones alone")
    sizes, kept = np.bincount(group), np.bincount(group, values)
    gone, parted = kept == 0, (kept > 0) & (kept < sizes)
    if parted.any():
        raise LawBroken(f"lowest go: {parted.sum()} of {len(names)} groups are masked in part")
    if gone.sum() != k:
        raise LawBroken(f"lowest go: {k} groups were to be masked, {gone.sum()} of {len(names)} are")
    means = np.bincount(group, score) / sizes
    highest, lowest = means[gone].max(initial=-np.inf), means[~gone].min(initial=np.inf)
    if highest > lowest:
        raise LawBroken(f"lowest go: a group of score {highest:g} is masked, one of {lowest:g} is kept")


def check_undo(factory: Factory, model: keras.Model, inputs: Any) -> None:
    """Law 3: ``finalize`` gives plain layers that predict as the attached model does, to float rounding.

    Raises:
        LawBroken: it does not hold.

    Example:
        >>> from kompakt.transforms import Prune
        >>> check_undo(lambda: Prune(sparsity=0.5), toy_model(), toy_data()[0])
    """
    attached = _on_weights(factory, model)
    plain, _ = finalize(attached)
    ours = [layer.name for layer in plain._flatten_layers() if type(layer).__module__.startswith("kompakt")]
    if ours:
        raise LawBroken(f"undo: finalize leaves layers that are not plain Keras: {ours}")
    found, wanted = _predict(plain, inputs), _predict(attached, inputs)
    if not np.allclose(found, wanted, rtol=1e-5, atol=1e-6):
        raise LawBroken(f"undo: the plain model differs by {np.abs(found - wanted).max()}")


def check_unchanged(factory: Factory, model: keras.Model, inputs: Any, labels: Any) -> None:
    """Law 3: neither ``attach``, training nor ``finalize`` changes the model that was given.

    Raises:
        LawBroken: it does not hold.

    Example:
        >>> from kompakt.transforms import Prune
        >>> check_unchanged(lambda: Prune(sparsity=0.5), toy_model(), *toy_data())
    """
    before = [np.array(w) for w in model.get_weights()]
    config = str(model.get_config())
    attached = _train(_on_weights(factory, model), inputs, labels)
    finalize(attached)
    after = model.get_weights()
    if config != str(model.get_config()) or not all(map(np.array_equal, before, after)):
        raise LawBroken("the model that was given has been changed")


def check_round_trip(factory: Factory, model: keras.Model, inputs: Any) -> None:
    """Law 4: saving and loading changes neither predictions nor state, and a config makes the same transform.

    Raises:
        LawBroken: it does not hold.

    Example:
        >>> from kompakt.transforms import Prune
        >>> check_round_trip(lambda: Prune(sparsity=0.5), toy_model(), toy_data()[0])
    """
    attached = _on_weights(factory, model)
    loaded = _saved_and_loaded(attached)
    _same(
        _predict(loaded, inputs),
        _predict(attached, inputs),
        "round trip: the loaded model predicts otherwise",
    )
    for a, b in zip(loaded.get_weights(), attached.get_weights(), strict=True):
        _same(a, b, "round trip: the loaded state differs")
    chain = next(chain for _, chain, _ in chains_of(attached))
    if copy_layer(chain).transforms[0].get_config() != chain.transforms[0].get_config():
        raise LawBroken("round trip: get_config does not describe the transform it came from")


def check_resume(factory: Factory, inputs: Any, labels: Any) -> None:
    """Law 4: training stopped, saved, loaded and resumed equals training straight through.

    Raises:
        LawBroken: it does not hold.

    Example:
        >>> from kompakt.transforms import Prune
        >>> check_resume(lambda: Prune(sparsity=0.5), *toy_data())
    """
    straight = _train(_on_weights(factory, _without_dropout()), inputs, labels, epochs=2)
    half = _train(_on_weights(factory, _without_dropout()), inputs, labels)
    loaded = _saved_and_loaded(half)
    loaded.fit(inputs, labels, batch_size=8, shuffle=False, verbose=0, callbacks=[Update()])
    for a, b in zip(straight.get_weights(), loaded.get_weights(), strict=True):
        if not np.allclose(a, b, rtol=1e-5, atol=1e-6):
            raise LawBroken(f"resume: weights differ by {np.abs(a - b).max()} from training straight through")


def _without_dropout() -> keras.Model:
    """A model whose training has no randomness: the state of a seed is no part of the law."""
    keras.utils.set_random_seed(0)
    parts = [
        layers.Conv2D(4, 3, name="conv"),
        layers.BatchNormalization(name="norm"),
        layers.Flatten(name="flat"),
    ]
    return keras.Sequential([keras.Input((8, 8, 2)), *parts, layers.Dense(3, name="dense")])


def _on_weights(factory: Factory, model: keras.Model) -> keras.Model:
    return attach(model, {site.name: [factory()] for site in sites(model) if site.variable is not None})


def _train(attached: keras.Model, x: Any, y: Any, epochs: int = 1) -> keras.Model:
    attached.compile(keras.optimizers.Adam(1e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    attached.fit(x, y, batch_size=8, epochs=epochs, shuffle=False, verbose=0, callbacks=[Update()])
    return attached


def _saved_and_loaded(model: keras.Model) -> keras.Model:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        return keras.saving.load_model(path)


def _predict(model: keras.Model, inputs: Any) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(model(ops.convert_to_tensor(inputs), training=False)))


def _weight(attached: keras.Model) -> Any:
    return next(variable for _, _, variable in chains_of(attached))


def _same(found: Any, wanted: Any, law: str) -> None:
    a, b = np.asarray(ops.convert_to_numpy(found)), np.asarray(ops.convert_to_numpy(wanted))
    if a.shape != b.shape or not np.array_equal(a, b):
        raise LawBroken(f"{law}: {int((a != b).sum())} of {a.size} values, by up to {np.abs(a - b).max()}")


__all__ = [
    "LawBroken",
    "check_exactly_k",
    "check_frozen_idempotent",
    "check_gradient_law",
    "check_layer_law",
    "check_lowest_go",
    "check_resume",
    "check_round_trip",
    "check_transform",
    "check_unchanged",
    "check_undo",
    "toy_data",
    "toy_model",
]
