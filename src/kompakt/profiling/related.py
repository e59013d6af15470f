"""Whether an artifact may come from a model: by the shapes of its inputs, and by what it stores."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import keras

from kompakt.errors import InputError
from kompakt.graph import symbolic_inputs
from kompakt.sites import sites
from kompakt.targets.profiler import End, Stored

Shape = tuple[int | None, ...]

LEAST = 2
"""Values of a constant that may tell something: a single number stands in every file."""


def check_related(model: keras.Model, ends: Sequence[End], stored: Sequence[Stored], path: str) -> str:
    """Raise where the artifact cannot be one of the model.

    Args:
        ends: the inputs of the artifact. stored: its constants.

    Returns:
        A note where it cannot be told, or "".

    Raises:
        InputError: it takes other inputs, or its weights are not as many as those of the model.

    Example:
        >>> import numpy as np
        >>> m = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="d")])
        >>> kernel = Stored(name="d/kernel", layer="d", kind="INT8", values=np.zeros((4, 5), "int8"), bytes=20)
        >>> try:
        ...     check_related(m, [End(name="x", shape=(1, 4))], [kernel], "m.tflite")
        ... except InputError as error:
        ...     print(str(error).partition("; ")[0])
        m.tflite: is not made of this model: d/kernel has 20 values in the file, 12 in the model
    """
    takes = [tuple(t.shape) for t in keras.tree.flatten(symbolic_inputs(model))]
    wrong = _other_inputs(takes, [end.shape for end in ends])
    sizes = {site.name: math.prod(site.variable.shape) for site in sites(model) if site.variable is not None}
    wrong = wrong or _other_weights(sizes, stored)
    if wrong:
        raise InputError(f"{path}: is not made of this model: {wrong}; give the model it came from")
    if sizes and not any(each.name in sizes for each in stored):
        return "whether the file comes from the model cannot be told by names: its weights are called otherwise"
    return ""


def _other_inputs(model: Sequence[Shape], file: Sequence[Shape]) -> str:
    """In what the inputs of a file are others than a model's, or ""; the size of a batch is open."""
    left = list(file)
    for shape in model:
        found = next((each for each in left if _fits(shape, each)), None)
        if found is None:
            return f"the model takes {_told(model)}, the file {_told(file)}"
        left.remove(found)
    return f"the model takes {_told(model)}, the file {_told(file)}" if left else ""


def _fits(shape: Shape, other: Shape) -> bool:
    return len(shape) == len(other) and all(
        a is None or b is None or a == b for a, b in zip(shape[1:], other[1:], strict=True)
    )


def _told(shapes: Sequence[Shape]) -> str:
    texts = [f"({', '.join('any' if n is None else str(n) for n in shape[1:])})" for shape in shapes]
    return " and ".join(texts) or "nothing"


def _other_weights(sizes: Mapping[str, int], stored: Sequence[Stored]) -> str:
    """In what most weights of a file are others than a model's, or "".

    Args:
        sizes: name of each weight of the model that techniques go on -> how many values.
    """
    found = {each.name: int(each.values.size) for each in stored}
    named = {name: found[name] for name in sizes if name in found}
    apart = [name for name, size in named.items() if size != sizes[name] and size != -(-sizes[name] // 2)]  # 4 bits
    if len(apart) > len(named) / 2:
        name = apart[0]
        return f"{name} has {named[name]:,} values in the file, {sizes[name]:,} in the model"
    if named:
        return ""
    held = Counter(int(each.values.size) for each in stored if each.values.size >= LEAST)
    if sizes and held and not any(size in held for size in sizes.values()):
        name, size = max(sizes.items(), key=lambda item: item[1])
        return f"the file has no weight of {size:,} values, as {name} of the model"
    return ""
