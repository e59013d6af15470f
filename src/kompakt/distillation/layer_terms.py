"""Terms that compare layers inside the models: hints, attention, relations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kompakt.distillation import losses
from kompakt.distillation.terms import FEATURES, PLACES, Term, Weight, check_number
from kompakt.errors import InputError


class LayerTerm(Term):
    """A term that compares a layer of the student's with one of the teacher's.

    Args:
        student_layer, teacher_layer: names; by default the usual one (:func:`feature_layer`).
    """

    compares = FEATURES

    def __init__(
        self, student_layer: str | None = None, teacher_layer: str | None = None, *, weight: Weight = 1.0
    ) -> None:
        super().__init__(weight=weight)
        self.student_layer_name, self.teacher_layer_name = student_layer, teacher_layer

    def get_config(self) -> dict[str, Any]:
        mine = {"student_layer": self.student_layer_name, "teacher_layer": self.teacher_layer_name}
        return {**super().get_config(), **mine}

    def projection(self, teacher: Sequence[int], student: Sequence[int]) -> Any:
        """A layer, not built, that brings the student's features to the teacher's width; None for none.

        Args:
            teacher, student: shapes with the batch.
        """


@keras.saving.register_keras_serializable(package="kompakt")
class Hints(LayerTerm):
    """The teacher's features: Romero et al. 2015 (:func:`kompakt.distillation.losses.squared_error`).

    Where the widths differ a linear projection of the student's, over the last axis, is learned along; it is no part
    of the student. Where the places differ, the larger features are averaged.

    Args:
        student_layer, teacher_layer: names; by default the last layers with places, or the last but one.
        weight: factor or schedule.

    Raises:
        InputError: a number is out of range; later, a layer is unknown or the features cannot be compared.

    Example:
        >>> Hints("block2", "stage3", weight=0.1).student_layer_name
        'block2'
    """

    name = "hints"

    def projection(self, teacher: Sequence[int], student: Sequence[int]) -> Any:
        if teacher[-1] == student[-1]:
            return None
        return keras.layers.Dense(teacher[-1], use_bias=False, name=f"{self.name}_projection")

    def compute_loss(self, teacher_outputs: Any, student_outputs: Any, **known: Any) -> Any:
        values = losses.squared_error(*same_places(teacher_outputs, student_outputs))
        return losses.mean_over(values, one_weight(known["weights"]), mask_of(values, known["masks"]))


@keras.saving.register_keras_serializable(package="kompakt")
class Attention(LayerTerm):
    """Where the teacher looks: Zagoruyko and Komodakis 2017 (:func:`kompakt.distillation.losses.attention_transfer`).

    Args:
        student_layer, teacher_layer: names of layers whose outputs have places, (batch, ..., channels); by default
            the last such. power: of the activations. weight: factor or schedule; the paper's are near 1000 over the
            number of places.

    Raises:
        InputError: a number is out of range; later, a layer is unknown or has no places.

    Example:
        >>> Attention(weight=10.0).compares
        'places'
    """

    name = "attention"
    compares = PLACES

    def __init__(
        self,
        student_layer: str | None = None,
        teacher_layer: str | None = None,
        *,
        power: float = 2.0,
        weight: Weight = 1.0,
    ) -> None:
        super().__init__(student_layer, teacher_layer, weight=weight)
        self.power = check_number("Attention(power", power, over=0.0)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "power": self.power}

    def compute_loss(self, teacher_outputs: Any, student_outputs: Any, **known: Any) -> Any:
        teacher, student = unpadded(same_places(teacher_outputs, student_outputs), known["masks"])
        values = losses.attention_transfer(teacher, student, self.power)
        return losses.mean_over(values, one_weight(known["weights"]))


@keras.saving.register_keras_serializable(package="kompakt")
class Relational(LayerTerm):
    """How the samples of a batch lie to each other: Park et al. 2019
    (:func:`kompakt.distillation.losses.relational_distance` and ``relational_angle``).

    Args:
        student_layer, teacher_layer: names; by default the last layers with places, or the last but one.
        distance, angle: factors of both parts; the paper has 25 and 50 beside a loss of labels, 1 and 2 between
            them. weight: factor or schedule.

    Raises:
        InputError: a number is out of range; later, a layer is unknown.

    Example:
        >>> Relational(angle=0.0).get_config()["distance"]
        1.0
    """

    name = "relational"

    def __init__(
        self,
        student_layer: str | None = None,
        teacher_layer: str | None = None,
        *,
        distance: float = 1.0,
        angle: float = 2.0,
        weight: Weight = 1.0,
    ) -> None:
        super().__init__(student_layer, teacher_layer, weight=weight)
        self.distance = check_number("Relational(distance", distance, least=0.0)
        self.angle = check_number("Relational(angle", angle, least=0.0)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "distance": self.distance, "angle": self.angle}

    def compute_loss(self, teacher_outputs: Any, student_outputs: Any, **known: Any) -> Any:
        weight = one_weight(known["weights"])
        teacher, student = unpadded((teacher_outputs, student_outputs), known["masks"])
        total: Any = 0.0
        if self.distance:
            total = total + self.distance * losses.relational_distance(teacher, student, weight)
        if self.angle:
            total = total + self.angle * losses.relational_angle(teacher, student, weight)
        return total


def one_weight(weights: Sequence[Any]) -> Any:
    """The weight a sample of features: of several outputs that of the first that has one, of its places their mean.

    Example:
        >>> ops.convert_to_numpy(one_weight([None, ops.array([[0.0, 1.0], [2.0, 2.0]])])).tolist()
        [0.5, 2.0]
    """
    found = next((w for w in weights if w is not None), None)
    if found is None:
        return None
    flat = ops.reshape(ops.cast(found, "float32"), (ops.shape(found)[0], -1))
    return ops.mean(flat, axis=-1)


def mask_of(values: Any, masks: Sequence[Any]) -> Any:
    """The student's mask where it is one of the places of ``values``, (batch, ...); else None."""
    (mask,) = masks
    sizes = [] if mask is None else list(zip(mask.shape, values.shape, strict=False))
    return (
        mask
        if sizes and len(mask.shape) == len(sizes) and all(None in pair or len(set(pair)) == 1 for pair in sizes)
        else None
    )


