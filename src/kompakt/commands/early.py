"""What can be told of a command's words before Keras is imported, which takes seconds: files, and words for choices.

Each raises the InputError that the work itself would raise later.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from kompakt.errors import InputError
from kompakt.spelling import one_of


def check_model(path: str | None) -> None:
    """A ``.keras`` file lies there; None: none was asked for."""
    from kompakt.files import check_keras_file

    if path is not None:
        check_keras_file(path)


def check_artifact(path: str) -> None:
    """There is something: whether it is an artifact is for the targets to tell."""
    from kompakt.targets import check_there

    check_there(path)


def check_thing(path: str) -> None:
    """A model or an artifact lies there."""
    if Path(path).suffix == ".keras":
        check_model(path)
    else:
        check_artifact(path)


def check_data(spec: str | None) -> None:
    """It names data; None: none was given."""
    from kompakt.data import check_named

    if spec is not None:
        check_named(spec)


def check_target(name: str | None, more: Iterable[str] = ()) -> None:
    """It is a target, or one of ``more``; None: none was named."""
    from kompakt.targets import TARGETS

    known = (*TARGETS, *more)
    if name is not None and name not in known:
        raise InputError(f"--target {name!r}: {one_of(name, known)}")
