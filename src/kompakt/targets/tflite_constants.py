"""Constants that are added in an integer file, on grids that the runtime takes."""

from __future__ import annotations

import numpy as np

from kompakt.requantize import LEAST_STEP
from kompakt.targets.tflite_file import TFLiteFile

SUMS = ("ADD", "SUB")


def coarser_constants(file: TFLiteFile) -> None:
    """Put each constant that is next to nothing beside its sum, such as a bias of zeros, on a coarser grid.

    What rounding it costs is at most half of :data:`kompakt.requantize.LEAST_STEP` steps of the sum.
    """
    for op in file.ops:
        total = file.tensors[op.outputs[0]]
        for tensor in (file.tensors[i] for i in op.inputs) if op.name in SUMS and total.scale else ():
            least = total.scale[0] * LEAST_STEP
            if tensor.values is None or len(tensor.scale) != 1 or tensor.scale[0] >= least:
                continue
            real = (tensor.values.astype("float64") - tensor.zero_point[0]) * tensor.scale[0]
            file.put(tensor.index, np.round(real / least).astype(tensor.values.dtype))
            grid = file.graph.tensors[tensor.index].quantization
            grid.scale, grid.zeroPoint = [least], [0]
    file.reread()
