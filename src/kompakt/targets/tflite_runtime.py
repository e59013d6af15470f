"""Run a TFLite file in LiteRT."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from keras import tree

from kompakt.errors import InputError, first_line
from kompakt.targets.quiet import quiet
from kompakt.targets.target import Outputs

KERNELS: dict[str, Any] = {
    "default": OpResolverType.AUTO,
    "plain": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    "reference": OpResolverType.BUILTIN_REF,
}
"""The kernels that ship (XNNPACK), the same without it, and the slow exact ones that TFLite Micro has too."""


def load(data: bytes, *, kernels: str = "default", keep_tensors: bool = False, threads: int = 1) -> Any:
    """An interpreter ready to run.

    Raises:
        InputError: LiteRT refuses the file.
    """
    try:
        with quiet():
            interpreter = Interpreter(
                model_content=data,
                num_threads=threads,
                experimental_op_resolver_type=KERNELS[kernels],
                experimental_preserve_all_tensors=keep_tensors,
            )
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise InputError(f"LiteRT refuses the file: {first_line(error)}; make it again") from None
    return interpreter


def run(data: bytes, inputs: Any) -> Outputs:
    """Outputs of the file for ``inputs``, arrays (samples, ...) in the structure the model takes.

    Samples go through in the file's own batch size. Floats are put on the input's grid and taken off the
    output's.

    Raises:
        InputError: the file cannot be run, or takes other inputs.
    """
    interpreter = load(data)
    given = [np.asarray(leaf) for leaf in tree.flatten(inputs)]
    details = input_details(interpreter, inputs)
    if len(details) != len(given):
        raise InputError(f"the file takes {len(details)} inputs, received {len(given)}")
    outputs = output_details(interpreter)
    batch = int(details[0]["shape"][0]) if len(details[0]["shape"]) else 1
    rows: list[list[np.ndarray]] = [[] for _ in outputs]
    for start in range(0, len(given[0]), batch):
        count = min(batch, len(given[0]) - start)
        for detail, values in zip(details, given, strict=True):
            feed(interpreter, detail, _pad(values[start : start + batch], batch))
        interpreter.invoke()
        for column, detail in zip(rows, outputs, strict=True):
            column.append(off_grid(interpreter.get_tensor(detail["index"]), detail)[:count])
    return Outputs(
        values=tuple(np.concatenate(column) for column in rows),
        lsb=tuple(float(d["quantization"][0]) or None for d in outputs),
    )


def timer(data: bytes, inputs: Any, *, threads: int = 1) -> Callable[[int], float]:
    """A function that invokes the file ``n`` times on its first sample and gives the seconds it took."""
    interpreter = load(data, threads=threads)
    for detail, leaf in zip(input_details(interpreter, inputs), tree.flatten(inputs), strict=True):
        batch = int(detail["shape"][0]) if len(detail["shape"]) else 1
        feed(interpreter, detail, _pad(np.asarray(leaf[:batch]), batch))

    def run_times(n: int) -> float:
        start = time.perf_counter()
        for _ in range(n):
            interpreter.invoke()
        return time.perf_counter() - start

    return run_times


def feed(interpreter: Any, detail: dict[str, Any], values: np.ndarray) -> None:
    """Give an input its ``values``, on its grid.

    Raises:
        InputError: they have another shape.
    """
    given = on_grid(values, detail)
    if tuple(given.shape[1:]) != tuple(int(n) for n in detail["shape"][1:]):
        raise InputError(
            f"the file's input {detail['name']!r} takes {_shape(detail['shape'])} a sample, "
            f"received {_shape(given.shape)}"
        )
    interpreter.set_tensor(detail["index"], given)


def _shape(shape: Any) -> str:
    return "x".join(str(int(n)) for n in shape[1:]) or "one number"


def input_details(interpreter: Any, inputs: Any = None) -> list[dict[str, Any]]:
    """Input details in the order of the model's flattened inputs.

    Files of kompakt hold them in that order. Where ``inputs`` is a dict whose keys are the names of a file's
    signature, the names decide.
    """
    by_name = _signature(interpreter, "inputs")
    if isinstance(inputs, dict) and set(inputs) == set(by_name):
        return [by_name[name] for name in sorted(inputs)]
    return list(interpreter.get_input_details())


def output_details(interpreter: Any) -> list[dict[str, Any]]:
    """Output details in the order of the model's flattened outputs: by the numbers in the signature's names."""
    by_name = _signature(interpreter, "outputs")
    if len(by_name) < 2:
        return list(interpreter.get_output_details())
    return [by_name[name] for name in sorted(by_name, key=_number)]


def _signature(interpreter: Any, side: str) -> dict[str, dict[str, Any]]:
    signatures = interpreter.get_signature_list()
    if not signatures:
        return {}
    runner = interpreter.get_signature_runner(next(iter(signatures)))
    return dict(runner.get_input_details() if side == "inputs" else runner.get_output_details())


def _number(name: str) -> tuple[int, str]:
    """``output_10`` after ``output_2``."""
    tail = name.rsplit("_", 1)[-1]
    return (int(tail) if tail.isdigit() else 0, name)


def on_grid(values: np.ndarray, detail: dict[str, Any]) -> np.ndarray:
    """Real numbers as the input tensor takes them: rounded onto its grid, or cast.

    Halves go to even; onto 16 bits by the product with the inverse step, in float32, as QUANTIZE operators have it.
    """
    kind = np.dtype(detail["dtype"])
    scale, zero_point = detail["quantization"]
    if kind.kind in "iu" and scale:
        limits = np.iinfo(kind)
        real, step = np.asarray(values, "float32"), np.float32(scale)
        steps = np.round(real * (np.float32(1.0) / step) if kind.itemsize > 1 else real / step) + zero_point
        return np.clip(steps, limits.min, limits.max).astype(kind)
    return np.asarray(values).astype(kind)


def off_grid(values: np.ndarray, detail: dict[str, Any]) -> np.ndarray:
    """Real numbers of an output tensor, float32."""
    scale, zero_point = detail["quantization"]
    if scale:
        return ((values.astype("float32") - zero_point) * np.float32(scale)).astype("float32")
    return values.astype("float32")


def _pad(values: np.ndarray, batch: int) -> np.ndarray:
    """The last batch filled up by repeating its last sample."""
    missing = batch - len(values)
    return values if missing <= 0 else np.concatenate([values, np.repeat(values[-1:], missing, axis=0)])
