"""Writing files so that a reader sees the old one or the new one, never half of one."""

from __future__ import annotations

import errno
import gzip
import hashlib
import logging
import os
import secrets
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kompakt.errors import InputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger("kompakt")


def write_atomic(path: str | Path, data: bytes | str) -> Path:
    """Write ``data`` (text as UTF-8) to ``path`` through a temporary file beside it and a rename.

    A symbolic link stays one: what it points at is written.

    Raises:
        InputError: the folder cannot be made or written.

    Example:
        >>> import tempfile; folder = tempfile.mkdtemp()
        >>> write_atomic(folder + "/a.txt", "hello").read_text()
        'hello'
    """
    path = Path(path)
    content = data.encode() if isinstance(data, str) else data
    place = _pointed_at(path)
    writable_folder(place.parent)
    # Named before it is made: an interrupt between the two must leave nothing behind.
    beside = place.parent / f".{place.name[:40]}.{secrets.token_hex(4)}.tmp"
    try:
        with beside.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(place)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; choose another place") from None
    finally:
        beside.unlink(missing_ok=True)
    return path


def _pointed_at(path: Path) -> Path:
    """``path``, or what it points at where it is a symbolic link."""
    if not os.path.islink(path):
        return path
    place = Path(os.path.realpath(path))
    if os.path.islink(place):  # of links in a ring the system's answer is one of them
        raise InputError(f"cannot write {path}: {os.strerror(errno.ELOOP)}; choose another place")
    return place


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Have ``folder`` to oneself: other processes and threads that ask for it wait. Not on Windows.

    Raises:
        InputError: it cannot be opened.
    """
    if fcntl is None:
        yield
        return
    try:
        place = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise InputError(f"cannot open the folder {folder}: {error.strerror}; choose another place") from None
    try:
        _lock(place, folder)
        yield
    finally:
        os.close(place)  # and with it the lock


def _lock(place: int, folder: Path) -> None:
    try:
        fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log.warning("%s: another process works there; waiting until it has ended", folder)
        fcntl.flock(place, fcntl.LOCK_EX)
    except OSError:  # a file system without locks
        log.warning("%s: it cannot be locked; no other process may write there", folder)


def writable_folder(folder: str | Path) -> Path:
    """Make ``folder`` where it is missing and check that a file can be made in it.

    Raises:
        InputError: it cannot be made, is a file, or is not writable.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise InputError(
            f"cannot write to the folder {folder}: {error.strerror}; choose a folder you may write to"
        ) from None
    return folder


def there(path: str | Path) -> bool:
    """Whether there is something at ``path``.

    Raises:
        InputError: that cannot be told, and so nothing can be written there: a name is too long, a folder closed.

    Example:
        >>> there("/"), there("/no such folder/file")
        (True, False)
    """
    path = Path(path)
    if _stands(path):
        return True
    above = next((folder for folder in path.parents if _stands(folder)), Path())
    for name in path.relative_to(above).parts:
        _stands(above / name)  # of a folder that is missing the system does not say that names in it are too long
    return False


def _stands(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"cannot write {path}: {why}; choose another place") from None
    return True


def sha256(data: bytes) -> str:
    """Hexadecimal SHA-256 of ``data``."""
    return hashlib.sha256(data).hexdigest()


def gzip_bytes(data: bytes) -> int:
    """Size of ``data`` after gzip at level 9: what a download or a flash image that is unpacked costs."""
    return len(gzip.compress(data, 9, mtime=0))


def check_keras_file(path: str | Path) -> Path:
    """``path``, where a ``.keras`` file lies; what is in it is not looked at.

    Raises:
        InputError: there is none.

    Example:
        >>> check_keras_file("no.keras")
        Traceback (most recent call last):
        kompakt.errors.InputError: model file no.keras does not exist; give the path of a .keras file
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"model file {path} is a folder; give the path of a .keras file")
    if not path.is_file():
        raise InputError(f"model file {path} does not exist; give the path of a .keras file")
    if path.suffix != ".keras" or not zipfile.is_zipfile(path):
        raise InputError(
            f"{path}: not a .keras file (a zip with config.json and weights); save the model with "
            "model.save('name.keras')"
        )
    return path


def read_file(path: str | Path) -> bytes:
    """Bytes of ``path``; a missing or unreadable file is an InputError."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InputError(
            f"cannot read {path}: {error.strerror}; give the path of a file that is there and can be read"
        ) from None
