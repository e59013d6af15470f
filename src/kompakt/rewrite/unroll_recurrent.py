"""Recurrent layers become their steps, which are matrix products, sums, products and activations: no loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from kompakt.graph import Call, Copier, Names, as_functional, calls, rebuild
from kompakt.rewrite.recurrent_loops import directions, hindrance
from kompakt.sites import is_graph

State = tuple[Any, ...]
Step = Callable[[Any, State | None], State]
"""(what the inputs give at a step, the state before it or None at the first) -> the state; its first is the output."""


def unroll_recurrent(model: keras.Model) -> tuple[keras.Model, dict[str, str]]:
    """``LSTM``, ``GRU``, ``SimpleRNN`` and ``Bidirectional`` over a known number of steps, unrolled; the same function.

    The product with the inputs is one ``Dense`` over all steps, with the layer's name; that with the state is one
    shared by the steps, called ``<name>_recurrent``. What is left as it is: more than 64 steps, a state that
    is kept or given, a mask, dropout of the state, ``reset_after=False``, cells of one's own.

    Returns:
        (a new model, {site of ``model``: its name in the new one} for the sites that moved).

    Example:
        >>> i = keras.Input((3, 4))
        >>> m, moved = unroll_recurrent(keras.Model(i, layers.SimpleRNN(2, name="r")(i)))
        >>> moved["r/cell/recurrent_kernel"], m.count_params()
        ('r_recurrent/kernel', 14)
    """
    names, copier = Names(model), Copier()
    moved: dict[str, str] = {}
    shared: dict[int, Any] = {}

    def visit(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        layer, x = call.layer, args[0] if args else None
        parts = directions(layer)
        plain = len(args) == 1 and not any(kwargs.get(key) is not None for key in ("initial_state", "mask"))
        if not parts or not plain or any(hindrance(part, x) for part in parts):
            return copier(layer)(*args, **kwargs)
        if id(layer) not in shared:
            suffixes = ("",) if len(parts) == 1 else ("_forward", "_backward")
            made = [_cell(p, f"{layer.name}{s}", names) for p, s in zip(parts, suffixes, strict=True)]
            shared[id(layer)] = made
            for cell, slot in zip(made, _slots(layer), strict=True):
                moved[f"{layer.name}/{slot}cell/kernel"] = f"{cell.inputs.name}/kernel"
                moved[f"{layer.name}/{slot}cell/recurrent_kernel"] = f"{cell.state.name}/kernel"
        runs = [_run(part, cell, x) for part, cell in zip(parts, shared[id(layer)], strict=True)]
        if len(parts) == 1:
            return _single(layer, runs[0], names)
        return _joined(layer, parts, runs, names)

    return rebuild(model, visit), moved


def recurrent_steps(model: keras.Model) -> dict[str, int]:
    """Name of each recurrent layer in ``model`` and the models in it -> steps that it is unrolled to."""
    found: dict[str, int] = {}
    for call in calls(as_functional(model)):
        if is_graph(call.layer):
            found |= recurrent_steps(call.layer)
            continue
        inner = getattr(call.layer, "transformed_layer", call.layer)
        parts = directions(inner)
        if parts and not any(hindrance(part, call.inputs[0]) for part in parts):
            found[str(call.layer.name)] = int(call.inputs[0].shape[1])
    return found


@dataclass(frozen=True, kw_only=True)
class Cell:
    """The layers of a recurrent layer: of the inputs, of the state, and what makes a step of them."""

    inputs: Any
    state: Any
    step: Step
    dropout: Any


def _slots(layer: Any) -> tuple[str, ...]:
    return ("forward_layer/", "backward_layer/") if isinstance(layer, layers.Bidirectional) else ("",)


def _cell(layer: Any, name: str, names: Names) -> Cell:
    name = names.free(name) if name != layer.name else name
    kernel, recurrent, bias, held = STEPS[type(layer)][1](layer)
    inputs = _dense(kernel, bias, name, layer)
    state = _dense(recurrent, held, names.free(f"{name}_recurrent"), layer)
    made = STEPS[type(layer)][0](layer, state, lambda part: names.free(f"{name}_{part}"), held)
    dropout = layers.Dropout(layer.dropout, name=names.free(f"{name}_dropout")) if layer.dropout else None
    return Cell(inputs=inputs, state=state, step=made, dropout=dropout)


def _dense(kernel: np.ndarray, bias: np.ndarray | None, name: str, layer: Any) -> Any:
    dense = layers.Dense(kernel.shape[1], use_bias=bias is not None, name=name, trainable=layer.trainable)
    dense.build((None, kernel.shape[0]))
    dense.kernel.assign(kernel)
    if bias is not None:
        dense.bias.assign(bias)
    return dense


def _weights(layer: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]:
    """(kernel, recurrent kernel, bias of the inputs, bias of the state) of a layer with one bias."""
    cell = layer.cell
    bias = np.array(ops.convert_to_numpy(cell.bias)) if layer.use_bias else None
    return (
        np.array(ops.convert_to_numpy(cell.kernel)),
        np.array(ops.convert_to_numpy(cell.recurrent_kernel)),
        bias,
        None,
    )


def _gru_weights(layer: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Of the state's bias only what the reset gate multiplies cannot stand with the inputs."""
    kernel, recurrent, bias, _ = _weights(layer)
    if bias is None:
        return kernel, recurrent, None, None
    first, held = bias[0].copy(), np.zeros_like(bias[1])
    first[: 2 * layer.units] += bias[1][: 2 * layer.units]
    held[2 * layer.units :] = bias[1][2 * layer.units :]
    return kernel, recurrent, first, held


