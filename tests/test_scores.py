"""Metrics over outputs that are there already, against Keras' own."""

import keras
import numpy as np
import pytest

from kompakt.errors import InputError
from kompakt.scores import by_output, scorer

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(1500, 4)).astype("float32")
PROBABILITIES = keras.ops.convert_to_numpy(keras.ops.softmax(LOGITS))
CLASSES = RNG.integers(0, 4, 1500)
ONE_HOT = np.eye(4, dtype="float32")[CLASSES]
VALUES = RNG.normal(size=(1500, 1)).astype("float32")


def half_square(y, p):
    return keras.ops.mean(keras.ops.square(y - p) / 2, axis=-1)


@pytest.mark.parametrize(
    ("metric", "labels", "outputs"),
    [
        ("accuracy", CLASSES, PROBABILITIES),
        ("acc", ONE_HOT, LOGITS),
        ("accuracy", CLASSES % 2, PROBABILITIES[:, :1]),
        ("sparse_categorical_crossentropy", CLASSES, PROBABILITIES),
        ("mse", VALUES[:, 0], VALUES + 1),
        ("mean_absolute_error", VALUES, VALUES * 2),
        (keras.metrics.SparseTopKCategoricalAccuracy(k=2), CLASSES, LOGITS),
        (keras.metrics.CosineSimilarity, ONE_HOT, PROBABILITIES),
        (half_square, VALUES, VALUES * 2),
    ],
)
def test_a_mean_has_a_value_for_each_sample(metric, labels, outputs):
    one = scorer(metric, labels, outputs)
    each, value = one.each(labels, outputs), one.value(labels, outputs)
    model = keras.Sequential([keras.Input(outputs.shape[1:]), keras.layers.Identity()])
    model.compile(
        loss=lambda y, p: 0 * keras.ops.mean(p, -1), metrics=[metric() if isinstance(metric, type) else metric]
    )
    wanted = model.evaluate(outputs, labels, batch_size=100, verbose=0)
    assert value == pytest.approx(wanted[1], rel=1e-5)
    assert each.shape == (1500,) and each.mean() == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize(
    ("metric", "labels", "outputs"),
    [
        (keras.metrics.AUC(), CLASSES % 2, PROBABILITIES[:, :1]),
        ("AUC", CLASSES % 2, PROBABILITIES[:, :1]),
        (keras.metrics.RootMeanSquaredError(), VALUES, VALUES + 1),
        (keras.metrics.R2Score(), VALUES, VALUES + 0.1),
        (keras.metrics.F1Score(average="macro"), ONE_HOT, PROBABILITIES),
        (keras.metrics.MeanIoU(4), CLASSES, RNG.integers(0, 4, 1500)),
    ],
)
def test_what_is_no_mean_has_none(metric, labels, outputs):
    one = scorer(metric, labels, outputs)
    assert np.isfinite(one.value(labels, outputs)) and one.each(labels, outputs) is None


def test_a_loss_is_a_metric():
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    one = scorer(loss, CLASSES, LOGITS)
    assert one.name == "sparse_categorical_crossentropy"
    assert one.value(CLASSES, LOGITS) == pytest.approx(float(loss(CLASSES, LOGITS)), rel=1e-5)
    assert one.each(CLASSES, LOGITS).shape == (1500,)


def test_outputs_of_several_places_have_their_mean_a_sample():
    outputs = PROBABILITIES.reshape(500, 3, 4)
    one = scorer("accuracy", CLASSES.reshape(500, 3), outputs)
    each = one.each(CLASSES.reshape(500, 3), outputs)
    assert each.shape == (500,) and set(np.round(3 * each)) <= {0, 1, 2, 3}


class Twice(keras.metrics.MeanMetricWrapper):
    """A wrapper that is not the mean of its function."""

    def __init__(self):
        super().__init__(half_square, name="twice")

    def result(self):
        return 2 * super().result()


def test_a_wrapper_that_does_more_than_to_take_the_mean_is_found_out():
    one = scorer(Twice(), VALUES, VALUES * 2)
    assert one.each(VALUES, VALUES * 2) is None


def test_the_metric_that_is_given_is_left_empty():
    given = keras.metrics.SparseCategoricalAccuracy()
    scorer(given, CLASSES, LOGITS).value(CLASSES, LOGITS)
    assert float(given.result()) == 0.0


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("acuracy", "metric 'acuracy': Keras has none of that name that needs nothing else"),
        ("MeanIoU", "metric 'MeanIoU': Keras has none of that name that needs nothing else"),
        (3, "metric 3: expected a name, an instance or a function, received int"),
    ],
)
def test_no_such_metric(metric, message):
    with pytest.raises(InputError, match="^" + message):
        scorer(metric, CLASSES, LOGITS)


def test_a_metric_that_does_not_take_the_labels_says_what_they_are():
    with pytest.raises(
        InputError, match=r"'mse': does not take labels of shape \(3, 7\) and outputs of shape \(3, 2\)"
    ):
        scorer("mse", np.zeros((3, 7)), np.zeros((3, 2))).value(np.zeros((3, 7)), np.zeros((3, 2)))


def test_a_metric_of_several_numbers_is_refused():
    with pytest.raises(InputError, match="gives 4 numbers, expected one"):
        scorer(keras.metrics.F1Score(), ONE_HOT, PROBABILITIES).value(ONE_HOT, PROBABILITIES)


@pytest.mark.parametrize(
    ("metrics", "names", "wanted"),
    [
        ("mse", ["a"], [["mse"]]),
        (["mse", "mae"], ["a"], [["mse", "mae"]]),
        (["mse", ["mae", "acc"]], ["a", "b"], [["mse"], ["mae", "acc"]]),
        ({"b": ["mae"]}, ["a", "b"], [[], ["mae"]]),
        (None, ["a", "b"], [["usual"], ["usual"]]),
    ],
)
def test_metrics_by_output(metrics, names, wanted):
    assert by_output(metrics, names, lambda i: ["usual"]) == wanted


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ({"c": "mse"}, "no output 'c'; expected 'a', 'b'"),
        (["mse"], "there are 2 outputs, expected a list with an entry for each"),
        ("mse", "there are 2 outputs, expected a list with an entry for each"),
    ],
)
def test_metrics_of_other_outputs(metrics, message):
    with pytest.raises(InputError, match=message):
        by_output(metrics, ["a", "b"], lambda i: [])


@pytest.mark.parametrize("metric", ["mse", "categorical_crossentropy", keras.losses.MeanAbsoluteError(name="mae")])
def test_labels_that_a_mean_does_not_take_are_one_error(metric):
    """Class numbers went into the function of each sample outside of any `try`: a traceback of Keras."""
    one = scorer(metric, CLASSES, LOGITS)
    for asked in (one.each, one.measured, one.value):
        with pytest.raises(
            InputError, match=rf"^metric '{one.name}': does not take labels of shape \(1500,\) and outp"
        ):
            asked(CLASSES, LOGITS)


def test_a_function_that_raises_is_one_error():
    def picky(y, p):
        raise KeyError("column")

    with pytest.raises(InputError, match=r"^metric 'picky': does not take .* \('column'\); give another metric"):
        scorer(picky, VALUES, VALUES).measured(VALUES, VALUES)
