"""Close float islands: operators that ai-edge-quantizer leaves float though LiteRT computes them in integers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from kompakt.records import Encoding
from kompakt.targets.tflite_edit import operator
from kompakt.targets.tflite_file import BOUNDARY, MERGES, Op, Tensor, TFLiteFile
from kompakt.targets.tflite_grids import on_grid, tensor_on

CLOSABLE = (
    "LEAKY_RELU",
    "ELU",
    "REDUCE_MAX",
    "TILE",
    "MINIMUM",
    "RELU6",
    "RELU",
    "SPACE_TO_BATCH_ND",
    "BATCH_TO_SPACE_ND",
)
"""Operators that compute on int8 with any grids at their input and output, or with one grid for both."""


ONLY_BYTES = ("ELU",)
"""Those of CLOSABLE that LiteRT has no kernel of 16 bits for."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How an operator computes on integers: on the tensors ``inputs``, put there by ``enter``, into ``target``.

    ``grid`` is that of ``target``.
    """

    inputs: list[int]
    enter: list[Any]
    target: int
    grid: Encoding


def close_islands(
    file: TFLiteFile,
    encodings: Mapping[str, Encoding],
    floats: Collection[str],
    between: Mapping[tuple[str, int], Encoding],
) -> None:
    """``DEQUANTIZE -> op -> QUANTIZE`` becomes ``op`` on the integers, in place, for the operators in CLOSABLE.

    Its result is on its own grid: what reads it on another has it put there from that one, as floats where it is float.

    Args:
        encodings: of the tensors, by name; one that is not there has the grid of what reads it.
        floats: names of results that stay float.
        between: (name of a tensor, bits) -> the grid on which readers of other precision take it.
    """
    _read_before_outputs(file)
    while _close_some(file, encodings, floats, between):
        pass  # behind one that is closed there may be another


def _close_some(
    file: TFLiteFile,
    encodings: Mapping[str, Encoding],
    floats: Collection[str],
    between: Mapping[tuple[str, int], Encoding],
) -> bool:
    """Whether there were some to close."""
    before = [*file.graph.operators]
    around: dict[int, tuple[list[Any], list[Any]]] = {}
    for op, raw in zip(file.ops, before, strict=True):
        result = file.tensors[op.outputs[0]]
        if op.name in CLOSABLE and result.kind == "FLOAT32" and result.name not in floats:
            plan = _plan(file, op, encodings.get(result.name), between)
            if plan is not None:
                raw.inputs, raw.outputs = plan.inputs, [plan.target]
                around[id(raw)] = (plan.enter, _hand_on(file, op, plan))
    if around:
        none: tuple[list[Any], list[Any]] = ([], [])
        parts = ((around.get(id(raw), none), raw) for raw in before)
        file.graph.operators = [each for (enter, leave), raw in parts for each in (*enter, raw, *leave)]
        _drop_unused(file)
    return bool(around)


def _read_before_outputs(file: TFLiteFile) -> None:
    """Let integer operators read the integers that a float output of the file is made from, not that output.

    The quantizer sends all readers of an output tensor through its DEQUANTIZE: operators of integers too, which
    makes a file that no runtime takes.
    """
    before = {op.outputs[0]: op.inputs[0] for op in file.ops if op.name == "DEQUANTIZE"}
    before = {after: source for after, source in before.items() if after in file.outputs}
    for op, raw in zip(file.ops, file.graph.operators, strict=True):
        whole = all(file.tensors[i].kind in ("INT8", "INT16") for i in op.outputs)
        if before and whole and op.name not in BOUNDARY:
            raw.inputs = [before.get(i, i) for i in op.inputs]
    file.reread()


def _plan(file: TFLiteFile, op: Op, own: Encoding | None, between: Mapping[tuple[str, int], Encoding]) -> Plan | None:
    """How ``op`` computes on integers, None where the grid of its result, or of what it reads, is not known."""
    found = _rounded(file, op, own)
    grid = own if own is not None else (_grid(file.tensors[found]) if found is not None else None)
    if grid is None or (op.name in ONLY_BYTES and grid.bits != 8):
        return None
    inputs = _inputs(file, op, grid, between)
    if inputs is None:
        return None
    enter = [_put_on(file, op, index, takes) if takes is not None else (index, None) for index, takes in inputs]
    result = file.tensors[op.outputs[0]]
    target = found if found is not None else tensor_on(file, result, f"{result.name}_dequant", grid)
    entering = [raw for _, raw in enter if raw is not None]
    return Plan(inputs=[index for index, _ in enter], enter=entering, target=target, grid=grid)


def _inputs(
    file: TFLiteFile, op: Op, grid: Encoding, between: Mapping[tuple[str, int], Encoding]
) -> list[tuple[int, Encoding | None]] | None:
    """What ``op`` reads and the grid that each has to be put on, None for its own; None where one is not known."""
    made = {int(output): raw for raw in file.graph.operators for output in raw.outputs}
    found: list[tuple[int, Encoding | None]] = []
    for index in op.inputs:
        source = _integers(file, index, made.get(index))
        held = file.tensors[source]
        if index < 0 or held.kind == "INT32" or (op.name not in MERGES and held.kind == f"INT{grid.bits}"):
            found.append((source, None))
            continue
        name = file.tensors[index].name.removesuffix("_dequant")
        takes = grid if op.name in MERGES else between.get((name, grid.bits or 8))
        if takes is None:
            return None
        found.append((source, None if on_grid(held, takes) else takes))
    return found


def _put_on(file: TFLiteFile, op: Op, index: int, grid: Encoding) -> tuple[int, Any]:
    """(a new tensor of the values of another on ``grid``, the operator that puts them there)."""
    held = file.tensors[index]
    made = tensor_on(file, held, f"{held.name}_on_{op.outputs[0]}", grid)
    file.operator_code("QUANTIZE", 1 if held.kind == "FLOAT32" else 2)
    return made, operator(file, "QUANTIZE", [index], [made])


def _integers(file: TFLiteFile, index: int, maker: Any) -> int:
    """The integers that the tensor ``index`` is made from, or itself where it is made from none."""
    dequantized = maker is not None and index >= 0 and file.name_of(maker) == "DEQUANTIZE"
    return int(maker.inputs[0]) if dequantized else index


def _grid(held: Tensor) -> Encoding:
    bits = int(held.kind.removeprefix("INT"))
    return Encoding(bits=bits, scale=tuple(held.scale), zero_point=tuple(held.zero_point))


def _rounded(file: TFLiteFile, op: Op, own: Encoding | None) -> int | None:
    """The tensor of integers that a QUANTIZE makes of the operator's result on its ``own`` grid.

    Where that is not known, what all of its readers take; None where some reader takes floats, or two take other grids.
    """
    made = [file.tensors[each.outputs[0]] for each in _quantized(file, op)]
    if own is not None:
        return next((each.index for each in made if on_grid(each, own)), None)
    alone = len(made) == len(file.readers(op.outputs[0])) and op.outputs[0] not in file.outputs
    one = alone and all(on_grid(each, _grid(made[0])) for each in made)
    return made[0].index if made and one else None


def _quantized(file: TFLiteFile, op: Op) -> list[Op]:
    """What puts the operator's result on grids."""
    return [each for each in file.readers(op.outputs[0]) if each.name == "QUANTIZE"]


