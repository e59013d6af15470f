"""Attributes of a node of TensorFlow, as JSON has them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any


def attributes(node: Mapping[str, Any]) -> Mapping[str, Any]:
    """Those that a node has, without what is none.

    Example:
        >>> attributes({"attr": {"N": {"i": "2"}, "bad": 1}}), attributes({})
        ({'N': {'i': '2'}}, {})
    """
    held = node.get("attr", {})
    return {k: v for k, v in held.items() if isinstance(v, Mapping)} if isinstance(held, Mapping) else {}


def decoded(text: Any) -> str:
    """Bytes, which JSON has in base 64, as text.

    Example:
        >>> decoded("YWIsYmM=")
        'ab,bc'
    """
    try:
        content = base64.b64decode(str(text), validate=True)
    except (ValueError, binascii.Error):
        return str(text)
    plain = content.decode(errors="replace")
    return plain if plain.isprintable() else f"{len(content)} bytes"
