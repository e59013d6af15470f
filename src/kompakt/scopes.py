"""Names that TensorFlow takes, while it traces a model whose layers have others."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator
from typing import Any

import keras
from keras.src.backend.common import global_state

TAKEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
"""What TensorFlow takes as the name of a node. Keras takes any text without a slash."""

LOCK = threading.RLock()
"""Two threads may export one model."""

STACK = "name_scope_stack"
HANDLE = "_handle_name"
"""Where a variable of TensorFlow has the name under which it is saved."""


@contextlib.contextmanager
def tensorflow_names(model: keras.Model) -> Iterator[None]:
    """Inside, layers and variables of ``model`` have names that TensorFlow takes; afterwards their own again.

    Keras enters its list of open scopes before it asks TensorFlow, and leaves it there where that refuses: variables
    that are made later would have the name of a model that they are not in. Afterwards the list is as it was.

    Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, name="my layer")])
        >>> with tensorflow_names(model):
        ...     model.layers[0].name
        'my_layer'
        >>> model.layers[0].name
        'my layer'
    """
    with LOCK:
        yield from _renamed(model)


def _renamed(model: keras.Model) -> Iterator[None]:
    layers = {layer: layer.name for layer in model._flatten_layers() if not TAKEN.fullmatch(layer.name)}
    values = [variable.value for variable in model.variables]
    handles = [(v, getattr(v, HANDLE)) for v in values if not all(map(TAKEN.fullmatch, _parts(v)))]
    before = list(global_state.get_global_attribute(STACK) or [])
    try:
        for layer, name in layers.items():
            layer.name = taken(name)
        for variable, _ in handles:
            setattr(variable, HANDLE, "/".join(map(taken, _parts(variable))) + ":0")
        yield
    finally:
        for layer, name in layers.items():
            layer.name = name
        for variable, name in handles:
            setattr(variable, HANDLE, name)
        global_state.set_global_attribute(STACK, before)


def taken(name: str) -> str:
    """``name`` with other characters in place of those that TensorFlow does not take.

    Example:
        >>> taken("my layer"), taken("_\u00fc")
        ('my_layer', 's__')
    """
    return "s" * (not (name[:1].isascii() and name[:1].isalnum())) + re.sub(r"[^A-Za-z0-9_.-]", "_", name)


def _parts(variable: Any) -> list[str]:
    """The parts of a variable's name; none where it has none, as on other backends."""
    name: str = getattr(variable, HANDLE, "")
    return name.rpartition(":")[0].split("/") if name else []
