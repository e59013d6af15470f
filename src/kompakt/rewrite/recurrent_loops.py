"""Which recurrent layers stay loops, why, and what helps."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from kompakt.graph import Call, calls

LONGEST = 64
"""Steps up to which a layer is unrolled: each is some ten operators in the file."""

KINDS = (layers.SimpleRNN, layers.LSTM, layers.GRU)
"""Layers whose steps are known."""

MASKED = (
    "a mask reaches it (Masking, or Embedding with mask_zero=True); train the model without the mask, on inputs of one "
    "length"
)
"""What is said of a recurrent layer that goes by a mask."""

KEPT = "it keeps a state, or drops it out by chance; make it without stateful and recurrent_dropout"
"""What is said of a layer that writes variables when it predicts."""


def directions(layer: Any) -> list[Any]:
    """The parts of a recurrent layer whose steps are known; none of another.

    Example:
        >>> [len(directions(each)) for each in (layers.GRU(2), layers.Bidirectional(layers.GRU(2)), layers.Dense(2))]
        [1, 2, 0]
    """
    parts = _parts(layer)
    return parts if all(type(part) in KINDS for part in parts) else []


def hindrance(layer: Any, x: Any) -> str:
    """Why one direction cannot be unrolled on ``x``, and what helps; "" where it can.

    Example:
        >>> hindrance(layers.LSTM(2), keras.KerasTensor((None, 65, 4)))[:35]
        'its steps are not known, or over 64'
    """
    if getattr(x, "_keras_mask", None) is not None:
        return MASKED
    if keeps_state(layer):
        return KEPT
    if isinstance(layer, layers.GRU) and not layer.reset_after:
        return "reset_after=False cannot be unrolled; train the model with GRU(reset_after=True)"
    steps = x.shape[1] if len(x.shape) == 3 else None
    if steps is not None and steps <= LONGEST:
        return ""
    return f"its steps are not known, or over {LONGEST}; give the model inputs of a fixed length of at most {LONGEST}"


def keeps_state(layer: Any) -> bool:
    """Whether a recurrent layer writes variables when it predicts."""
    return any(getattr(p, "stateful", False) or getattr(p, "recurrent_dropout", 0) for p in _parts(layer))


def loops_left(model: keras.Model, *, whole: bool = True) -> dict[str, str]:
    """Name of each recurrent layer in the flat ``model`` that an integer file cannot hold -> why, and what helps.

    Args:
        whole: whether activations are integers too: what Keras itself unrolls (``unroll=True``) has no grids inside.

    Example:
        >>> i = keras.Input((3, 4))
        >>> loops_left(keras.Model(i, layers.GRU(2, reset_after=False, name="g")(i)))
        {'g': 'reset_after=False cannot be unrolled; train the model with GRU(reset_after=True)'}
    """
    kinds = (layers.RNN, layers.Bidirectional)
    found = [call for call in calls(model) if isinstance(call.layer, kinds)]
    return {call.layer.name: _why(call) for call in found if not _unrolled_by_keras(call.layer, whole)}


def _parts(layer: Any) -> list[Any]:
    return [layer.forward_layer, layer.backward_layer] if isinstance(layer, layers.Bidirectional) else [layer]


def _unrolled_by_keras(layer: Any, whole: bool) -> bool:
    straight = all(getattr(part, "unroll", False) for part in _parts(layer)) and not keeps_state(layer)
    return straight and not (whole and directions(layer))


def _why(call: Call) -> str:
    parts = directions(call.layer)
    if not parts:
        return (
            f"the loop of {type(call.layer).__name__} cannot be unrolled; take LSTM, GRU or SimpleRNN, or make it with "
            "unroll=True and export as 'dynamic_int8'"
        )
    found = next(filter(None, (hindrance(part, call.inputs[0]) for part in parts)), "")
    return found or "a state or mask that is given cannot be unrolled; leave it out"
