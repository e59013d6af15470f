"""The terms of a distillation's loss, each with its weight and the layers that it compares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from kompakt import schedules
from kompakt.distillation import losses
from kompakt.distillation.outputs import BINARY, CLASSES, Form
from kompakt.errors import InputError

OUTPUTS = "outputs"
"""What a term compares: what the models make, or a layer's features with places, or any layer's features."""

PLACES, FEATURES = "places", "features"

Weight = float | schedules.Schedule


class Term(keras.distillation.DistillationLoss):  # type: ignore[misc]
    """A part of the loss that says how far the student is from the teacher.

    Args:
        weight: factor, or a schedule of it over the training steps.

    Attributes:
        name: in the logs. compares: "outputs", "places" or "features".
    """

    name = "term"
    compares = OUTPUTS
    labelled = False
    """Whether it needs labels."""

    teacher_layer_name: str | None = None
    student_layer_name: str | None = None

    def __init__(self, *, weight: Weight = 1.0) -> None:
        self.weight = schedules.from_config(weight) if isinstance(weight, Mapping) else weight
        if not isinstance(self.weight, schedules.Schedule):
            check_number(f"{type(self).__name__}(weight", self.weight, least=0.0)

    def weight_at(self, step: int) -> float:
        """The factor at a training step."""
        return float(self.weight(step)) if isinstance(self.weight, schedules.Schedule) else float(self.weight)

    def get_config(self) -> dict[str, Any]:
        scheduled = isinstance(self.weight, schedules.Schedule)
        return {"weight": self.weight.to_config() if scheduled else self.weight}  # type: ignore[union-attr]

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Term:
        return cls(**config)

    def check(self, forms: Sequence[tuple[Form, Form]]) -> None:
        """Raise an InputError where the term has no meaning for such outputs."""

    def compute_loss(self, teacher_outputs: Any, student_outputs: Any, **known: Any) -> Any:
        """A number.

        Args:
            teacher_outputs, student_outputs: lists of logits, one an output, or two tensors of features.
            known: ``forms`` of the outputs, ``labels`` and ``weights``, lists as long as the outputs, of which an
                item may be None; ``masks`` of the student's outputs, or in a list the one of its features.
        """
        raise NotImplementedError


@keras.saving.register_keras_serializable(package="kompakt")
class SoftTargets(Term):
    """The teacher's softened predictions: Hinton et al. 2015 (:func:`kompakt.distillation.losses.soft_targets`).

    Outputs that are yes or no each are compared one by one, numbers of a regression by their squared error.

    Args:
        temperature: over 0; 1 to 20. weight: factor or schedule.

    Raises:
        InputError: a number is out of range.

    Example:
        >>> SoftTargets(temperature=2.0).get_config()
        {'weight': 1.0, 'temperature': 2.0}
    """

    name = "soft_targets"

    def __init__(self, temperature: float = 4.0, *, weight: Weight = 1.0) -> None:
        super().__init__(weight=weight)
        self.temperature = check_number("SoftTargets(temperature", temperature, over=0.0)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "temperature": self.temperature}

    def compute_loss(self, teacher_outputs: Any, student_outputs: Any, **known: Any) -> Any:
        return sum(
            losses.mean_over(self._values(form.task, t, s), weight, mask)
            for (form, _), t, s, weight, mask in zip(
                known["forms"], teacher_outputs, student_outputs, known["weights"], known["masks"], strict=True
            )
        )

    def _values(self, task: str, teacher: Any, student: Any) -> Any:
        if task == CLASSES:
            return losses.soft_targets(teacher, student, self.temperature)
        if task == BINARY:
            return losses.binary_soft_targets(teacher, student, self.temperature)
        return losses.squared_error(teacher, student)


@keras.saving.register_keras_serializable(package="kompakt")
class Decoupled(Term):
    """Target and other classes apart: Zhao et al. 2022 (:func:`kompakt.distillation.losses.decoupled`).

    Args:
        alpha: factor of the target's share. beta: of the others. temperature: over 0. weight: factor or schedule.

    Raises:
        InputError: a number is out of range.

    Example:
        >>> Decoupled(beta=4.0).beta
        4.0
    """

    name = "decoupled"
    labelled = True

    def __init__(
        self, alpha: float = 1.0, beta: float = 8.0, temperature: float = 4.0, *, weight: Weight = 1.0
    ) -> None:
        super().__init__(weight=weight)
        self.alpha = check_number("Decoupled(alpha", alpha, least=0.0)
        self.beta = check_number("Decoupled(beta", beta, least=0.0)
        self.temperature = check_number("Decoupled(temperature", temperature, over=0.0)

    def get_config(self) -> dict[str, Any]:
        mine = {"alpha": self.alpha, "beta": self.beta, "temperature": self.temperature}
        return {**super().get_config(), **mine}

    def check(self, forms: Sequence[tuple[Form, Form]]) -> None:
        if not any(form.task == CLASSES for form, _ in forms):
            raise InputError("Decoupled is for classes of which one is right; expected an output of that kind")

    def compute_loss(self, teacher_outputs: Any, student_outputs: Any, **known: Any) -> Any:
        total: Any = 0.0
        for (form, _), t, s, labels, weight, mask in zip(
            known["forms"], teacher_outputs, student_outputs, known["labels"], known["weights"], known["masks"],
            strict=True,
        ):  # fmt: skip
            if form.task == CLASSES:
                options = {"alpha": self.alpha, "beta": self.beta, "temperature": self.temperature}
                total = total + losses.mean_over(losses.decoupled(t, s, labels, **options), weight, mask)
        return total


def check_number(what: str, value: Any, *, least: float | None = None, over: float | None = None) -> float:
    """``value`` as a float within its bounds.

    Args:
        what: the call up to the name of the argument, for the error.

    Raises:
        InputError: it is no number, or out of bounds.
    """
    wanted = f"a number of {least:g} or more" if least is not None else f"a number over {over:g}"
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and value == value and abs(value) < 1e30
    if not good or (least is not None and value < least) or (over is not None and value <= over):
        raise InputError(f"{what}={value!r}): expected {wanted}")
    return float(value)


def check_share(alpha: Any) -> Weight:
    """``alpha`` as a share from 0 to 1 or a schedule, from a mapping too.

    Raises:
        InputError: it is neither.

    Example:
        >>> check_share({"name": "Constant", "value": 0.5})(0)
        0.5
    """
    if isinstance(alpha, Mapping):
        return schedules.from_config(alpha)
    if isinstance(alpha, schedules.Schedule):
        return alpha
    if check_number("alpha", alpha, least=0.0) > 1.0:
        raise InputError(f"alpha={alpha!r}: expected a share from 0 to 1")
    return float(alpha)
