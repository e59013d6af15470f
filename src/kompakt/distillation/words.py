"""What ``losses=`` of a distillation may be: words, mappings of a recipe, terms."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import keras

from kompakt.distillation.layer_terms import Attention, Hints, Relational
from kompakt.distillation.terms import Decoupled, SoftTargets, Term
from kompakt.errors import InputError
from kompakt.spelling import nearest

TERMS: dict[str, type[Term]] = {kind.name: kind for kind in (SoftTargets, Decoupled, Hints, Attention, Relational)}
"""Word -> term."""


def terms_of(given: Any, temperature: float) -> list[Any]:
    """What ``losses=`` means: words, terms, Keras' own distillation losses, or a list of them.

    Raises:
        InputError: something else is given.

    Example:
        >>> [term.name for term in terms_of(["soft_targets", Hints()], 4.0)]
        ['soft_targets', 'hints']
    """
    several = given if isinstance(given, (list, tuple)) else [given]
    if not several:
        raise InputError(f"losses={given!r}: expected at least one of {', '.join(TERMS)}")
    return [_term(each, temperature) for each in several]


def _term(given: Any, temperature: float) -> Any:
    if isinstance(given, Mapping):
        return _from_words(given)
    if isinstance(given, keras.distillation.DistillationLoss):
        return given
    kind = TERMS.get(given) if isinstance(given, str) else None
    if kind is None:
        raise InputError(
            f"losses has {given!r}: expected any of {', '.join(map(repr, TERMS))}, or an object of "
            "kompakt.distillation or keras.distillation"
        )
    return kind(temperature=temperature) if issubclass(kind, (SoftTargets, Decoupled)) else kind()


def _from_words(given: Mapping[str, Any]) -> Term:
    """A term as a recipe writes it: ``{"name": "hints", "weight": 0.1}``."""
    options = {key: value for key, value in given.items() if key != "name"}
    kind = TERMS.get(str(given.get("name")))
    if kind is None:
        raise InputError(f"losses has {dict(given)!r}: expected a 'name', one of {', '.join(TERMS)}")
    known = list(inspect.signature(kind).parameters)
    for key in options:
        if key not in known:
            raise InputError(f"losses, {kind.name}: unknown option {key!r}{nearest(key, known)}")
    return kind(**options)
