"""The graph inside a layer or model of the user's own: what its ``call`` does to symbolic inputs."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import layers, tree

from kompakt.graph import calls


def traced(layer: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> keras.Model | None:
    """A functional model over the layers inside ``layer``, which is called with ``args`` and ``kwargs``.

    Its inputs are those of the arguments that are tensors, in their order.

    Returns:
        None where there is nothing to enter or it cannot be followed: no layers inside, weights or random numbers of
        its own or a use of an inner layer's weight without the layer (a graph of layers would not hold them), a mask,
        or another graph in training than in inference.

    Example:
        >>> class Rectified(keras.layers.Layer):
        ...     __module__ = "mine"
        ...     def __init__(self, **options):
        ...         super().__init__(**options)
        ...         self.inner = keras.layers.Dense(4)
        ...     def build(self, shape):
        ...         self.inner.build(shape)
        ...     def call(self, x):
        ...         return keras.ops.relu(self.inner(x))
        >>> i = keras.Input((4,))
        >>> m = keras.Model(i, Rectified()(i))
        >>> [type(o).__name__ for o in traced(m.layers[1], [i], {}).operations]
        ['InputLayer', 'Dense', 'Relu']
    """
    if not _is_composite(layer) or any(
        getattr(t, "_keras_mask", None) is not None for t in tree.flatten((args, kwargs))
    ):
        return None
    graphs = [symbolic_call(layer, args, {**kwargs, **mode}) for mode in _modes(layer)]
    if any(graph is None or not _holds_all(graph, layer) for graph in graphs):
        return None
    kinds = [[type(call.layer) for call in calls(graph)] for graph in graphs if graph is not None]
    return graphs[0] if all(kind == kinds[0] for kind in kinds) else None


def _holds_all(graph: keras.Model, layer: Any) -> bool:
    """Whether every weight of ``layer`` is used by the layer that has it, and only so."""
    held = {id(weight) for weight in graph.weights}
    arguments = [call.node.arguments for call in calls(graph)]
    bare = any(isinstance(leaf, keras.Variable) for a in arguments for leaf in tree.flatten((a.args, a.kwargs)))
    return not bare and all(id(weight) in held for weight in layer.weights)


def _is_composite(layer: Any) -> bool:
    known = type(layer).__module__.startswith("kompakt.") or isinstance(layer, (layers.RNN, layers.Wrapper))
    if known or not is_own(layer):
        return False
    own = [*layer._trainable_variables, *layer._non_trainable_variables, *layer._seed_generators]
    return bool(layer._layers) and not own


def is_own(layer: Any) -> bool:
    """Whether it is a layer of the user's, not of Keras."""
    return isinstance(layer, layers.Layer) and not type(layer).__module__.startswith("keras.src.layers")


def _modes(layer: Any) -> list[dict[str, bool]]:
    """Arguments of ``call`` that may choose another graph; with the first, nothing, training is told at each call."""
    if "training" in inspect.signature(layer.call).parameters:
        return [{}, {"training": True}]
    return [{}]


def symbolic_call(layer: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> keras.Model | None:
    """What the ``call`` of ``layer`` does to tensors like those given; None where that cannot be followed."""
    inputs: list[Any] = []

    def symbolic(value: Any) -> Any:
        if not isinstance(value, keras.KerasTensor):
            return value
        inputs.append(keras.Input(batch_shape=value.shape, dtype=value.dtype))
        return inputs[-1]

    given, named = tree.map_structure(symbolic, (list(args), dict(kwargs)))
    try:
        with keras.device("cpu:0"):
            return keras.Model(inputs, layer.call(*given, **named), name=layer.name)
    except Exception:  # noqa: BLE001 - a call of the user's may raise anything
        return None