def _simple(layer: Any, state: Any, name: Callable[[str], str], _: Any) -> Step:
    r""":math:`h_t = f(W x_t + U h_{t-1} + b)`."""
    total = layers.Add(name=name("sum"))
    function = layers.Activation(layer.activation, name=name("activation"))

    def step(given: Any, before: State | None) -> State:
        return (function(given if before is None else total([given, state(before[0])])),)

    return step


def _lstm(layer: Any, state: Any, name: Callable[[str], str], _: Any) -> Step:
    r""":math:`c_t = f \odot c_{t-1} + i \odot g, h_t = o \odot \tanh(c_t)` (Hochreiter and Schmidhuber 1997)."""
    units, total = layer.units, layers.Add(name=name("sum"))
    gates = [layers.Activation(layer.recurrent_activation, name=name(gate)) for gate in ("input", "forget", "output")]
    candidate = layers.Activation(layer.activation, name=name("candidate"))
    function = layers.Activation(layer.activation, name=name("activation"))
    taken, kept, shown = (layers.Multiply(name=name(part)) for part in ("taken", "kept", "shown"))
    carry = layers.Add(name=name("carry"))

    def step(given: Any, before: State | None) -> State:
        z = given if before is None else total([given, state(before[0])])
        i, f, g, o = (z[:, k * units : (k + 1) * units] for k in range(4))
        new = taken([gates[0](i), candidate(g)])
        if before is not None:
            new = carry([kept([gates[1](f), before[1]]), new])
        return shown([gates[2](o), function(new)]), new

    return step


def _gru(layer: Any, state: Any, name: Callable[[str], str], held: Any) -> Step:
    r""":math:`h_t = g + z \odot (h_{t-1} - g), g = f(W x_t + r \odot (U h_{t-1} + b))` (Cho et al. 2014)."""
    units, total = layer.units, layers.Add(name=name("sum"))
    update, reset = (layers.Activation(layer.recurrent_activation, name=name(gate)) for gate in ("update", "reset"))
    function = layers.Activation(layer.activation, name=name("activation"))
    gated, mixed = layers.Multiply(name=name("gated")), layers.Multiply(name=name("mixed"))
    inner, change = layers.Add(name=name("inner")), layers.Subtract(name=name("change"))
    result, first = layers.Add(name=name("result")), layers.Subtract(name=name("first"))
    offset = None if held is None else _scaled(held[2 * units :], name("offset"))

    def step(given: Any, before: State | None) -> State:
        own = given[:, 2 * units :]
        if before is None:
            z = update(given[:, :units])
            if offset is not None:
                own = inner([own, offset(reset(given[:, units : 2 * units]))])
            g = function(own)
            return (first([g, mixed([z, g])]),)
        past = state(before[0])
        both = total([given[:, : 2 * units], past[:, : 2 * units]])
        g = function(inner([own, gated([reset(both[:, units:]), past[:, 2 * units :]])]))
        return (result([g, mixed([update(both[:, :units]), change([before[0], g])])]),)

    return step


def _scaled(factor: np.ndarray, name: str) -> Callable[[Any], Any]:
    """Each channel times its factor, which does not train."""
    scale = layers.DepthwiseConv2D(1, use_bias=False, trainable=False, name=name)
    scale.build((None, 1, 1, len(factor)))
    scale.kernel.assign(factor.reshape(1, 1, -1, 1))
    return lambda x: layers.Reshape((len(factor),), name=f"{name}_out")(
        scale(layers.Reshape((1, 1, len(factor)), name=f"{name}_in")(x))
    )


STEPS: dict[type, tuple[Any, Any]] = {
    layers.SimpleRNN: (_simple, _weights),
    layers.LSTM: (_lstm, _weights),
    layers.GRU: (_gru, _gru_weights),
}
"""Layer -> (what makes its step, what gives its weights)."""


def _run(layer: Any, cell: Cell, x: Any) -> list[State]:
    """The states after each step, in the order of the steps."""
    given = cell.inputs(x if cell.dropout is None else cell.dropout(x))
    order = range(x.shape[1] - 1, -1, -1) if layer.go_backwards else range(x.shape[1])
    states: list[State] = []
    for t in order:
        states.append(cell.step(given[:, t], states[-1] if states else None))
    return states


def _output(layer: Any, states: list[State], name: str, names: Names, *, flip: bool = False) -> Any:
    if not layer.return_sequences:
        return states[-1][0]
    row = layers.Reshape((1, layer.units), name=names.free(f"{name}_row"))
    rows = [row(state[0]) for state in (reversed(states) if flip else states)]
    return layers.Concatenate(axis=1, name=names.free(f"{name}_rows"))(rows) if len(rows) > 1 else rows[0]


def _single(layer: Any, states: list[State], names: Names) -> Any:
    output = _output(layer, states, layer.name, names)
    return [output, *states[-1]] if layer.return_state else output


def _joined(layer: Any, parts: list[Any], runs: list[list[State]], names: Names) -> Any:
    """The outputs of both directions, as ``merge_mode`` has it; the backward one in the order of time."""
    name = layer.name
    outputs = [
        _output(part, states, f"{name}_{side}", names, flip=flip)
        for part, states, side, flip in zip(parts, runs, ("ahead", "back"), (False, True), strict=True)
    ]
    states = [tensor for run in runs for tensor in run[-1]] if layer.return_state else []
    if layer.merge_mode is None:
        return [*outputs, *states]
    merge = {"concat": layers.Concatenate, "sum": layers.Add, "mul": layers.Multiply, "ave": layers.Average}
    merged = merge[layer.merge_mode](name=name)(outputs)
    return [merged, *states] if states else merged
