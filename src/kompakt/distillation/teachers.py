"""Several teachers as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from kompakt.distillation.outputs import BINARY, CLASSES, LOGITS, NUMBERS, Form, Told, agreed, forms, to_logits
from kompakt.errors import InputError
from kompakt.graph import symbolic_inputs
from kompakt.sites import check_built


@keras.saving.register_keras_serializable(package="kompakt")
class Ensemble(Told):
    r"""Several teachers as one: what they predict on average, each called once, in inference mode.

    Of classes, and of outputs that are yes or no, the mean of the probabilities :math:`p_k`, as logits; of numbers
    their mean:

    .. math:: z = \log \sum_k w_k p_k, \quad z = \log \frac{\sum_k w_k p_k}{\sum_k w_k (1 - p_k)}, \quad
        z = \sum_k w_k z_k, \quad \sum_k w_k = 1

    Hinton, Vinyals and Dean 2015, arXiv:1503.02531, section 2: the "ensemble of the cumbersome models", with the
    arithmetic mean. Some teachers may end in a softmax, others in logits.

    A layer of a teacher can be compared by its name where no other teacher has a layer of that name.

    Args:
        teachers: two or more, built, of the same inputs and outputs; held as they are, not changed.
            :func:`kompakt.distill` copies and freezes them, with the ensemble.
        weights: shares of the teachers, over 0, brought to a sum of 1; equal by default.
        task: "classes", "binary" or "numbers", where that is not told right.

    Attributes:
        teachers. shares: :math:`w_k`. told: what the outputs are, one an output.

    Raises:
        InputError: a teacher is not a built model or is given twice, the teachers do not fit each other, or the
            weights are not as many numbers over 0.

    Example:
        >>> def net(end):
        ...     return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation=end)])
        >>> e = Ensemble([net("softmax"), net(None)], weights=[3, 1])
        >>> e.shares, e.told[0].holds, tuple(e(np.zeros((2, 4))).shape)
        ((0.75, 0.25), 'logits', (2, 3))
    """

    def __init__(
        self,
        teachers: Sequence[keras.Model],
        *,
        weights: Sequence[float] | None = None,
        task: str | None = None,
        name: str = "ensemble",
        read: Sequence[Sequence[Form]] | None = None,
    ) -> None:
        super().__init__(name=name)
        self.teachers = _checked(teachers)
        self.shares = _shares(weights, len(self.teachers))
        known = [forms(teacher, task) for teacher in self.teachers] if read is None else read
        self.told, self.of_each = _together(known)
        self.build(tree.map_structure(lambda t: t.shape, symbolic_inputs(self.teachers[0])))

    def build(self, input_shape: Any) -> None:
        """Nothing is left to make: the teachers are built."""

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """What the teachers predict together, in the structure of the first's outputs; never in training mode."""
        made = [teacher(inputs, training=False) for teacher in self.teachers]
        outputs = zip(*(tree.flatten(each) for each in made), strict=True)
        means = [mean_prediction(values, each, self.shares) for values, each in zip(outputs, self.of_each, strict=True)]
        return tree.pack_sequence_as(made[0], means)

    @property
    def _by_teacher(self) -> list[tuple[Form, ...]]:
        return list(zip(*self.of_each, strict=True))

    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "teachers": [keras.saving.serialize_keras_object(teacher) for teacher in self.teachers],
            "weights": list(self.shares),
            "forms": [[asdict(form) for form in each] for each in self._by_teacher],
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom_objects: Any = None) -> Ensemble:
        teachers = [keras.saving.deserialize_keras_object(each) for each in config["teachers"]]
        # What a teacher was compiled with says what it predicts, and is not in its copy.
        read = [[Form(**form) for form in column] for column in config["forms"]]
        return cls(teachers, weights=config["weights"], name=config["name"], read=read)