def _hand_on(file: TFLiteFile, op: Op, plan: Plan) -> list[Any]:
    """Let what read the float result read the integers of ``plan``; what has to follow the operator for that."""
    result, target, quantized = op.outputs[0], plan.target, _quantized(file, op)
    _swap_names(file, result, target)
    for each in quantized:
        raw, other = file.graph.operators[file.ops.index(each)], each.outputs[0]
        if on_grid(file.tensors[other], plan.grid):
            raw.inputs = [-1]
            _redirect(file, other, target)
        else:
            raw.inputs = [target]
            file.operator_code("QUANTIZE", 2)  # from integers to integers
    left = [each for each in file.readers(result) if each not in quantized]
    return [operator(file, "DEQUANTIZE", [target], [result])] if left or result in file.outputs else []


def _swap_names(file: TFLiteFile, a: int, b: int) -> None:
    """The integer tensor takes the name of the float one, which says what it is."""
    first, second = file.graph.tensors[a], file.graph.tensors[b]
    first.name, second.name = second.name, first.name


def _redirect(file: TFLiteFile, old: int, new: int) -> None:
    for op in file.graph.operators:
        op.inputs = [new if int(i) == old else int(i) for i in op.inputs]


def _drop_unused(file: TFLiteFile) -> None:
    """Take out the conversions that nobody reads any more."""
    marked = [op for op in file.graph.operators if list(op.inputs) != [-1]]
    while True:
        read = {int(i) for op in marked for i in op.inputs} | set(file.outputs)
        kept = [op for op in marked if file.name_of(op) not in BOUNDARY or any(int(o) in read for o in op.outputs)]
        if len(kept) == len(marked):
            break
        marked = kept
    file.graph.operators = marked
    file.reread()
