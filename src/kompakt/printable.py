"""Text of a model or a file, made fit to be printed: a name must not drive the terminal it is shown on."""

from __future__ import annotations


def printable(text: str, keep: str = "") -> str:
    r"""``text`` with what does not print as its escape.

    That are control characters and the sequences that begin with them, line ends, marks that turn the direction of
    writing, and halves of characters.

    Args:
        keep: what is left as it is all the same: line ends, of a text of several lines.

    Example:
        >>> printable("conv\x1b[2J\n")
        'conv\\x1b[2J\\n'
    """
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)
