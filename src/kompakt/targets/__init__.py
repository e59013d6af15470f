"""The forms of deployment: one file each (its helpers beside it), one row each in the registry."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from kompakt.errors import InputError

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
        raise InputError(f"target {name!r}: expected one of {', '.join(TARGETS)}")
    module, cls = TARGETS[name].split(":")
    made: Target = getattr(importlib.import_module(module), cls)()
    return made


def target_at(path: str | Path) -> Target:
    """The target that the artifact at ``path`` is of, by the names of its files.

    Raises:
        InputError: there is nothing, or nothing that a target writes.

    Example:
        >>> import tempfile; from pathlib import Path
        >>> file = Path(tempfile.mkdtemp(), "m.tflite"); _ = file.write_bytes(b"")
        >>> target_at(file).name
        'tflite'
    """
    try:
        Path(path).stat()
        found = next((place for name in TARGETS if (place := find_target(name)).claims(Path(path))), None)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"cannot read {path}: {why}; give the path of an exported file or folder") from None
    if found is None:
        raise InputError(f"{path}: expected an artifact of one of {', '.join(TARGETS)}, such as 'model.tflite'")
    return found
