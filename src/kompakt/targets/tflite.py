"""TFLite / LiteRT: Keras layers and encodings to a ``.tflite`` file, through TensorFlow's converter and
ai-edge-quantizer, on grids of our own."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import tree

from kompakt.compare import zeros_and_distinct
from kompakt.errors import InputError
from kompakt.graph import symbolic_inputs
from kompakt.records import Census, Encoding, SiteFact
from kompakt.sites import BOTH, OUTPUT, is_graph, sites
from kompakt.targets import tflite_runtime
from kompakt.targets.quiet import quiet
from kompakt.targets.target import Converted, Outputs, Request, Target
from kompakt.targets.tflite_file import FLOATS, Tensor, TFLiteFile, census

MODES = ("float", "float16", "dynamic_int8", "int8")
IO = ("int8", "uint8", "float32")

MOVES = ("RESHAPE", "MAX_POOL_2D", "TRANSPOSE", "SQUEEZE", "EXPAND_DIMS", "SLICE", "STRIDED_SLICE", "PAD", "GATHER")
"""Operators whose output is on their input's grid."""

PRODUCERS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV", "CONV_3D")
"""Operators with inputs (data, weights, bias); TRANSPOSE_CONV has (shape, weights, data, bias)."""


@dataclass(frozen=True, kw_only=True)
class Link:
    """A site of the Keras model and a tensor of the float file that holds the same numbers."""

    site: str
    tensor: int


class TFLite(Target):
    """``.tflite`` files, run by LiteRT."""

    name = "tflite"
    modes = MODES
    suffix = ".tflite"

    def convert(self, request: Request) -> Converted:
        if request.quantization not in MODES:
            raise InputError(f"quantization {request.quantization!r}: expected one of {', '.join(MODES)}")
        if request.io not in IO:
            raise InputError(f"io {request.io!r}: expected one of {', '.join(IO)}")
        if keras.backend.backend() != "tensorflow":
            raise InputError(
                f"converting to TFLite needs Keras on TensorFlow, this is {keras.backend.backend()}: save the "
                "model, then export it with KERAS_BACKEND=tensorflow"
            )
        half = request.quantization == "float16"
        file = TFLiteFile(_float_file(request.model, request.batch, half=half))
        links = _weight_links(request.model, file)
        samples = _two_samples(request)
        if request.quantization == "int8":
            links += _activation_links(request, file, samples)
        _give_names(file, links, request.model)
        if request.quantization in ("float", "float16"):
            return Converted(data=_with_note(file, request))
        return _quantized(file, request, links, samples)

    def run(self, data: bytes, inputs: Any, *, at: str | None = None) -> Outputs:
        if at is not None:
            file = TFLiteFile(data)
            file.show([at])
            data = file.pack()
        return tflite_runtime.run(data, inputs)

    def has(self, data: bytes, site: str) -> bool:
        return TFLiteFile(data).named(site) is not None

    def timer(self, data: bytes, inputs: Any, *, threads: int = 1) -> Callable[[int], float]:
        return tflite_runtime.timer(data, inputs, threads=threads)

    def census(self, data: bytes) -> Census:
        return census(TFLiteFile(data))

    def facts(self, data: bytes, encodings: Mapping[str, Encoding]) -> list[SiteFact]:
        file = TFLiteFile(data)
        return [_fact(t, encodings.get(t.name)) for t in file.tensors if _is_weight(t, file)]

    def regridded(self, data: bytes, encodings: Mapping[str, Encoding]) -> list[str]:
        file = TFLiteFile(data)
        lines = []
        for site, encoding in encodings.items():
            tensor = file.named(site)
            if tensor is not None and encoding.bits is not None:
                lines += _off_grid(site, tensor, encoding)
        return lines


def _float_file(model: keras.Model, batch: int | None, *, half: bool) -> bytes:
    """The model as a float file, with a fixed batch so that no shape is computed at run time."""
    import tensorflow as tf

    inputs = symbolic_inputs(model, batch)
    fixed = keras.Model(inputs, model(inputs))
    with quiet():
        converter = tf.lite.TFLiteConverter.from_keras_model(fixed)
        if half:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16]
        try:
            return bytes(converter.convert())
        except Exception as error:
            reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise InputError(
                f"TensorFlow's converter refuses the model {model.name!r}: {reason.strip()[:300]}; "
                "replace the layer it names by layers with a TFLite operator"
            ) from error


def _weight_links(model: keras.Model, file: TFLiteFile) -> list[Link]:
    """Which constant of the file is which kernel, by its numbers (the names of a fused file say little)."""
    constants = [t for t in file.tensors if t.values is not None and t.kind in FLOATS]
    links, taken = [], set()
    for site in sites(model):
        if site.variable is None:
            continue
        value = np.asarray(keras.ops.convert_to_numpy(site.variable))
        for tensor in constants:
            if tensor.index not in taken and _same_weight(value, tensor):
                links.append(Link(site=site.name, tensor=tensor.index))
                taken.add(tensor.index)
                break
    return links


