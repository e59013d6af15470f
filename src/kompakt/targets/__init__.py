"""The forms of deployment: one file each (its helpers beside it), one row each in the registry."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from kompakt.errors import InputError
from kompakt.spelling import one_of

if TYPE_CHECKING:
    from kompakt.targets.target import Target

TARGETS: dict[str, str] = {
    "tflite": "kompakt.targets.tflite:TFLite",
    "tflm": "kompakt.targets.tflm:TFLM",
    "tfjs": "kompakt.targets.tfjs:TFJS",
    "savedmodel": "kompakt.targets.savedmodel:SavedModel",
    "onnx": "kompakt.targets.onnx:ONNX",
}
"""Name -> "module:class", imported when it is asked for: a runtime that is not used is not loaded."""


def find_target(name: str) -> Target:
    """The target called ``name``.

    Raises:
        InputError: there is none.
    """
    if name not in TARGETS:
        raise InputError(f"target {name!r}: {one_of(name, TARGETS)}")
    module, cls = TARGETS[name].split(":")
    made: Target = getattr(importlib.import_module(module), cls)()
    return made


def target_at(path: str | Path, name: str | None = None) -> Target:
    """The target that the artifact at ``path`` is of: the one of that name, else told by the names of its files.

    Raises:
        InputError: there is no such target; there is nothing, or nothing that a target writes.

    Example:
        >>> import tempfile; from pathlib import Path
        >>> file = Path(tempfile.mkdtemp(), "m.tflite"); _ = file.write_bytes(b"")
        >>> target_at(file).name
        'tflite'
    """
    check_there(path)
    if name is not None:
        return find_target(name)
    try:
        name = _claimed(Path(path))
        inside = [] if name or not Path(path).is_dir() else _inside(Path(path))
    except OSError as error:
        raise _unread(path, error) from None
    if inside:
        raise InputError(f"{path} is no artifact, and holds some: name one of {', '.join(inside)}")
    if name is None:
        expected = f"expected an artifact of one of {', '.join(TARGETS)}"
        if Path(path).suffix == ".keras":
            raise InputError(f"{path}: {expected}, not a Keras model: make one of it with kompakt export")
        raise InputError(f"{path}: {expected}, such as 'model.tflite'")
    return find_target(name)


def check_there(path: str | Path) -> None:
    """Raise where there is nothing at ``path``; no target is loaded for that.

    Raises:
        InputError: there is nothing, or it cannot be told.

    Example:
        >>> check_there("/")
    """
    try:
        Path(path).stat()
    except (OSError, ValueError) as error:
        raise _unread(path, error) from None


def _unread(path: str | Path, error: Exception) -> InputError:
    why = error.strerror if isinstance(error, OSError) else error
    return InputError(f"cannot read {path}: {why}; give the path of an exported file or folder")


def _claimed(path: Path) -> str | None:
    """The target that an artifact is of; None for what is none."""
    return next((name for name in TARGETS if find_target(name).claims(path)), None)


def _inside(folder: Path) -> list[str]:
    """The artifacts in ``folder``."""
    return sorted(f"{each.name} ({of})" for each in folder.iterdir() if (of := _claimed(each)))
