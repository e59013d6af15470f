"""Attention becomes its steps: projections, matrix products and a softmax, each with a tensor of its own."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from kompakt.copies import copy_layer
from kompakt.graph import Call, Copier, Names, rebuild
from kompakt.rewrite.elementwise import Elementwise
from kompakt.rewrite.matrix_product import MatMul

ASKED = ("query_mask", "value_mask", "key_mask", "attention_mask", "return_attention_scores", "use_causal_mask")
"""Arguments of a call that the steps do not know."""


def attention_steps(model: keras.Model) -> tuple[keras.Model, dict[str, str]]:
    r"""``MultiHeadAttention`` over one axis of time, as :math:`softmax(Q K^T / \sqrt{d}) V`; the same function.

    Vaswani et al. 2017, arXiv:1706.03762, equation (1). The projections are called ``<name>_query``, ``_key``,
    ``_value``; that of the output has the layer's name. Calls with masks are left as they are.

    Args:
        model: flat and functional.

    Returns:
        (a new model, {site of ``model``: its name in the new one} for the sites that moved).

    Example:
        >>> i = keras.Input((4, 6))
        >>> m, moved = attention_steps(keras.Model(i, layers.MultiHeadAttention(2, 3, name="a")(i, i)))
        >>> moved["a/query_dense/kernel"], moved["a/output_dense/kernel"]
        ('a_query/kernel', 'a/kernel')
    """
    names, copier = Names(model), Copier()
    moved: dict[str, str] = {}
    parts: dict[int, dict[str, Any]] = {}

    def visit(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        layer = call.layer
        tensors = _tensors(layer, args, kwargs)
        if tensors is None:
            return copier(layer)(*args, **kwargs)
        if id(layer) not in parts:
            parts[id(layer)] = _projections(layer, names, moved)
        return _attend(layer, parts[id(layer)], tensors, names)

    return rebuild(model, visit), moved


def _tensors(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any, Any] | None:
    """(query, key, value) of a call, where it is one of steps."""
    if type(layer) is not layers.MultiHeadAttention or any(kwargs.get(name) is not None for name in ASKED[:4]):
        return None
    if kwargs.get("return_attention_scores") or kwargs.get("use_causal_mask") or getattr(layer, "_use_gate", False):
        return None
    given = dict(zip(("query", "value", "key"), args, strict=False)) | kwargs
    query, value = given["query"], given["value"]
    key = value if given.get("key") is None else given["key"]
    known = all(len(t.shape) == 3 and None not in t.shape[1:] for t in (query, key, value))
    masked = any(getattr(t, "_keras_mask", None) is not None for t in (query, key, value))
    return (query, key, value) if known and not masked else None


def _projections(layer: Any, names: Names, moved: dict[str, str]) -> dict[str, Any]:
    made = {}
    for part in ("query", "key", "value", "output"):
        made[part] = copy_layer(getattr(layer, f"{part}_dense"))
        made[part].name = layer.name if part == "output" else names.free(f"{layer.name}_{part}")
        made[part].trainable = layer.trainable
        moved[f"{layer.name}/{part}_dense/kernel"] = f"{made[part].name}/kernel"
    return made


def _attend(layer: Any, parts: dict[str, Any], tensors: tuple[Any, Any, Any], names: Names) -> Any:
    def name(part: str) -> str:
        return names.free(f"{layer.name}_{part}")

    query, key, value = tensors
    q = layers.Permute((2, 1, 3), name=name("query_heads"))(parts["query"](query))
    k = layers.Permute((2, 3, 1), name=name("key_heads"))(parts["key"](key))
    v = layers.Permute((2, 1, 3), name=name("value_heads"))(parts["value"](value))
    scores = MatMul(name=name("scores"))([q, k])
    # A table in the file: as a product the converter would move it into the query's kernel.
    scores = Elementwise("multiply", (float(layer.key_dim) ** -0.5,), name=name("scaled"))(scores)
    scores = layers.Softmax(name=name("weights"))(scores)
    if layer.dropout:
        scores = layers.Dropout(layer.dropout, name=name("dropout"))(scores)
    mixed = MatMul(name=name("mixed"))([scores, v])
    return parts["output"](layers.Permute((2, 1, 3), name=name("rows"))(mixed))
