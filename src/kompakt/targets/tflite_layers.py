"""Layers that no TFLite file can hold, told before the converter runs: its own words name no layer."""

from __future__ import annotations

import keras
from keras import layers

from kompakt.errors import InputError
from kompakt.graph import as_functional
from kompakt.rewrite.recurrent_loops import KEPT, keeps_state, loops_left


def check_recurrent(model: keras.Model) -> None:
    """Refuse recurrent layers that write variables when they predict.

    Raises:
        InputError: there is one.

    Example:
        >>> m = keras.Sequential([keras.Input((6, 3)), layers.LSTM(2, recurrent_dropout=0.1, name="memory")])
        >>> try:
        ...     check_recurrent(m)
        ... except InputError as error:
        ...     print(str(error)[:60])
        memory: a TFLite file cannot hold it: it keeps a state, or d
    """
    for layer in model._flatten_layers():
        if isinstance(layer, layers.RNN) and keeps_state(layer):
            raise InputError(f"{layer.name}: a TFLite file cannot hold it: {KEPT}")


def check_integer(model: keras.Model, *, whole: bool) -> None:
    """Refuse recurrent layers that are loops.

    Args:
        model: flat. whole: whether activations are integers too.

    Raises:
        InputError: there is one; why, and what helps.

    Example:
        >>> m = keras.Sequential([keras.Input((6, 3)), layers.Masking(), layers.LSTM(2, name="memory")])
        >>> try:
        ...     check_integer(m, whole=True)
        ... except InputError as error:
        ...     print(str(error)[:62])
        memory: it has no integer form: a mask reaches it (Masking, or
    """
    for name, why in loops_left(as_functional(model), whole=whole).items():
        raise InputError(f"{name}: it has no integer form: {why}; or export the model as 'float' or 'float16'")
