"""What a model is trained and judged by: its loss, its metric, and data in the form that it takes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from kompakt.data import Data, check_data
from kompakt.distillation.outputs import last_functions
from kompakt.errors import InputError
from kompakt.graph import as_functional, symbolic_inputs


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a model is trained and judged by.

    Attributes:
        loss: Keras loss. metric: name of the metric; lower is better unless it is "accuracy".
        threshold: of a single output, above which the class is 1: 0 for logits, else a half.

    Example:
        >>> Task(loss="mse", metric="accuracy").score([np.array([[0.1, 0.9], [0.8, 0.2]])], [1, 1])
        0.5
    """

    loss: Any
    metric: str
    threshold: float = 0.5

    def score(self, outputs: Sequence[np.ndarray], labels: Any) -> float:
        """The metric of ``outputs`` (one array an output) against ``labels``: class numbers, one-hot or values."""
        return float(self.each(outputs, labels).mean())

    def each(self, outputs: Sequence[np.ndarray], labels: Any) -> np.ndarray:
        """The metric of each sample, (samples,): their mean is :meth:`score`."""
        values = np.asarray(self._values(outputs, labels), "float64")
        return values.reshape(len(np.asarray(labels)), -1).mean(1)

    def _values(self, outputs: Sequence[np.ndarray], labels: Any) -> np.ndarray:
        found, wanted = np.asarray(outputs[0]), np.asarray(labels)
        if self.metric != "accuracy":
            return np.abs(found.reshape(wanted.shape) - wanted)
        if found.ndim < 2 or found.shape[-1] < 2:
            return (found.ravel() > self.threshold) == (wanted.ravel() > 0.5)
        classes = wanted.argmax(-1) if wanted.shape == found.shape else wanted.reshape(found.shape[:-1])
        return np.asarray(found.argmax(-1) == classes)


def data_for(model: keras.Model, data: Data, output_units: int | None = None) -> Data:
    """``data`` checked against what ``model`` takes, with several inputs in the structure that it takes them in.

    Raises:
        InputError: the model cannot be trained or tested on it.
    """
    inputs = symbolic_inputs(model)
    several = isinstance(inputs, (list, tuple))
    named = {t.name: t for t in inputs} if several else inputs
    shapes = {key: t.shape for key, t in named.items()} if isinstance(named, dict) else named.shape
    check_data(data, shapes, output_units)
    if not several:
        return data
    ordered: dict[str, Any] = {
        key: [getattr(data, key)[t.name] for t in inputs]
        for key in ("x_train", "x_test", "x_val")
        if getattr(data, key) is not None
    }
    return dataclasses.replace(data, **ordered)


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
    logits = last_functions(model)[0][0] not in ("softmax", "sigmoid")
    kind = kind_of(labels, shape)
    if kind == VALUES:
        _check_values_a_sample(data.source, labels, shape)
        metric, usual = "mean absolute error", keras.losses.MeanSquaredError()
    else:
        metric, usual = "accuracy", LOSS_OF[kind](from_logits=logits)
    if loss is None:
        loss = model.loss if getattr(model, "compiled", False) else None
    return Task(loss=usual if loss is None else loss, metric=metric, threshold=0.0 if logits else 0.5)


NUMBERS_OF_CLASSES, ONE_HOT, BINARY, VALUES = "class numbers", "one-hot rows", "yes or no", "values"
"""What labels may be."""

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


def _check_values_a_sample(source: str, labels: np.ndarray, shape: Sequence[int | None]) -> None:
    sizes = [n for n in shape[1:] if n is not None]
    if len(sizes) == len(shape) - 1 and math.prod(labels.shape[1:]) != math.prod(sizes):
        raise InputError(
            f"{source}: y_train has samples of shape {labels.shape[1:]}, the model's output {tuple(shape[1:])}; "
            "expected as many values in both"
        )


def _one_hot(labels: np.ndarray) -> bool:
    return bool(((labels == 0) | (labels == 1)).all() and (labels.sum(-1) == 1).all())
