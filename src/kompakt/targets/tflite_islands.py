"""Close float islands: operators that ai-edge-quantizer leaves float though LiteRT computes them in integers."""

from __future__ import annotations

from kompakt.targets.tflite_file import BOUNDARY, Op, TFLiteFile

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


def close_islands(file: TFLiteFile) -> int:
    """``DEQUANTIZE -> op -> QUANTIZE`` becomes ``op`` on the integers, in place, for the operators in CLOSABLE.

    The quantizer has put the right grids at both ends; only the conversions between go.

    Returns:
        How many operators are integer now that were not.
    """
    _read_before_outputs(file)
    made = {output: op for op in file.ops for output in op.outputs}
    closed = 0
    for op in file.ops:
        if op.name in CLOSABLE and _close(file, op, made):
            closed += 1
    if closed:
        _drop_unused(file)
    return closed


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


def _close(file: TFLiteFile, op: Op, made: dict[int, Op]) -> bool:
    """Whether the operator could be put on the integers before and after it."""
    before = [made.get(i) for i in op.inputs]
    after = [other for other in file.ops if op.outputs[0] in other.inputs]
    if not after or any(other.name != "QUANTIZE" for other in after) or op.outputs[0] in file.outputs:
        return False
    floats = [i for i in op.inputs if i >= 0 and file.tensors[i].kind == "FLOAT32"]
    if any(before[op.inputs.index(i)] is None or made[i].name != "DEQUANTIZE" for i in floats):
        return False
    raw = file.graph.operators[file.ops.index(op)]
    raw.inputs = [made[i].inputs[0] if i in floats else i for i in op.inputs]
    raw.outputs = [after[0].outputs[0]]
    _swap_names(file, op.outputs[0], after[0].outputs[0])
    for other in after[1:]:
        _redirect(file, other.outputs[0], after[0].outputs[0])
    for other in after:
        file.graph.operators[file.ops.index(other)].inputs = [-1]
    return True


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
