"""Options of TFLite's operators in words."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

ACTIVATION = "fusedActivationFunction"


def _names(kind: Any) -> dict[int, str]:
    return {number: name for name, number in vars(kind).items() if not name.startswith("_")}


KINDS = {
    "padding": _names(schema.Padding),
    "weightsFormat": _names(schema.FullyConnectedOptionsWeightsFormat),
    "kernelType": _names(schema.LSTMKernelType),
    "mode": _names(schema.MirrorPadMode),
    "combiner": _names(schema.CombinerType),
}
"""Option -> what its numbers mean."""

ALWAYS = ("padding", "mode")
"""Options that are said though they stand at their default: a convolution is not understood without them."""

TYPE = _names(schema.TensorType)
SIDES = re.compile(r"^(.*?)([WH])(Factor)?$|^(filter)(Width|Height)$")


def words(op: Any) -> tuple[dict[str, str], str]:
    """(option -> value in words, the activation that is fused in, or "") of an operator of the schema.

    Example:
        >>> op = schema.OperatorT()
        >>> op.builtinOptions = schema.Conv2DOptionsT()
        >>> op.builtinOptions.strideW = op.builtinOptions.strideH = 2
        >>> op.builtinOptions.fusedActivationFunction = schema.ActivationFunctionType.RELU
        >>> words(op)
        ({'padding': 'SAME', 'stride': '2x2'}, 'RELU')
    """
    found: dict[str, str] = {}
    activation = ""
    for options in (op.builtinOptions, getattr(op, "builtinOptions2", None)):
        if options is None:
            continue
        usual = vars(type(options)())
        for name, value in vars(options).items():
            if name == ACTIVATION:
                activation = _activation(int(value))
            elif name in ALWAYS or not _same(value, usual[name]):
                _put(found, name, value, options)
    custom = op.customOptions
    if custom is not None and len(custom):
        found["custom options"] = f"{len(custom)} bytes"
    return found, activation


def _put(found: dict[str, str], name: str, value: Any, options: Any) -> None:
    """Add an option; those of two dimensions as one, height first."""
    sides = SIDES.match(name)
    if sides is None:
        found[_spaced(name)] = _text(name, value)
        return
    stem = sides[1] if sides[4] is None else sides[4]
    tail = sides[3] or ""
    ends = ("H", "W") if sides[4] is None else ("Height", "Width")
    height, width = (getattr(options, f"{stem}{end}{tail}", None) for end in ends)
    found[_spaced(stem)] = "x".join(str(n) for n in (height, width) if n is not None)


def _same(value: Any, usual: Any) -> bool:
    if value is None or usual is None:
        return value is usual or (value is not None and not isinstance(value, int) and not np.size(value))
    return bool(np.array_equal(value, usual))


def _activation(number: int) -> str:
    name = _names(schema.ActivationFunctionType).get(number, f"activation {number}")
    return "" if name == "NONE" else name


def _spaced(name: str) -> str:
    """``keep num dims`` of ``keepNumDims``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name).lower()


def _text(name: str, value: Any) -> str:
    if name in KINDS:
        return KINDS[name].get(int(value), str(value))
    if name.endswith(("DataType", "outputType", "BiasType")):
        return TYPE.get(int(value), str(value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, float):
        return f"{value:g}"
    size = int(np.size(value))
    if size > 1 and not isinstance(value, str):
        return "x".join(str(n) for n in np.ravel(value)) if size <= 8 else f"{size} numbers"
    return _scalar(value)


def _scalar(value: Any) -> str:
    if isinstance(value, (int, str, np.generic)):
        return str(value)
    return str(np.ravel(value)[0]) if np.ndim(value) else type(value).__name__.removesuffix("T")
