"""The end of an error about a word that is not known: what is, and what comes nearest."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def one_of(word: object, known: Iterable[str]) -> str:
    """'expected one of …; nearest: "…"': the end of an error about a word out of a few.

    Example:
        >>> one_of("INT8", ["float", "int8"])
        "expected one of float, int8; nearest: 'int8'"
    """
    known = list(known)
    close = _close(str(word), known)
    return f"expected one of {', '.join(known)}" + (f"; nearest: {close[0]!r}" if close else "")


def _close(word: str, known: list[str]) -> list[str]:
    """The nearest of ``known``, whatever the case of its letters, or none."""
    found = difflib.get_close_matches(word.lower(), [each.lower() for each in known], n=1, cutoff=0.5)
    return [each for each in known if each.lower() in found][:1]


def nearest(word: str, known: Iterable[str]) -> str:
    """'; nearest: "…"' or '; known: …': the end of an error about a name that is not known.

    Example:
        >>> nearest("stage", ["stages", "name"]), nearest("x", ["stages", "name"])
        ("; nearest: 'stages'", '; known: name, stages')
    """
    known = list(known)
    close = _close(word, known)
    if close:
        return f"; nearest: {close[0]!r}"
    return f"; known: {', '.join(sorted(known)[:8])}" + (", ..." if len(known) > 8 else "")