def mean_prediction(values: Sequence[Any], each: Sequence[Form], shares: Sequence[float]) -> Any:
    """Logits of the mean of the probabilities, or the mean of numbers (:class:`Ensemble` has the equations).

    Args:
        values: what each teacher made of one output. each: what these are. shares: sum 1.

    Raises:
        InputError: the values are of different shapes.

    Example:
        >>> p = [Form(task="classes", holds="probabilities", why="")] * 2
        >>> z = mean_prediction([ops.array([[0.5, 0.5]]), ops.array([[0.1, 0.9]])], p, (0.5, 0.5))
        >>> [round(float(v), 4) for v in ops.exp(z)[0]]
        [0.3, 0.7]
    """
    shapes = [tuple(v.shape) for v in values]
    if len(set(shapes)) > 1:
        raise InputError(f"the teachers make outputs of the shapes {shapes}; expected the same of each")
    logits = [ops.cast(to_logits(v, form), "float32") for v, form in zip(values, each, strict=True)]
    if each[0].task == CLASSES:
        return _log_mean([ops.log_softmax(z) for z in logits], shares)
    if each[0].task == BINARY:
        no = _log_mean([ops.log_sigmoid(-z) for z in logits], shares)
        return _log_mean([ops.log_sigmoid(z) for z in logits], shares) - no
    return sum(share * z for share, z in zip(shares, logits, strict=True))


def _log_mean(logs: Sequence[Any], shares: Sequence[float]) -> Any:
    """The logarithm of the mean of what ``logs`` are the logarithms of."""
    return ops.logsumexp(ops.stack([z + float(np.log(share)) for z, share in zip(logs, shares, strict=True)]), axis=0)


def one_teacher(given: Any, task: str | None = None) -> Any:
    """A list of teachers as an :class:`Ensemble`, of one as that one; anything else as it is.

    Raises:
        InputError: the teachers do not go together.

    Example:
        >>> m = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        >>> one_teacher([m]) is m, one_teacher(m) is m
        (True, True)
    """
    if not isinstance(given, (list, tuple)):
        return given
    return given[0] if len(given) == 1 else Ensemble(given, task=task)


def _checked(teachers: Any) -> list[keras.Model]:
    if not isinstance(teachers, (list, tuple)) or len(teachers) < 2:
        raise InputError(f"teachers={teachers!r}: expected a list of two Keras models or more")
    for i, teacher in enumerate(teachers):
        if not isinstance(teacher, keras.Model):
            raise InputError(f"teachers[{i}]={teacher!r}: expected a Keras model")
        check_built(teacher)
        if any(teacher is other for other in teachers[:i]):
            raise InputError(f"teachers[{i}] is a model that is there already; give it more of a share with weights=")
    return list(teachers)


def _shares(weights: Any, count: int) -> tuple[float, ...]:
    try:
        given = np.ones(count) if weights is None else np.asarray(weights, "float64")
        good = given.shape == (count,) and np.isfinite(given).all() and (given > 0).all()
    except (TypeError, ValueError):
        good = False
    if not good:
        raise InputError(f"weights={weights!r}: expected {count} numbers over 0, one a teacher")
    return tuple(float(w) for w in given / given.sum())


def _together(known: Sequence[Sequence[Form]]) -> tuple[tuple[Form, ...], tuple[tuple[Form, ...], ...]]:
    """(what the ensemble's outputs are, for each output what those of each teacher are), all of one task."""
    counts = [len(each) for each in known]
    if len(set(counts)) > 1:
        raise InputError(f"the teachers have {counts} outputs; expected as many in each")
    columns = tuple(_settled(i, column) for i, column in enumerate(zip(*known, strict=True)))
    told = []
    for column in columns:
        why = "; ".join(dict.fromkeys(form.why for form in column))
        holds = NUMBERS if column[0].task == NUMBERS else LOGITS
        told.append(Form(task=column[0].task, holds=holds, why=f"mean of {len(column)} teachers: {why}"))
    return tuple(told), columns


def _settled(place: int, column: Sequence[Form]) -> tuple[Form, ...]:
    """One output of all teachers: what was told of one holds for those of which it was guessed."""
    best = next((form for form in column if not form.guessed), column[0])
    for i, form in enumerate(column):
        if not form.guessed and form.task != best.task:
            raise InputError(
                f"output {place} of the teachers: of one it is for {best.task} ({best.why}), of teachers[{i}] for "
                f"{form.task} ({form.why}); give task= where that is wrong, or teachers of one task"
            )
    return tuple(agreed([replace(best, guessed=False)], [form])[0][1] for form in column)
