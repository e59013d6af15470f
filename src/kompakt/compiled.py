"""One loop instead of many: have the framework that Keras runs on fuse a function of tensors."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import keras

Function = Callable[..., Any]


def compiled(function: Function) -> Function:
    """``function``, its operators fused into few loops over memory.

    TensorFlow runs a training step operator by operator on a CPU (there Keras' ``jit_compile="auto"`` is off,
    since XLA's convolutions are slow), and each operator on a weight goes through memory once. Arithmetic on
    every weight is many small operators, for which XLA is up to ten times faster. Keras does the same for
    grouped convolutions. Outside a compiled step (TensorFlow) and on torch the function runs as it is.

    Args:
        function: of tensors alone, with no state and no gradient of its own: call it inside
            ``keras.ops.custom_gradient``, or where no gradient is wanted.

    Example:
        >>> double = compiled(lambda x: x * 2.0)
        >>> keras.ops.convert_to_numpy(double(keras.ops.array([1.0, 2.0]))).tolist()
        [2.0, 4.0]
    """
    backend = keras.backend.backend()
    if backend == "jax":
        return sys.modules["jax"].jit(function)
    if backend != "tensorflow" or sys.platform == "darwin":  # no XLA in Apple's TensorFlow
        return function
    tensorflow = sys.modules["tensorflow"]  # loaded long ago: it is what Keras runs on
    fused = tensorflow.function(function, jit_compile=True, autograph=False)

    @functools.wraps(function)
    def run(*tensors: Any) -> Any:
        # Called once, outside any step, a function is run sooner than compiled.
        return function(*tensors) if tensorflow.executing_eagerly() else fused(*tensors)

    return run
