"""Start a model anew: every weight as its layer's initializers make it."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import layers

from kompakt.copies import copy_state, new_layer
from kompakt.graph import map_layers

ADAPTED = (layers.Normalization,)
"""Layers whose numbers are statistics of the data, not learned weights: they keep them."""


def initialize(model: keras.Model, seed: int) -> keras.Model:
    """A copy of ``model`` as it would be before training; BatchNormalization statistics are at their start.

    Equal seeds give equal weights, also where an initializer of the model has a seed of its own. The random state
    of the caller stays as it is.

    Args:
        model: functional or sequential; not changed. seed: from 0.

    Example:
        >>> m = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
        >>> one, two, other = initialize(m, 0), initialize(m, 0), initialize(m, 1)
        >>> bool((one.get_weights()[0] == two.get_weights()[0]).all())
        True
        >>> bool((one.get_weights()[0] == other.get_weights()[0]).any())
        False
    """
    with seeded(seed):
        return map_layers(model, _fresh)


def _fresh(layer: Any) -> Any:
    fresh = new_layer(layer, change=_unseeded)
    if isinstance(layer, ADAPTED):
        copy_state(layer, fresh)
    return fresh


def _unseeded(config: Any) -> Any:
    """``config`` with initializers that draw their seed, which Keras does from Python's ``random``."""
    if isinstance(config, (list, tuple)):
        return type(config)(_unseeded(each) for each in config)
    if not isinstance(config, dict):
        return config
    if config.get("module") == "keras.initializers" and "seed" in config.get("config", {}):
        return {**config, "config": {**config["config"], "seed": None}}
    return {key: _unseeded(value) for key, value in config.items()}


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """A scope in which Python's and NumPy's random numbers are those of ``seed``; outside they go on as before."""
    before, of_numpy = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        random.setstate(before)
        np.random.set_state(of_numpy)
