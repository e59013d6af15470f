"""The model whose ``fit`` trains a student on labels and on its teacher."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
from keras import ops, tree
from keras.distillation import Distiller

from kompakt.callbacks import Update
from kompakt.distillation.cache import CachedTeacher
from kompakt.distillation.capture import capture, feature_layer, find_layer, shapes_at
from kompakt.distillation.fit import Crossentropy, check_features, check_made, check_models
from kompakt.distillation.layer_terms import LayerTerm
from kompakt.distillation.outputs import Form, agreed, forms, to_logits
from kompakt.distillation.terms import OUTPUTS, PLACES, Term, Weight, check_share
from kompakt.errors import InputError
from kompakt.schedules import Schedule
from kompakt.summaries import LossTerms

FEATURES = "kompakt_features"
ANSWERS = "kompakt_teacher"
"""Keys beside the student's outputs, and beside the inputs, in what a training step hands on."""


@keras.saving.register_keras_serializable(package="kompakt")
class Distillation(Distiller, LossTerms):  # type: ignore[misc]
    r"""A student that learns from labels and from a frozen teacher; compile and fit it as any Keras model.

    .. math:: L = (1 - \alpha) L_{labels} + \alpha \sum_k w_k L_k

    with the compiled loss of the labels and the terms :math:`L_k` of :mod:`kompakt.distillation`. The teacher runs
    once a batch, in inference mode; the student once. Weights of samples and classes count in all parts. Without
    labels the terms alone are left. Predictions and metrics are the student's.

    It goes beyond ``keras.distillation.Distiller``, whose losses it takes too: layers of any model can be compared, of
    different widths, and probabilities are told from logits.

    Args:
        teacher, student: built; they are used as they are (:func:`kompakt.distill` copies them).
        terms: of the loss. alpha: share of the terms, 0 to 1, or a schedule of it. task: see
            :func:`kompakt.distill`. read: what the outputs are of the teacher and the student, as told before.

    Attributes:
        student: what is trained. teacher: frozen. found: one line an output, what it was taken for.
        cached: what the teacher predicted before (:func:`kompakt.cache_teacher`), or None.

    Raises:
        InputError: the models do not fit each other, or a term not them.
    """

    def __init__(
        self,
        teacher: keras.Model,
        student: keras.Model,
        terms: Sequence[Any],
        alpha: Weight = 0.5,
        task: str | None = None,
        name: str = "distillation",
        read: Sequence[tuple[Form, Form]] | None = None,
        **kwargs: Any,
    ) -> None:
        self.alpha = check_share(alpha)
        share = self.alpha(0) if isinstance(self.alpha, Schedule) else self.alpha
        super().__init__(
            teacher, student, list(terms), student_loss_weight=1.0 - share, name=name, **kwargs
        )  # fmt: skip
        for layer in teacher._flatten_layers():  # one by one: False on a model that has it reaches no layer
            layer.trainable = False
        self.task = task
        self.forms = list(read or agreed(forms(teacher, task), forms(student, task)))
        self.places = [self._compared(term) for term in self.distillation_losses]
        self.projections = self._make_projections()
        self.term_trackers = [keras.metrics.Mean(name=name) for name in self.term_names]
        self.factors = self.add_weight(
            name="factors", shape=(1 + len(self.places),), trainable=False, initializer="zeros"
        )
        self.set_step(0)
        self.cached: CachedTeacher | None = None
        self._labels_alone = False  # what the step that is traced last computes
        self.built = True

    @property
    def found(self) -> tuple[str, ...]:
        """What each output was taken for, in words."""
        return tuple(
            f"output {i}: {s.task}; the teacher's are {t.holds} ({t.why}), the student's {s.holds} ({s.why})"
            for i, (t, s) in enumerate(self.forms)
        )

    def set_step(self, step: int) -> None:
        """Bring the factors that follow a schedule to training step ``step``; ``fit`` does it by itself."""
        share = float(self.alpha(step)) if isinstance(self.alpha, Schedule) else float(self.alpha)
        weights = [t.weight_at(step) if isinstance(t, Term) else 1.0 for t in self.distillation_losses]
        self.factors.assign([share, *weights])

    @property
    def scheduled(self) -> bool:
        """Whether a factor follows a schedule."""
        weights = [getattr(term, "weight", None) for term in self.distillation_losses]
        return any(isinstance(each, Schedule) for each in (self.alpha, *weights))

    def compile(self, optimizer: Any = "adam", loss: Any = None, metrics: Any = None, **kwargs: Any) -> None:
        """As ``keras.Model.compile``; without a loss the usual one of the task."""
        loss = self.usual_loss() if loss is None else loss
        keras.Model.compile(self, optimizer=optimizer, loss=loss, metrics=metrics, **kwargs)

    def get_compile_config(self) -> dict[str, Any]:
        """As that of any compiled model: ``keras.distillation.Distiller`` has none that is read back."""
        return dict(keras.Model.get_compile_config(self))

    def compile_from_config(self, config: Mapping[str, Any]) -> None:
        self.compile(**{key: keras.saving.deserialize_keras_object(value) for key, value in config.items()})
        self.optimizer.build(self.trainable_variables)

    def usual_loss(self) -> Any:
        """The loss of labels that fits the student's outputs."""
        made = [Crossentropy.of(student) for _, student in self.forms]
        return made[0] if len(made) == 1 else made

    def use_cache(self, cached: CachedTeacher) -> None:
        """Have ``fit`` use what the teacher predicted before, where it is given the same inputs.

        Raises:
            InputError: it is of another teacher, or lacks a layer that a term compares.
        """
        cached.check(self.teacher, self._teacher_layers)
        self.cached = cached

    @property
    def _teacher_layers(self) -> list[str]:
        return [teacher for teacher, _ in filter(None, self.places)]

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Any = "auto",
        callbacks: Any = None,
        **kwargs: Any,
    ) -> Any:
        """As ``keras.Model.fit``; schedules are driven, those of the student's transforms too."""
        if self.cached is not None:
            x = {"inputs": x, ANSWERS: self.cached.answers(x, self._teacher_layers)}
        given = list(callbacks) if isinstance(callbacks, (list, tuple)) else callbacks
        if not isinstance(given, keras.callbacks.CallbackList):
            given = [] if given is None else given if isinstance(given, list) else [given]
            given = given if any(isinstance(each, Update) for each in given) else [Update(), *given]
            given = [Drive(), *given] if self.scheduled else given
        return super().fit(x, y, batch_size, epochs, verbose, given, **kwargs)

    def call(self, inputs: Any, training: bool | None = None, **kwargs: Any) -> Any:
        """The student's outputs; in training, where layers are compared, with what these made."""
        inputs, _ = _split(inputs)
        names = [student for _, student in filter(None, self.places)]
        if not training or not names:
            return self.student(inputs, training=training, **kwargs)
        with capture(self.student, names, "student") as seen:
            outputs = self.student(inputs, training=training, **kwargs)
        return {OUTPUTS: outputs, FEATURES: dict(seen)}

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """The loss of labels and the terms; outside training that of the labels alone. Regularizers always count."""
        y_pred = self(x, training=training) if y_pred is None else y_pred
        outputs, features = _unpack(y_pred)
        extra = sum(ops.cast(each, "float32") for each in self.losses)
        labels = extra if y is None else keras.Model.compute_loss(self, x, y, outputs, sample_weight, training)
        self.student_loss_tracker.update_state(labels)
        self._labels_alone = not training
        if not training:
            return labels
        terms = self._terms(x, y, outputs, features, sample_weight)
        for tracker, value in zip(self.term_trackers, terms, strict=True):
            tracker.update_state(value)
        together = sum(self.factors[i + 1] * value for i, value in enumerate(terms))
        self.distillation_loss_tracker.update_state(together)
        whole, share = together + extra, self.factors[0]
        total = whole if y is None else (1.0 - share) * labels + share * whole
        self.total_loss_tracker.update_state(total)
        return total

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Those of the student; without labels the terms alone."""
        if y is None:
            return self.get_metrics_result()
        return super().compute_metrics(_split(x)[0], y, _unpack(y_pred)[0], sample_weight)

    def get_metrics_result(self) -> dict[str, Any]:
        """The metrics, without terms where none is computed (in ``evaluate``), nor the loss a second time."""
        found: dict[str, Any] = {}
        for metric in self.metrics:
            if getattr(metric, "built", True):  # without labels those of the student never are
                result = metric.result()
                found |= result if isinstance(result, dict) else {metric.name: result}
        left = {"total_loss"}
        if self._labels_alone:
            left |= {tracker.name for tracker in (self.distillation_loss_tracker, *self.term_trackers)}
        return {name: value for name, value in found.items() if name not in left}

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        return {
            "name": self.name,
            "teacher": serialize(self.teacher),
            "student": serialize(self.student),
            "terms": [serialize(term) for term in self.distillation_losses],
            "alpha": self.alpha.to_config() if isinstance(self.alpha, Schedule) else self.alpha,
            "task": self.task,
            "forms": [[dataclasses.asdict(form) for form in pair] for pair in self.forms],
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom_objects: Any = None) -> Distillation:
        read = keras.saving.deserialize_keras_object
        parts = {key: read(config[key]) for key in ("teacher", "student")}
        held = {key: config[key] for key in ("name", "alpha", "task")}
        pairs = [(Form(**teacher), Form(**student)) for teacher, student in config["forms"]]
        return cls(**parts, **held, terms=[read(term) for term in config["terms"]], read=pairs)

    def _terms(self, x: Any, y: Any, outputs: Any, features: Mapping[str, Any], sample_weight: Any) -> list[Any]:
        inputs, answers = _split(x)
        given, seen = self._ask(inputs, answers)
        found = tree.flatten(outputs)
        count = len(found)
        known = {
            "forms": self.forms,
            "labels": _spread(y, count),
            "weights": _spread(sample_weight, count),
            "masks": [_mask(each) for each in found],
        }
        check_made(given, found, len(self.forms))
        teacher = [to_logits(_single(each), form) for each, (form, _) in zip(given, self.forms, strict=True)]
        student = [to_logits(_single(each), form) for each, (_, form) in zip(found, self.forms, strict=True)]
        return [
            self._term(i, term, (teacher, student), (seen, features), known)
            for i, term in enumerate(self.distillation_losses)
        ]

    def _term(self, i: int, term: Any, outputs: Any, seen: Any, known: Mapping[str, Any]) -> Any:
        options = known if isinstance(term, Term) else {}
        place = self.places[i]
        if place is None:
            if getattr(term, "labelled", False) and known["labels"][0] is None:
                raise InputError(f"{type(term).__name__} needs labels: fit(x, y)")
            alone = not isinstance(term, Term) and len(outputs[0]) == 1  # Keras' own take a tensor
            return term.compute_loss(*([each[0] for each in outputs] if alone else outputs), **options)
        teacher, student = (features[name] for features, name in zip(seen, place, strict=True))
        projection = self.projections.get(str(i))
        options = {**options, "masks": [_mask(student)]} if options else {}
        wide = student if projection is None else projection(student)
        return term.compute_loss(_single(teacher), _single(wide), **options)

    def _ask(self, inputs: Any, answers: Any) -> tuple[list[Any], dict[str, Any]]:
        """(the teacher's outputs, what its compared layers made): asked now, or held ``answers``."""
        names = self._teacher_layers
        if answers is None:
            with capture(self.teacher, names, "teacher") as seen:
                outputs = self.teacher(inputs, training=False)
        else:
            outputs, seen = answers["outputs"], answers.get("features", {})
        stop = ops.stop_gradient
        return [stop(each) for each in tree.flatten(outputs)], {name: stop(seen[name]) for name in names}

    def _compared(self, term: Any) -> tuple[str, str] | None:
        """(teacher's, student's layer) that a term compares; None for outputs."""
        if not isinstance(term, LayerTerm):
            if isinstance(term, Term):
                term.check(self.forms)
                return None
            if not any(getattr(term, f"{whose}_layer_name", None) for whose in ("teacher", "student")):
                return None
        spatial = getattr(term, "compares", "") == PLACES
        pair = []
        for model, whose in ((self.teacher, "teacher"), (self.student, "student")):
            name = getattr(term, f"{whose}_layer_name") or feature_layer(model, whose, spatial=spatial)
            find_layer(model, name, whose)
            pair.append(name)
        return pair[0], pair[1]

    def _make_projections(self) -> dict[str, Any]:
        """Position of a term -> its projection, built."""
        named = [each for each in self.places if each is not None]
        if not named:
            return {}
        teacher = shapes_at(self.teacher, [t for t, _ in named], "teacher")
        student = shapes_at(self.student, [s for _, s in named], "student")
        made = {}
        for i, (term, pair) in enumerate(zip(self.distillation_losses, self.places, strict=True)):
            if pair is None or not isinstance(term, LayerTerm):
                continue
            check_features(term, pair, teacher[pair[0]], student[pair[1]])
            layer = term.projection(teacher[pair[0]], student[pair[1]])
            if layer is not None:
                layer.build((None, *student[pair[1]][1:]))
                made[str(i)] = layer
        return made

    @property
    def term_names(self) -> list[str]:
        """Names of the terms, as in the logs."""
        names = [getattr(t, "name", type(t).__name__) for t in self.distillation_losses]
        seen: dict[str, int] = {}
        for i, name in enumerate(names):
            seen[name] = seen.get(name, 0) + 1
            names[i] = name if names.count(name) == 1 and seen[name] == 1 else f"{name}_{seen[name]}"
        return names

    def loss_terms(self, logs: Mapping[str, float]) -> dict[str, float]:
        """The terms as they are in ``logs``, and the factors of now: "alpha", and "weight_" with a term's name."""
        share, *weights = ops.convert_to_numpy(self.factors).tolist()
        trackers = (self.student_loss_tracker, self.distillation_loss_tracker, *self.term_trackers)
        found = {tracker.name: float(logs[tracker.name]) for tracker in trackers if tracker.name in logs}
        factors = {f"weight_{name}": weight for name, weight in zip(self.term_names, weights, strict=True)}
        return {**found, "alpha": share, **factors}

    def _validate_models(self, teacher: Any, student: Any) -> None:
        """Instead of Keras' checks, which demand one dtype and symbolic outputs."""
        check_models(teacher, student)

    def _validate_distillation_loss_compatibility(self, teacher: Any, student: Any, distillation_loss: Any) -> None:
        """Layers are captured, whatever the model: what Keras refuses is right here."""

    def _create_multi_feature_extractors(self) -> None:
        """None are needed: the models run once, and their layers are watched."""


class Drive(keras.callbacks.Callback):  # type: ignore[misc]
    """Brings the factors of a Distillation to the step that training is at."""

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.model.set_step(int(ops.convert_to_numpy(self.model.optimizer.iterations)))


def _single(values: Any) -> Any:
    """In float32: shares and distances are lost in the half precision that a model may compute in."""
    return ops.cast(values, "float32")


def _mask(made: Any) -> Any:
    """Which places are no padding, as Keras has it on what a layer made; or None."""
    return keras.src.backend.common.masking.get_keras_mask(made)  # no attribute on JAX


def _split(inputs: Any) -> tuple[Any, Any]:
    """(inputs, the teacher's answers that were held, or None)."""
    held = isinstance(inputs, dict) and ANSWERS in inputs
    return (inputs["inputs"], inputs[ANSWERS]) if held else (inputs, None)


def _unpack(y_pred: Any) -> tuple[Any, Mapping[str, Any]]:
    """(the student's outputs, what its compared layers made)."""
    whole = isinstance(y_pred, dict) and FEATURES in y_pred
    return (y_pred[OUTPUTS], y_pred[FEATURES]) if whole else (y_pred, {})


def _spread(values: Any, count: int) -> list[Any]:
    """One value an output: of a structure its leaves, of one value the same for all."""
    found: Iterable[Any] = tree.flatten(values) if isinstance(values, (list, tuple, dict)) else [values]
    listed = list(found)
    return listed if len(listed) == count else [listed[0] if listed else None] * count
