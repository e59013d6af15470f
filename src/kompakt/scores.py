"""Keras' metrics over outputs that are there already: the number, and where it is a mean a value for each sample."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from kompakt.errors import InputError, first_line

Array = np.ndarray[Any, Any]

TOGETHER = 1024
"""Samples that a metric is given at once."""

ACCURACY = ("accuracy", "acc")
"""What ``compile`` takes for the accuracy of whatever labels there are."""

ACCURACIES = (
    keras.metrics.BinaryAccuracy,
    keras.metrics.SparseCategoricalAccuracy,
    keras.metrics.CategoricalAccuracy,
)
"""Of one output value, of class numbers, of one-hot rows."""


RIGHT_OR_WRONG = (
    keras.metrics.Accuracy,
    keras.metrics.BinaryAccuracy,
    keras.metrics.CategoricalAccuracy,
    keras.metrics.SparseCategoricalAccuracy,
    keras.metrics.TopKCategoricalAccuracy,
    keras.metrics.SparseTopKCategoricalAccuracy,
)
"""Metrics that are the share of samples that are right."""


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """One metric of one output.

    Attributes:
        name: with the output's before it where there are several. output: number of the output.

    Example:
        >>> y, p = np.array([1, 0]), np.array([[0.1, 0.9], [0.2, 0.8]])
        >>> accuracy = scorer("accuracy", y, p)
        >>> accuracy.value(y, p), accuracy.each(y, p).tolist()
        (0.5, [1.0, 0.0])
    """

    name: str
    metric: keras.metrics.Metric
    output: int = 0

    @property
    def right_or_wrong(self) -> bool:
        """Whether each sample is one or the other: an accuracy. A mean squared error of 0 or 1 is no share."""
        return isinstance(self.metric, RIGHT_OR_WRONG)

    def value(self, labels: Array, outputs: Array) -> float:
        """What Keras computes, batch by batch.

        Raises:
            InputError: the metric does not take such labels or outputs, or gives no number.
        """
        try:
            with self._taking(labels, outputs):
                self.metric.reset_state()
                for start in range(0, len(outputs), TOGETHER):
                    self.metric.update_state(labels[start : start + TOGETHER], outputs[start : start + TOGETHER])
                found = np.asarray(keras.ops.convert_to_numpy(self.metric.result()), "float64")
        finally:
            self.metric.reset_state()
        if found.ndim:
            raise InputError(f"metric {self.name!r}: gives {found.size} numbers, expected one; give an average of them")
        return float(found)

    def measured(self, labels: Array, outputs: Array) -> tuple[float, Array | None]:
        """(the metric, its value of each sample): where these are there their mean, which is more exact than Keras'.

        Raises:
            InputError: as :meth:`value`.
        """
        each = self.each(labels, outputs)
        return (self.value(labels, outputs) if each is None else float(each.mean())), each

    def each(self, labels: Array, outputs: Array) -> Array | None:
        """The metric of each sample, (samples,) float64; None where it is no mean over samples.

        Raises:
            InputError: as :meth:`value`.
        """
        function = getattr(self.metric, "_fn", None)
        if not isinstance(self.metric, keras.metrics.MeanMetricWrapper) or function is None:
            return None
        kept = self.metric._fn_kwargs
        rows = []
        for start in range(0, len(outputs), TOGETHER):
            few = slice(start, start + TOGETHER)
            with self._taking(labels, outputs):
                made = np.asarray(keras.ops.convert_to_numpy(function(labels[few], outputs[few], **kept)), "float64")
            if not made.ndim or len(made) != len(outputs[few]):
                return None
            rows.append(made.reshape(len(made), -1).mean(-1))
        values = np.concatenate(rows)
        whole = self.value(labels, outputs)  # a wrapper that does more than to take the mean is found out by it
        return values if math.isclose(float(values.mean()), whole, rel_tol=1e-4, abs_tol=1e-6) else None

    @contextmanager
    def _taking(self, labels: Array, outputs: Array) -> Iterator[None]:
        """Whatever a metric, which may be anybody's function, raises in it is one InputError."""
        try:
            yield
        except Exception as error:
            raise InputError(
                f"metric {self.name!r}: does not take labels of shape {labels.shape} and outputs of shape "
                f"{outputs.shape} ({first_line(error)}); give another metric, or labels in the form that it takes"
            ) from error