def _same_weight(value: np.ndarray, tensor: Tensor) -> bool:
    assert tensor.values is not None
    if value.size != tensor.values.size:
        return False
    stored = tensor.values.astype("float32")
    near = {"rtol": 1e-3, "atol": 1e-7} if tensor.kind == "FLOAT16" else {"rtol": 1e-5, "atol": 1e-9}
    return any(
        laid.size == stored.size and np.allclose(laid.ravel(), stored.ravel(), **near)
        for laid in _layouts(value)
    )


def _layouts(value: np.ndarray) -> list[np.ndarray]:
    """The orders TFLite may store a Keras kernel in: as it is, output channels first, or transposed convolution's."""
    rank = value.ndim
    orders = [value, np.moveaxis(value, -1, 0)]
    if rank >= 3:
        orders += [np.moveaxis(value, -2, 0)]
    if rank == 3:
        orders += [value.transpose(2, 0, 1), value.transpose(1, 2, 0)]
    return orders


def _activation_links(request: Request, file: TFLiteFile, samples: Any) -> list[Link]:
    """Which tensor of the file is the activation at which site, by running both on two samples."""
    wanted = _site_tensors(request.model, request.encodings)
    if not wanted:
        return []
    probe = keras.Model(request.model.inputs, [tensor for _, tensor in wanted])
    values = [np.asarray(v) for v in tree.flatten(probe.predict(samples, verbose=0))]
    found = _all_activations(file, samples)
    links = []
    for (site, _), value in zip(wanted, values, strict=True):
        for index, rows in found.items():
            if _same_activation(value, rows):
                links.append(Link(site=site, tensor=index))
    return links


def _site_tensors(model: keras.Model, encodings: Mapping[str, Encoding]) -> list[tuple[str, Any]]:
    """(site, Keras tensor) of every activation with an encoding; a two-sided site gives inputs and output."""
    found = []
    for site in encodings:
        unit, slot = site.rsplit("/", 1) if "/" in site else ("", site)
        if slot not in (OUTPUT, BOTH) or not is_graph(model):
            continue
        layer = model.get_layer(unit)
        tensors = tree.flatten(layer.output) + (tree.flatten(layer.input) if slot == BOTH else [])
        found += [(site, tensor) for tensor in tensors]
    return found


def _all_activations(file: TFLiteFile, samples: Any) -> dict[int, np.ndarray]:
    """Index -> (samples, ...) of every activation of a float file."""
    interpreter = tflite_runtime.load(file.pack(), kernels="plain", keep_tensors=True)
    details = tflite_runtime.input_details(interpreter, samples)
    wanted = [t.index for t in file.activations() if t.kind == "FLOAT32"]
    rows: dict[int, list[np.ndarray]] = {index: [] for index in wanted}
    flat = tree.flatten(samples)
    for i in range(len(flat[0])):
        for detail, values in zip(details, flat, strict=True):
            interpreter.set_tensor(detail["index"], values[i : i + 1].astype(detail["dtype"]))
        interpreter.invoke()
        for index in wanted:
            rows[index].append(np.array(interpreter.get_tensor(index)))
    return {index: np.stack(values) for index, values in rows.items()}


def _same_activation(value: np.ndarray, rows: np.ndarray) -> bool:
    if value.size != rows.size:
        return False
    reach = float(np.abs(value).max())
    return bool(np.allclose(value.ravel(), rows.ravel(), rtol=1e-3, atol=1e-4 * reach))


def _two_samples(request: Request) -> Any:
    """Two real inputs, or, where there are none, numbers spread over the input's own grid."""
    if request.samples is not None:
        return tree.map_structure(lambda a: np.asarray(a)[:2], request.samples)
    random = np.random.default_rng(0)
    encoding = next((e for s, e in request.encodings.items() if s.endswith("_grid/output")), None)
    low, high = _limits(encoding) if encoding is not None else (-1.0, 1.0)

    def draw(tensor: Any) -> np.ndarray:
        shape = (2, *(n or 1 for n in tensor.shape[1:]))
        if not keras.backend.is_float_dtype(tensor.dtype):
            return random.integers(0, 2, shape).astype(tensor.dtype)
        return random.uniform(low, high, shape).astype(tensor.dtype)

    return tree.map_structure(draw, symbolic_inputs(request.model, 1))


def _limits(encoding: Encoding) -> tuple[float, float]:
    """Smallest and largest real number on the grid of one tensor."""
    scale, zero_point = encoding.scale[0], encoding.zero_point[0]
    half = 2 ** ((encoding.bits or 8) - 1)
    return (-half - zero_point) * scale, (half - 1 - zero_point) * scale


