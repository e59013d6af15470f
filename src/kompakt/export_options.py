"""What ``export`` was asked for, checked against what the target and the model can be."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import keras

from kompakt.deploy import quantized_mode
from kompakt.errors import InputError
from kompakt.keras_modes import (
    KERAS_MODES,
    WHY_NOT_TFLITE,
    is_keras_mode,
    quantized_by_keras,
    refuse_quantized_by_keras,
)
from kompakt.precision import GRIDDED, INTEGER, MIXED
from kompakt.spelling import one_of
from kompakt.targets.target import Target
from kompakt.targets.words import IO, check_ending

USUAL = "usual"
"""Stands for the batch size that a target has where none is given."""


def checked_path(path: Any, place: Target) -> Path:
    """Where to write.

    Raises:
        InputError: another kind of file is named than ``place`` writes, or what is there must not be replaced.
    """
    example = f"model{place.suffix}" if place.suffix else f"{place.name}_model"
    if not isinstance(path, (str, os.PathLike)):
        raise InputError(f"path={path!r}: expected the {_what(place)} to write, such as {example!r}")
    check_ending(Path(path), place.name)
    place.check_place(Path(path))
    return Path(path)


def _what(place: Target) -> str:
    return "file" if place.suffix else "folder"


def mode_for(model: keras.Model, asked: str | None, place: Target, rules: Any) -> str:
    """The mode of the file: what was asked for, else the model's own, or the one of ``place`` nearest to it.

    Raises:
        InputError: it cannot be had of this model, or of this target.
    """
    own, quantized = _keras_mode(model, asked, place), quantized_mode(model)
    if own is not None:
        return own
    usual = "int8" if rules else "float"
    near = quantized if quantized in place.modes else place.nearest.get(quantized or "", usual)
    mode = asked or (near if quantized else usual)
    if mode not in place.modes:
        raise InputError(f"quantization={mode!r}: {one_of(mode, place.modes)}")
    if quantized is not None and mode != near and quantized in place.modes:
        raise InputError(
            f"quantization={mode!r}, but the model was quantized as {quantized!r}: export it as that, or "
            "export the model it was made from"
        )
    if rules and quantized is not None:
        raise InputError("rules=: the model is quantized already; give them to quantize()")
    if rules and mode not in INTEGER:
        raise InputError(f"rules= with quantization={mode!r}: expected one of {', '.join(INTEGER)}")
    if mode == MIXED and quantized is None:
        raise InputError("quantization='mixed': say which layers are what, rules={'head': 'float', 'block1_*': 4}")
    return mode


def _keras_mode(model: keras.Model, asked: str | None, place: Target) -> str | None:
    """The mode of Keras' own that the file will have, or None."""
    if is_keras_mode(asked) and asked not in place.modes:
        raise InputError(f"quantization={asked!r}: of kompakt.quantize and of target='savedmodel'. {WHY_NOT_TFLITE}")
    if not any(mode in place.modes for mode in KERAS_MODES):
        refuse_quantized_by_keras(model, f"target={place.name!r}", WHY_NOT_TFLITE)
        return None
    done = set(quantized_by_keras(model).values())
    if not done:
        return asked if asked in KERAS_MODES else None
    held = next((word for word, name in KERAS_MODES.items() if done == {name}), "keras_int8")
    if asked not in (None, held):
        raise InputError(
            f"quantization={asked!r}, but Keras quantized the model itself ({', '.join(sorted(done))}): leave it out"
        )
    return held


def change_of_mode(model: keras.Model, mode: str, place: Target) -> tuple[str, ...]:
    """A line where a quantized model becomes a file of another mode."""
    quantized = quantized_mode(model)
    if quantized in (None, mode):
        return ()
    return (
        f"quantized as {quantized}, which {place.name} has not: {mode}, with weights on their {quantized} grids and "
        "activations in floats",
    )


def io_for(io: str | None, mode: str, place: Target) -> str:
    """The type of inputs and outputs.

    Raises:
        InputError: files of ``mode`` have no such.
    """
    allowed = place.io.get(mode, ("float32",))
    if io is not None and io not in IO:
        raise InputError(f"io={io!r}: expected one of {', '.join(IO)}")
    if io is not None and io not in allowed:
        raise InputError(f"io={io!r}: inputs and outputs of {mode} files are {' or '.join(allowed)}")
    return io or allowed[0]


def batch_for(batch: int | str | None, mode: str, place: Target) -> int | None:
    """The fixed batch size, or None for any.

    Raises:
        InputError: it is none, or an integer file is to have any.
    """
    if batch == USUAL:
        return place.usual_batch
    if batch is None and mode in GRIDDED:
        raise InputError(f"batch=None: an {mode} file has a fixed batch size; give a number, 1 is usual")
    if batch is not None and (not isinstance(batch, int) or isinstance(batch, bool) or batch < 1):
        raise InputError(f"batch={batch!r}: expected a whole number from 1, or None for one that can be resized")
    return batch
