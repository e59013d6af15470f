"""Close float islands: operators that ai-edge-quantizer leaves float though LiteRT computes them in integers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from kompakt.records import Encoding
from kompakt.targets.tflite_edit import operator, tensor
from kompakt.targets.tflite_file import BOUNDARY, Op, Tensor, TFLiteFile

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

CLOSE = 1e-4
"""Relative: two scales that are one but for rounding."""


def close_islands(
    file: TFLiteFile, encodings: Mapping[str, Encoding] | None = None, floats: Collection[str] = ()
) -> int:
    """``DEQUANTIZE -> op -> QUANTIZE`` becomes ``op`` on the integers, in place, for the operators in CLOSABLE.

    Its result is on its own grid: what reads it on another has it put there from that one, as floats where it is float.

    Args:
        encodings: of the tensors, by name; one that is not there has the grid of what reads it.
        floats: names of results that stay float.

    Returns:
        How many operators are integer now that were not.
    """
    _read_before_outputs(file)
    made = {output: op for op in file.ops for output in op.outputs}
    before = [*file.graph.operators]
    raws = {int(output): raw for raw in before for output in raw.outputs}
    after: dict[int, Any] = {}
    closed = 0
    for op, raw in zip(file.ops, before, strict=True):
        if op.name in CLOSABLE and file.tensors[op.outputs[0]].name not in floats and _is_island(file, op, made):
            result = file.tensors[op.outputs[0]]
            target = _target(file, op, (encodings or {}).get(result.name))
            inputs = [int(raws[i].inputs[0]) if file.tensors[i].kind == "FLOAT32" else i for i in op.inputs]
            if target is not None and file.graph.tensors[inputs[0]].type == file.graph.tensors[target].type:
                raw.inputs, raw.outputs = inputs, [target]
                after[id(raw)] = _hand_on(file, op, target)
                closed += 1
    if closed:
        file.graph.operators = [each for raw in before for each in (raw, *after.get(id(raw), ()))]
        _drop_unused(file)
    return closed


def float_outputs(file: TFLiteFile, floats: Collection[int]) -> None:
    """End in floats where the quantizer ended in integers: at an output that another of its operators reads too.

    Args:
        floats: places among the outputs at which the float file ends in floats.
    """
    for place in floats:
        index = file.outputs[place]
        held = file.tensors[index]
        if held.kind == "FLOAT32":
            continue
        made = tensor(file, f"{held.name}_dequant", held.shape, "FLOAT32")
        file.graph.operators.append(operator(file, "DEQUANTIZE", [index], [made]))
        file.graph.outputs = [made if i == place else int(each) for i, each in enumerate(file.graph.outputs)]
        for signature in file.model.signatureDefs or []:
            for entry in signature.outputs:
                entry.tensorIndex = made if int(entry.tensorIndex) == index else int(entry.tensorIndex)
    file.reread()


def _read_before_outputs(file: TFLiteFile) -> None:
    """Let integer operators read the integers that a float output of the file is made from, not that output.

    The quantizer sends all readers of an output tensor through its DEQUANTIZE: operators of integers too, which
    makes a file that no runtime takes.
    """
    before = {op.outputs[0]: op.inputs[0] for op in file.ops if op.name == "DEQUANTIZE"}
    before = {after: source for after, source in before.items() if after in file.outputs}
    for op, raw in zip(file.ops, file.graph.operators, strict=True):
        whole = all(file.tensors[i].kind == "INT8" for i in op.outputs)
        if before and whole and op.name not in BOUNDARY:
            raw.inputs = [before.get(i, i) for i in op.inputs]
    file.reread()


def _is_island(file: TFLiteFile, op: Op, made: Mapping[int, Op]) -> bool:
    """Whether the operator makes floats, and all floats that it reads are made from integers."""
    floats = [i for i in op.inputs if i >= 0 and file.tensors[i].kind == "FLOAT32"]
    before = [made.get(i) for i in floats]
    whole = all(each is not None and each.name == "DEQUANTIZE" for each in before)
    return bool(floats) and whole and file.tensors[op.outputs[0]].kind == "FLOAT32"


def _target(file: TFLiteFile, op: Op, own: Encoding | None) -> int | None:
    """The integer tensor that the operator is to make: one that a QUANTIZE makes of its result, or a new one.

    None where its grid is not known: it has no ``own``, and some reader takes floats, or two take other grids.
    """
    made = [file.tensors[each.outputs[0]] for each in _quantized(file, op)]
    if own is None:
        alone = len(made) == len(file.readers(op.outputs[0])) and op.outputs[0] not in file.outputs
        one = alone and all(t.kind == made[0].kind and _same(t, made[0].scale, made[0].zero_point) for t in made)
        return made[0].index if made and one else None
    kind = f"INT{own.bits}"
    found = next((t.index for t in made if t.kind == kind and _same(t, own.scale, own.zero_point)), None)
    return found if found is not None else _new(file, op, own)


def _new(file: TFLiteFile, op: Op, own: Encoding) -> int:
    result = file.tensors[op.outputs[0]]
    index = tensor(file, f"{result.name}_dequant", result.shape, f"INT{own.bits}")
    grid = schema.QuantizationParametersT()
    grid.scale, grid.zeroPoint = [float(s) for s in own.scale], [int(z) for z in own.zero_point]
    file.graph.tensors[index].quantization = grid
    return index


def _same(tensor: Tensor, scale: Any, zero_point: Any) -> bool:
    return np.allclose(tensor.scale, scale, rtol=CLOSE, atol=0.0) and tuple(tensor.zero_point) == tuple(zero_point)


def _quantized(file: TFLiteFile, op: Op) -> list[Op]:
    """What puts the operator's result on grids."""
    return [each for each in file.readers(op.outputs[0]) if each.name == "QUANTIZE"]


def _hand_on(file: TFLiteFile, op: Op, target: int) -> list[Any]:
    """Let what read the float result read the integers at ``target``; what has to follow the operator for that."""
    result, grid = op.outputs[0], file.graph.tensors[target].quantization
    _swap_names(file, result, target)
    for each in _quantized(file, op):
        raw = file.graph.operators[file.ops.index(each)]
        other = each.outputs[0]
        if other != target and not (
            file.graph.tensors[other].type == file.graph.tensors[target].type
            and _same(file.tensors[other], grid.scale, grid.zeroPoint)
        ):
            raw.inputs = [target]
            file.operator_code("QUANTIZE", 2)  # from integers to integers
            continue
        raw.inputs = [-1]
        if other != target:
            _redirect(file, other, target)
    left = [each for each in file.readers(result) if each not in _quantized(file, op)]
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
