"""Run a TFLite file in LiteRT, in a process of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kompakt.isolated import call
from kompakt.targets.target import Outputs, keys, with_bytes

RUNTIME = "kompakt.targets.litert"
NAME = "LiteRT"


def run(data: bytes, inputs: Any, *, kernels: str = "default") -> Outputs:
    """Outputs of the file for ``inputs``, arrays (samples, ...) in the structure the model takes.

    Samples go through in the file's own batch size. Floats are put on the input's grid and taken off the
    output's.

    Args:
        kernels: a key of :data:`kompakt.targets.litert.KERNELS`.

    Raises:
        InputError: the file cannot be run, takes other inputs, or crashes LiteRT.
    """
    arrays = with_bytes(data, inputs)
    values, steps = call(f"{RUNTIME}:run", arrays, of=NAME, names=keys(inputs), kernels=kernels)
    return Outputs(values=tuple(values), lsb=tuple(steps))


def run_signature(
    data: bytes, signature: str, inputs: Any, *, input_names: Sequence[str], output_names: Sequence[str]
) -> Outputs:
    """As :func:`run`, of one signature of a file that may have several.

    Args:
        input_names, output_names: what the signature calls its ends, in the model's order.

    Raises:
        InputError: there is no such signature, it takes other inputs, or it crashes LiteRT.
    """
    arrays = with_bytes(data, inputs)
    values, steps = call(
        f"{RUNTIME}:run_signature",
        arrays,
        of=NAME,
        signature=signature,
        inputs=list(input_names),
        outputs=list(output_names),
    )
    return Outputs(values=tuple(values), lsb=tuple(steps))


def tensors(data: bytes, inputs: Any, wanted: Sequence[int], *, batch: int) -> Mapping[int, np.ndarray]:
    """Index -> (batches, batch, ...) of every tensor of ``wanted`` that can be read; nothing of the graph is fused."""
    arrays = with_bytes(data, inputs)
    values, found = call(
        f"{RUNTIME}:tensors", arrays, of=NAME, names=keys(inputs), wanted=list(map(int, wanted)), batch=batch
    )
    return dict(zip(found, values, strict=True))
