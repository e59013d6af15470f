"""Loss and metric by the labels, and data in the form that a model takes."""

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

from kompakt.data import load_data
from kompakt.errors import InputError
from kompakt.task import Task, data_for, one_output, task_for

X = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")
CLASSES = np.array([0, 1, 2, 2, 1, 0])


def data(labels, x=X):
    return load_data({"x_train": x, "y_train": labels, "x_test": x, "y_test": labels})


def chain(*made, shape=(4,)):
    x = inputs = keras.Input(shape)
    for layer in made:
        x = layer(x)
    return keras.Model(inputs, x, name="m")


class Own(keras.Model):
    def __init__(self, activation=None, **kwargs):
        super().__init__(**kwargs)
        self.head = L.Dense(3, activation=activation)
        self.unused = L.Dense(2)

    def build(self, shape):
        self.head.build(shape)
        self.unused.build(shape)
        self.built = True

    def call(self, x):
        return self.head(x)


def own(activation):
    model = Own(activation)
    model(X)
    return model


# Loss


@pytest.mark.parametrize(
    ("units", "labels", "loss", "metric"),
    [
        (3, CLASSES, "SparseCategoricalCrossentropy", "accuracy"),
        (3, CLASSES[:, None], "SparseCategoricalCrossentropy", "accuracy"),
        (3, CLASSES.astype("float32"), "SparseCategoricalCrossentropy", "accuracy"),
        (3, np.eye(3)[CLASSES], "CategoricalCrossentropy", "accuracy"),
        (1, CLASSES % 2, "BinaryCrossentropy", "accuracy"),
        (1, (CLASSES % 2)[:, None].astype("float32"), "BinaryCrossentropy", "accuracy"),
        (1, CLASSES % 2 == 0, "BinaryCrossentropy", "accuracy"),
        (1, CLASSES, "MeanSquaredError", "mean absolute error"),
        (1, X[:, 0], "MeanSquaredError", "mean absolute error"),
        (3, X[:, :3], "MeanSquaredError", "mean absolute error"),
        (3, np.ones((6, 3)), "MeanSquaredError", "mean absolute error"),  # several classes at once
    ],
)
def test_the_usual_loss_for_the_labels(units, labels, loss, metric):
    task = task_for(chain(L.Dense(units)), data(labels))
    assert type(task.loss).__name__ == loss and task.metric == metric


def test_labels_a_pixel():
    model = chain(L.Conv2D(3, 1), shape=(2, 2, 4))
    x, labels = np.zeros((6, 2, 2, 4), "float32"), np.arange(24).reshape(6, 2, 2) % 3
    for given in (labels, labels[..., None]):
        task = task_for(model, data(given, x))
        assert type(task.loss).__name__ == "SparseCategoricalCrossentropy" and task.metric == "accuracy"
        outputs = np.eye(3)[labels]
        outputs[0, 0, 0] = [0.1, 0.2, 0.3]
        assert task.score([outputs], given) == 23 / 24
    task = task_for(model, data(np.eye(3)[labels], x))
    assert type(task.loss).__name__ == "CategoricalCrossentropy"
    assert task.score([outputs], np.eye(3)[labels]) == 23 / 24


def nested(last):
    return chain(L.Dense(3), keras.Sequential([keras.Input((3,)), last], name="tail"))


@pytest.mark.parametrize(
    ("make", "logits"),
    [
        (lambda: chain(L.Dense(3)), True),
        (lambda: chain(L.Dense(3, activation="softmax")), False),
        (lambda: chain(L.Dense(3), L.Softmax()), False),
        (lambda: chain(L.Dense(3), L.Activation("softmax")), False),
        (lambda: chain(L.Dense(3, activation="sigmoid")), False),
        (lambda: chain(L.Dense(3), ops.softmax), False),
        (lambda: chain(L.Dense(3), ops.sigmoid), False),
        (lambda: chain(L.Dense(3, activation="softmax"), L.Reshape((3,)), L.Dropout(0.1)), False),
        (lambda: chain(L.Dense(3, activation="softmax"), L.Dense(3)), True),
        (lambda: nested(L.Softmax()), False),
        (lambda: nested(L.Dense(3)), True),
        (lambda: keras.Sequential([keras.Input((4,)), L.Dense(3, activation="softmax")]), False),
        (lambda: own("softmax"), False),
        (lambda: own(None), True),
    ],
)
def test_logits_are_told_from_shares(make, logits):
    assert task_for(make(), data(CLASSES)).loss.from_logits == logits


def test_a_given_loss_comes_before_the_compiled_one_and_that_before_the_usual():
    model = chain(L.Dense(3))
    model.compile("sgd", "kl_divergence")
    assert task_for(model, data(CLASSES)).loss == "kl_divergence"
    assert task_for(model, data(CLASSES), "mae").loss == "mae"
    assert task_for(model, data(CLASSES), "mae").metric == "accuracy"


