"""What kompakt noted in an artifact about itself, read with care: the text may be anyone's."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kompakt.errors import InputError


def read_note(text: str | bytes | None) -> dict[str, Any]:
    """The note as a dict whose entries are of the form that kompakt writes; {} where there is none.

    Raises:
        InputError: it is no JSON, or an entry has another form.

    Example:
        >>> read_note('{"quantization": "int8"}'), read_note(None)
        ({'quantization': 'int8'}, {})
        >>> try:
        ...     read_note('{"asked": 5}')
        ... except InputError as error:
        ...     print(error)
        broken artifact: 'asked' of kompakt's note in it is 5; make it again
    """
    try:
        note = json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        raise InputError(f"broken artifact: kompakt's note in it is no JSON ({error}); make it again") from None
    if not isinstance(note, dict):
        raise InputError(f"broken artifact: kompakt's note in it is {note!r:.80}; make it again")
    for key, value in note.items():
        if key in FORMS and not FORMS[key](value):
            raise InputError(f"broken artifact: {key!r} of kompakt's note in it is {value!r:.80}; make it again")
    return note


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _list(of: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(of, value))


def _by_name(of: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(map(of, value.values()))


def _optional(of: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or of(value)


def _pair(first: Callable[[Any], bool], second: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and len(value) == 2 and first(value[0]) and second(value[1])


def _entries(**of: Callable[[Any], bool]) -> Callable[[Any], bool]:
    def fits(value: Any) -> bool:
        return isinstance(value, dict) and all(key in value and check(value[key]) for key, check in of.items())

    return fits


def _layout(value: Any) -> bool:
    """How a weight stands in an ONNX graph (:mod:`kompakt.targets.onnx_layout`)."""
    axes = _list(_whole)
    if not _entries(tensor=_text, shape=axes, axes=axes, gates=_optional(axes))(value):
        return False
    gates = value["gates"]
    return _is_order(value["axes"]) and len(value["shape"]) == len(value["axes"]) and (not gates or _is_order(gates))


def _is_order(axes: Sequence[int]) -> bool:
    return sorted(axes) == list(range(len(axes)))


def _end(value: Any) -> bool:
    """An input or output: its name, or what is to be known of it."""
    return _text(value) or isinstance(value, dict)


FORMS: Mapping[str, Callable[[Any], bool]] = {
    "quantization": _text,
    "io": _text,
    "asked": _by_name(_pair(_optional(_whole), _optional(_whole))),
    "channels": _by_name(_list(_whole)),
    "floats": _list(_text),
    "inputs": _list(_end),
    "outputs": _list(_end),
    "layouts": _by_name(_layout),
    "at": _by_name(_pair(_text, _optional(_list(_whole)))),
    "backends": _list(_text),
    "signatures": _list(_text),
}
"""Entry of a note -> whether a value has its form."""