def scorer(metric: Any, labels: Array, outputs: Array, *, output: int = 0, prefix: str = "") -> Scorer:
    """A metric as ``compile`` takes it: a name, a class, an instance, a loss, or a function of labels and outputs.

    Args:
        labels, outputs: by their shapes "accuracy" is the one for them, as in ``compile``.

    Raises:
        InputError: Keras has no such metric.

    Example:
        >>> scorer("mse", np.zeros(2), np.zeros((2, 1))).name
        'mse'
    """
    made = _metric(metric, labels, outputs)
    name = metric if isinstance(metric, str) else str(made.name)
    return Scorer(name=prefix + name, metric=made, output=output)


def _metric(metric: Any, labels: Array, outputs: Array) -> keras.metrics.Metric:
    if isinstance(metric, str) and metric.lower() in ACCURACY:
        return ACCURACIES[_form(labels, outputs)](name=metric)
    try:
        found = keras.metrics.get(metric) if isinstance(metric, str) else metric
        found = found() if inspect.isclass(found) else found
    except (ValueError, TypeError) as error:
        raise InputError(
            f"metric {metric!r}: Keras has none of that name that needs nothing else ({first_line(error)}); give an "
            "instance of keras.metrics, or a name such as 'accuracy', 'mse' or 'AUC'"
        ) from None
    if isinstance(found, keras.losses.Loss):
        return keras.metrics.MeanMetricWrapper(found.call, name=found.name)
    if isinstance(found, keras.metrics.Metric):
        return found
    if callable(found):
        return keras.metrics.MeanMetricWrapper(found, name=getattr(found, "__name__", type(found).__name__))
    raise InputError(f"metric {metric!r}: expected a name, an instance or a function, received {type(metric).__name__}")


def _form(labels: Array, outputs: Array) -> int:
    """The place in :data:`ACCURACIES`, as Keras tells it."""
    if outputs.ndim < 2 or outputs.shape[-1] == 1:
        return 0
    return 1 if labels.ndim < outputs.ndim or labels.shape[-1] == 1 else 2


def by_output(metrics: Any, names: Sequence[str], usual: Callable[[int], Sequence[Any]]) -> list[list[Any]]:
    """``metrics`` as one list for each output.

    Args:
        metrics: None for the usual ones; of one output a metric or a list of them; of several a list with an entry an
            output, or a mapping by the names of outputs.
        usual: number of an output -> what it has where none are given.

    Raises:
        InputError: an output of that name, or so many, there are not.

    Example:
        >>> by_output({"b": "mse"}, ["a", "b"], lambda i: [])
        [[], ['mse']]
    """
    if metrics is None:
        return [list(usual(i)) for i in range(len(names))]
    if isinstance(metrics, Mapping):
        unknown = [key for key in metrics if key not in names]
        if unknown:
            raise InputError(f"metrics={metrics!r}: no output {unknown[0]!r}; expected {', '.join(map(repr, names))}")
        return [_listed(metrics.get(name, [])) for name in names]
    if len(names) == 1:
        return [_listed(metrics)]
    if not isinstance(metrics, (list, tuple)) or len(metrics) != len(names):
        raise InputError(
            f"metrics={metrics!r}: there are {len(names)} outputs, expected a list with an entry for each, or a "
            f"mapping by their names: {', '.join(map(repr, names))}"
        )
    return [_listed(each) for each in metrics]


def _listed(metrics: Any) -> list[Any]:
    return list(metrics) if isinstance(metrics, (list, tuple)) else [metrics]
