"""Models of every kind as students and teachers, what their outputs are taken for, and bad input."""

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

import kompakt as kp
from kompakt.distillation.outputs import forms

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(32, 6)).astype("float32")
Y = RANDOM.integers(0, 3, 32)
CROSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def dense(width, units=3, end=None, loss=None):
    model = keras.Sequential([keras.Input((6,)), L.Dense(width, name="a"), L.ReLU(name="r"), L.Dense(units, end)])
    if loss is not None:
        model.compile("sgd", loss)
    return model


# What outputs are taken for

FORMS = {
    "softmax": (dense(4, end="softmax"), "classes", "probabilities", "it ends in a softmax"),
    "linear": (dense(4), "classes", "logits", "it ends in no function and is more than one value"),
    "sigmoid": (dense(4, 1, "sigmoid"), "binary", "probabilities", "it ends in a sigmoid"),
    "one value": (dense(4, 1), "numbers", "numbers", "it is one value"),
    "one logit": (dense(4, 1, loss=keras.losses.BinaryCrossentropy(from_logits=True)), "binary", "logits", "its loss"),
    "values": (dense(4, loss="mse"), "numbers", "numbers", "its loss is MeanSquaredError"),
    "a word": (dense(4, loss="sparse_categorical_crossentropy"), "classes", "logits", "its loss is SparseCat"),
    "a layer": (keras.Sequential([dense(4), L.Softmax()]), "classes", "probabilities", "it ends in a softmax"),
    "then reshaped": (
        keras.Sequential([dense(4, 6, "sigmoid"), L.Reshape((2, 3)), L.Dropout(0.1)]),
        "binary",
        "probabilities",
        "it ends in a sigmoid",
    ),
    "quantized": (kp.quantize(dense(4, end="softmax"), "int8", calibration=X), "classes", "probabilities", "softmax"),
    "pruned": (kp.prune(dense(4), 0.5), "classes", "logits", "no function"),
    "tanh": (dense(4, end="tanh"), "numbers", "numbers", "it ends in tanh"),
}


@pytest.mark.parametrize("name", FORMS)
def test_what_an_output_is_taken_for(name):
    model, task, holds, why = FORMS[name]
    (form,) = forms(model)
    assert (form.task, form.holds) == (task, holds) and why in form.why


def test_an_operation_of_keras_is_a_function_too():
    i = keras.Input((6,))
    (form,) = forms(keras.Model(i, ops.softmax(L.Dense(3)(i))))
    assert form.holds == "probabilities"