def _give_names(file: TFLiteFile, links: Sequence[Link], model: keras.Model) -> None:
    """Short names that say which Keras layer a tensor belongs to; the rest are numbered."""
    names: dict[int, str] = {}
    for link in links:
        names.setdefault(link.tensor, link.site)
    for op in file.ops:
        if op.name in PRODUCERS and op.inputs[-1] >= 0 and names.get(op.inputs[1]):
            if file.tensors[op.inputs[-1]].values is not None and op.inputs[-1] != op.inputs[1]:
                names.setdefault(op.inputs[-1], names[op.inputs[1]].rsplit("/", 1)[0] + "/bias")
    for position, index in enumerate(file.inputs):
        if len(file.inputs) == 1:
            names[index] = _input_name(model, position)
    used: set[str] = set()
    for index in sorted(names):
        if names[index] in used:
            names[index] = f"{names[index]}:{index}"
        used.add(names[index])
    file.rename(lambda t: names.get(t.index, f"t{t.index}"))


def _input_name(model: keras.Model, position: int) -> str:
    names = getattr(model, "input_names", None) or ["input"]
    return str(names[position])


def _quantized(file: TFLiteFile, request: Request, links: Sequence[Link], samples: Any) -> Converted:
    ranges, notes, breaches = _ranges(file, request, links, samples)
    data = _through_aeq(file.pack(), ranges, dynamic=request.quantization == "dynamic_int8")
    data = TFLiteFile(data).pack()  # large constants come appended to the file: put them in, where all tools look
    if request.quantization == "int8" and request.io != "float32":
        data = _integer_io(data, request.io)
    done = TFLiteFile(data)
    _exact_scales(done, request.encodings)
    return Converted(data=_with_note(done, request), notes=tuple(notes), breaches=tuple(breaches))


def _ranges(
    file: TFLiteFile, request: Request, links: Sequence[Link], samples: Any
) -> tuple[dict[str, dict[str, np.ndarray]], list[str], list[str]]:
    """Tensor name -> its range, so that the quantizer arrives at exactly our scales; what had none; what is amiss."""
    ranges: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    linked = {link.site for link in links}
    for link in links:
        encoding = request.encodings.get(link.site)
        if encoding is None or encoding.bits is None or link.tensor in ranges:
            continue
        tensor = file.tensors[link.tensor]
        ranges[link.tensor] = _range_of(encoding, tensor, file)
    breaches = [
        f"{site}: asked for {e.bits} bits, but the file has no tensor with its numbers"
        for site, e in request.encodings.items()
        if e.bits is not None and site not in linked
    ]
    notes: list[str] = []
    if request.quantization == "int8":
        _inherit(file, ranges)
        notes = _measure_rest(file, ranges, samples)
    named = {file.tensors[i].name: {"min": low, "max": high} for i, (low, high) in ranges.items()}
    return named, notes, breaches


def _range_of(encoding: Encoding, tensor: Tensor, file: TFLiteFile) -> tuple[np.ndarray, np.ndarray]:
    rank = len(tensor.shape)
    if tensor.values is None:
        low, high = _limits(encoding)
        return np.full([1] * rank, low, "float32"), np.full([1] * rank, high, "float32")
    scale = np.asarray(encoding.scale, "float32") * 127.0  # the quantizer divides a symmetric range by 127
    shape = [1] * rank
    if scale.size > 1:
        shape[_channel_axis(tensor, file)] = scale.size
    return -scale.reshape(shape), scale.reshape(shape)


def _channel_axis(tensor: Tensor, file: TFLiteFile) -> int:
    """Where TFLite has the output channels of a weight: last in a depthwise convolution, first elsewhere."""
    reader = next((op for op in file.ops if tensor.index in op.inputs), None)
    return len(tensor.shape) - 1 if reader is not None and reader.name == "DEPTHWISE_CONV_2D" else 0


def _inherit(file: TFLiteFile, ranges: dict[int, tuple[np.ndarray, np.ndarray]]) -> None:
    """An operator that moves integers gives its output its input's range."""
    for op in file.ops:
        if op.name in MOVES and op.outputs[0] not in ranges and op.inputs[0] in ranges:
            low, high = ranges[op.inputs[0]]
            rank = len(file.tensors[op.outputs[0]].shape)
            ranges[op.outputs[0]] = (low.reshape([1] * rank), high.reshape([1] * rank))


