"""Which tensor of a float TFLite file is which site of the Keras model, found by their numbers.

Names will not do: a converter fuses layers and calls the result as it likes.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import tree

from kompakt.graph import symbolic_inputs
from kompakt.inference import infer
from kompakt.sites import BOTH, MARKED, OUTPUT, is_graph, layer_of, sites
from kompakt.targets import tflite_runtime
from kompakt.targets.quiet import quiet
from kompakt.targets.tflite_edit import constant
from kompakt.targets.tflite_file import CHANNELS, FLOATS, PRODUCERS, Op, Tensor, TFLiteFile, moved, places

ROUNDING = 2e-7
"""What rounding to float32 may change, as a share."""


@dataclass(frozen=True, kw_only=True)
class Link:
    """A site of the Keras model and a tensor of the float file that holds the same numbers.

    ``between``: the site only carries the grid on which that tensor enters a layer of another width.
    """

    site: str
    tensor: int
    between: bool = False


def weight_links(model: keras.Model, file: TFLiteFile, *, folded: bool = False) -> list[Link]:
    """Which constant of the file is which kernel; each is taken once, in the order of the model.

    Args:
        folded: take a constant too that is a kernel but for a factor an output channel, which is what the
            converter makes of a convolution and the BatchNormalization after it.
    """
    constants = [t for t in file.tensors if t.values is not None and t.kind in FLOATS and len(t.shape) > 1]
    links: list[Link] = []
    taken: set[int] = set()
    for site in sites(model):
        if site.variable is None:
            continue
        value = np.asarray(keras.ops.convert_to_numpy(site.variable))
        found = _nearest_weights(value, constants)
        if folded and not found:
            found = [t.index for t in constants if t.index not in taken and _same_but_for_scale(value, t, file)]
        first = next((i for i in found if i not in taken), next(iter(found), None))
        if first is not None:
            links.append(Link(site=site.name, tensor=first))
            taken.add(first)
    return links


def _nearest_weights(value: np.ndarray, constants: Sequence[Tensor]) -> list[int]:
    """The constants that are ``value``: of those that are close the closest, which can be several.

    Weights of two layers may be close (those of normalizations after a step of training), and the converter stores
    equal ones once.
    """
    apart = {t.index: away for t in constants if (away := _distance(value, t)) is not None}
    least = min(apart.values(), default=0.0)
    return [index for index, away in apart.items() if away <= least + ROUNDING]


def _distance(value: np.ndarray, tensor: Tensor) -> float | None:
    """Largest difference to a constant as a share of the largest value; None where it is not the same weight."""
    assert tensor.values is not None
    if value.size != tensor.values.size:
        return None
    stored = tensor.values.astype("float32").ravel()
    rtol, atol = (1e-3, 1e-7) if tensor.kind == "FLOAT16" else (1e-5, 1e-9)
    same = [laid.ravel() for laid in _layouts(value) if np.allclose(laid.ravel(), stored, rtol=rtol, atol=atol)]
    reach = max(float(np.abs(value).max(initial=0.0)), 1e-30)
    return min((float(np.abs(laid - stored).max(initial=0.0)) / reach for laid in same), default=None)


def _same_but_for_scale(value: np.ndarray, tensor: Tensor, file: TFLiteFile) -> bool:
    """Whether a constant is ``value`` with each output channel multiplied by a factor, which may be 0."""
    assert tensor.values is not None
    axis = next((CHANNELS[op.name] for op in file.readers(tensor.index) if op.name in CHANNELS), None)
    if axis is None or value.size != tensor.values.size:
        return False

    def rows(laid: np.ndarray) -> np.ndarray:
        return np.moveaxis(laid.reshape(tensor.shape).astype("float64"), axis, 0).reshape(tensor.shape[axis], -1)

    stored = rows(tensor.values)
    live = np.abs(stored).max(1) > 0
    if not live.any() or stored.shape[1] < 2:
        return False
    stored = stored[live]
    largest = np.abs(stored).argmax(1)[:, None]
    tolerance = 2e-3 if tensor.kind == "FLOAT16" else 1e-5
    for laid in _layouts(value):
        kernel = rows(laid)[live]
        factor = np.take_along_axis(kernel, largest, 1) / np.take_along_axis(stored, largest, 1)
        if factor.all() and np.allclose(kernel / factor, stored, rtol=tolerance, atol=tolerance * np.abs(stored).max()):
            return True
    return False


def _layouts(value: np.ndarray) -> list[np.ndarray]:
    """The orders TFLite stores a kernel in: as Keras does, output channels first, or as in 1-D convolutions."""
    rank = value.ndim
    orders = [value, np.moveaxis(value, -1, 0)]
    if rank >= 3:
        orders += [np.moveaxis(value, -2, 0)]
    if rank == 3:
        orders += [value.transpose(2, 0, 1), value.transpose(1, 2, 0)]
    return orders


def restore_biases(file: TFLiteFile, links: Sequence[Link], model: keras.Model) -> None:
    """Give each linear operator the bias of its own layer again, in a constant of its own.

    The converter moves the bias of a layer without activation into a Dense after it. The model computes the
    same, but the tensor between the two is another one, and its grid would not fit. It also stores equal
    biases once, though each has another scale as integers, and a kernel of zeros with a bias of zeros.
    """
    reads = Counter(index for op in file.ops for index in op.inputs)
    left = reads.copy()
    buffers = Counter(tensor.buffer for tensor in file.graph.tensors)
    sites: dict[int, list[str]] = defaultdict(list)
    for link in links:
        sites[link.tensor].append(link.site)
    for i, op in enumerate(file.ops):
        if op.name not in PRODUCERS or not sites.get(op.inputs[1]):
            continue
        held = sites[op.inputs[1]]
        site = held.pop(0) if len(held) > 1 else held[0]
        wanted = _bias_at(model, site, file.tensors[op.outputs[0]].shape[-1])
        if wanted is None:
            continue
        place = places(op)[2]
        held_at = op.inputs[place] if len(op.inputs) > place else -1
        shared = held_at >= 0 and (reads[held_at] > 1 or buffers[file.graph.tensors[held_at].buffer] > 1)
        if not shared and np.array_equal(_stored_bias(file, op, place, wanted), wanted):
            continue
        file.graph.operators[i].inputs = [
            *op.inputs[:place],
            constant(file, "constant", np.asarray(wanted, "float32"), "FLOAT32"),
        ]
        left[held_at] -= 1
        if held_at >= 0 and not left[held_at]:
            file.graph.tensors[held_at].buffer = 0  # nobody's: its bytes will be another tensor's integers
    file.reread()


def _bias_at(model: keras.Model, site: str, channels: int) -> np.ndarray | None:
    """The bias of the layer that has its kernel at ``site``; None where that is inside another layer."""
    unit, slot = site.rsplit("/", 1)
    if slot != "kernel" or not is_graph(model) or "/" in unit:
        return None
    layer = model.get_layer(unit)
    bias = getattr(layer, "bias", None)
    return np.zeros(channels, "float32") if bias is None else np.asarray(keras.ops.convert_to_numpy(bias)).ravel()


def _stored_bias(file: TFLiteFile, op: Op, place: int, like: np.ndarray) -> np.ndarray:
    held = len(op.inputs) > place and op.inputs[place] >= 0
    values = file.tensors[op.inputs[place]].values if held else None
    return np.zeros_like(like) if values is None else values


def activation_links(
    model: keras.Model, asked: Sequence[str], file: TFLiteFile, samples: Any, hidden: Collection[int] = ()
) -> list[Link]:
    """Which tensor of the file is the activation at which of the ``asked`` sites, by running both on ``samples``.

    Tensors that an operator only moved are left to inherit. Where two sites hold the same numbers (a ReLU
    that cut nothing off), the earlier site takes the earlier tensor. ``hidden`` tensors are none's.
    """
    wanted = _site_tensors(model, asked)
    if not wanted:
        return []
    probe = keras.Model(model.inputs, [tensor for _, tensor in wanted])
    samples = _whole_batches(file, samples)
    with quiet():
        values = infer(probe, tree.flatten(samples))
    found = {i: rows for i, rows in all_activations(file, samples).items() if i not in hidden}
    source = moved(file.ops)
    between = {site for site, _ in wanted if _is_between(model, site)}
    links: list[Link] = []
    taken: set[int] = set()
    for (site, _), value in zip(wanted, values, strict=True):
        matching = [index for index, rows in found.items() if _same_activation(value, rows)]
        if site in between:  # what holds them has a site of its own too
            links += [Link(site=site, tensor=index, between=True) for index in _where_it_rounds(file, matching)]
            continue
        matching = [index for index in matching if index not in source]
        free = next((i for i in matching if i not in taken), None)
        chosen = free if free is not None else next(iter(matching), None)
        if chosen is None:
            left = {i: rows.size for i, rows in found.items() if i not in taken and i not in source}
            chosen = _by_name(file, site, model, [i for i, size in left.items() if size == value.size])
        if chosen is not None:
            links.append(Link(site=site, tensor=chosen))
            taken.add(chosen)
    return links


def _where_it_rounds(file: TFLiteFile, matching: Sequence[int]) -> list[int]:
    """The last tensor with a site's numbers, behind those that it is moved from: each may be what is rounded."""
    found = list(matching[-1:])
    source = moved(file.ops)
    while found and source.get(found[0]) in matching:
        found.insert(0, source[found[0]])
    return found


