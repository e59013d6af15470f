"""Whether a TFLite file agrees with itself, and its constants in the layout of Keras."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from kompakt.targets.target import Fault
from kompakt.targets.tflite_file import CHANNELS, MOVES, PRODUCERS, Op, Tensor, TFLiteFile, places

CLOSE = 1e-4
"""Relative: scales are products of float32 numbers."""

KEEPS = tuple(name for name in MOVES if name not in ("PAD", "TILE", "GATHER", "BROADCAST_TO"))

FIXED = {"SOFTMAX": (1 / 256, -128), "LOGISTIC": (1 / 256, -128), "TANH": (1 / 128, 0)}
"""Operator -> the grid that its int8 kernel demands of the output."""


def unsound(file: TFLiteFile) -> list[Fault]:
    """What in ``file`` cannot be right, whatever the model: in the order of its tensors and operators."""
    return [
        *(fault for tensor in file.tensors for fault in _of_tensor(tensor)),
        *(fault for op in file.ops for fault in _of_operator(file, op)),
    ]


def _of_tensor(tensor: Tensor) -> Iterator[Fault]:
    bad = [s for s in tensor.scale if not np.isfinite(s) or s <= 0.0]
    if bad:
        yield Fault(place=tensor.name, text=f"{len(bad)} of {len(tensor.scale)} scales are {bad[0]}")
    values = tensor.values
    if values is not None and values.dtype.kind == "f" and not np.isfinite(values).all():
        yield Fault(place=tensor.name, text=f"{int((~np.isfinite(values)).sum())} values are NaN or infinite")


def _of_operator(file: TFLiteFile, op: Op) -> Iterator[Fault]:
    result = file.tensors[op.outputs[0]]
    if op.name in PRODUCERS:
        yield from _of_linear(file, op)
    elif op.name == "ADD" and op.inputs[0] == op.inputs[1]:
        yield Fault(place=result.name, text=f"ADD reads {file.tensors[op.inputs[0]].name} twice")
    given = file.tensors[op.inputs[0]] if op.inputs and op.inputs[0] >= 0 else None
    kept = op.name in KEEPS and given is not None and given.kind == result.kind == "INT8" and given.scale
    if kept and given is not None and not _same_grid(given, result):
        yield Fault(
            place=result.name,
            text=f"{op.name} has to keep the grid of {given.name} (scale {given.scale[0]:.4g}, zero point "
            f"{given.zero_point[0]}), the file says {_said(result)}",
        )
    if op.name in FIXED and result.kind == "INT8" and result.scale:
        scale, zero = FIXED[op.name]
        if not np.isclose(result.scale[0], scale, rtol=CLOSE) or result.zero_point[0] != zero:
            yield Fault(
                place=result.name, text=f"the scale of {op.name} is 1/{1 / scale:.0f} and its zero point {zero}"
            )


def _same_grid(a: Tensor, b: Tensor) -> bool:
    same = len(a.scale) == len(b.scale) and np.allclose(a.scale, b.scale, rtol=CLOSE, atol=0.0)
    return bool(same) and a.zero_point == b.zero_point


def _said(tensor: Tensor) -> str:
    return f"scale {tensor.scale[0]:.4g} and zero point {tensor.zero_point[0]}" if tensor.scale else "none"


def _of_linear(file: TFLiteFile, op: Op) -> Iterator[Fault]:
    """Integer operators: weights around 0, and a bias in steps of input times weight."""
    at_data, at_kernel, at_bias = places(op)
    data, kernel = file.tensors[op.inputs[at_data]], file.tensors[op.inputs[at_kernel]]
    if data.kind not in ("INT8", "INT16") or kernel.kind not in ("INT8", "INT4") or not kernel.scale:
        return
    if any(kernel.zero_point):
        yield Fault(place=kernel.name, text=f"zero point of weights is 0, the file says {kernel.zero_point[0]}")
    channels = kernel.shape[CHANNELS[op.name]] if op.name in CHANNELS and kernel.shape else 1
    if len(kernel.scale) == 1 and channels > 1 and kernel.values is not None and "/" in kernel.name:
        yield Fault(place=kernel.name, text=f"one scale for all of {channels} channels, which have one each")
    if len(op.inputs) <= at_bias or op.inputs[at_bias] < 0:
        return
    bias = file.tensors[op.inputs[at_bias]]
    if not bias.scale and bias.values is not None and not bias.values.any():  # zeros are that on any grid
        return
    wanted = np.asarray(kernel.scale) * data.scale[0]
    if bias.scale and any(bias.zero_point):
        yield Fault(place=bias.name, text=f"zero point of a bias is 0, the file says {bias.zero_point[0]}")
    if not bias.scale or len(bias.scale) != len(wanted):
        yield Fault(place=bias.name, text=f"{len(bias.scale)} scales of the bias, the weights have {len(wanted)}")
    elif not np.allclose(bias.scale, wanted, rtol=CLOSE, atol=0.0):
        factor = np.asarray(bias.scale) / wanted
        worst = float(factor[np.argmax(np.abs(np.log(np.abs(factor) + 1e-30)))])
        yield Fault(
            place=bias.name,
            text=f"scale of the bias is {worst:.4g} times that of input ({data.name}) and weights ({kernel.name})",
        )


def keras_weight(file: TFLiteFile, tensor: Tensor, like: np.ndarray) -> np.ndarray | None:
    """Constant ``tensor`` taken off its grid, in the layout of ``like``; None where it has another size."""
    if tensor.values is None or tensor.values.size != like.size:
        return None
    values = tensor.values.astype("float64")
    if tensor.scale:
        along = [1] * values.ndim
        if len(tensor.scale) > 1:
            along[tensor.axis] = -1
        zero = np.asarray(tensor.zero_point, "float64")
        values = (values - (zero.reshape(along) if len(zero) > 1 else zero[0])) * np.asarray(tensor.scale).reshape(
            along
        )
    readers = {op.name for op in file.readers(tensor.index)}
    if like.ndim < 2:
        return values.reshape(like.shape)
    if readers & {"CONV_2D", "FULLY_CONNECTED"}:
        return _unlaid(values, like, -1)
    if "TRANSPOSE_CONV" in readers:
        return _unlaid(values, like, -2)
    return values.reshape(like.shape)


def _unlaid(values: np.ndarray, like: np.ndarray, axis: int) -> np.ndarray:
    """What ``moveaxis(weight, axis, 0)`` laid out as ``values``."""
    shape = np.moveaxis(like, axis, 0).shape
    return np.moveaxis(values.reshape(shape), 0, axis)