def _measure_rest(
    file: TFLiteFile, ranges: dict[int, tuple[np.ndarray, np.ndarray]], samples: Any
) -> list[str]:
    """Ranges of the tensors inside an operator's decomposition, which have no site in Keras, from the samples."""
    missing = [t for t in file.activations() if t.kind == "FLOAT32" and t.index not in ranges]
    if not missing:
        return []
    values = _all_activations(file, samples)
    for tensor in missing:
        rows = values[tensor.index]
        shape = [1] * len(tensor.shape)
        ranges[tensor.index] = (
            np.full(shape, min(0.0, float(rows.min())), "float32"),
            np.full(shape, max(1e-6, float(rows.max())), "float32"),
        )
    return [
        f"{len(missing)} tensors inside operators have no Keras layer of their own "
        f"({', '.join(t.name for t in missing[:4])}{', ...' if len(missing) > 4 else ''}): their ranges were "
        "measured on two samples at export and are not in the simulation"
    ]


def _through_aeq(data: bytes, ranges: Mapping[str, Any], *, dynamic: bool) -> bytes:
    with quiet():
        from ai_edge_quantizer import qtyping, quantizer

        worker = quantizer.Quantizer(bytearray(data))
        every = qtyping.TFLOperationName.ALL_SUPPORTED
        if dynamic:
            worker.add_dynamic_config(".*", every, 8)
        else:
            worker.add_static_config(".*", every, 8, 8)
            for edge in (qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT):
                worker.update_quantization_recipe(
                    ".*", edge, algorithm_key=quantizer.AlgorithmName.NO_QUANTIZE
                )
        try:
            result = worker.quantize(dict(ranges)).quantized_model
        except Exception as error:
            raise InputError(
                f"ai-edge-quantizer refuses the model: {str(error).splitlines()[0][:300]}; "
                "leave the layer it names out of the quantization"
            ) from error
    if result is None:
        raise InputError("ai-edge-quantizer gave no file; nothing in the model can be quantized")
    return bytes(result)


def _exact_scales(file: TFLiteFile, encodings: Mapping[str, Encoding]) -> None:
    """Our scales to the last bit, where the quantizer arrived at them but for rounding."""
    for tensor in file.tensors:
        encoding = encodings.get(tensor.name.split(":")[0])
        if encoding is None or len(encoding.scale) != len(tensor.scale) or not tensor.scale:
            continue
        if np.allclose(tensor.scale, encoding.scale, rtol=1e-5, atol=0.0):
            file.graph.tensors[tensor.index].quantization.scale = [float(s) for s in encoding.scale]


def _integer_io(data: bytes, io: str) -> bytes:
    """Take the float conversion off the edges of an integer file."""
    with quiet():
        import tensorflow as tf
        from tensorflow.lite.python.util import modify_model_io_type

        kind = {"int8": tf.int8, "uint8": tf.uint8}[io]
        return bytes(modify_model_io_type(data, kind, kind))


def _with_note(file: TFLiteFile, request: Request) -> bytes:
    """The bytes, with what kompakt was asked for on board (read by ``kompakt verify``)."""
    note = {"quantization": request.quantization, "io": request.io}
    file.put_metadata("kompakt", json.dumps(note, separators=(",", ":")))
    return file.pack()


def _is_weight(tensor: Tensor, file: TFLiteFile) -> bool:
    """A constant with a site's name: weights carry ``layer/kernel``, biases and shapes do not count."""
    slot = tensor.name.split(":")[0].rsplit("/", 1)[-1]
    return tensor.values is not None and math.prod(tensor.shape) > 1 and slot not in ("bias",) and "/" in tensor.name


def _fact(tensor: Tensor, encoding: Encoding | None) -> SiteFact:
    assert tensor.values is not None
    zero = float(tensor.zero_point[0]) if tensor.zero_point else 0.0
    axis = tensor.channel_axis
    zeros, distinct = zeros_and_distinct(tensor.values, axis, zero)
    return SiteFact(
        site=tensor.name,
        tensor=tensor.name,
        dtype=tensor.kind,
        size=int(tensor.values.size),
        zeros=zeros,
        distinct=distinct,
        asked_zeros=encoding.zeros if encoding else None,
        asked_palette=encoding.palette if encoding else None,
    )


def _off_grid(site: str, tensor: Tensor, encoding: Encoding) -> list[str]:
    if tensor.kind in FLOATS:
        return [f"{site}: asked for {encoding.bits} bits, the file holds {tensor.kind}"]
    if len(tensor.scale) != len(encoding.scale):
        return [f"{site}: asked for {len(encoding.scale)} scales, the file holds {len(tensor.scale)}"]
    if not np.allclose(tensor.scale, encoding.scale, rtol=1e-4, atol=0.0):
        worst = float(np.max(np.abs(np.divide(tensor.scale, encoding.scale) - 1.0)))
        return [f"{site}: the file's scale differs from the asked one by {worst:.2%}"]
    if tuple(tensor.zero_point) != tuple(encoding.zero_point):
        return [f"{site}: asked for zero point {encoding.zero_point[:4]}, the file holds {tensor.zero_point[:4]}"]
    return []
