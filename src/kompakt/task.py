"""What a model is trained and judged by: its loss, its metric, and data in the form that it takes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from kompakt.data import Data, check_data
from kompakt.distillation.outputs import PROBABILITIES, forms
from kompakt.errors import InputError
from kompakt.graph import as_functional, symbolic_inputs
from kompakt.scores import ACCURACY, scorer


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a model is trained and judged by.

    Attributes:
        loss: Keras loss. metric: name of the metric; lower is better unless it is "accuracy".
        probabilities: whether a single output is one, so that the class is 1 above a half; else above 0, of a logit.
        values: shape of a sample's labels where they are numbers of an output with as many, or None.

    Example:
        >>> Task(loss="mse", metric="accuracy").score([np.array([[0.1, 0.9], [0.8, 0.2]])], [1, 1])
        0.5
    """

    loss: Any
    metric: str
    probabilities: bool = True
    values: tuple[int, ...] | None = None

    @property
    def judged_by(self) -> Any:
        """The metric as :func:`kompakt.evaluate` takes it."""
        return self.metric if self.metric == "accuracy" else keras.metrics.MeanAbsoluteError(name=self.metric)

    def labels(self, given: Any) -> np.ndarray:
        """Labels, (samples, ...), in the form in which the metric takes them."""
        found = np.asarray(given)
        return found if self.values is None else found.reshape(len(found), *self.values)

    def score(self, outputs: Sequence[np.ndarray], labels: Any) -> float:
        """The metric of ``outputs`` (one array an output) against ``labels``, as :func:`kompakt.evaluate` has it."""
        found, wanted = np.asarray(outputs[0]), self.labels(labels)
        judged_by = by_form(self.judged_by, wanted, found, self.probabilities)[0]
        return scorer(judged_by, wanted, found).measured(wanted, found)[0]


def data_for(model: keras.Model, data: Data, output_units: int | None = None) -> Data:
    """``data`` checked against what ``model`` takes, with several inputs in the structure that it takes them in.

    Raises:
        InputError: the model cannot be trained or tested on it.
    """
    inputs = symbolic_inputs(model)
    several = isinstance(inputs, (list, tuple))
    named = {t.name: t for t in inputs} if several else inputs
    if isinstance(named, dict) and len(named) == 1 and not isinstance(data.x_train, Mapping):
        named, several = next(iter(named.values())), False  # keras.Model([x], y): one array is its only input
    shapes = {key: t.shape for key, t in named.items()} if isinstance(named, dict) else named.shape
    check_data(data, shapes, output_units)
    return _each_x(data, lambda x: [x[t.name] for t in inputs]) if several else data


def _each_x(data: Data, change: Callable[[Any], Any]) -> Data:
    """``data`` with the inputs of each split changed."""
    splits = ("x_train", "x_test", "x_val")
    found: dict[str, Any] = {key: change(x) for key in splits if (x := getattr(data, key)) is not None}
    return dataclasses.replace(data, **found)


def one_output(model: keras.Model) -> Any:
    """The output of ``model``; several are an InputError."""
    outputs = as_functional(model).outputs
    if len(outputs) != 1:
        raise InputError(
            f"the model {model.name!r} has {len(outputs)} outputs, optimize scores one: use kompakt.quantize, "
            "fit and kompakt.export"
        )
    return outputs[0]


def task_for(model: keras.Model, data: Data, loss: Any = None) -> Task:
    """Loss and metric: the given or compiled loss, else the usual one for the labels."""
    if isinstance(data.y_train, Mapping):
        raise InputError(f"{data.source}: y_train is a mapping, the model has one output; give one array of labels")
    labels, shape = np.asarray(data.y_train), one_output(model).shape
    probabilities = forms(model)[0].holds == PROBABILITIES
    kind, values = kind_of(labels, shape), None
    if kind == VALUES:
        _check_values_a_sample(data.source, labels, shape)
        values = None if None in shape[1:] else tuple(shape[1:])
        metric, usual = "mean absolute error", keras.losses.MeanSquaredError()
    else:
        metric, usual = "accuracy", LOSS_OF[kind](from_logits=not probabilities)
    if loss is None:
        loss = model.loss if getattr(model, "compiled", False) else None
    return Task(loss=usual if loss is None else loss, metric=metric, probabilities=probabilities, values=values)


NUMBERS_OF_CLASSES, ONE_HOT, BINARY, VALUES = "class numbers", "one-hot rows", "yes or no", "values"
"""What labels may be."""

GUESSED = "all outputs lie between 0 and 1 and are taken for probabilities: the class is 1 above a half"

LOSS_OF = {
    NUMBERS_OF_CLASSES: keras.losses.SparseCategoricalCrossentropy,
    ONE_HOT: keras.losses.CategoricalCrossentropy,
    BINARY: keras.losses.BinaryCrossentropy,
}


def kind_of(labels: np.ndarray, shape: Sequence[int | None]) -> str:
    """What ``labels``, (samples, ...), are to an output of ``shape``, the batch axis first.

    Example:
        >>> kind_of(np.array([3, 1]), (None, 10)), kind_of(np.array([0, 1]), (None, 1))
        ('class numbers', 'yes or no')
    """
    outputs = int(shape[-1] or 0) if len(shape) > 1 else 1
    whole = labels.dtype.kind in "iub" or bool((labels == np.round(labels)).all())
    alone = labels.ndim == len(shape) - 1 or (labels.ndim == len(shape) and labels.shape[-1] == 1)
    if outputs > 1 and alone and whole:
        return NUMBERS_OF_CLASSES
    if outputs > 1 and labels.ndim == len(shape) and labels.shape[-1] == outputs and _one_hot(labels):
        return ONE_HOT
    return BINARY if outputs == 1 and whole and set(np.unique(labels)) <= {0, 1} else VALUES


def by_form(
    metric: Any, labels: np.ndarray, outputs: np.ndarray, probabilities: bool | None
) -> tuple[Any, tuple[str, ...]]:
    """(the metric, where it is "accuracy" of yes or no with its threshold; what is to be said of that).

    Keras' own "accuracy" has a threshold of a half, which of logits is an arbitrary one.

    Args:
        labels, outputs: (samples, ...). probabilities: whether the outputs are these; None where nobody knows, and they
            are taken for it if all lie between 0 and 1.

    Example:
        >>> made, _ = by_form("accuracy", np.array([0, 1]), np.array([[-2.0], [0.3]]), None)
        >>> float(made(np.array([[0], [1]]), np.array([[-2.0], [0.3]])))
        1.0
    """
    is_name = isinstance(metric, str) and metric.lower() in ACCURACY
    if not is_name or kind_of(labels, (None, *outputs.shape[1:])) != BINARY:
        return metric, ()
    guessed = probabilities is None and bool(((outputs >= 0) & (outputs <= 1)).all())
    threshold = 0.5 if probabilities or guessed else 0.0
    return keras.metrics.BinaryAccuracy(name=metric, threshold=threshold), (GUESSED,) if guessed else ()


def _check_values_a_sample(source: str, labels: np.ndarray, shape: Sequence[int | None]) -> None:
    sizes = [n for n in shape[1:] if n is not None]
    if len(sizes) == len(shape) - 1 and math.prod(labels.shape[1:]) != math.prod(sizes):
        raise InputError(
            f"{source}: y_train has samples of shape {labels.shape[1:]}, the model's output {tuple(shape[1:])}; "
            "expected as many values in both"
        )


def _one_hot(labels: np.ndarray) -> bool:
    return bool(((labels == 0) | (labels == 1)).all() and (labels.sum(-1) == 1).all())