def _by_name(file: TFLiteFile, site: str, model: keras.Model, tensors: Sequence[int]) -> int | None:
    """The only one of ``tensors`` that the converter calls by the layer of ``site``.

    The last resort: for what is nothing but rounding errors, such as the mean of what was normalized just before.
    """
    known = {layer.name for layer in model.layers}
    own = [i for i in tensors if _owner(file.tensors[i], known) == site.rsplit("/", 1)[0]]
    return own[0] if len(own) == 1 else None


def _is_between(model: keras.Model, site: str) -> bool:
    """Whether a site only carries the grid on which one layer's output enters another."""
    if not site.endswith(MARKED):
        return False
    layer = model.get_layer(site.rsplit("/", 1)[0])
    return isinstance(layer, keras.layers.Identity) and not any(layer.input is given for given in model.inputs)


def _site_tensors(model: keras.Model, asked: Sequence[str]) -> list[tuple[str, Any]]:
    """(site, Keras tensor) of every activation asked for; the inputs of two-sided sites come last."""
    after: list[tuple[str, Any]] = []
    before: list[tuple[str, Any]] = []
    for site in asked:
        unit, slot = site.rsplit("/", 1) if "/" in site else ("", site)
        if slot not in (OUTPUT, BOTH) or not is_graph(model):
            continue
        layer = model.get_layer(unit)
        after += [(site, tensor) for tensor in tree.flatten(layer.output)]
        if slot == BOTH:
            before += [(site, tensor) for tensor in tree.flatten(layer.input)]
    return after + before


