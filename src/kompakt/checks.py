"""What a mapping that a user wrote may hold: keys, words, types. Each error is one line with the nearest valid name."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kompakt.errors import InputError
from kompakt.spelling import nearest

TYPES: dict[type, tuple[str, tuple[type, ...]]] = {
    str: ("a text", (str,)),
    bool: ("true or false", (bool,)),
    int: ("a whole number", (int,)),
    float: ("a number", (int, float)),
    dict: ("an object", (Mapping,)),
    Mapping: ("an object", (Mapping,)),
    Sequence: ("a list", (list, tuple)),
    type(None): ("null", (type(None),)),
}
"""Type -> (its name for people, what may be given for it)."""


def check_keys(data: Any, kind: type, where: str) -> dict[str, Any]:
    """``data`` as keyword arguments of the dataclass ``kind``; a key it does not know is an error.

    Example:
        >>> from kompakt.records import Measurement
        >>> check_keys({"nam": "a"}, Measurement, "here")
        Traceback (most recent call last):
        kompakt.errors.InputError: here: unknown key 'nam'; nearest: 'name'
    """
    if not isinstance(data, Mapping):
        raise InputError(f"{where}: received {type(data).__name__}, expected an object")
    known = [field.name for field in dataclasses.fields(kind)]
    for key in data:
        if key not in known:
            raise InputError(f"{where}: unknown key {key!r}{nearest(str(key), known)}")
    return dict(data)


def check_types(values: Mapping[str, Any], kinds: Mapping[str, type], where: str) -> None:
    """Raise where one of ``values`` is not of the type that ``kinds`` has for its key."""
    for key, kind in kinds.items():
        if key in values:
            check_type(values[key], (kind,), f"{where}: {key!r}")


def check_type(value: Any, kinds: Iterable[Any], what: str) -> None:
    """Raise where ``value`` is of none of ``kinds``; those that :data:`TYPES` has not are left out.

    Example:
        >>> check_type(True, (int,), "x")
        Traceback (most recent call last):
        kompakt.errors.InputError: x is True, expected a whole number
    """
    rows = [TYPES[kind] for kind in (typing.get_origin(k) or k for k in kinds) if kind in TYPES]
    if not rows:
        return
    for _, types in rows:
        if isinstance(value, types) and (bool in types or not isinstance(value, bool)):
            return
    raise InputError(f"{what} is {value!r}, expected {' or '.join(name for name, _ in rows if name != 'null')}")


def check_word(values: Mapping[str, Any], key: str, known: Iterable[str], where: str) -> None:
    """Raise where ``values[key]`` is there, is not None and is not ``known``."""
    word = values.get(key)
    if word is not None and word not in known:
        raise InputError(f"{where}: {key!r} is {word!r}{nearest(str(word), known)}")


def get_list(values: Mapping[str, Any], key: str, where: str) -> Sequence[Any]:
    """The list at ``key``; () where there is none."""
    found = values.get(key, ())
    if not isinstance(found, (list, tuple)):
        raise InputError(f"{where}: {key!r} is {type(found).__name__}, expected a list")
    return found
