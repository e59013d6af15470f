"""TensorFlow's own analyzer of TFLite files, in a process of its own: it prints, and may crash on what is damaged."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import tensorflow as tf

from kompakt.errors import InputError, first_line
from kompakt.isolated import Answer
from kompakt.targets.tflite_view import AnyFile


def analyze(arrays: list[np.ndarray], *, gpu: bool) -> Answer:
    """What it prints of the file in the first of ``arrays``.

    Args:
        gpu: say what the GPU delegate cannot take, too.

    Raises:
        InputError: the file is damaged.
    """
    data = arrays[0].tobytes()
    AnyFile(data)
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            tf.lite.experimental.Analyzer.analyze(model_content=data, gpu_compatibility=gpu)
    except Exception as error:
        raise InputError(f"TensorFlow's analyzer refuses the file: {first_line(error)}") from error
    return [], printed.getvalue()