def all_activations(file: TFLiteFile, samples: Any) -> dict[int, np.ndarray]:
    """Index -> (batches, batch, ...) of every activation of a float file, in the order they are computed."""
    batch = _batch(file)
    wanted = [t.index for t in file.activations() if t.kind == "FLOAT32"]
    return dict(tflite_runtime.tensors(file.pack(), _whole_batches(file, samples), wanted, batch=batch))


def _batch(file: TFLiteFile) -> int:
    shape = file.tensors[file.inputs[0]].shape
    return max(1, shape[0]) if shape else 1


def _whole_batches(file: TFLiteFile, samples: Any) -> Any:
    """``samples``, the last one repeated until they fill batches of the file's size."""
    batch = _batch(file)

    def fill(values: np.ndarray) -> np.ndarray:
        missing = -len(values) % batch
        return np.concatenate([values, np.repeat(values[-1:], missing, axis=0)])

    return tree.map_structure(fill, samples)


def _same_activation(value: np.ndarray, rows: np.ndarray) -> bool:
    if value.size != rows.size:
        return False
    reach = float(np.abs(value).max())
    return bool(np.allclose(value.ravel(), rows.ravel(), rtol=1e-3, atol=1e-4 * reach))


def give_names(file: TFLiteFile, links: Sequence[Link], model: keras.Model) -> None:
    """Names that say which Keras site a tensor is; one inside a layer is called ``layer:t12``."""
    names: dict[int, str] = {}

    def put(index: int, name: str) -> None:
        if index not in names:
            names[index] = f"{name}:{index}" if name in names.values() else name

    inputs = [tensor.name.split(":")[0] for tensor in tree.flatten(symbolic_inputs(model))]
    for index, name in zip(file.inputs, inputs, strict=True):
        put(index, name)
    for link in links:
        if not link.between:
            put(link.tensor, link.site)
    for op in file.ops:
        bias = op.inputs[-1] if op.name in PRODUCERS and len(op.inputs) > 2 else -1
        if bias >= 0 and file.tensors[bias].values is not None and op.inputs[1] in names:
            put(bias, names[op.inputs[1]].rsplit("/", 1)[0] + "/bias")
    owners = _owners(file, names, {layer.name for layer in model.layers})
    file.rename(lambda index: names.get(index) or _inside(index, owners.get(index)))


def _inside(index: int, owner: str | None) -> str:
    """``layer:t12`` where it is known whose the tensor is, else ``t12``."""
    return f"{owner}:t{index}" if owner else f"t{index}"


def _owners(file: TFLiteFile, names: Mapping[int, str], layers: set[str]) -> dict[int, str]:
    """Tensor -> the layer that it is of: by its name, else that of what an operator without a layer only moves."""
    found = {index: layer_of(name) for index, name in names.items()}
    for tensor in file.tensors:
        owner = _owner(tensor, layers)
        if owner and tensor.index not in found:
            found[tensor.index] = owner
    for index, source in moved(file.ops).items():
        if source in found:
            found.setdefault(index, found[source])
    return found


def _owner(tensor: Tensor, layers: set[str]) -> str | None:
    """The last layer that the converter's name for the tensor has in it."""
    parts = [part for path in tensor.name.split(";") for part in path.split("/")]
    named = [re.sub(r"(_\d+)?$", "", part) if part not in layers else part for part in reversed(parts)]
    return next((part for part in named if part in layers), None)
