"""Folders as bytes, and written so that a reader sees the old one or the new one, never half of one."""

from __future__ import annotations

import ctypes
import errno
import io
import os
import secrets
import shutil
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from kompakt.errors import InputError
from kompakt.files import writable_folder

STAMP = (1980, 1, 1, 0, 0, 0)
"""Date of every file in a pack: the same files are the same bytes."""

EXCHANGE = 2
"""RENAME_EXCHANGE of Linux (renameat2(2)) and RENAME_SWAP of macOS (renamex_np(2)) are both 2."""

AT_FDCWD = -100

TRIES = 100
"""How often a folder is put in its place anew where others do the same at that moment."""


def packed(files: Mapping[str, bytes]) -> bytes:
    """The files of a folder, by their paths below it, as bytes: the same for the same files.

    Example:
        >>> unpacked(packed({"model.json": b"{}", "a/b.bin": b"1"}))["a/b.bin"]
        b'1'
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as pack:
        for name in sorted(files):
            pack.writestr(zipfile.ZipInfo(name, STAMP), files[name])
    return buffer.getvalue()


def unpacked(data: bytes) -> dict[str, bytes]:
    """Path below the folder -> bytes, of what :func:`packed` made."""
    with zipfile.ZipFile(io.BytesIO(data)) as pack:
        return {name: pack.read(name) for name in pack.namelist()}


def read_folder(path: str | Path) -> dict[str, bytes]:
    """Every file below ``path``, by its path below it, with slashes.

    Raises:
        InputError: it is no folder, or a file in it cannot be read.
    """
    folder = Path(path)
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise InputError(f"{path} {what}; give the folder that was exported")
    try:
        return {
            file.relative_to(folder).as_posix(): file.read_bytes()
            for file in sorted(folder.rglob("*"))
            if file.is_file()
        }
    except OSError as error:
        raise InputError(f"cannot read {error.filename}: {error.strerror}; make it readable") from None


def write_folder(path: str | Path, files: Mapping[str, bytes]) -> Path:
    """Write ``files`` as the folder ``path``: into a new folder beside it, then put in its place at once.

    What stands there is replaced whole; the caller has made sure that it may be. Of a link it is what that leads to.
    Where the system can exchange two folders (Linux, macOS) a reader finds the old or the new one at every moment;
    elsewhere, for one moment, none.

    Raises:
        InputError: the place cannot be written.

    Example:
        >>> import tempfile; place = tempfile.mkdtemp() + "/web"
        >>> sorted(p.name for p in write_folder(place, {"model.json": b"{}"}).iterdir())
        ['model.json']
    """
    path = Path(path)
    place = Path(os.path.realpath(path))
    writable_folder(place.parent)
    beside = place.parent / f".{place.name[:40]}.{secrets.token_hex(4)}.tmp"
    try:
        for name, content in files.items():
            _write(beside / PurePosixPath(name), content)
        _put(beside, place)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; choose another place") from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return path


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _put(new: Path, path: Path) -> None:
    """Rename ``new`` to ``path``; what was there is then where ``new`` was, or gone."""
    for _ in range(TRIES):
        if _moved(new, path) or _exchanged(new, path) or _replaced(new, path):
            return
    raise FileExistsError(errno.EEXIST, "others write there all the time")


def _moved(new: Path, path: Path) -> bool:
    """Rename ``new`` to ``path`` where there is nothing, which may change at any moment; whether that was so."""
    try:
        new.rename(path)
    except OSError as error:
        if _taken(error) or path.is_dir():
            return False
        raise
    return True


def _taken(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOTEMPTY, errno.EEXIST)


def _replaced(new: Path, path: Path) -> bool:
    """Put ``new`` in the place of ``path`` in two steps; False where another process was there between them."""
    old = new.with_suffix(".old")
    try:
        path.rename(old)
    except FileNotFoundError:
        return False
    try:
        new.rename(path)
    except BaseException as error:
        if _taken(error):
            return False
        old.rename(path)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)
    return True


def _exchanged(one: Path, other: Path) -> bool:
    """Whether the system could exchange the two in one step, and did."""
    if not sys.platform.startswith(("linux", "darwin")):
        return False
    library = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(one), os.fsencode(other)
    try:
        if sys.platform == "darwin":
            return bool(library.renamex_np(*names, EXCHANGE) == 0)
        return bool(library.renameat2(AT_FDCWD, names[0], AT_FDCWD, names[1], EXCHANGE) == 0)
    except AttributeError:  # a C library from before it
        return False
