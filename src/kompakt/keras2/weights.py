"""The weights of a model of Keras 2, put by their names where they belong.

Keras' own reader goes by order, which two layers of one shape may have changed without anyone seeing it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import h5py
import keras
import numpy as np

from kompakt.errors import InputError

RENAMED = {"depthwise_kernel": "kernel"}
"""Weights of DepthwiseConv2D in Keras 2 -> in Keras 3. Where both keep the old name, it is read so on both sides."""


def texts(group: h5py.Group, name: str) -> list[str]:
    """A list of texts among the attributes of ``group``; long ones stand there in numbered pieces.

    Example:
        >>> file = h5py.File("x.h5", "w", driver="core", backing_store=False)
        >>> file.attrs["names0"], file.attrs["names1"] = [b"a", b"b"], [b"c"]
        >>> texts(file, "names")
        ['a', 'b', 'c']
    """
    pieces, count = [name] if name in group.attrs else [], 0
    while pieces[:1] != [name] and f"{name}{count}" in group.attrs:
        pieces.append(f"{name}{count}")
        count += 1
    return [text(each) for piece in pieces for each in group.attrs[piece]]


def text(value: Any) -> str:
    """An attribute as text.

    Example:
        >>> text(b"a"), text("a")
        ('a', 'a')
    """
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def assign(model: keras.Model, group: h5py.Group, renamed: Mapping[str, str]) -> None:
    """Give every weight of ``model`` its values from ``group``.

    Args:
        renamed: a layer's name in the file -> in the model, where they differ.

    Raises:
        InputError: a layer whose weights are not there, or of other names or shapes; data that lie in another file.
    """
    names = {renamed.get(name, name): name for name in texts(group, "layer_names")}
    for layer in model.layers:
        variables = [*layer.trainable_weights, *layer.non_trainable_weights]
        if not variables:
            continue
        if layer.name not in names:
            raise InputError(f"layer {layer.name!r}: the file has no weights of it; save the model again with Keras 2")
        _assign_layer(layer.name, variables, _child(group, names[layer.name], h5py.Group), renamed)
    _finalize(model)
    extra = group.get("top_level_model_weights")
    if isinstance(extra, h5py.Group) and texts(extra, "weight_names"):
        raise InputError("weights that belong to the model itself and to no layer; put them into a layer in Keras 2")


def restore(optimizer: keras.optimizers.Optimizer, file: h5py.File) -> None:
    """Give an optimizer of Keras 3 the state that Keras 3 wrote, which is in its order.

    Args:
        optimizer: built. file: with or without a state.

    Raises:
        InputError: a state of another optimizer.
    """
    if "optimizer_weights" not in file:
        return
    group = _child(file, "optimizer_weights", h5py.Group)
    data = [_child(group, name, h5py.Dataset) for name in texts(group, "weight_names")]
    variables = optimizer.variables
    if [tuple(each.shape) for each in data] != [tuple(each.shape) for each in variables]:
        raise InputError("the state of its optimizer is another's; load the model without compiled=True and compile it")
    for variable, each in zip(variables, data, strict=True):
        variable.assign(np.asarray(each))


def _finalize(model: keras.Model) -> None:
    """What layers compute of their weights once, as Normalization does."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            _finalize(layer)
        elif isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()


def _assign_layer(layer: str, variables: list[Any], group: h5py.Group, renamed: Mapping[str, str]) -> None:
    stored = texts(group, "weight_names")
    if len(stored) != len(variables):
        raise InputError(
            f"layer {layer!r}: the file has {len(stored)} weights of it, expected {len(variables)}; save the model "
            "again with Keras 2"
        )
    names = {_new(name, renamed): name for name in stored}
    for variable, name in zip(variables, _order(layer, variables, list(names)), strict=True):
        data = _child(group, names[name], h5py.Dataset)
        if tuple(data.shape) != tuple(variable.shape):
            raise InputError(
                f"layer {layer!r}: the file's {name} has the shape {tuple(data.shape)}, expected "
                f"{tuple(variable.shape)}; save the model again with Keras 2"
            )
        variable.assign(np.asarray(data))


def _new(weight: str, renamed: Mapping[str, str]) -> str:
    """A weight's name with the new name of its layer."""
    parts = weight.split("/")
    for end in range(len(parts) - 1, 0, -1):
        start = "/".join(parts[:end])
        if start in renamed:
            return "/".join((renamed[start], *parts[end:]))
    return weight


def _order(layer: str, variables: list[Any], stored: list[str]) -> list[str]:
    """``stored`` in the order of ``variables``: by layer and name where these tell all apart, else by order.

    A user's layer may name its weights otherwise now; then their order is theirs where no two have one shape.
    """
    for depth in (3, 2, 1):
        wanted = [_tail(variable.path, depth) for variable in variables]
        found = {_tail(name, depth): name for name in stored}
        if len(found) == len(stored) and set(found) == set(wanted):
            return [found[each] for each in wanted]
    same = [_tail(name, 1) for name in stored] == [_tail(variable.path, 1) for variable in variables]
    if same or len({tuple(variable.shape) for variable in variables}) == len(variables):
        return stored
    told = ", ".join(_tail(name, 1)[0] for name in stored)
    wanted_names = ", ".join(variable.name for variable in variables)
    raise InputError(f"layer {layer!r}: the file has the weights {told}, expected {wanted_names}")


def _tail(path: str, depth: int) -> tuple[str, ...]:
    parts = path.rsplit(":", 1)[0].split("/")[-depth:]
    return (*parts[:-1], RENAMED.get(parts[-1], parts[-1]))


def _child(group: h5py.Group, name: str, kind: type) -> Any:
    """What is at ``name``, if it lies in this file: a link to another would read whatever file it names."""
    here: Any = group
    for part in name.strip("/").split("/"):
        link = here.get(part, getlink=True) if isinstance(here, h5py.Group) else None
        if not isinstance(link, h5py.HardLink):
            raise InputError(f"weights {name!r} are not in the file; save the model again with Keras 2")
        here = here[part]
    if not isinstance(here, kind) or (isinstance(here, h5py.Dataset) and (here.is_virtual or here.external)):
        raise InputError(f"weights {name!r} are not stored as numbers in the file; save the model again with Keras 2")
    return here
