"""Biases of an integer file, rounded once, for the scales that are in it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from kompakt.targets.tflite_file import PRODUCERS, Op, TFLiteFile, places


def named_biases(file: TFLiteFile) -> dict[str, np.ndarray]:
    """Name of each constant bias of a float file -> its numbers."""
    held = (file.tensors[op.inputs[places(op)[2]]] for op in file.ops if _has_bias(op))
    return {tensor.name: tensor.values for tensor in held if tensor.values is not None}


def _has_bias(op: Op) -> bool:
    return op.name in PRODUCERS and len(op.inputs) > places(op)[2] and op.inputs[places(op)[2]] >= 0


def exact_biases(file: TFLiteFile, biases: Mapping[str, np.ndarray]) -> None:
    """The integer biases :math:`round(b / (s_x s_w))` for the scales as they are now, in float64.

    The quantizer divides in float32, by the scales before they were made exact: one of 200 to 10,000 biases was a
    step off, which 50 layers make four steps at the logits; and those of 16-bit activations have more than 24 bits
    of steps. Two widths of one tensor have not its scales at all.

    Args:
        biases: name -> numbers, as :func:`named_biases` has them of the float file.
    """
    for op in filter(_has_bias, file.ops):
        given, kernel, bias = (file.tensors[op.inputs[place]] for place in places(op))
        wanted = biases.get(bias.name)
        if bias.kind not in ("INT32", "INT64") or wanted is None or not given.scale:
            continue
        scale = np.asarray(kernel.scale, "float64") * given.scale[0]
        reach = np.iinfo(bias.kind.lower())
        integers = np.clip(np.round(wanted.astype("float64") / scale), reach.min, reach.max)
        file.put(bias.index, integers.astype(bias.kind.lower()))
        file.graph.tensors[bias.index].quantization.scale = [float(s) for s in scale.astype("float32")]
    file.reread()
