"""ai-edge-quantizer, as it is called in a process of its own (:mod:`kompakt.isolated`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ai_edge_quantizer import qtyping, quantizer

from kompakt.errors import InputError, first_line
from kompakt.isolated import Answer
from kompakt.targets.quiet import quiet


def quantize(arrays: list[np.ndarray], *, settings: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Answer:
    """The bytes of the file that a float file becomes.

    Args:
        arrays: the bytes of the float file, then the least and the most value at each of the tensors ``names``.
        settings: what to do with operators, a later one before an earlier one: "scope" is a pattern of the names of
            what they make, "operators" of which kind, "how" one of :data:`HOW`, "weights" and "activations" bits.

    Raises:
        InputError: the quantizer refuses.
    """
    data, *ends = arrays
    ranges = {name: {"min": ends[2 * i], "max": ends[2 * i + 1]} for i, name in enumerate(names)}
    with quiet():
        worker = quantizer.Quantizer(bytearray(data.tobytes()))
        for each in settings:
            HOW[each["how"]](worker, each, qtyping.TFLOperationName[each["operators"]])
        try:
            made = worker.quantize(ranges).quantized_model
        except Exception as error:
            raise InputError(
                f"ai-edge-quantizer refuses the model: {first_line(error)}; "
                "leave the layer it names out of the quantization"
            ) from error
    if made is None:
        raise InputError("ai-edge-quantizer gave no file; nothing in the model can be quantized")
    return [np.frombuffer(bytes(made), "uint8")], None


def _dynamic(worker: Any, each: Mapping[str, Any], kind: Any) -> None:
    worker.add_dynamic_config(each["scope"], kind, each["weights"])


def _weight_only(worker: Any, each: Mapping[str, Any], kind: Any) -> None:
    worker.add_weight_only_config(each["scope"], kind, each["weights"])


def _static(worker: Any, each: Mapping[str, Any], kind: Any) -> None:
    worker.add_static_config(each["scope"], kind, each["activations"], each["weights"])


def _leave(worker: Any, each: Mapping[str, Any], kind: Any) -> None:
    worker.update_quantization_recipe(each["scope"], kind, algorithm_key=quantizer.AlgorithmName.NO_QUANTIZE)


HOW = {"dynamic": _dynamic, "weight_only": _weight_only, "static": _static, "leave": _leave}
"""Word -> what the quantizer is told."""
