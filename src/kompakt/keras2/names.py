"""Names of layers with a slash, which Keras 3 forbids."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from kompakt.keras2.mends import Mends


def without_slashes(config: Any, mends: Mends) -> tuple[Any, dict[str, str]]:
    """(``config`` with "_" for "/" in the names of layers, name before -> name now).

    Args:
        config: of a model; not changed. mends: told the names.

    Example:
        >>> mends = Mends()
        >>> without_slashes({"class_name": "Dense", "config": {"name": "a/b"}}, mends)
        ({'class_name': 'Dense', 'config': {'name': 'a_b'}}, {'a/b': 'a_b'})
        >>> mends.lines()
        ["a/b: named with '_' for '/', which Keras 3 forbids in names"]
    """
    names = list(dict.fromkeys(layer_names(config)))
    renamed: dict[str, str] = {}
    for name in names:
        if "/" in name:
            renamed[name] = free_name(name.replace("/", "_"), {*names, *renamed.values()})
            mends.add(name, "named with '_' for '/', which Keras 3 forbids in names")
    return (_replaced(config, renamed) if renamed else config), renamed


def free_name(name: str, taken: Collection[str]) -> str:
    """``name``, with "_" behind it where it is taken.

    Example:
        >>> free_name("a", {"a"})
        'a_'
    """
    while name in taken:
        name += "_"
    return name


def layer_names(item: Any) -> Iterator[str]:
    """Names of all layers in a config, nested ones too.

    Example:
        >>> list(layer_names({"class_name": "Dense", "config": {"name": "a"}}))
        ['a']
    """
    if isinstance(item, Mapping):
        inside = item.get("config")
        if "class_name" in item and isinstance(inside, Mapping) and isinstance(inside.get("name"), str):
            yield inside["name"]
        for value in item.values():
            yield from layer_names(value)
    elif isinstance(item, list):
        for value in item:
            yield from layer_names(value)


def _replaced(item: Any, renamed: Mapping[str, str]) -> Any:
    """Every text that is one of the names, as its new name: in the calls of layers too."""
    if isinstance(item, Mapping):
        return {key: _replaced(value, renamed) for key, value in item.items()}
    if isinstance(item, list):
        return [_replaced(value, renamed) for value in item]
    return renamed.get(item, item) if isinstance(item, str) else item
