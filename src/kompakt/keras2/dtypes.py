"""The types of tensors in a model of Keras 2, as its config tells them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kompakt.keras2.operators import OPERATORS

Config = dict[str, Any]


def dtype_beside(layers: Mapping[str, Config], node: Any) -> str:
    """The type of the first tensor among what a layer is called with; float32 where there is none.

    Args:
        layers: name -> config in the file, of a functional model's layers. node: one call, as in the file.

    Example:
        >>> layers = {"a": {"name": "a", "class_name": "InputLayer", "config": {"dtype": "int32"}}}
        >>> dtype_beside(layers, [["a", 0, 0, {}]])
        'int32'
    """
    name = next((text for text in _found(node) if text in layers), None)
    return "float32" if name is None else _given_by(layers[name], layers)


def _given_by(layer: Config, layers: Mapping[str, Config]) -> str:
    """What a layer computes in by its policy; of a function what its inputs are, or what it was told."""
    config = layer["config"]
    if layer["class_name"] in OPERATORS:
        told = next(_found(layer["inbound_nodes"], "dtype"), None)
        return told or dtype_beside(layers, layer["inbound_nodes"])
    inside = _layers(layer["class_name"], config)
    if inside:
        last = next(_found(config["output_layers"])) if "output_layers" in config else next(reversed(inside))
        return _given_by(inside[last], inside)
    policy = config.get("dtype") or "float32"
    return str(policy["config"]["name"] if isinstance(policy, Mapping) else policy).removeprefix("mixed_")


def _layers(kind: str, config: Any) -> dict[str, Config]:
    """Name -> config of the layers of a model; none where it is a layer."""
    if kind != "Sequential" and "output_layers" not in config:
        return {}
    return {each["config"]["name"]: each for each in (config["layers"] if isinstance(config, Mapping) else config)}


def _found(item: Any, key: str | None = None) -> Iterator[str]:
    """Texts in ``item``, at any depth; of those in mappings only what stands under ``key``, where one is asked for."""
    if isinstance(item, str) and key is None:
        yield item
    elif isinstance(item, Mapping):
        for name, each in item.items():
            yield from _found(each, None if name == key else key)
    elif isinstance(item, (list, tuple)):
        for each in item:
            yield from _found(each, key)
