"""``distill``: train a small student on labels and on what a large teacher makes of the same data."""

from __future__ import annotations

import logging
from typing import Any

import keras
from keras import tree

from kompakt.copies import copy_layer
from kompakt.distillation.cache import CachedTeacher
from kompakt.distillation.fit import check_models
from kompakt.distillation.model import Distillation
from kompakt.distillation.outputs import TASKS, agreed, forms
from kompakt.distillation.teachers import one_teacher
from kompakt.distillation.terms import Weight, check_number, check_share
from kompakt.distillation.words import terms_of
from kompakt.errors import InputError
from kompakt.sites import finite_fault, is_graph

log = logging.getLogger("kompakt")

DISTILL_OPTIONS = ("losses", "alpha", "temperature", "task")
"""Keyword arguments of ``distill``: those that a recipe may give."""

COMPILED = ("optimizer", "loss", "loss_weights", "metrics", "weighted_metrics")
"""Arguments of ``compile`` that are taken over from a student."""

RATE = 1e-3
"""Of Adam, where the student was not compiled."""


def distill(
    student: keras.Model,
    teacher: Any,
    *,
    losses: Any = "soft_targets",
    alpha: Weight = 0.5,
    temperature: float = 4.0,
    task: str | None = None,
) -> Distillation:
    r"""A model whose ``fit`` trains a copy of ``student`` on the labels and on the predictions of ``teacher``.

    .. math:: L = (1 - \alpha) L_{labels} + \alpha \sum_k w_k L_k

    Whether outputs are logits or probabilities is told from the last function of each model, or from its compiled
    loss; ``.found`` and the log say what was found. What ``fit`` returns is a model's history; ``.student`` is the
    trained student: plain, or with its transforms where it had some (quantization-aware distillation:
    ``kp.distill(kp.quantize(student, "int8", calibration=x), teacher)``, then ``kp.export(d.student, ...)``).

    Args:
        student: built; plain, or from ``prune``, ``cluster``, ``quantize``; not changed. Where it is compiled, its
            optimizer, loss (with its weights) and metrics are used, else Adam at 1e-3, the usual loss and the accuracy.
        teacher: built, of the same inputs and as many outputs; not changed. A list of them counts on average
            (:class:`kompakt.distillation.Ensemble`); predictions that are held on disk are from
            :func:`kompakt.cache_teacher`.
        losses: "soft_targets", "decoupled", "hints", "attention", "relational", objects of
            :mod:`kompakt.distillation` or ``keras.distillation``, or a list of them.
        alpha: share of the teacher's terms, 0 to 1, or a schedule of it. temperature: of terms given as a word.
        task: "classes", "binary" or "numbers", where that is not told right.

    Raises:
        InputError: a model is not built, the models do not fit each other, a weight of the teacher is not finite, or
            an argument cannot be used.

    Example:
        >>> import numpy as np
        >>> def net(width):
        ...     return keras.Sequential([keras.Input((4,)), keras.layers.Dense(width), keras.layers.Dense(3)])
        >>> d = distill(net(4), net(64))
        >>> _ = d.fit(np.zeros((8, 4)), np.zeros(8, int), verbose=0)
        >>> d.student.count_params()
        35

        Several teachers, and a model that is taught by what it was: born-again networks (Furlanello et al. 2018,
        arXiv:1805.04770), each trained anew from its first weights, the last ones the teachers of the next:

        >>> _ = distill(net(4), [net(16), net(32)]).fit(np.zeros((8, 4)), np.zeros(8, int), verbose=0)
        >>> generations = [net(8)]
        >>> for _ in range(2):
        ...     again = distill(keras.models.clone_model(generations[-1]), generations[-1])
        ...     _ = again.fit(np.zeros((8, 4)), np.zeros(8, int), verbose=0)
        ...     generations.append(again.student)
        >>> together = distill(net(4), generations)
    """
    terms = check_options(losses=losses, alpha=alpha, temperature=temperature, task=task)
    cached = teacher if isinstance(teacher, CachedTeacher) else None
    teacher = one_teacher(cached.teacher if cached else teacher, task)
    check_models(teacher, student)
    read = agreed(forms(teacher, task), forms(student, task))  # copies do not say what they were compiled with
    _check_finite(teacher)
    made = Distillation(copy_layer(teacher), copy_layer(student), terms, alpha=alpha, task=task, read=read)
    if cached:
        made.use_cache(cached)
    made.compile(**_compiled(student, made))
    for line in made.found:
        log.info("distill: %s", line)
    return made


def check_options(
    losses: Any = "soft_targets", alpha: Any = 0.5, temperature: Any = 4.0, task: str | None = None
) -> list[Any]:
    """The terms that ``losses`` means; raise an InputError where one of the arguments cannot be used.

    Example:
        >>> [term.temperature for term in check_options(temperature=2.0)]
        [2.0]
    """
    if task is not None and task not in TASKS:
        raise InputError(f"task={task!r}: expected one of {', '.join(TASKS)}")
    check_share(alpha)
    check_number("temperature", temperature, over=0.0)
    return terms_of(losses, temperature)


def _check_finite(teacher: keras.Model) -> None:
    for weight in teacher.weights:
        if fault := finite_fault(weight):
            raise InputError(f"the teacher's {weight.path}: {fault}; give one from before them")


def _compiled(student: keras.Model, made: Distillation) -> dict[str, Any]:
    """What the student was compiled with, or the usual."""
    if not getattr(student, "compiled", False):
        return {"optimizer": keras.optimizers.Adam(RATE), "loss": None, "metrics": _usual_metrics(student, made)}
    config = student.get_compile_config() or {}
    return {key: _read(value) for key, value in config.items() if key in COMPILED}


def _usual_metrics(student: keras.Model, made: Distillation) -> Any:
    """The accuracy of each output that is for classes, in the structure of the student's outputs."""
    each = [["accuracy"] if form.task == "classes" else None for _, form in made.forms]
    if len(each) == 1 or not any(each):
        return each[0]
    return tree.pack_sequence_as(student.output, each) if is_graph(student) else None


def _read(value: Any) -> Any:
    return keras.saving.deserialize_keras_object(value)
