"""The forms of deployment: one file each (its helpers beside it), one row each in the registry."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from kompakt.errors import InputError

if TYPE_CHECKING:
    from kompakt.targets.target import Target

TARGETS: dict[str, str] = {"tflite": "kompakt.targets.tflite:TFLite"}
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
