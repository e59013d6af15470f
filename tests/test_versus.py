"""Two evaluations on the same samples: differences that are known, and what is said of them."""

import dataclasses

import keras
import numpy as np
import pytest
from keras import layers as L

from kompakt.contest import compare_models
from kompakt.errors import InputError
from kompakt.evaluate import evaluate
from kompakt.intervals import mcnemar, paired_interval
from kompakt.records import from_json, to_json
from kompakt.records_evaluation import Evaluation, EvaluationDifference
from kompakt.versus import compare_evaluations

Y = np.arange(200) % 2


def answering(right, name):
    """An evaluation of a model that is right where ``right`` is."""
    said = np.where(right, Y, 1 - Y)
    model = keras.Sequential([keras.Input((2,)), L.ReLU()], name=name)
    return evaluate(model, (np.eye(2, dtype="float32")[said], Y))


def wrong_at(*places):
    right = np.ones(200, bool)
    right[list(places)] = False
    return right


def test_a_difference_that_is_more_than_chance():
    first, second = answering(wrong_at(0), "a"), answering(wrong_at(*range(1, 21)), "b")
    found = compare_evaluations(first, second)
    assert found.value == pytest.approx(-19 / 200) and (found.only_first, found.only_second) == (20, 1)
    assert found.p == pytest.approx(2.1e-5, rel=0.01) and found.told_apart and found.low < found.value < found.high < 0
    assert found.agreed == pytest.approx(1 - 21 / 200) and found.interval.startswith("exact intervals")
    assert found.verdict == (
        "b is 9.5 points less accurate than a, which is more than chance explains (McNemar's exact test: p = 2.1e-05; "
        "of the samples that only one has right, a has 20, b 1)"
    )
    back = compare_evaluations(second, first)
    assert (back.value, back.p) == (-found.value, found.p)


def test_a_difference_that_may_be_chance():
    found = compare_evaluations(answering(wrong_at(0, 1, 2), "a"), answering(wrong_at(2, 3), "b"))
    assert found.p == 1.0 and not found.told_apart and found.low < 0 < found.high
    assert found.verdict.startswith("b is 0.5 points more accurate than a, which may be chance (McNemar's exact test")


def test_the_same_answers():
    found = compare_evaluations(answering(wrong_at(0), "a"), answering(wrong_at(0), "b"))
    assert found.verdict == "b is as accurate as a: both are right on the same samples"
    assert found.agreed == 1.0 and found.low < 0 < found.high


def regressors():
    x = np.random.default_rng(0).normal(size=(300, 1)).astype("float32")
    noise = np.random.default_rng(1).normal(size=(300, 1)).astype("float32")
    model = keras.Sequential([keras.Input((1,)), L.ReLU(negative_slope=1.0)], name="a")
    more = keras.Sequential([keras.Input((1,)), L.Rescaling(1.05)], name="b")
    return evaluate(model, (x, x + noise)), evaluate(more, (x, x + noise)), x, noise


def test_two_regressors_by_the_errors_of_each_sample():
    first, second, x, noise = regressors()
    found = compare_evaluations(first, second)
    apart = (0.05 * x - noise) ** 2 - noise**2
    assert found.value == pytest.approx(apart.mean(), rel=1e-3) and found.p is None and found.agreed is None
    assert found.low < apart.mean() < found.high
    assert found.told_apart == (not found.low <= 0 <= found.high)
    spread = 1.96 * apart.std() / np.sqrt(300)
    assert found.high - found.low == pytest.approx(2 * spread, rel=0.1)
    assert "mean_squared_error than a, which" in found.verdict
    assert compare_evaluations(first, second, metric="mean_absolute_error").metric == "mean_absolute_error"


@pytest.mark.slow
def test_a_metric_that_is_no_mean_is_drawn_in_pairs():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 2)).astype("float32")
    y = (x[:, 0] + 0.3 * rng.normal(size=120) > 0).astype(int)
    good, bad = (
        keras.Sequential([keras.Input((2,)), L.Dense(1, activation="sigmoid")], name=name) for name in ("good", "bad")
    )
    good.set_weights([np.array([[3.0], [0.0]]), np.zeros(1)])
    bad.set_weights([np.array([[3.0], [3.0]]), np.zeros(1)])
    found = compare_evaluations(evaluate(bad, (x, y), metrics="AUC"), evaluate(good, (x, y), metrics="AUC"))
    assert found.value > 0 and 0 < found.low < found.high and found.told_apart
    assert found.interval == "expanded BCa bootstrap, 500 resamples"


