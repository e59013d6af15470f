"""Whether teacher, student and terms fit each other, and the loss of labels that fits an output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from kompakt.distillation.capture import places
from kompakt.distillation.outputs import BINARY, CLASSES, LOGITS, Form
from kompakt.distillation.terms import PLACES
from kompakt.errors import InputError
from kompakt.sites import check_built


@keras.saving.register_keras_serializable(package="kompakt")
class Crossentropy(keras.losses.Loss):  # type: ignore[misc]
    """Cross-entropy of class numbers or of one-hot labels, whichever come.

    Args:
        from_logits: whether predictions are logits.

    Example:
        >>> loss = Crossentropy(from_logits=True)
        >>> z = keras.ops.array([[2.0, 0.0]])
        >>> round(float(loss(keras.ops.array([0]), z)), 4), round(float(loss(keras.ops.array([[1.0, 0.0]]), z)), 4)
        (0.1269, 0.1269)
    """

    def __init__(self, from_logits: bool = False, name: str = "crossentropy", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.from_logits = from_logits

    @staticmethod
    def of(form: Form) -> keras.losses.Loss:
        """The usual loss of labels for an output."""
        logits = form.holds == LOGITS
        if form.task == CLASSES:
            return Crossentropy(from_logits=logits)
        return keras.losses.BinaryCrossentropy(from_logits=logits) if form.task == BINARY else (
            keras.losses.MeanSquaredError()
        )  # fmt: skip

    def call(self, y_true: Any, y_pred: Any) -> Any:
        whole = len(y_true.shape) == len(y_pred.shape) and y_true.shape[-1] == y_pred.shape[-1]
        kind = keras.losses.categorical_crossentropy if whole else keras.losses.sparse_categorical_crossentropy
        return kind(y_true, y_pred, from_logits=self.from_logits)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "from_logits": self.from_logits}


def check_models(teacher: Any, student: Any) -> None:
    """Raise an InputError where one is no built model, or both do not fit each other."""
    for model, whose in ((student, "student"), (teacher, "teacher")):
        if not isinstance(model, keras.Model):
            raise InputError(f"{whose}={model!r}: expected a Keras model")
        check_built(model)
    _check_shapes(teacher, student)


def _check_shapes(teacher: keras.Model, student: keras.Model) -> None:
    """Raise an InputError where both models do not take and make the same shapes, as far as these are known."""
    for side, verb in (("inputs", "takes"), ("outputs", "makes")):
        both = [[tuple(t.shape[1:]) for t in getattr(model, side, None) or ()] for model in (teacher, student)]
        if not all(both) or (side == "outputs" and len(both[0]) != len(both[1])):
            continue
        if len(both[0]) != len(both[1]) or not all(map(_fit, *both)):
            raise InputError(
                f"the teacher {verb} {', '.join(map(str, both[0]))} a sample, the student "
                f"{', '.join(map(str, both[1]))}; expected the same"
            )


def check_made(teacher: Sequence[Any], student: Sequence[Any], count: int) -> None:
    """Raise an InputError where the outputs of a batch are not ``count`` of the same shapes: subclassed models."""
    both = [[tuple(each.shape[1:]) for each in made] for made in (teacher, student)]
    if not len(both[0]) == len(both[1]) == count or not all(map(_fit, *both)):
        raise InputError(
            f"the teacher makes {', '.join(map(str, both[0]))} a sample, the student {', '.join(map(str, both[1]))}; "
            f"expected {count} of the same shapes"
        )


def _fit(one: Sequence[int | None], other: Sequence[int | None]) -> bool:
    return len(one) == len(other) and all(a is None or b is None or a == b for a, b in zip(one, other, strict=True))


def check_features(term: Any, pair: tuple[str, str], teacher: Sequence[int], student: Sequence[int]) -> None:
    """Raise an InputError where a term cannot compare features of these shapes."""
    kind = type(term).__name__
    if term.compares == PLACES and min(places(teacher), places(student)) < 2:
        raise InputError(
            f"{kind} compares places: {pair[0]!r} of the teacher makes {tuple(teacher)}, {pair[1]!r} of the student "
            f"{tuple(student)}; expected (batch, ..., channels) with more than one place"
        )
    if len(teacher) != len(student) and term.name != "relational":
        raise InputError(
            f"{kind}: {pair[0]!r} of the teacher makes {tuple(teacher)}, {pair[1]!r} of the student {tuple(student)}; "
            "expected as many axes"
        )
