"""TensorFlow's converter, as it is called in a process of its own (:mod:`kompakt.isolated`)."""

from __future__ import annotations

import re

import numpy as np
import tensorflow as tf
from tensorflow.lite.python.util import modify_model_io_type

from kompakt.errors import InputError, first_line
from kompakt.isolated import Answer
from kompakt.targets.quiet import quiet


def convert(arrays: list[np.ndarray], *, folder: str, half: bool) -> Answer:  # noqa: ARG001
    """The bytes of the TFLite file that a SavedModel becomes.

    Args:
        arrays: none. half: constants as float16.

    Raises:
        InputError: the converter refuses; the text has the operation that it stumbled over.
    """
    converter = tf.lite.TFLiteConverter.from_saved_model(folder)
    if half:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
    try:
        with quiet():
            made = bytes(converter.convert())
    except Exception as error:
        raise InputError(_refusal(error)) from error
    return [np.frombuffer(made, "uint8")], None


def with_integer_io(arrays: list[np.ndarray], *, io: str) -> Answer:
    """The bytes of an integer file, with the conversions to and from floats taken off its ends.

    Args:
        arrays: the bytes of the file. io: "int8", "uint8" or "int16".

    Raises:
        InputError: an end is of another type.
    """
    kind = {"int8": tf.int8, "uint8": tf.uint8, "int16": tf.int16}[io]
    try:
        with quiet():
            made = modify_model_io_type(arrays[0].tobytes(), kind, kind)
    except ValueError as error:
        raise InputError(
            f"io={io!r}: an input or output of the file is of another type ({first_line(error)}); use io='float32'"
        ) from error
    return [np.frombuffer(bytes(made), "uint8")], None


def _refusal(error: Exception) -> str:
    """The operation that has no TFLite operator, as the converter names it first; else the error's own line."""
    named = re.search(r'fused\["(\w+):", "([^"@]+)', str(error))
    return f"{named[1]} has no TFLite operator ({named[2]})" if named else first_line(error)
