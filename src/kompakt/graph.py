"""Reading, copying and rebuilding Keras models: calls, and the tensors between them."""

from __future__ import annotations

import contextlib
import logging
import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import tree

from kompakt.copies import copy_layer
from kompakt.errors import InputError, first_line
from kompakt.sites import check_built, is_graph, sites

log = logging.getLogger("kompakt")

Layer = Any
KerasTensor = Any
MADE_UP = re.compile(r"(keras_tensor|input_layer)(_\d+)?")


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of a layer (or op) in a functional graph."""

    layer: Layer
    inputs: tuple[KerasTensor, ...]
    outputs: tuple[KerasTensor, ...]
    node: Any


Visit = Callable[[Call, tuple[Any, ...], dict[str, Any]], Any]
"""``visit(call, args, kwargs)``: what becomes of one call, given its new arguments."""


def as_functional(model: keras.Model) -> keras.Model:
    """A functional model over the *same* layers: of a sequential model, or of a subclassed one by tracing it.

    Raises:
        InputError: the model is subclassed and its ``call`` cannot be followed symbolically.
    """
    check_built(model)
    if isinstance(model, keras.Sequential):
        return keras.Model(model.inputs, model.outputs, name=model.name)
    if is_graph(model):
        return model
    inputs = symbolic_inputs(model)
    try:
        with keras.device("cpu:0"):
            outputs = model.call(inputs)
        return keras.Model(inputs, outputs, name=model.name)
    except Exception as error:
        raise InputError(
            f"cannot follow the call of {type(model).__name__} symbolically ({first_line(error)}); "
            "use Keras layers and keras.ops in call, or build the model with the functional API"
        ) from error


def copy_model(model: keras.Model) -> keras.Model:
    """A copy of ``model``, of each of its layers too."""
    return map_layers(model, copy_layer) if is_graph(model) else copy_layer(model)


def with_weights(model: keras.Model, weights: Mapping[str, np.ndarray]) -> keras.Model:
    """A copy of ``model`` with other numbers at the sites of ``weights``."""
    copy = copy_model(model)
    for site in sites(copy):
        if site.variable is not None and site.name in weights:
            site.variable.assign(weights[site.name])
    return copy


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Inside, layers are made in float32 whatever the global policy is; afterwards the policy and the random numbers
    of Python and NumPy, from which Keras draws the seeds of layers, are as they were.

    Example:
        >>> keras.config.set_dtype_policy("mixed_float16")
        >>> with undisturbed():
        ...     keras.layers.Identity().dtype_policy.name
        'float32'
        >>> keras.config.dtype_policy().name
        'mixed_float16'
        >>> keras.config.set_dtype_policy("float32")
    """
    policy, drawn, numpy_drawn = keras.config.dtype_policy(), random.getstate(), np.random.get_state()
    keras.config.set_dtype_policy("float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(policy)
        random.setstate(drawn)
        np.random.set_state(numpy_drawn)


def symbolic_inputs(model: keras.Model, batch: int | None = None) -> Any:
    """New ``keras.Input``s in the structure that ``model`` takes, with the batch size ``batch``."""
    if is_graph(model):
        names = iter(_input_names(model))
        return tree.map_structure(
            lambda t: keras.Input(batch_shape=(batch, *t.shape[1:]), dtype=t.dtype, name=next(names)),
            model.inputs[0] if isinstance(model, keras.Sequential) else model._inputs_struct,
        )
    shapes = getattr(model, "_build_shapes_dict", None) or {}
    if not shapes:
        raise InputError(f"the input shape of {type(model).__name__} is not known: call it once on data before")
    made = [
        tree.map_shape_structure(lambda s: keras.Input(batch_shape=(batch, *s[1:]), dtype=model.input_dtype), shape)
        for shape in shapes.values()
    ]
    return _with_ids(model, made[0] if len(made) == 1 else made)


def _with_ids(model: keras.Model, inputs: Any) -> Any:
    """``inputs``, integer where a subclassed model looks them up in an Embedding: Keras remembers no dtype."""
    inner = getattr(model, "transformed_layer", model)
    readers: dict[int, list[Call | None]] = {}
    with contextlib.suppress(Exception), keras.device("cpu:0"):  # as_functional says why it cannot be followed
        readers = users(keras.Model(inputs, inner.call(inputs)))

    def typed(tensor: KerasTensor) -> KerasTensor:
        by = readers.get(id(tensor))
        ids = by and all(call is not None and isinstance(call.layer, keras.layers.Embedding) for call in by)
        return keras.Input(batch_shape=tensor.shape, dtype="int32") if ids else tensor

    return tree.map_structure(typed, inputs)


def calls(model: keras.Model) -> Iterator[Call]:
    """Every call in the graph of a functional ``model``, inputs before users."""
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            if node.operation is not None and not node.is_input:
                yield Call(
                    layer=node.operation,
                    inputs=tuple(node.input_tensors),
                    outputs=tuple(node.outputs),
                    node=node,
                )


def call_counts(model: keras.Model) -> Counter[int]:
    """id of a layer of a flat functional ``model`` -> how often it is called."""
    return Counter(id(call.layer) for call in calls(model))


def users(model: keras.Model) -> dict[int, list[Call | None]]:
    """id of a tensor -> the calls that read it; None stands for being an output of the model."""
    found: dict[int, list[Call | None]] = defaultdict(list)
    for call in calls(model):
        for tensor in call.inputs:
            found[id(tensor)].append(call)
    for tensor in model.outputs:
        found[id(tensor)].append(None)
    return found


def readers_beyond(
    tensors: Iterable[Any], readers: Mapping[int, Sequence[Call | None]], passes: Callable[[Any], bool]
) -> tuple[list[Call], list[Call | None]]:
    """(the calls that are looked through, the readers of ``tensors`` behind those), None for an output of the model.

    Args:
        readers: from :func:`users`. passes: whether a layer, or operation, is looked through.

    Example:
        >>> i = keras.Input((4,))
        >>> m = keras.Model(i, keras.layers.ReLU(name="r")(keras.layers.Dropout(0.5, name="d")(i)))
        >>> between, after = readers_beyond(m.inputs, users(m), lambda layer: isinstance(layer, keras.layers.Dropout))
        >>> [call.layer.name for call in between], [call.layer.name for call in after]
        (['d'], ['r'])
    """
    between: list[Call] = []
    after: list[Call | None] = []
    for reader in (each for tensor in tensors for each in readers[id(tensor)]):
        if reader is None or not passes(reader.layer):
            after.append(reader)
            continue
        further, behind = readers_beyond(reader.outputs, readers, passes)
        between += [reader, *further]
        after += behind
    return between, after


def rebuild(
    model: keras.Model,
    visit: Visit,
    *,
    on_input: Callable[[KerasTensor], KerasTensor] = lambda t: t,
    dtype_of: Callable[[KerasTensor], str] = lambda t: t.dtype,
    shape_of: Callable[[KerasTensor], Sequence[int | None]] = lambda t: t.shape,
) -> keras.Model:
    """A new functional model: ``visit(call, args, kwargs)`` gives the new output of each call in turn.

    Args:
        model: functional. visit: calls new layers on the new args. on_input: what follows each new Input.
        dtype_of, shape_of: an input of ``model`` -> the dtype, and the shape with the batch, of the new one.

    Returns:
        A model with inputs and outputs of the same names and structure.
    """
    old = iter(model.inputs)
    inputs = tree.map_structure(
        lambda t: keras.Input(batch_shape=shape_of(t), dtype=dtype_of(next(old)), name=t.name.split(":")[0]),
        symbolic_inputs(model),
    )
    tensors = {id(old): on_input(new) for old, new in zip(model.inputs, tree.flatten(inputs), strict=True)}
    outputs = walk(model, tensors, visit)
    return keras.Model(inputs, outputs, name=model.name)


def walk(model: keras.Model, tensors: dict[int, Any], visit: Visit) -> Any:
    """Run ``visit`` over the graph of ``model`` from ``tensors`` (id of an input -> its new tensor).

    Returns:
        The new outputs, in the structure of the model's own.
    """
    tensors = dict(tensors)
    for call in calls(model):
        if any(id(t) not in tensors for t in call.inputs):
            continue
        args, kwargs = call.node.arguments.fill_in(tensors)
        result = tree.flatten(visit(call, args, kwargs))
        tensors.update({id(old): new for old, new in zip(call.outputs, result, strict=True)})
    return tree.pack_sequence_as(model._outputs_struct, [tensors[id(t)] for t in model.outputs])


class Copier:
    """Copies each layer once, so that a shared layer stays shared.

    Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> copier = Copier()
        >>> flat = as_functional(model)
        >>> twin = rebuild(flat, lambda call, args, kwargs: copier(call.layer)(*args, **kwargs))
        >>> bool((twin.get_weights()[0] == model.get_weights()[0]).all())
        True
    """

    def __init__(self, make: Callable[[Layer], Layer] = copy_layer) -> None:
        self._make = make
        self._copies: dict[int, Layer] = {}

    def __call__(self, layer: Layer) -> Layer:
        if id(layer) not in self._copies:
            self._copies[id(layer)] = self._make(layer)
        return self._copies[id(layer)]


def batchnorm_gain(norm: Any) -> tuple[np.ndarray, np.ndarray]:
    r"""(:math:`g = \gamma / \sqrt{\sigma^2 + \epsilon}`, :math:`\beta - \mu g`) of a BatchNormalization."""

    def read(variable: Any) -> np.ndarray:
        return np.asarray(keras.ops.convert_to_numpy(variable), "float64")

    variance, mean = read(norm.moving_variance), read(norm.moving_mean)
    factor = (read(norm.gamma) if norm.scale else 1.0) / np.sqrt(variance + norm.epsilon)
    return factor, (read(norm.beta) if norm.center else 0.0) - mean * factor


def reseed(model: keras.Model, seed: int) -> None:
    """Start every random generator of the layers of ``model`` (Dropout's, noise's) from ``seed``.

    Keras draws the start anew where a layer has no seed, and does not save how far a generator has come.

    Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dropout(0.5)])
        >>> reseed(model, 0)
        >>> first = model(np.ones((1, 2)), training=True)
        >>> reseed(model, 0)
        >>> bool(keras.ops.all(model(np.ones((1, 2)), training=True) == first))
        True
    """
    random = np.random.default_rng(seed)
    for layer in model._flatten_layers():
        for generator in layer._seed_generators:
            generator.state.assign(np.array([random.integers(2**31), 0], dtype=generator.state.dtype))


class Names:
    """Names of layers that are not taken in ``model`` yet.

    Example:
        >>> names = Names(keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="d")]))
        >>> names.free("d"), names.free("d"), names.free("e")
        ('d_1', 'd_2', 'e')
    """

    def __init__(self, model: keras.Model) -> None:
        self._taken = {layer.name for layer in model.layers}

    def free(self, wanted: str) -> str:
        """``wanted``, or, where it is taken, with a number after it; it is taken from now on."""
        name, count = wanted, 0
        while name in self._taken:
            count += 1
            name = f"{wanted}_{count}"
        self._taken.add(name)
        return name


def on_image(layer: Layer, x: Any, names: Names, name: str) -> Any:
    """``layer``, which takes images, on ``x`` of rank 2 to 4, between two Reshapes where it is no image."""
    shape = tuple(x.shape[1:])
    if len(shape) == 3:
        return layer(x)
    wide = (1,) * (3 - len(shape)) + shape
    before = keras.layers.Reshape(wide, name=names.free(f"{name}_in"))
    after = keras.layers.Reshape(shape, name=names.free(f"{name}_out"))
    return after(layer(before(x)))


def map_layers(model: keras.Model, make: Callable[[Layer], Layer]) -> keras.Model:
    """A copy of a functional or sequential model with ``make(layer)`` in place of each layer.

    Nested models are entered, shared layers stay shared, a sequential model stays sequential.
    """
    copier = Copier(lambda layer: map_layers(layer, copier) if is_graph(layer) else make(layer))
    if type(model).train_step is not keras.Model.train_step:
        log.warning("%s has a train_step of its own, which its copy does not: it trains as Keras does", model.name)
    if isinstance(model, keras.Sequential):
        shape = symbolic_inputs(model)
        return keras.Sequential([shape, *[copier(layer) for layer in model.layers]], name=model.name)
    return rebuild(model, lambda call, args, kwargs: copier(call.layer)(*args, **kwargs))


def _input_names(model: keras.Model) -> list[str]:
    """The names of the inputs: of a dict its keys, which the caller knows; "input" where Keras made one up, which
    differs from run to run.
    """
    given = [t.name.split(":")[0].split("/")[-1] for t in model.inputs]
    structure = getattr(model, "_inputs_struct", None)
    if isinstance(structure, Mapping) and len(structure) == len(given):
        given = [str(path[-1]) for path, _ in tree.flatten_with_path(structure)]
    taken = {*given, *(layer.name for layer in model.layers)}
    names: list[str] = []
    for position, name in enumerate(given):
        plain = "input" if len(given) == 1 else f"input_{position}"
        names.append(plain if MADE_UP.fullmatch(name) and plain not in taken else name)
    return names
