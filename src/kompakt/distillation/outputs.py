"""Whether what a model makes are logits, probabilities or numbers, and logits made of either."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import keras
from keras import ops, tree

from kompakt.errors import InputError
from kompakt.graph import as_functional
from kompakt.sites import is_graph

CLASSES, BINARY, NUMBERS = "classes", "binary", "numbers"
LOGITS, PROBABILITIES = "logits", "probabilities"
TASKS = (CLASSES, BINARY, NUMBERS)

PASSES = (
    keras.layers.Reshape, keras.layers.Flatten, keras.layers.Identity, keras.layers.Dropout, keras.layers.Permute,
)  # fmt: skip
"""Layers that hand on the values they get."""

ENDS = {"softmax": CLASSES, "sigmoid": BINARY, "log_softmax": CLASSES}
"""Last function of a model -> what its outputs are."""

LOSSES = {
    "SparseCategoricalCrossentropy": CLASSES,
    "CategoricalCrossentropy": CLASSES,
    "CategoricalFocalCrossentropy": CLASSES,
    "KLDivergence": CLASSES,
    "KlDivergence": CLASSES,  # as a word
    "Crossentropy": CLASSES,
    "BinaryCrossentropy": BINARY,
    "BinaryFocalCrossentropy": BINARY,
    "MeanSquaredError": NUMBERS,
    "MeanAbsoluteError": NUMBERS,
    "Huber": NUMBERS,
    "LogCosh": NUMBERS,
    "MeanAbsolutePercentageError": NUMBERS,
    "MeanSquaredLogarithmicError": NUMBERS,
    "Poisson": NUMBERS,
    "CosineSimilarity": NUMBERS,
}
"""Class of a compiled loss -> what it is a loss of."""


@dataclass(frozen=True, kw_only=True)
class Form:
    """What one output of a model is.

    Attributes:
        task: "classes" (of which one is right), "binary" (yes or no, each) or "numbers". holds: "logits",
            "probabilities" or "numbers". why: how it was told.

    Example:
        >>> m = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])
        >>> forms(m)[0].holds, forms(m)[0].why
        ('probabilities', 'it ends in a softmax')
    """

    task: str
    holds: str
    why: str
    guessed: bool = False


class Told(keras.Model):  # type: ignore[misc]
    """A model that says by itself what its outputs are.

    Attributes:
        told: one an output.
    """

    told: tuple[Form, ...] = ()


def forms(model: keras.Model, task: str | None = None) -> list[Form]:
    """What each output of ``model`` is: by its last function, else by its compiled loss, else by its width.

    Args:
        task: what the user says it is.
    """
    if isinstance(model, Told):
        return list(model.told)
    ends = last_functions(model)
    losses = _losses(model, len(ends))
    return [_form(end, loss, width, task) for (end, width), loss in zip(ends, losses, strict=True)]


def agreed(teacher: list[Form], student: list[Form]) -> list[tuple[Form, Form]]:
    """The forms of both models, output by output, of one task: what was told wins over what was guessed.

    Raises:
        InputError: they have different numbers of outputs, or tasks that were told differ.
    """
    if len(teacher) != len(student):
        raise InputError(f"the teacher has {len(teacher)} outputs, the student {len(student)}; expected as many")
    return [_settled(t, s) for t, s in zip(teacher, student, strict=True)]


def _settled(teacher: Form, student: Form) -> tuple[Form, Form]:
    if teacher.task == student.task:
        return teacher, student
    if teacher.guessed:
        return _as(teacher, student.task), student
    if student.guessed:
        return teacher, _as(student, teacher.task)
    raise InputError(
        f"the teacher's output is for {teacher.task} ({teacher.why}), the student's for {student.task} "
        f"({student.why}); give task= where that is wrong"
    )


def _as(form: Form, task: str) -> Form:
    """A form of a model without a last function, of another task."""
    return replace(form, task=task, holds=NUMBERS if task == NUMBERS else LOGITS)


def to_logits(values: Any, form: Form) -> Any:
    """Logits (or numbers, as they are) of an output: of probabilities their logarithms, or log-odds.

    Example:
        >>> p = Form(task="classes", holds="probabilities", why="")
        >>> z = to_logits(ops.array([[0.5, 0.25, 0.25]]), p)
        >>> [round(float(v), 3) for v in ops.softmax(z)[0]]
        [0.5, 0.25, 0.25]
    """
    if form.holds != PROBABILITIES:
        return values
    end = keras.config.epsilon()
    if form.task == CLASSES:
        return ops.log(ops.maximum(values, end))
    values = ops.clip(values, end, 1.0 - end)
    return ops.log(values) - ops.log(1.0 - values)


def last_functions(model: keras.Model) -> list[tuple[str | None, int | None]]:
    """(name of the last function or None, width) of each output: through nested models and layers that pass on.

    A subclassed model is followed where that can be done; else nothing is known of its outputs.
    """
    try:
        graph = model if is_graph(model) and not isinstance(model, keras.Sequential) else as_functional(model)
    except InputError:
        return [(None, None)] * _count(model)
    return [(_end(tensor), tensor.shape[-1] if len(tensor.shape) > 1 else 1) for tensor in graph.outputs]


def _count(model: keras.Model) -> int:
    """Outputs of a model that cannot be followed."""
    loss = getattr(model, "loss", None)
    return max(1, len(tree.flatten(loss)) if isinstance(loss, (list, tuple, dict)) else 1)


def _end(tensor: Any) -> str | None:
    """The last function before a symbolic tensor."""
    layer, node, place = tensor._keras_history
    inner = getattr(layer, "transformed_layer", layer)
    if is_graph(inner):
        return _end(as_functional(inner).outputs[place])
    activation = getattr(inner, "activation", None)
    if activation is not None:
        name = keras.activations.serialize(activation)
        name = name if isinstance(name, str) else getattr(activation, "__name__", "")
        passes = isinstance(inner, keras.layers.Activation) and name == "linear"
    else:
        name = type(inner).__name__.lower()
        passes = isinstance(inner, PASSES)
    if not passes:
        return None if name == "linear" else name
    given = inner_inputs(layer, node)
    return _end(given[0]) if given else None


def inner_inputs(layer: Any, node: int) -> list[Any]:
    """The symbolic tensors that a call of a layer was given."""
    nodes = layer._inbound_nodes
    return list(nodes[node].input_tensors) if node < len(nodes) else []


def _losses(model: keras.Model, count: int) -> list[Any]:
    given = getattr(model, "loss", None) if getattr(model, "compiled", False) else None
    found = tree.flatten(given) if isinstance(given, (list, tuple, dict)) else [given] * count
    return found if len(found) == count else [None] * count


def _form(end: str | None, loss: Any, width: int | None, task: str | None) -> Form:
    """Of an output whose last function is ``end``; ``width`` is None where the model cannot be followed."""
    if end in ENDS and task in (None, ENDS[end]):
        holds = LOGITS if end == "log_softmax" else PROBABILITIES
        return Form(task=ENDS[end], holds=holds, why=f"it ends in a {end}")
    name, from_logits = _of_loss(loss)
    told = task or LOSSES.get(name)
    why = "task= says so" if task else f"its loss is {name}"
    if told == NUMBERS:
        return Form(task=told, holds=NUMBERS, why=why)
    if told is not None:
        holds = LOGITS if width is not None or from_logits else PROBABILITIES
        return Form(task=told, holds=holds, why=why)
    if end is None and (width or 2) > 1:
        return Form(task=CLASSES, holds=LOGITS, why="it ends in no function and is more than one value", guessed=True)
    why = "it is one value" if end is None else f"it ends in {end}"
    return Form(task=NUMBERS, holds=NUMBERS, why=why, guessed=True)


def _of_loss(loss: Any) -> tuple[str, bool]:
    """(name of its class, whether it takes logits) of a compiled loss, as a word, a function or an object."""
    kind = keras.losses.get(loss) if isinstance(loss, str) else loss
    if kind is None:
        return "", True
    if isinstance(kind, keras.losses.Loss):
        return type(kind).__name__, bool(getattr(kind, "from_logits", True))
    return "".join(word.title() for word in str(getattr(kind, "__name__", "")).split("_")), False
