"""LiteRT, as it is called in a process of its own (:mod:`kompakt.isolated`): arrays in, arrays out.

Nothing here imports Keras or TensorFlow, so that the process starts quickly.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from kompakt.errors import InputError, first_line
from kompakt.isolated import Answer
from kompakt.targets.batches import filled, in_batches
from kompakt.targets.laps import lapped
from kompakt.targets.quiet import quiet

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


def run(arrays: list[np.ndarray], *, names: Sequence[str] | None, kernels: str) -> Answer:
    """The outputs of a file, and the step of each one's grid.

    Args:
        arrays: the bytes of the file, then its inputs, (samples, ...). names: of these, where they came in a dict.
    """
    data, *given = arrays
    interpreter = load(data.tobytes(), kernels=kernels)
    details = input_details(interpreter, names)
    if len(details) != len(given):
        raise InputError(f"the file takes {len(details)} inputs, received {len(given)}")
    batch = _resized(interpreter, details, len(given[0]))
    details, outputs = input_details(interpreter, names), output_details(interpreter)

    def once(few: list[np.ndarray]) -> list[np.ndarray]:
        for detail, values in zip(details, few, strict=True):
            feed(interpreter, detail, values)
        _invoke(interpreter)
        return [off_grid(interpreter.get_tensor(detail["index"]), detail) for detail in outputs]

    return in_batches(once, given, batch), _steps(outputs)


RESIZED = 7
"""Samples at once in a file with any batch size, which is run with another one than the 1 that it stands for."""


def _resized(interpreter: Any, details: Sequence[dict[str, Any]], count: int) -> int:
    """The batch size that the file is run in: its own, or where that is open up to :data:`RESIZED`.

    Raises:
        InputError: it says that it takes any, and does not.
    """
    own = int(details[0]["shape"][0]) if len(details[0]["shape"]) else 1
    if not all(len(d["shape"]) and d["shape_signature"][0] == -1 for d in details) or count < 2:
        return own
    batch = min(count, RESIZED)
    try:
        for detail in details:
            interpreter.resize_tensor_input(detail["index"], [batch, *map(int, detail["shape"][1:])], strict=True)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise InputError(f"the file does not run with a batch of {batch}: {first_line(error)}") from None
    return batch


def run_signature(arrays: list[np.ndarray], *, signature: str, inputs: Sequence[str], outputs: Sequence[str]) -> Answer:
    """The outputs of one signature of a file, by its runner, and the step of each one's grid.

    Args:
        arrays: the bytes of the file, then the signature's inputs, (samples, ...). inputs, outputs: what they are
            called, in the model's order.

    Raises:
        InputError: there is no such signature, or it takes other inputs.
    """
    data, *given = arrays
    interpreter = load(data.tobytes())
    try:
        runner = interpreter.get_signature_runner(signature)
    except ValueError as error:
        raise InputError(f"signature {signature!r}: {first_line(error)}") from None
    details, ends = runner.get_input_details(), runner.get_output_details()
    if sorted(details) != sorted(inputs) or len(given) != len(inputs):
        raise InputError(f"signature {signature!r} takes {', '.join(details)}, received {len(given)} inputs")
    shape = details[inputs[0]]["shape"]
    batch = int(shape[0]) if len(shape) else 1

    def once(few: list[np.ndarray]) -> list[np.ndarray]:
        found = runner(**{name: on_grid(values, details[name]) for name, values in zip(inputs, few, strict=True)})
        return [off_grid(found[name], ends[name]) for name in outputs]

    return in_batches(once, given, batch), _steps([ends[name] for name in outputs])


def _steps(details: Sequence[dict[str, Any]]) -> list[float | None]:
    """The step of each tensor's grid, None where it has none."""
    return [float(detail["quantization"][0]) or None for detail in details]


def tensors(arrays: list[np.ndarray], *, names: Sequence[str] | None, wanted: Sequence[int], batch: int) -> Answer:
    """Every tensor of ``wanted`` as the file computes it, (batches, batch, ...), and which of them there are."""
    data, *given = arrays
    interpreter = load(data.tobytes(), kernels="plain", keep_tensors=True)
    details = input_details(interpreter, names)
    rows: dict[int, list[np.ndarray]] = {index: [] for index in wanted}
    for start in range(0, len(given[0]), batch):
        for detail, values in zip(details, given, strict=True):
            feed(interpreter, detail, values[start : start + batch])
        _invoke(interpreter)
        for index in list(rows):
            found = _read(interpreter, index)
            if found is None:
                del rows[index]
            else:
                rows[index].append(found)
    return [np.stack(values) for values in rows.values()], list(rows)


_TIMED: dict[str, Any] = {}
"""Interpreters that were timed last, by what they are of: to load one takes longer than to run it."""

MOST_TIMED = 4


def seconds(arrays: list[np.ndarray], *, names: Sequence[str] | None, threads: int, times: int) -> Answer:
    """Seconds of each of ``times`` runs of a file on the first sample of its inputs, and of all."""
    data, *given = arrays
    digest = hashlib.sha256(data.tobytes())
    for values in given:
        digest.update(values.tobytes())
    key = f"{digest.hexdigest()} {threads} {names}"
    if key not in _TIMED:
        while len(_TIMED) >= MOST_TIMED:
            _TIMED.pop(next(iter(_TIMED)))
        interpreter = load(data.tobytes(), threads=threads)
        for detail, values in zip(input_details(interpreter, names), given, strict=True):
            batch = int(detail["shape"][0]) if len(detail["shape"]) else 1
            feed(interpreter, detail, filled(values[:batch], batch))
        _invoke(interpreter)
        _TIMED[key] = interpreter
    return lapped(_TIMED[key].invoke, times)


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


def input_details(interpreter: Any, names: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Input details in the order of the model's flattened inputs.

    Files of kompakt hold them in that order. Where ``names`` are those of a file's signature, they decide.
    """
    by_name = _signature(interpreter, "inputs")
    if names is not None and set(names) == set(by_name):
        return [by_name[name] for name in names]
    return list(interpreter.get_input_details())


def output_details(interpreter: Any) -> list[dict[str, Any]]:
    """Output details in the order of the model's flattened outputs.

    Files of kompakt hold them in that order. Where a signature has the numbers that TensorFlow gives, they decide.
    """
    by_name = _signature(interpreter, "outputs")
    if len(by_name) < 2 or not all(NUMBERED.fullmatch(name) for name in by_name):
        return list(interpreter.get_output_details())
    return [by_name[name] for name in sorted(by_name, key=_number)]


def _signature(interpreter: Any, side: str) -> dict[str, dict[str, Any]]:
    signatures = interpreter.get_signature_list()
    if not signatures:
        return {}
    runner = interpreter.get_signature_runner(next(iter(signatures)))
    return dict(runner.get_input_details() if side == "inputs" else runner.get_output_details())


NUMBERED = re.compile(r"output_\d+")


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


def _read(interpreter: Any, index: int) -> np.ndarray | None:
    """The values of a tensor; None where a loop keeps them to itself."""
    try:
        return np.array(interpreter.get_tensor(index))
    except ValueError:
        return None


def _invoke(interpreter: Any) -> None:
    try:
        interpreter.invoke()
    except (ValueError, RuntimeError) as error:
        raise InputError(f"LiteRT cannot run the file: {first_line(error)}; make it again") from None
