"""What the inputs and outputs of a model are called where a server takes them: names of its own, each once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras import tree

from kompakt.graph import MADE_UP, as_functional, symbolic_inputs
from kompakt.sites import is_graph

NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_.\-/]")
"""What neither a TensorFlow signature nor an ONNX graph can have in a name."""


@dataclass(frozen=True, kw_only=True)
class Endpoints:
    """Inputs and outputs of a model, flattened.

    Attributes:
        inputs: tensors without values, in the structure that the model takes.
        input_names, output_names: one a tensor, in the order in which ``keras.tree`` flattens the structures.
    """

    inputs: Any
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]


def output_names(model: keras.Model) -> tuple[str, ...]:
    """What ``model`` calls its outputs, flattened: the keys of a dict, else the names of the layers at its end.

    Example:
        >>> output_names(keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, name="logits")]))
        ('logits',)
    """
    ends = as_functional(model).output_names if is_graph(model) else None
    return _names(model(symbolic_inputs(model)), ends, "output")


def endpoints(model: keras.Model, batch: int | None = None, outputs: Sequence[str] = ()) -> Endpoints:
    """What ``model`` takes and gives: the keys of dicts, else the names of its inputs and of the layers at its end.

    Args:
        batch: of the inputs. outputs: names of the outputs, where they are known.

    Example:
        >>> i = {"left": keras.Input((2,), name="left"), "right": keras.Input((3,), name="right")}
        >>> d = keras.layers.Dense(1, name="score")(keras.layers.Concatenate()([i["left"], i["right"]]))
        >>> found = endpoints(keras.Model(i, d))
        >>> found.input_names, found.output_names
        (('left', 'right'), ('score',))
    """
    inputs = symbolic_inputs(model, batch)
    return Endpoints(
        inputs=inputs,
        input_names=_names(inputs, [tensor.name.split(":")[0] for tensor in tree.flatten(inputs)], "input"),
        output_names=tuple(outputs) or output_names(model),
    )


def _names(structure: Any, given: Sequence[str] | None, word: str) -> tuple[str, ...]:
    """A name for each leaf: its key, or the one ``given``, or ``word`` with its number."""
    leaves, names = tree.flatten_with_path(structure), []
    for position, (path, _) in enumerate(leaves):
        keys = [key for key in path if isinstance(key, str)]
        name = keys[-1] if keys else given[position] if given else f"{word}_{position}"
        if MADE_UP.fullmatch(name):
            name = word if len(leaves) == 1 else f"{word}_{position}"
        names.append(plain_name(name))
    return unique(names)


def plain_name(name: str) -> str:
    """``name`` as both can have it: it begins with a letter or a digit.

    Example:
        >>> plain_name("my input"), plain_name("_x"), plain_name("\u00e9")
        ('my_input', 'x_x', 'x_')
    """
    plain = NOT_IN_A_NAME.sub("_", name)
    return plain if plain[:1].isalnum() else f"x{plain}"


def unique(names: Sequence[str]) -> tuple[str, ...]:
    """``names``, those that were there before with a number after them.

    Example:
        >>> unique(["lstm", "lstm", "head"])
        ('lstm', 'lstm_1', 'head')
    """
    found: list[str] = []
    for name in names:
        free, count = name, 0
        while free in found:
            count += 1
            free = f"{name}_{count}"
        found.append(free)
    return tuple(found)
