"""A model as C source, with what a program for a microcontroller must know of it, and a test vector."""

from __future__ import annotations

import importlib.metadata
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
import numpy as np

from kompakt.files import sha256
from kompakt.targets.tflite_file import NUMPY, Tensor, TFLiteFile

TYPES = {
    "bool": "bool",
    "int8": "int8_t",
    "uint8": "uint8_t",
    "int16": "int16_t",
    "int32": "int32_t",
    "float32": "float",
}
"""NumPy's name of a type -> that of C."""

PER_LINE = 16

MOST = 63
"""Characters of a model's name that names in C take from it: that many tell names apart, by C11, 5.2.4.1."""

COUNTED = re.compile(r"(functional|sequential|model)(_\d+)?")
"""Names that Keras makes up for models."""


@dataclass(frozen=True, kw_only=True)
class End:
    """An input or an output as the templates show it."""

    side: str
    index: int
    title: str
    dtype: str
    ctype: str
    shape: str
    size: int
    scale: str
    zero_point: int
    values: str


def identifier(name: str) -> str:
    """A name for C: letters, digits and underscores, and no word of the language.

    Of names that Keras counts, and that are others in the next run, it is the same.

    Example:
        >>> identifier("sequential_3")
        'keras_model'
        >>> identifier("my net/2"), identifier("2nd"), identifier("\u00dcbung")
        ('my_net_2_model', 'm_2nd_model', '_bung_model')
    """
    plain = "keras" if COUNTED.fullmatch(name) else re.sub(r"[^0-9A-Za-z_]", "_", name) or "m"
    return f"{'m_' if plain[0].isdigit() else ''}{plain[:MOST]}_model"


def sources(
    data: bytes,
    file: TFLiteFile,
    *,
    name: str,
    quantization: str,
    arena: int,
    methods: Sequence[str],
    inputs: Sequence[np.ndarray],
    outputs: Sequence[np.ndarray],
) -> dict[str, str]:
    """File name -> text of a header and a source that hold the model.

    Both are C11 and C++17. Text of the model stands in comments only, and cannot end them.

    Args:
        data: what ships. file: its graph, inputs and outputs.
        methods: of MicroMutableOpResolver. inputs, outputs: one sample each, (1, ...), numbers as the file has them.
    """
    symbol = identifier(name)
    sides = (("input", file.inputs, inputs), ("output", file.outputs, outputs))
    ends = [
        _end(side, i, file.tensors[index], values)
        for side, indices, arrays in sides
        for i, (index, values) in enumerate(zip(indices, arrays, strict=True))
    ]
    known: dict[str, Any] = {
        "name": symbol,
        "prefix": symbol.upper(),
        "title": _comment(name),
        "quantization": _comment(quantization),
        "version": importlib.metadata.version("kompakt"),
        "digest": sha256(data),
        "length": len(data),
        "arena": arena,
        "methods": methods,
        "ends": ends,
        "exact": all(end.dtype != "float32" for end in ends),
        "data": rows(np.frombuffer(data, "uint8")),
    }
    pages = jinja2.Environment(
        loader=jinja2.PackageLoader("kompakt", "targets"),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,
    )
    return {f"{symbol}.{kind}": pages.get_template(f"tflm_model.{kind}.j2").render(known) for kind in ("h", "c")}


def rows(values: np.ndarray) -> str:
    """Numbers as the initializer of an array.

    Example:
        >>> rows(np.array([1, -128], "int8")), rows(np.array([0.1, -np.inf], "float32"))
        ('  1, -128,', '  1.000000015e-01f, -INFINITY,')
    """
    flat = values.ravel()
    words = [_number(v) for v in flat.tolist()]
    return "\n".join(f"  {', '.join(words[i : i + PER_LINE])}," for i in range(0, len(words), PER_LINE))


def _number(value: float) -> str:
    """A number as C writes it; infinities and NaN as <math.h> calls them."""
    if isinstance(value, int):
        return str(int(value))
    if math.isfinite(value):
        return f"{value:.9e}f"
    return "NAN" if math.isnan(value) else f"{'-' if value < 0 else ''}INFINITY"


def _end(side: str, index: int, tensor: Tensor, values: np.ndarray) -> End:
    dtype = NUMPY[tensor.kind]
    return End(
        side=side,
        index=index,
        title=_comment(tensor.name),
        dtype=dtype,
        ctype=TYPES[dtype],
        shape="x".join(map(str, tensor.shape)),
        size=int(values.size),
        scale=f"{tensor.scale[0]:.9e}f" if tensor.scale else "",
        zero_point=tensor.zero_point[0] if tensor.zero_point else 0,
        values=rows(values.astype(dtype)),
    )


def _comment(text: str) -> str:
    """Text that can stand in a comment of C: printable, one line, and not its end."""
    plain = "".join(c if c.isascii() and c.isprintable() else "?" for c in text)
    plain = plain.replace("\\", "/")  # first: with a star before it, it would become the end
    return plain.replace("*/", "* /").replace("/*", "/ *").replace("??", "? ?")
