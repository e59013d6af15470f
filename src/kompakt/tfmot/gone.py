"""Names of tfmot that mean nothing here: they can be imported, and using one says why it is gone and what to use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from kompakt.errors import InputError


@dataclass(frozen=True)
class Gone:
    """``why`` a name is gone, and what to use ``instead``; what ``isinstance`` ``finds`` is in its place here."""

    why: str
    instead: str
    finds: Callable[[Any], bool] = lambda _: False


def refuse(path: str, gone: Gone) -> NoReturn:
    """Raise the one error of a name that is gone.

    Example:
        >>> refuse("tfmot.a.B", Gone("it arranged layers", "nothing: kompakt arranges them"))
        Traceback (most recent call last):
        kompakt.errors.InputError: tfmot.a.B is gone (it arranged layers); use instead: nothing: kompakt arranges them
    """
    raise InputError(f"{path} is gone ({gone.why}); use instead: {gone.instead}")


class GoneType(type):
    """The type of the classes that are gone: to call one or to subclass it raises.

    ``isinstance``, which loops over layers ask, is answered: by what has their place here, else with no.
    """

    path: str
    gone: Gone

    def __new__(cls, name: str, bases: tuple[type, ...], space: dict[str, Any]) -> GoneType:
        for base in bases:
            if isinstance(base, GoneType):
                refuse(base.path, base.gone)
        return super().__new__(cls, name, bases, space)

    def __call__(cls, *args: Any, **kwargs: Any) -> NoReturn:
        refuse(cls.path, cls.gone)

    def __instancecheck__(cls, instance: Any) -> bool:
        return cls.gone.finds(instance)


def gone_class(path: str, gone: Gone) -> type:
    """A class in the place of ``path``.

    Example:
        >>> old = gone_class("tfmot.a.B", Gone("it arranged layers", "nothing"))
        >>> old()
        Traceback (most recent call last):
        kompakt.errors.InputError: tfmot.a.B is gone (it arranged layers); use instead: nothing
    """
    text = f"Gone: {gone.why}. Use instead: {gone.instead}."
    return GoneType(path.rsplit(".", 1)[-1], (), {"__doc__": text, "path": path, "gone": gone})


def names_of(prefix: str, table: Mapping[str, Gone]) -> Callable[[str], Any]:
    """The ``__getattr__`` of a module of which names are gone: those of ``table`` below ``prefix``.

    Example:
        >>> look = names_of("tfmot.a", {"tfmot.a.B": Gone("it arranged layers", "nothing")})
        >>> look("B").__name__, look("B") is look("B")
        ('B', True)
        >>> look("C")
        Traceback (most recent call last):
        AttributeError: module 'tfmot.a' has no attribute 'C'
    """
    made: dict[str, type] = {}

    def look(name: str) -> Any:
        path = f"{prefix}.{name}"
        if path not in table:
            raise AttributeError(f"module {prefix!r} has no attribute {name!r}")
        return made.setdefault(name, gone_class(path, table[path]))

    return look