def test_samples_of_several_places_have_no_test_of_right_or_wrong():
    x = np.random.default_rng(0).normal(size=(50, 4, 3)).astype("float32")
    y = x.argmax(-1)
    a, b = (keras.Sequential([keras.Input((4, 3)), L.Rescaling(s, offset=o)], name=n)
            for s, o, n in ((1, 0, "a"), (1, [0.5, 0, 0], "b")))  # fmt: skip
    found = compare_evaluations(evaluate(a, (x, y)), evaluate(b, (x, y)))
    assert found.p is None and found.told_apart and found.value < 0 and 0.5 < found.agreed < 1


def test_it_is_the_same_each_time_and_goes_to_json():
    first, second, *_ = regressors()
    found = compare_evaluations(first, second)
    assert found == compare_evaluations(first, second) == from_json(EvaluationDifference, to_json(found))


def test_what_is_drawn_is_by_the_seed():
    x = np.random.default_rng(0).normal(size=(40, 1)).astype("float32")
    models = (keras.Sequential([keras.Input((1,)), L.Rescaling(s)], name=n) for s, n in ((1.1, "a"), (0.8, "b")))
    first, second = (evaluate(m, (x, x + 0.1), metrics=[keras.metrics.R2Score(name="r2")]) for m in models)
    found = compare_evaluations(first, second, seed=4)
    assert found == compare_evaluations(first, second, seed=4) != compare_evaluations(first, second, seed=5)


def test_the_same_regressor_is_no_matter_of_chance():
    """It was said to "have the same mean_squared_error, which may be chance (... 0 to 0)"."""
    first, *_ = regressors()
    found = compare_evaluations(first, dataclasses.replace(first, thing="b"))
    assert (found.low, found.high, found.told_apart) == (0.0, 0.0, False)
    assert found.verdict == "b has the same mean_squared_error as a: it is the same at every sample"


def test_of_few_samples_no_two_regressors_are_told_apart():
    x = np.array([[1.0], [2.0], [3.0]], "float32")
    good, bad = (keras.Sequential([keras.Input((1,)), L.Rescaling(s)], name=n) for s, n in ((1, "good"), (2, "bad")))
    found = compare_evaluations(evaluate(good, (x, x)), evaluate(bad, (x, x)))
    assert found.low is None and not found.told_apart
    assert found.verdict == (
        "bad has 4.67 more mean_squared_error than good; how sure that is cannot be said of these samples: only 3 "
        "samples, fewer than 10"
    )


def test_what_cannot_be_compared():
    first, *_ = regressors()
    other = answering(wrong_at(0), "a")
    with pytest.raises(InputError, match="expected the same samples in the same order"):
        compare_evaluations(first, other)
    with pytest.raises(InputError, match="metric 'mse': a was evaluated by 'accuracy'"):
        compare_evaluations(other, other, metric="mse")
    with pytest.raises(InputError, match="has no answers, as one from JSON; evaluate it again"):
        compare_evaluations(from_json(Evaluation, to_json(other)), other)


@pytest.mark.parametrize("confidence", [95, None, 0, "0.95", float("nan")])
def test_a_confidence_is_a_share(confidence):
    """SciPy's traceback came out, or a TypeError when all had run."""
    found = answering(wrong_at(0), "a")
    wanted = rf"^confidence={confidence!r}: expected a share between 0 and 1, such as 0\.95$"
    with pytest.raises(InputError, match=wanted):
        compare_evaluations(found, found, confidence=confidence)
    with pytest.raises(InputError, match=wanted):
        compare_models(["none.keras", "none.tflite"], (Y, Y), confidence=confidence)


@pytest.mark.parametrize("options", [{"workers": "2"}, {"batch_size": 2.5}, {"batch_size": True}])
def test_options_of_the_wrong_kind_are_told_before_any_work(options):
    ((name, value),) = options.items()
    with pytest.raises(InputError, match=f"^{name}={value!r}: expected a whole number from 1$"):
        compare_models(["none.keras", "none.tflite"], (Y, Y), **options)


def test_the_interval_and_the_test_say_the_same():
    """8 against 2 of 300: McNemar's p is 0.11, and the interval has 0 in it."""
    first, second = np.ones(300), np.ones(300)
    second[:8], first[8:10] = 0.0, 0.0
    found = paired_interval(first, second)
    assert found.low < 0.0 < found.high and mcnemar(first, second)[2] == pytest.approx(0.109375)


def test_an_error_of_0_is_no_share():
    """Of the mean squared error of a perfect regressor nothing says that it lies under 1."""
    x = np.linspace(-1, 1, 30)[:, None].astype("float32")
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, kernel_initializer="ones", name="same")])
    found = evaluate(model, (x, x), metrics=["mse"]).measurements[0]
    assert (found.low, found.high, found.interval) == (0.0, 0.0, "the same value at every sample")
