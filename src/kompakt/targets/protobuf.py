"""Messages of protocol buffers, of which a damaged one is nothing instead of an exception."""

from __future__ import annotations

from typing import Any

from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message,
    message_factory,
)

__all__ = ["descriptor_pb2", "descriptor_pool", "message_factory", "parsed"]


def parsed(kind: Any, content: bytes) -> Any:
    """The message of the class ``kind`` in ``content``, None where there is none.

    Example:
        >>> parsed(descriptor_pb2.FileDescriptorProto, b"no such message") is None
        True
    """
    try:
        return kind.FromString(content)
    except message.DecodeError:
        return None
