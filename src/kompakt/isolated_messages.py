"""Messages of a pipe: a JSON value and arrays in NumPy's own format. Nothing is pickled."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable, Sequence
from typing import IO, Any

import numpy as np

HEAD = struct.Struct("<QQ")
"""Before each message: bytes of its JSON, and of its arrays."""


def write(stream: IO[bytes], value: Any, arrays: Sequence[np.ndarray]) -> None:
    """Send ``value`` and ``arrays``.

    Example:
        >>> pipe = io.BytesIO()
        >>> write(pipe, {"a": 1}, [np.arange(2)])
        >>> _ = pipe.seek(0)
        >>> read(lambda size: pipe.read(size))
        ([array([0, 1])], {'a': 1})
    """
    buffer = io.BytesIO()
    for array in arrays:
        np.save(buffer, array, allow_pickle=False)
    text, packed = json.dumps(value).encode(), buffer.getvalue()
    stream.write(HEAD.pack(len(text), len(packed)))
    stream.write(text)
    stream.write(packed)
    stream.flush()


def read(exactly: Callable[[int], bytes | bytearray]) -> tuple[list[np.ndarray], Any]:
    """The next message: its arrays and its value.

    Args:
        exactly: gives as many bytes as it is asked for, or raises EOFError.
    """
    sizes = HEAD.unpack(exactly(HEAD.size))
    text, packed = (exactly(size) for size in sizes)
    return _arrays(packed), json.loads(text)


def _arrays(data: bytes | bytearray) -> list[np.ndarray]:
    buffer, found = io.BytesIO(data), []
    while buffer.tell() < len(data):
        found.append(np.load(buffer, allow_pickle=False))
    return found