# Metric


def test_accuracy():
    task = Task(loss=None, metric="accuracy")
    outputs = [np.array([[0.1, 0.7, 0.2], [0.5, 0.4, 0.1], [0.3, 0.3, 0.4], [0.9, 0.0, 0.1]])]
    for labels in ([1, 1, 2, 0], [[1], [1], [2], [0]], np.eye(3)[[1, 1, 2, 0]]):
        assert task.score(outputs, labels) == 0.75


@pytest.mark.parametrize(
    ("last", "outputs"), [("sigmoid", [[0.4], [0.6], [0.2], [0.9]]), (None, [[-0.4], [0.4], [-3.0], [0.2]])]
)
def test_two_classes_in_one_output(last, outputs):
    """Above a half of a sigmoid, above 0 of logits."""
    task = task_for(chain(L.Dense(1, activation=last)), data(CLASSES % 2))
    assert task.score([np.array(outputs)], [0, 1, 1, 1]) == 0.75
    assert task.score([np.array(outputs)], [[0.0], [1.0], [1.0], [1.0]]) == 0.75


def test_the_mean_absolute_error():
    task = Task(loss=None, metric="mean absolute error")
    assert task.score([np.array([[1.0], [2.0]])], [1.5, 4.0]) == 1.25
    assert task.score([np.array([[1.0, 2.0]])], [[1.5, 4.0]]) == 1.25


# What does not fit


def refused(call):
    with pytest.raises(InputError) as caught:
        call()
    return str(caught.value)


def test_a_model_with_two_outputs():
    i = keras.Input((4,))
    model = keras.Model(i, [L.Dense(2)(i), L.Dense(3)(i)], name="two")
    assert refused(lambda: one_output(model)) == (
        "the model 'two' has 2 outputs, optimize scores one: use kompakt.quantize, fit and kompakt.export"
    )
    assert one_output(chain(L.Dense(3))).shape == (None, 3) == one_output(own(None)).shape


def test_labels_that_do_not_fit():
    assert refused(lambda: task_for(chain(L.Dense(3)), data({"a": CLASSES}))) == (
        "arrays in memory: y_train is a mapping, the model has one output; give one array of labels"
    )
    assert refused(lambda: task_for(chain(L.Reshape((2, 2))), data(X[:, :3]))) == (
        "arrays in memory: y_train has samples of shape (3,), the model's output (2, 2); "
        "expected as many values in both"
    )


# Several inputs

A, B = X[:, :3], X[:, :2]


def two_inputs(as_mapping):
    b, a = keras.Input((2,), name="b"), keras.Input((3,), name="a")
    outputs = L.Dense(3)(L.Concatenate()([a, b]))
    return keras.Model({"a": a, "b": b} if as_mapping else [b, a], outputs)


def test_one_input_takes_the_array_as_it_is():
    given = data(CLASSES)
    assert data_for(chain(L.Dense(3)), given, 3) is given


def test_a_mapping_goes_to_the_inputs_by_name():
    given = data(CLASSES, {"a": A, "b": B})
    assert data_for(two_inputs(True), given, 3) is given
    found = data_for(two_inputs(False), given, 3)
    for x in (found.x_train, found.x_test):  # in the order of the model, which is not that of the alphabet
        assert [leaf.shape for leaf in x] == [(6, 2), (6, 3)]
    assert two_inputs(False).predict(found.x_test, verbose=0).shape == (6, 3)
    assert found.x_val is None


@pytest.mark.parametrize("as_mapping", [True, False])
def test_inputs_of_other_names_or_shapes(as_mapping):
    model = two_inputs(as_mapping)
    names = "'a', 'b'" if as_mapping else "'b', 'a'"
    assert refused(lambda: data_for(model, data(CLASSES, {"a": A, "c": B}))) == (
        "arrays in memory: x_train is a mapping with the inputs 'a', 'c', the model takes a mapping with the inputs "
        f"{names}; expected the same inputs in both"
    )
    assert refused(lambda: data_for(model, data(CLASSES))) == (
        f"arrays in memory: x_train is one array, the model takes a mapping with the inputs {names}; "
        "expected the same inputs in both"
    )
    assert refused(lambda: data_for(model, data(CLASSES, {"a": A, "b": A}))) == (
        "arrays in memory: x_train['b'] has samples of shape (3,), the model takes samples of shape (2,); "
        "reshape the samples, or give other data"
    )


def test_the_shape_of_a_subclassed_model():
    assert refused(lambda: data_for(own(None), data(CLASSES, A))) == (
        "arrays in memory: x_train has samples of shape (3,), the model takes samples of shape (4,); "
        "reshape the samples, or give other data"
    )
