"""Ways of spoiling a good file: each a function that edits the flatbuffer, and what verify has to name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from kompakt.targets.tflite_file import Tensor, TFLiteFile

Edit = Callable[[TFLiteFile], None]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One way of spoiling a file.

    Attributes:
        model, mode: of the good file. edit: what is done to it; raw: to its bytes.
        place: what a breach must name: a text of it starts with one of these.
        kind: words of which one stands in that breach.
        stripped: verify finds it with kompakt's note and seal taken out too, at one of these places.
    """

    name: str
    place: tuple[str, ...]
    edit: Edit | None = None
    raw: Callable[[bytes], bytes] | None = None
    model: str = "cnn"
    mode: str = "int8"
    kind: tuple[str, ...] = ()
    stripped: tuple[str, ...] = ()


def spoiled(data: bytes, fault: Fault, *, stripped: bool = False) -> bytes:
    """The bytes of a good file with ``fault`` in it."""
    file = TFLiteFile(data)
    if fault.edit is not None:
        fault.edit(file)
    if stripped:
        file.model.metadata = [e for e in file.model.metadata or [] if not e.name.startswith(b"kompakt")]
    data = file.pack() if fault.edit is not None or stripped else data
    return fault.raw(data) if fault.raw is not None else data


def at(file: TFLiteFile, name: str) -> Tensor:
    tensor = file.named(name)
    assert tensor is not None, (name, [t.name for t in file.tensors])
    return tensor


def raw_tensor(file: TFLiteFile, name: str) -> Any:
    return file.graph.tensors[at(file, name).index]


def making(file: TFLiteFile, name: str) -> tuple[int, Any]:
    """(index, operator of the schema) that makes the tensor called ``name``."""
    index = at(file, name).index
    number = next(i for i, op in enumerate(file.ops) if index in op.outputs)
    return number, file.graph.operators[number]


def scale(name: str, factor: float) -> Edit:
    def edit(file: TFLiteFile) -> None:
        grid = raw_tensor(file, name).quantization
        grid.scale = [float(s) * factor for s in grid.scale]

    return edit


def zero_point(name: str, by: int) -> Edit:
    def edit(file: TFLiteFile) -> None:
        grid = raw_tensor(file, name).quantization
        grid.zeroPoint = [int(z) + by for z in grid.zeroPoint]

    return edit


def swap_scales(name: str) -> Edit:
    def edit(file: TFLiteFile) -> None:
        for each in (name, name.replace("kernel", "bias")):  # as one who permutes channels would: the bias too
            grid = raw_tensor(file, each).quantization
            first, second, *rest = list(grid.scale)
            grid.scale = [second, first, *rest]

    return edit


def one_scale(name: str) -> Edit:
    def edit(file: TFLiteFile) -> None:
        grid = raw_tensor(file, name).quantization
        grid.scale, grid.zeroPoint = [float(max(grid.scale))], [0]

    return edit