def test_a_student_of_logits_learns_the_same_from_probabilities():
    teacher, student = dense(16), dense(4)
    bounded = keras.Sequential([teacher, L.Softmax()])
    made = []
    for each in (teacher, bounded):
        d = kp.distill(student, each)
        d.compile(keras.optimizers.SGD(0.1), CROSS)
        d.fit(X, Y, batch_size=16, shuffle=False, verbose=0)
        made.append(d.student.get_weights())
    for a, b in zip(*made, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


# Kinds of models


class Block(keras.Model):
    def __init__(self, width, **kwargs):
        super().__init__(**kwargs)
        self.width = width
        self.inner, self.act, self.head = L.Dense(width, name="inner"), L.ReLU(), L.Dense(3, name="head")

    def call(self, x):
        return self.head(self.act(self.inner(x)))

    def get_config(self):
        return {**super().get_config(), "width": self.width}


def built(model):
    model(X[:1])
    return model


@pytest.mark.parametrize("losses", ["soft_targets", ["soft_targets", kp.distillation.Hints("inner", "inner")]])
def test_subclassed_models(losses):
    student, teacher = built(Block(4)), built(Block(16))
    d = kp.distill(student, teacher, losses=losses)
    history = d.fit(X, Y, epochs=2, verbose=0).history
    assert type(d.student) is Block and np.isfinite(history["loss"]).all()
    assert d.student.predict(X, verbose=0).shape == (32, 3)
    text = "no layer of the teacher is the usual one to compare: give teacher_layer=, one of inner, "
    with pytest.raises(kp.InputError, match=text):
        kp.distill(student, teacher, losses="hints")


def pooled(width):
    return keras.Sequential(
        [keras.Input((5, 5, 1)), L.Conv2D(width, 3, padding="same"), L.ReLU(name="relu"),
         L.AveragePooling2D(5, name="pool"), L.Flatten(name="flat"), L.Dense(3)]
    )  # fmt: skip


def test_attention_is_compared_where_there_are_places():
    """What is pooled to one place looks there, whatever the model: a loss of 0 that taught nothing."""
    d = kp.distill(pooled(4), pooled(8), losses="attention")
    assert d.places == [("relu", "relu")]
    images = RANDOM.normal(size=(32, 5, 5, 1)).astype("float32")
    assert d.fit(images, Y, verbose=0).history["attention"][0] > 1e-3
    assert kp.distill(pooled(4), pooled(8), losses="hints").places == [("flat", "flat")]


def test_regression():
    d = kp.distill(dense(4, 1), dense(16, 1))
    d.fit(X, X[:, :1], epochs=2, verbose=0)
    assert isinstance(d.loss, keras.losses.MeanSquaredError) and "numbers" in d.found[0]


def test_binary():
    y = (X[:, 0] > 0).astype("float32")
    d = kp.distill(dense(4, 1, "sigmoid"), dense(16, 1, loss=keras.losses.BinaryCrossentropy(from_logits=True)))
    d.fit(X, y, epochs=2, verbose=0)
    assert d.found[0].startswith("output 0: binary; the teacher's are logits")


def two(width):
    i = keras.Input((6,))
    h = L.Dense(width, activation="relu")(i)
    return keras.Model(i, {"kind": L.Dense(3, "softmax", name="kind")(h), "size": L.Dense(1, name="size")(h)})


@pytest.mark.slow
def test_two_outputs_of_two_tasks_with_weights_of_their_own():
    y = {"kind": Y, "size": X[:, :1]}
    d = kp.distill(two(4), two(16))
    history = d.fit(X, y, epochs=2, verbose=0).history
    assert [s.task for _, s in d.forms] == ["classes", "numbers"] and np.isfinite(history["loss"]).all()
    weights = {"kind": np.zeros(32), "size": np.zeros(32)}
    d.compile(keras.optimizers.SGD(1.0), d.usual_loss())
    before = d.student.get_weights()
    d.fit(X, y, sample_weight=weights, verbose=0)
    assert all(map(np.array_equal, before, d.student.get_weights()))


def sequence(width):
    return keras.Sequential(
        [
            keras.Input((5,), dtype="int32"), L.Embedding(7, width, mask_zero=True),
            L.LSTM(width, return_sequences=True), L.Dense(4),
        ]
    )  # fmt: skip


@pytest.mark.slow
def test_a_sequence_counts_where_it_is_not_masked():
    x = RANDOM.integers(1, 7, (16, 5))
    x[:, 3:] = 0
    d = kp.distill(sequence(4), sequence(8), alpha=1.0)
    d.compile(keras.optimizers.SGD(0.0), d.usual_loss())
    logs = d.fit(x, RANDOM.integers(0, 4, (16, 5)), batch_size=16, verbose=0).history
    s, t = (m.predict(x, verbose=0) for m in (d.student, d.teacher))
    rows = [np.asarray(kp.distillation.losses.soft_targets(t[:, i], s[:, i], 4.0)).mean() for i in range(3)]
    assert logs["soft_targets"][0] == pytest.approx(np.mean(rows), rel=1e-3)


# Weights, labels, teachers of Keras


@pytest.mark.slow
def test_classes_of_weight_zero_teach_nothing():
    d = kp.distill(dense(4), dense(16), losses=["soft_targets", "decoupled", "relational"])
    d.compile(keras.optimizers.SGD(1.0), CROSS)
    before = d.student.get_weights()
    d.fit(X, Y, class_weight={0: 0.0, 1: 0.0, 2: 0.0}, verbose=0)
    assert all(map(np.array_equal, before, d.student.get_weights()))


def test_without_labels():
    d = kp.distill(dense(4), dense(16))
    d.compile("sgd", CROSS)
    assert d.fit(X, verbose=0).history["loss"] == d.history.history["distillation_loss"]
    with pytest.raises(kp.InputError, match="Decoupled needs labels"):
        kp.distill(dense(4), dense(16), losses="decoupled").fit(X, verbose=0)


def test_one_hot_labels():
    d = kp.distill(dense(4), dense(16), losses="decoupled")
    history = d.fit(X, np.eye(3, dtype="float32")[Y], verbose=0).history
    assert np.isfinite(history["loss"]).all()


@pytest.mark.parametrize(
    "loss", [keras.distillation.LogitsDistillation(3.0), keras.distillation.FeatureDistillation("mse", "r", "r")]
)
def test_losses_of_keras(loss):
    d = kp.distill(dense(4), dense(4), losses=loss)
    assert np.isfinite(d.fit(X, Y, verbose=0).history["loss"]).all()


def test_what_the_student_was_compiled_with_is_used():
    student = dense(4)
    student.compile(keras.optimizers.SGD(0.25, momentum=0.5), CROSS, metrics=["sparse_top_k_categorical_accuracy"])
    d = kp.distill(student, dense(16))
    assert (float(d.optimizer.learning_rate), d.optimizer.momentum) == (
        0.25,
        0.5,
    ) and d.optimizer is not student.optimizer
    assert "sparse_top_k_categorical_accuracy" in d.fit(X, Y, verbose=0).history


@pytest.mark.slow
def test_mixed_precision_and_different_seeds():
    teacher = dense(16)
    student = keras.Sequential([keras.Input((6,)), L.Dense(4, dtype="mixed_float16"), L.Dense(3, dtype="float32")])
    made = []
    for _ in range(2):
        keras.utils.set_random_seed(1)
        d = kp.distill(student, teacher)
        d.fit(X, Y, epochs=2, verbose=0)
        made.append(d.student.get_weights())
    assert all(map(np.array_equal, *made))


BAD = {
    "no model": (lambda: kp.distill("a", dense(4)), "student='a': expected a Keras model"),
    "not built": (lambda: kp.distill(Block(4), dense(4)), "has no weights yet: call it once on data"),
    "other inputs": (
        lambda: kp.distill(dense(4), keras.Sequential([keras.Input((5,)), L.Dense(3)])),
        "the teacher takes",
    ),
    "other classes": (lambda: kp.distill(dense(4), dense(4, 5)), "the teacher makes"),
    "outputs": (lambda: kp.distill(dense(4), two(4)), "the teacher has 2 outputs, the student 1"),
    "tasks": (lambda: kp.distill(dense(4, end="softmax"), dense(4, loss="mse")), "for numbers .* for classes"),
    "a task": (lambda: kp.distill(dense(4), dense(4), task="digits"), "task='digits': expected one of classes"),
    "a layer": (
        lambda: kp.distill(dense(4), dense(4), losses=kp.distillation.Hints("b", "a")),
        "student_layer='b': the student has none; known: a, ",
    ),
    "no places": (
        lambda: kp.distill(dense(4), dense(4), losses=kp.distillation.Attention("a", "a")),
        "Attention compares places",
    ),
    "one place": (
        lambda: kp.distill(pooled(4), pooled(4), losses=kp.distillation.Attention("pool", "relu")),
        r"makes \(2, 5, 5, 4\), 'pool' of the student \(2, 1, 1, 4\); expected .* with more than one place",
    ),
    "no loss": (lambda: kp.distill(dense(4), dense(4), losses=[]), "expected at least one of soft_targets"),
    "temperature": (
        lambda: kp.distill(dense(4), dense(4), temperature=-1),
        "temperature=-1.: expected a number over 0",
    ),
    "decoupled numbers": (lambda: kp.distill(dense(4, 1), dense(4, 1), losses="decoupled"), "Decoupled is for classes"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    make, text = BAD[case]
    with pytest.raises(kp.InputError, match=text) as found:
        make()
    assert "\n" not in str(found.value)
