"""Numbers among what a layer or function is called with, and the type in which TensorFlow took them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Constant:
    """An array that stands in a file of Keras 2 as nested lists, without its type.

    Attributes:
        value: nested lists of numbers.
    """

    value: Any


def operand(value: Any) -> Any:
    """``value``, as a :class:`Constant` where it is an array; a number stays one, which takes any type.

    Example:
        >>> operand([[1.0, 2.0]]), operand(2.0), operand({"class_name": "__keras_tensor__"})
        (Constant(value=[[1.0, 2.0]]), 2.0, {'class_name': '__keras_tensor__'})
    """
    found = list(_leaves(value))
    numbers = isinstance(value, (list, tuple)) and found and all(isinstance(each, (int, float)) for each in found)
    return Constant(value) if numbers else value


def filled(item: Any, dtype: str) -> Any:
    """``item`` with every :class:`Constant` in it as the config of an array.

    TensorFlow makes of a constant what stands beside it. Whole numbers may stand beside a tensor of integers whose type
    no config says; as integers they give either type the same.

    Args:
        item: what a layer is called with. dtype: of the tensors that it is called with.

    Example:
        >>> filled(["x", Constant([0.5, 2.0])], "float16")
        ['x', {'class_name': '__numpy__', 'config': {'value': [0.5, 2.0], 'dtype': 'float16'}}]
    """
    if isinstance(item, Constant):
        return {"class_name": "__numpy__", "config": {"value": item.value, "dtype": _dtype(item.value, dtype)}}
    if isinstance(item, (list, tuple)):
        return [filled(each, dtype) for each in item]
    if isinstance(item, Mapping):
        return {key: filled(each, dtype) for key, each in item.items()}
    return item


def _dtype(value: Any, beside: str) -> str:
    if any(isinstance(each, float) for each in _leaves(value)):
        return beside if "float" in beside else "float32"
    return beside if "int" in beside else "int32"


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, (list, tuple)):
        for each in value:
            yield from _leaves(each)
    else:
        yield value
