"""What each target may be asked for, in words: known without loading any of them."""

from __future__ import annotations

from pathlib import Path

from kompakt.errors import InputError

KERAS = ("keras_int8", "keras_int4")
"""Keras' own weight-only quantization."""

COMPRESSED = ("float16", "uint8", "uint16")
"""Ways in which TF.js stores weights."""

MODES: dict[str, tuple[str, ...]] = {
    "tflite": ("float", "float16", "dynamic_int8", "weight_only_int8", "int8", "w4a8", "int16x8", "mixed"),
    "tflm": ("float", "int8", "w4a8", "int16x8"),
    "tfjs": ("float", *COMPRESSED),
    "savedmodel": ("float", "float16", *KERAS),
    "onnx": ("float", "int8"),
}
"""Target -> what its artifacts may be quantized to."""

WORDS = tuple(dict.fromkeys(mode for modes in MODES.values() for mode in modes))
"""What an artifact of any target may be quantized to."""

SUFFIXES = {"tflite": ".tflite", "onnx": ".onnx"}
"""Target -> the ending of its file; the others write folders."""

FILES = (*SUFFIXES.values(), ".keras", ".h5", ".hdf5", ".json")
"""Endings of files, which no folder should have."""

IO = ("int8", "uint8", "int16", "float32")
"""What the inputs and outputs of an integer file may be."""


def check_ending(path: str | Path, target: str) -> None:
    """``path`` is named as what ``target`` writes.

    Raises:
        InputError: it is named as another kind of file.

    Example:
        >>> check_ending("model.tflite", "tflite")
        >>> try:
        ...     check_ending("model", "tflite")
        ... except InputError as error:
        ...     print(error)
        model: the target 'tflite' writes .tflite files; name it *.tflite
    """
    suffix, wanted = Path(path).suffix, SUFFIXES.get(target)
    if wanted and suffix != wanted:
        raise InputError(f"{path}: the target {target!r} writes {wanted} files; name it *{wanted}")
    if not wanted and suffix in FILES:
        raise InputError(f"{path}: the target {target!r} writes a folder; name it without {suffix!r}")