def store(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Edit:
    def edit(file: TFLiteFile) -> None:
        tensor = at(file, name)
        assert tensor.values is not None
        values = np.ascontiguousarray(change(tensor.values.copy()), tensor.values.dtype)
        if tensor.kind == "INT4":
            halves = values.ravel().view("uint8") & 15
            values = halves[::2] | (halves[1::2] << 4)
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(values.tobytes(), "uint8")
        file.model.buffers.append(buffer)
        file.graph.tensors[tensor.index].buffer = len(file.model.buffers) - 1
        file.reread()

    return edit


def channel_zeroed(values: np.ndarray) -> np.ndarray:
    values[2] = 0
    return values


def to_4_bits(values: np.ndarray) -> np.ndarray:
    return np.clip(np.round(values / 16.0), -7, 7) * 16


def with_nan(values: np.ndarray) -> np.ndarray:
    values.reshape(-1)[3] = np.nan
    return values


def one_changed(values: np.ndarray) -> np.ndarray:
    flat = values.reshape(-1)
    flat[5] = flat[5] ^ 64
    return values


def other_bias(name: str, other: str) -> Edit:
    def edit(file: TFLiteFile) -> None:
        values = at(file, other).values
        assert values is not None
        store(name, lambda _: values)(file)

    return edit


def activation(name: str, kind: str) -> Edit:
    def edit(file: TFLiteFile) -> None:
        making(file, name)[1].builtinOptions.fusedActivationFunction = getattr(schema.ActivationFunctionType, kind)

    return edit


def option(name: str, **values: Any) -> Edit:
    def edit(file: TFLiteFile) -> None:
        for key, value in values.items():
            options = making(file, name)[1].builtinOptions
            assert getattr(options, key) != value
            setattr(options, key, value)

    return edit


def option_of(kind: str, **values: Any) -> Edit:
    """The same of the first operator of a kind."""

    def edit(file: TFLiteFile) -> None:
        number = next(i for i, op in enumerate(file.ops) if op.name == kind)
        for key, value in values.items():
            assert getattr(file.graph.operators[number].builtinOptions, key) != value
            setattr(file.graph.operators[number].builtinOptions, key, value)

    return edit


def operator(file: TFLiteFile, kind: str) -> int:
    """Index of the code of an operator called ``kind``."""
    number = getattr(schema.BuiltinOperator, kind)
    for i, code in enumerate(file.model.operatorCodes):
        if max(code.builtinCode, code.deprecatedBuiltinCode) == number:
            return i
    code = schema.OperatorCodeT()
    code.builtinCode, code.deprecatedBuiltinCode, code.version = number, min(number, 127), 2
    file.model.operatorCodes.append(code)
    return len(file.model.operatorCodes) - 1


def average_to_max(file: TFLiteFile) -> None:
    number = next(i for i, op in enumerate(file.ops) if op.name == "AVERAGE_POOL_2D")
    file.graph.operators[number].opcodeIndex = operator(file, "MAX_POOL_2D")
    file.reread()


def left_float(name: str) -> Edit:
    """DEQUANTIZE, a float RELU, QUANTIZE after the operator that makes ``name``."""

    def edit(file: TFLiteFile) -> None:
        number, maker = making(file, name)
        old = at(file, name)
        grid = file.graph.tensors[old.index].quantization
        fresh = []
        for label, kind in (("inner", "INT8"), ("float_in", "FLOAT32"), ("float_out", "FLOAT32")):
            tensor = schema.TensorT()
            tensor.name, tensor.shape = f"{name}_{label}".encode(), np.asarray(old.shape, "int32")
            tensor.type, tensor.buffer = getattr(schema.TensorType, kind), 0
            tensor.quantization = grid if kind == "INT8" else None
            file.graph.tensors.append(tensor)
            fresh.append(len(file.graph.tensors) - 1)
        maker.outputs = [fresh[0]]
        steps = (("DEQUANTIZE", fresh[0], fresh[1]), ("RELU", fresh[1], fresh[2]), ("QUANTIZE", fresh[2], old.index))
        for k, (kind, given, made) in enumerate(steps):
            op = schema.OperatorT()
            op.opcodeIndex, op.inputs, op.outputs = operator(file, kind), [given], [made]
            file.graph.operators.insert(number + 1 + k, op)
        file.reread()

    return edit


def swapped(side: str) -> Edit:
    """Two inputs or outputs in the other order, in the signature too."""

    def edit(file: TFLiteFile) -> None:
        first, second = getattr(file.graph, side)
        setattr(file.graph, side, [second, first])
        for signature in file.model.signatureDefs or []:
            entries = getattr(signature, side)
            entries[0].tensorIndex, entries[1].tensorIndex = entries[1].tensorIndex, entries[0].tensorIndex
        file.reread()

    return edit


def io_type(file: TFLiteFile) -> None:
    file.graph.tensors[file.inputs[0]].type = schema.TensorType.UINT8
    file.reread()


def batch_of_two(file: TFLiteFile) -> None:
    for tensor in file.graph.tensors:
        if tensor.buffer == 0 or file.model.buffers[tensor.buffer].data is None:
            tensor.shape = [2, *list(tensor.shape)[1:]]
    file.reread()


def rewired(file: TFLiteFile) -> None:
    number = next(i for i, op in enumerate(file.ops) if op.name == "ADD")
    first = file.ops[number].inputs[0]
    file.graph.operators[number].inputs = [first, first]
    file.reread()


def branches_swapped(file: TFLiteFile) -> None:
    number = next(i for i, op in enumerate(file.ops) if op.name == "CONCATENATION")
    file.graph.operators[number].inputs = list(file.ops[number].inputs)[::-1]
    file.reread()


def without_metadata(file: TFLiteFile) -> None:
    file.model.metadata = []


def seal_of_another(file: TFLiteFile) -> None:
    other = TFLiteFile(file.pack())
    other.rename(lambda i: f"other/{i}")
    from kompakt.targets.tflite_seal import ENTRY, seal

    file.put_metadata(ENTRY, seal(other))


def lose_zeros(values: np.ndarray) -> np.ndarray:
    values[values == 0] = 1
    return values


def gain_values(values: np.ndarray) -> np.ndarray:
    row = values[0].reshape(-1)
    row[:] = np.arange(1, len(row) + 1)
    return values


def cut(data: bytes) -> bytes:
    return data[: len(data) * 3 // 5]


def flip_bit(data: bytes) -> bytes:
    """One bit of the bytes that hold a kernel."""
    values = at(TFLiteFile(data), "conv2/kernel").values
    assert values is not None
    start = data.index(values.tobytes())
    return data[: start + 100] + bytes([data[start + 100] ^ 32]) + data[start + 101 :]


FAULTS = (
    Fault(
        name="weight scale x2",
        edit=scale("conv2/kernel", 2.0),
        place=("conv2/kernel",),
        kind=("scale",),
        stripped=("conv2/",),
    ),
    Fault(
        name="weight scale x1.02",
        edit=scale("conv2/kernel", 1.02),
        place=("conv2/kernel",),
        kind=("scale",),
        stripped=("conv2/",),
    ),
    Fault(name="input scale x1.1", edit=scale("image", 1.1), place=("image",), kind=("scale",), stripped=("conv1/",)),
    Fault(
        name="inner scale x1.1",
        edit=scale("conv3/output", 1.1),
        place=("conv3/output",),
        kind=("scale",),
        stripped=("flat:", "pool2", "t", "conv3", "logits"),
    ),
    Fault(
        name="output scale x1.5",
        model="residual",
        edit=scale("logits/output", 1.5),
        place=("logits/output",),
        kind=("scale",),
    ),
    Fault(
        name="output scale a quarter",
        model="residual",
        edit=scale("logits/output", 0.25),
        place=("logits/output",),
        kind=("scale",),
        stripped=("logits/output",),
    ),
    Fault(
        name="input zero point +1",
        edit=zero_point("image", 1),
        place=("image",),
        kind=("zero point",),
        stripped=("image_grid/output",),
    ),
    Fault(
        name="inner zero point +1",
        edit=zero_point("conv3/output", 1),
        place=("conv3/output",),
        kind=("zero point",),
        stripped=("conv3/output",),
    ),
    Fault(
        name="output zero point +1",
        edit=zero_point("classes/output", 1),
        place=("classes/output",),
        kind=("zero point",),
        stripped=("classes/output",),
    ),
    Fault(
        name="weight zero point 1",
        edit=zero_point("conv2/kernel", 1),
        place=("conv2/kernel",),
        kind=("zero point",),
        stripped=("conv2/kernel",),
    ),
    Fault(
        name="scales of two channels swapped",
        edit=swap_scales("conv2/kernel"),
        place=("conv2/kernel",),
        kind=("scale",),
        stripped=("conv2/kernel",),
    ),
    Fault(
        name="kernel transposed",
        edit=store("conv2/kernel", lambda k: k.transpose(0, 2, 1, 3)),
        place=("conv2/kernel",),
        kind=("values",),
        stripped=("conv2/kernel",),
    ),
    Fault(
        name="output channels permuted",
        edit=store("conv3/kernel", lambda k: k[::-1]),
        place=("conv3/kernel",),
        kind=("values",),
        stripped=("conv3/kernel",),
    ),
    Fault(
        name="channel zeroed",
        edit=store("conv2/kernel", channel_zeroed),
        place=("conv2/kernel",),
        kind=("zero",),
        stripped=("conv2/kernel",),
    ),
    Fault(
        name="kernel's sign turned",
        edit=store("conv2/kernel", lambda k: -k),
        place=("conv2/kernel",),
        kind=("values",),
        stripped=("conv2/kernel",),
    ),
    Fault(
        name="bias dropped",
        edit=store("conv2/bias", np.zeros_like),
        place=("conv2/bias",),
        kind=("dropped",),
        stripped=("conv2/bias",),
    ),
    Fault(
        name="bias of another layer",
        edit=other_bias("conv2/bias", "conv3/bias"),
        place=("conv2/bias",),
        kind=("bias",),
        stripped=("conv2/bias",),
    ),
    Fault(
        name="bias scale x2",
        edit=scale("conv2/bias", 2.0),
        place=("conv2/bias",),
        kind=("scale",),
        stripped=("conv2/bias",),
    ),
    Fault(
        name="ReLU lost",
        model="residual",
        edit=activation("depth/output", "NONE"),
        place=("depth/output",),
        kind=("fused activation of DEPTHWISE_CONV_2D is NONE, written was RELU",),
    ),
    Fault(
        name="ReLU added",
        model="residual",
        edit=activation("logits/output", "RELU"),
        place=("logits/output",),
        kind=("is RELU, written was NONE",),
        stripped=("logits/output",),
    ),
    Fault(
        name="ReLU added inside",
        model="residual",
        edit=activation("point/output", "RELU"),
        place=("point/output",),
        kind=("is RELU, written was NONE",),
        stripped=("point/output",),
    ),
    Fault(
        name="layer left float",
        edit=left_float("conv2/output"),
        place=("float operator in an int8 file: RELU (conv2/output",),
        stripped=("float operator in an int8 file: RELU (conv2/output",),
    ),
    Fault(
        name="weights re-gridded to 4 bits",
        edit=store("conv2/kernel", to_4_bits),
        place=("conv2/kernel",),
        kind=("values",),
        stripped=("conv2/kernel",),
    ),
    Fault(
        name="one scale for all channels",
        edit=one_scale("conv2/kernel"),
        place=("conv2/kernel",),
        kind=("one scale",),
        stripped=("conv2/kernel",),
    ),
    Fault(
        name="scale NaN",
        edit=scale("conv2/output", float("nan")),
        place=("conv2/output",),
        kind=("nan",),
        stripped=("conv2/output",),
    ),
    Fault(
        name="inputs swapped",
        model="two",
        edit=swapped("inputs"),
        place=("inputs",),
        kind=("order",),
        stripped=("both",),
    ),
    Fault(name="outputs swapped", model="two", edit=swapped("outputs"), place=("outputs",), kind=("order",)),
    Fault(name="int8 input said to be uint8", edit=io_type, place=("image",), kind=("type",)),
    Fault(
        name="padding SAME for VALID",
        edit=option_of("MAX_POOL_2D", padding=0),
        place=("pool1", "conv1:", "t"),
        kind=("padding",),
    ),
    Fault(name="stride changed", edit=option_of("AVERAGE_POOL_2D", strideW=1), place=("pool2", "t"), kind=("stride",)),
    Fault(
        name="dilation changed",
        edit=option("conv2/output", dilationHFactor=2, dilationWFactor=2),
        place=("conv2/output",),
        kind=("dilation",),
        stripped=("conv2/output",),
    ),
    Fault(
        name="softmax beta",
        edit=option("classes/output", beta=0.5),
        place=("classes/output",),
        kind=("beta",),
        stripped=("classes/output",),
    ),
    Fault(name="average pool turned to max", edit=average_to_max, place=("pool2", "t"), kind=("operator",)),
    Fault(
        name="skip connection rewired",
        model="residual",
        edit=rewired,
        place=("sum_relu/output", "sum/output"),
        kind=("wired", "twice"),
        stripped=("sum",),
    ),
    Fault(
        name="branches swapped",
        model="two",
        edit=branches_swapped,
        place=("both",),
        kind=("wired",),
        stripped=("both",),
    ),
    Fault(name="batch size 2", edit=batch_of_two, place=("image",), kind=("shape",)),
    Fault(name="truncated", raw=cut, place=("file:",)),
    Fault(
        name="bit of a weight flipped",
        raw=flip_bit,
        place=("conv2/kernel",),
        kind=("values",),
        stripped=("conv2/kernel",),
    ),
    Fault(name="metadata removed", edit=without_metadata, place=("metadata",)),
    Fault(name="seal of another file", edit=seal_of_another, place=("seal",)),
    Fault(
        name="zeros of a pruned file lost",
        model="pruned",
        edit=store("conv2/kernel", lose_zeros),
        place=("conv2/kernel",),
        kind=("zeros had to be kept",),
    ),
    Fault(
        name="values of a clustered file gained",
        model="clustered",
        edit=store("conv2/kernel", gain_values),
        place=("conv2/kernel",),
        kind=("at most 8 values",),
    ),
    Fault(
        name="float16: NaN in a kernel",
        mode="float16",
        edit=store("conv2/kernel", with_nan),
        place=("conv2/kernel",),
        kind=("NaN",),
        stripped=("conv2/kernel",),
    ),
    Fault(
        name="float16: kernel doubled",
        mode="float16",
        edit=store("conv2/kernel", lambda k: 2 * k),
        place=("conv2/kernel",),
        kind=("values",),
        stripped=("conv2/kernel",),
    ),
    Fault(
        name="float: bias dropped",
        mode="float",
        edit=store("conv2/bias", np.zeros_like),
        place=("conv2/bias",),
        kind=("dropped",),
        stripped=("conv2/bias",),
    ),
    Fault(
        name="w4a8: kernel's channels permuted",
        mode="w4a8",
        edit=store("conv2/kernel", lambda k: k[::-1]),
        place=("conv2/kernel",),
        kind=("values",),
        stripped=("conv2/kernel",),
    ),
    Fault(
        name="w4a8: weight scale x1.02",
        mode="w4a8",
        edit=scale("conv2/kernel", 1.02),
        place=("conv2/kernel",),
        kind=("scale",),
        stripped=("conv2/",),
    ),
    Fault(
        name="dynamic: weight scale x1.02",
        mode="dynamic_int8",
        edit=scale("conv2/kernel", 1.02),
        place=("conv2/kernel",),
        kind=("scale",),
        stripped=("conv2/kernel",),
    ),
    Fault(
        name="int16x8: inner scale x1.1",
        mode="int16x8",
        edit=scale("conv2/output", 1.1),
        place=("conv2/output",),
        kind=("scale",),
        stripped=("conv3/bias",),
    ),
    Fault(
        name="mixed: a layer more left float",
        model="mixed",
        mode="mixed",
        edit=left_float("conv3/output"),
        place=("conv3/output",),
        kind=("float",),
    ),
    Fault(
        name="mixed: scale of the 4-bit kernel x1.02",
        model="mixed",
        mode="mixed",
        edit=scale("conv2/kernel", 1.02),
        place=("conv2/kernel",),
        kind=("scale",),
        stripped=("conv2/",),
    ),
    Fault(
        name="mixed: bias of the 16-bit layer dropped",
        model="mixed",
        mode="mixed",
        edit=store("logits/bias", np.zeros_like),
        place=("logits/bias",),
        kind=("dropped",),
    ),
    Fault(
        name="trained: inner zero point +1",
        model="trained",
        edit=zero_point("conv3/output", 1),
        place=("conv3/output",),
        kind=("zero point",),
    ),
    Fault(
        name="trained: ReLU lost",
        model="trained",
        edit=activation("conv3/output", "NONE"),
        place=("conv3/output",),
        kind=("activation",),
    ),
    Fault(
        name="learned steps: weight scale x1.02",
        model="lsq",
        edit=scale("conv2/kernel", 1.02),
        place=("conv2/kernel",),
        kind=("scale",),
        stripped=("conv2/",),
    ),
    Fault(
        name="learned steps: inner scale x1.1",
        model="lsq",
        edit=scale("conv3/output", 1.1),
        place=("conv3/output",),
        kind=("scale",),
        stripped=("flat:", "pool2", "t", "conv3", "logits"),
    ),
    Fault(
        name="repaired: rounded to nearest again",
        model="repaired",
        edit=store("conv2/kernel", lambda k: k + (np.arange(k.size).reshape(k.shape) % 3 == 0)),
        place=("conv2/kernel",),
        kind=("values",),
    ),
    Fault(
        name="repaired: corrected bias dropped",
        model="repaired",
        edit=store("conv3/bias", np.zeros_like),
        place=("conv3/bias",),
        kind=("dropped",),
    ),
)
"""Each of them is caught."""
