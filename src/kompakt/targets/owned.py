"""Which files of a folder kompakt wrote, by the note that it left there: nothing else may be replaced."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from kompakt.errors import InputError

NOTE = "kompakt.json"
"""The file of a folder in which kompakt's note and the digests of the other files are."""


NAMED = 3
"""Files that an error names; it counts the others."""


TRIES = 100
"""How often a folder is looked at anew that others replace at that moment."""


def check_ours(folder: Path, main: str, target: str) -> None:
    """Raise where ``folder`` may not be replaced by an artifact of ``target``, which is told by its file ``main``.

    Raises:
        InputError: there is what kompakt did not write, or an artifact of another target; or it cannot be looked at.
    """
    try:
        others, ours = _looked_at(folder)
    except OSError as error:
        raise InputError(f"cannot read {error.filename}: {error.strerror}; name a new folder") from None
    if others:
        more = f" and {len(others) - NAMED} more" if len(others) > NAMED else ""
        raise InputError(
            f"{folder}: replacing it would delete {', '.join(others[:NAMED])}{more}, which kompakt did not write "
            f"(a {NOTE} lists what it did); name a new folder"
        )
    if ours and main not in ours:
        raise InputError(f"{folder} holds an artifact of another target than {target!r}; name a new folder")


def _looked_at(folder: Path) -> tuple[list[str], set[str]]:
    """``foreign`` and ``listed`` of one folder: another export may put its own in this place at any moment."""
    for _ in range(TRIES):
        before = _which(folder)
        try:
            found = foreign(folder), listed(folder)
        except OSError:
            if before is not None and _which(folder) == before:
                raise
        else:
            if _which(folder) == before:
                return found
    return foreign(folder), listed(folder)


def _which(folder: Path) -> tuple[int, int] | None:
    try:
        found = folder.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_ctime_ns  # numbers of folders that are gone are given again


def listed(folder: Path) -> set[str]:
    """Paths of the files that kompakt wrote into ``folder``, as its note says; none where it has no such note.

    Raises:
        OSError: the note cannot be read.
    """
    try:
        return {NOTE, *dict(json.loads((folder / NOTE).read_bytes())["sha256"])}
    except (FileNotFoundError, IsADirectoryError, KeyError, TypeError, ValueError, RecursionError):
        return set()


def foreign(folder: Path) -> list[str]:
    """Paths below ``folder`` of what kompakt did not write; where it wrote nothing, the names of all that is there.

    Raises:
        OSError: the folder cannot be looked at.

    Example:
        >>> import tempfile; place = Path(tempfile.mkdtemp())
        >>> _ = (place / NOTE).write_text('{"sha256": {"model.json": "..."}}'), (place / "app.js").write_text("")
        >>> foreign(place)
        ['app.js']
    """
    known = listed(folder)
    return sorted(set(_held(folder)) - known if known else os.listdir(folder))


def _held(folder: Path) -> Iterator[str]:
    """Every file and link below ``folder``, by its path, with slashes."""
    for place, folders, files in os.walk(folder, onerror=_fail):
        links = [name for name in folders if Path(place, name).is_symlink()]
        yield from (Path(place, name).relative_to(folder).as_posix() for name in (*files, *links))


def _fail(error: OSError) -> NoReturn:
    raise error
