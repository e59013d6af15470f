"""The scales of a file to the last bit: a quantizer arrives at them through ranges, and rounds."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from kompakt.records import Encoding
from kompakt.targets.tflite_file import MERGES, TFLiteFile, moved


def exact_scales(file: TFLiteFile, encodings: Mapping[str, Encoding], inputs: Mapping[str, str], *, free: bool) -> None:
    """Our scales to the last bit, where the quantizer arrived at them but for rounding.

    Args:
        free: take ours for activations wherever the quantizer is: it derives both grids of a tensor where two widths
            meet from one range.
        inputs: name of an input -> its site, which is that of the layer that reads it where both have one grid:
            a concatenation is refused where its scales differ in the last bit.
    """
    for tensor in file.tensors:
        names = (
            tensor.name,
            tensor.name.rsplit(":", 1)[0],
            inputs.get(tensor.name.removesuffix("_quantized"), ""),
        )
        encoding = next((encodings[name] for name in names if name in encodings), None)
        if encoding is None or len(encoding.scale) != len(tensor.scale) or not tensor.scale:
            continue
        ours = free and tensor.values is None and tensor.kind == f"INT{encoding.bits}"
        if ours or np.allclose(tensor.scale, encoding.scale, rtol=1e-5, atol=0.0):
            grid = file.graph.tensors[tensor.index].quantization
            grid.scale = [float(s) for s in encoding.scale]
            if ours:
                grid.zeroPoint = [int(z) for z in encoding.zero_point]
    file.reread()
    _same_to_the_last_bit(file, rtol=1.0 if free else 1e-5)
    file.reread()


def _same_to_the_last_bit(file: TFLiteFile, rtol: float) -> None:
    """One scale, not nearly one, where an operator has a single grid: a runtime compares their bits.

    What an operator only moves has its input's scale; what is merged (and may be put on that grid just
    before) has the result's.
    """
    held = [tensor.quantization for tensor in file.graph.tensors]

    def share(index: int, source: int) -> None:
        here, there = file.tensors[index], file.tensors[source]
        alike = len(here.scale) == len(there.scale) == 1 and here.zero_point == there.zero_point
        if alike and np.isclose(here.scale[0], there.scale[0], rtol=rtol, atol=0.0):
            held[index].scale = [float(held[source].scale[0])]

    for made, source in moved(file.ops).items():
        share(made, source)
    for op in file.ops:
        for index in op.inputs if op.name in MERGES else ():
            share(index, op.outputs[0])