def unpadded(both: Sequence[Any], masks: Sequence[Any]) -> tuple[Any, Any]:
    """The teacher's and the student's features, (batch, ..., channels), with zeros at the places that are padding."""
    found = [(features, mask_of(features[..., 0], masks)) for features in both]
    teacher, student = (
        x if mask is None else x * ops.expand_dims(ops.cast(mask, x.dtype), -1) for x, mask in found
    )  # fmt: skip
    return teacher, student


def same_places(teacher: Any, student: Any) -> tuple[Any, Any]:
    """Both features at the same places: those with more are averaged, or resized where that does not divide.

    Args:
        teacher, student: (batch, ..., channels), of as many axes.

    Raises:
        InputError: the axes differ in number.

    Example:
        >>> a, b = same_places(ops.ones((1, 4, 4, 3)), ops.ones((1, 2, 2, 5)))
        >>> tuple(a.shape), tuple(b.shape)
        ((1, 2, 2, 3), (1, 2, 2, 5))
    """
    if len(teacher.shape) != len(student.shape):
        raise InputError(
            f"features of {tuple(teacher.shape)} and {tuple(student.shape)} cannot be compared: expected as many axes; "
            "name other layers with teacher_layer= and student_layer="
        )
    for axis in range(1, len(teacher.shape) - 1):
        if teacher.shape[axis] is None or teacher.shape[axis] != student.shape[axis]:
            count = _lesser(ops.shape(teacher)[axis], ops.shape(student)[axis])
            teacher, student = _fewer(teacher, axis, count), _fewer(student, axis, count)
    return teacher, student


def _lesser(a: Any, b: Any) -> Any:
    return min(a, b) if isinstance(a, int) and isinstance(b, int) else ops.minimum(a, b)


def _fewer(x: Any, axis: int, count: Any) -> Any:
    """The means over ``count`` nearly equal parts of an axis, whose length may be told only when the step runs."""
    size = ops.shape(x)[axis]
    if isinstance(size, int) and isinstance(count, int):
        return x if size == count else _means(x, axis, size, count)
    return ops.cond(ops.equal(size, count), lambda: x, lambda: _means(x, axis, size, count))


def _means(x: Any, axis: int, size: Any, count: Any) -> Any:
    """By a matrix product."""
    part, place = ops.arange(count), ops.expand_dims(ops.arange(size), -1)
    low, high = part * size // count, -(-(part + 1) * size // count)
    share = 1.0 / ops.cast(high - low, x.dtype)
    rows = ops.where(ops.logical_and(low <= place, place < high), share, ops.zeros_like(share))
    return ops.moveaxis(ops.matmul(ops.moveaxis(x, axis, -1), rows), -1, axis)
