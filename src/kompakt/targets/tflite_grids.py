"""Tensors that ai-edge-quantizer puts on no grid, or on several: inputs, outputs, the parts of a split."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from kompakt.records import Encoding
from kompakt.targets.tflite_edit import operator, tensor
from kompakt.targets.tflite_file import MERGES, Op, Tensor, TFLiteFile, moved

CLOSE = 1e-4
"""Relative: two scales that are one but for rounding."""


def on_grid(held: Tensor, grid: Encoding) -> bool:
    """Whether a tensor is on a grid, but for rounding."""
    return (
        held.kind == f"INT{grid.bits}"
        and np.allclose(held.scale, grid.scale, rtol=CLOSE, atol=0.0)
        and tuple(held.zero_point) == tuple(grid.zero_point)
    )


def tensor_on(file: TFLiteFile, like: Tensor, name: str, grid: Encoding) -> int:
    """A new tensor of integers, of the shape of another."""
    index = tensor(file, name, like.shape, f"INT{grid.bits}")
    quantization = schema.QuantizationParametersT()
    quantization.scale = [float(scale) for scale in grid.scale]
    quantization.zeroPoint = [int(zero) for zero in grid.zero_point]
    file.graph.tensors[index].quantization = quantization
    return index


def one_grid_an_input(file: TFLiteFile, grids: Mapping[int, Encoding]) -> None:
    """Round an input once, to its own grid: what has it on another is put there from that one, as in the simulation.

    The quantizer rounds it for each reader anew, and lets operators that it leaves float read the floats. With the
    conversions taken off the ends of a file only one of these would be fed.

    Args:
        grids: place among the inputs -> the grid. One without has readers of floats.
    """
    for place, given in enumerate(file.inputs):
        grid = grids.get(place)
        if grid is None:
            _tell_apart(file, given)
            continue
        readers = [op for op in file.ops if given in op.inputs]
        rounded = [op for op in readers if op.name == "QUANTIZE"]
        first = next((op for op in rounded if on_grid(file.tensors[op.outputs[0]], grid)), None)
        others = [op for op in readers if op is not first]
        if others:
            _share_input(file, file.tensors[given], grid, first, others)
            file.reread()


def _tell_apart(file: TFLiteFile, given: int) -> None:
    """Other names for an input on the grids of layers that merge it: by its own it would get another's scale."""
    rounded = [op.outputs[0] for op in file.ops if op.name == "QUANTIZE" and op.inputs[0] == given]
    merged = {index for op in file.ops if op.name in MERGES for index in op.inputs}
    for index in rounded if len(rounded) > 1 else ():
        if index in merged:
            file.graph.tensors[index].name = f"{file.tensors[given].name}:{index}".encode()
    file.reread()


def _share_input(file: TFLiteFile, given: Tensor, grid: Encoding, first: Op | None, others: Collection[Op]) -> None:
    """Let ``others`` read what ``first`` makes of an input, or a new QUANTIZE where there is no first."""
    raws = dict(zip(file.ops, file.graph.operators, strict=True))
    own = first.outputs[0] if first is not None else tensor_on(file, given, f"{given.name}_quantized", grid)
    begin = [raws[first]] if first is not None else [operator(file, "QUANTIZE", [given.index], [own])]
    back = None
    for op in others:
        if op.name == "QUANTIZE":
            file.operator_code("QUANTIZE", 2)  # from integers to integers
            file.graph.tensors[op.outputs[0]].name = f"{given.name}:{op.outputs[0]}".encode()
            source = own
        else:
            back = back if back is not None else tensor(file, f"{given.name}_dequant", given.shape, "FLOAT32")
            source = back
        raws[op].inputs = [source if i == given.index else i for i in op.inputs]
    if back is not None:
        begin.append(operator(file, "DEQUANTIZE", [own], [back]))
    left = [raw for raw in file.graph.operators if raw not in begin]
    file.graph.operators = [*begin, *left]


def whole_moves(file: TFLiteFile) -> None:
    """Give all parts of a split the grid of what is split: the quantizer leaves those float that nothing rounds."""
    for index, source in moved(file.ops).items():
        if file.tensors[source].kind.startswith("INT") and file.tensors[index].kind == "FLOAT32":
            _round_part(file, file.tensors[source], file.tensors[index])
    file.reread()


def _round_part(file: TFLiteFile, source: Tensor, part: Tensor) -> None:
    index = part.index
    raw = next(raw for raw in file.graph.operators if index in raw.outputs)
    made = tensor(file, part.name, part.shape, source.kind)
    file.graph.tensors[made].quantization = file.graph.tensors[source.index].quantization
    file.graph.tensors[index].name = f"{part.name}_dequant".encode()
    raw.outputs = [made if i == index else int(i) for i in raw.outputs]
    if index in file.outputs or file.readers(index):
        place = file.graph.operators.index(raw)
        file.graph.operators.insert(place + 1, operator(file, "DEQUANTIZE", [made], [index]))
    file.reread()


def float_outputs(file: TFLiteFile, floats: Collection[int]) -> None:
    """End in floats where the quantizer ended in integers: at an output that another of its operators reads too.

    Where that is of a layer of floats the output is what the layer makes, not what is rounded for its reader.

    Args:
        floats: places among the outputs at which the float file ends in floats.
    """
    for place in floats:
        index = file.outputs[place]
        held = file.tensors[index]
        if held.kind == "FLOAT32":
            continue
        made = _before_rounding(file, index)
        if made is None:
            made = tensor(file, f"{held.name}_dequant", held.shape, "FLOAT32")
            file.graph.operators.append(operator(file, "DEQUANTIZE", [index], [made]))
        file.graph.outputs = [made if i == place else int(each) for i, each in enumerate(file.graph.outputs)]
        for entry in (entry for signature in file.model.signatureDefs or [] for entry in signature.outputs):
            entry.tensorIndex = made if int(entry.tensorIndex) == index else int(entry.tensorIndex)
    file.reread()


def _before_rounding(file: TFLiteFile, index: int) -> int | None:
    """The floats that ``index`` is a rounding of, where it is one."""
    found = (op.inputs[0] for op in file.ops if op.name == "QUANTIZE" and op.outputs[0] == index)
    return next((source for source in found if file.tensors[source].kind == "FLOAT32"), None)


def own_grids(
    inputs: Collection[int], sites: Mapping[int, str], encodings: Mapping[str, Encoding]
) -> dict[int, Encoding]:
    """Place among the ``inputs`` -> the grid of the site that its tensor is, for those with one."""
    found = {place: encodings.get(sites.get(index, "")) for place, index in enumerate(inputs)}
    return {place: grid for place, grid in found.items() if grid is not None and grid.bits is not None}
