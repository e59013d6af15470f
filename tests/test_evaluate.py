"""``evaluate``: every kind of thing and of data, against ``model.evaluate``."""

import keras
import numpy as np
import pytest
from keras import layers as L

import kompakt as kp
from kompakt.errors import InputError, VerificationError
from kompakt.evaluate import MASKED, classes_held, evaluate
from kompakt.records import from_json, to_json
from kompakt.records_evaluation import Evaluation
from kompakt.task import GUESSED

X = np.random.default_rng(0).normal(size=(300, 6)).astype("float32")
Y = X[:, :3].argmax(-1)


def classifier(*last):
    keras.utils.set_random_seed(0)
    hidden = L.Dense(16, activation="relu", name="hidden")
    return keras.Sequential([keras.Input((6,)), hidden, L.Dense(3, name="logits"), *last], name="small")


@pytest.fixture(scope="module")
def model():
    made = classifier()
    made.compile(
        keras.optimizers.Adam(0.005), keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"]
    )
    made.fit(X, Y, epochs=8, verbose=0)
    return made


@pytest.fixture(scope="module")
def wanted(model):
    return model.evaluate(X, Y, verbose=0, return_dict=True)


def test_a_model_is_as_good_as_keras_says(model, wanted):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, name="loss")
    found = evaluate(model, (X, Y), metrics=["accuracy", loss])
    assert found.value("accuracy") == pytest.approx(wanted["accuracy"], abs=1e-7)
    assert found.value("loss") == pytest.approx(wanted["loss"], rel=1e-5)
    for measured in found.measurements:
        assert measured.low < measured.value < measured.high and "bootstrap" in measured.interval
    assert (found.thing, found.kind, found.samples) == ("small", "keras", 300)


def test_a_model_in_training_is_judged_with_its_transforms(model, wanted):
    plain = evaluate(kp.prune(model, 0.0), (X, Y))
    pruned = kp.prune(model, 0.9)
    assert plain.value("accuracy") == pytest.approx(wanted["accuracy"])
    expected = float((pruned.predict(X, verbose=0).argmax(-1) == Y).mean())
    assert evaluate(pruned, (X, Y)).value("accuracy") == pytest.approx(expected)
    assert expected < wanted["accuracy"]
    integer = kp.calibrate(kp.quantize(model), X)
    expected = float((np.asarray(integer(X, training=False)).argmax(-1) == Y).mean())
    assert evaluate(integer, (X, Y)).value("accuracy") == pytest.approx(expected)


def dataset():
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((X, Y)).batch(70)


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, i):
        return X[100 * i : 100 * i + 100], Y[100 * i : 100 * i + 100]


@pytest.mark.parametrize(
    "data",
    [
        lambda: (X, Y),
        lambda: (X.tolist(), Y.tolist()),
        dataset,
        Batches,
        lambda: [(X[:200], Y[:200]), (X[200:], Y[200:])],
        lambda: (pair for pair in [(X[:1], Y[:1]), (X[1:], Y[1:])]),
        lambda: [(X[:1], [int(Y[0])]), (X[1:], Y[1:].tolist())],
        lambda: (X, {"logits": Y}),
        lambda: {"x_train": X[:9], "y_train": Y[:9], "x_test": X, "y_test": Y},
        lambda: kp.load_data({"x_train": X[:9], "y_train": Y[:9], "x_test": X, "y_test": Y}),
    ],
)
def test_data_of_every_form(model, wanted, data):
    found = evaluate(model, data(), batch_size=64)
    assert found.samples == 300 and found.value("accuracy") == pytest.approx(wanted["accuracy"], abs=1e-7)


def test_labels_in_rows(model, wanted):
    found = evaluate(model, (X, np.eye(3)[Y]))
    assert found.value("accuracy") == pytest.approx(wanted["accuracy"], abs=1e-7)


def test_a_regressor_is_judged_by_its_errors():
    made = keras.Sequential([keras.Input((6,)), L.Dense(1)])
    made.compile("sgd", "mse", metrics=["mae"])
    values = X.sum(-1)
    found = evaluate(made, (X, values))
    wanted = made.evaluate(X, values, verbose=0, return_dict=True)
    assert [m.name for m in found.measurements] == ["mean_squared_error", "mean_absolute_error"]
    assert found.value("mean_squared_error") == pytest.approx(wanted["loss"], rel=1e-5)
    assert found.value("mean_absolute_error") == pytest.approx(wanted["mae"], rel=1e-5)


@pytest.mark.parametrize(("last", "threshold"), [((), 0.0), ((L.Activation("sigmoid"),), 0.5)])
def test_yes_or_no_by_logit_or_probability(last, threshold):
    made = keras.Sequential([keras.Input((6,)), L.Dense(1), *last])
    yes = (X[:, 0] > 0).astype(int)
    expected = ((made.predict(X, verbose=0)[:, 0] > threshold) == yes).mean()
    assert evaluate(made, (X, yes)).value("accuracy") == pytest.approx(expected)


def two_outputs(inputs=("zed", "alpha")):
    keras.utils.set_random_seed(0)
    b, a = (keras.Input((3,), name=name) for name in inputs)
    h = L.Dense(4, name="h")(b) - L.Dense(4, name="g")(a)
    return keras.Model([b, a], [L.Dense(3, name="cls")(h), L.Dense(1, name="reg")(h)], name="two")


PARTS = {"zed": X[:, :3], "alpha": X[:, 3:]}
LABELS = {"cls": Y, "reg": X.sum(-1)}


@pytest.mark.parametrize("inputs", [PARTS, list(PARTS.values())])
@pytest.mark.parametrize("labels", [LABELS, list(LABELS.values())])
def test_several_inputs_and_outputs(inputs, labels):
    made = two_outputs()
    made.compile("sgd", ["sparse_categorical_crossentropy", "mse"], metrics=[["accuracy"], ["mae"]])
    wanted = made.evaluate(list(PARTS.values()), list(LABELS.values()), verbose=0, return_dict=True)
    found = evaluate(made, (inputs, labels), metrics={"cls": "accuracy", "reg": ["mae", "mse"]})
    assert [m.name for m in found.measurements] == ["cls_accuracy", "reg_mae", "reg_mse"]
    assert found.value("cls_accuracy") == pytest.approx(wanted["cls_accuracy"])
    assert found.value("reg_mae") == pytest.approx(wanted["reg_mae"], rel=1e-5)
    usual = evaluate(made, (inputs, labels))
    assert [m.name for m in usual.measurements] == ["cls_accuracy", "reg_mean_squared_error", "reg_mean_absolute_error"]


def test_padding_counts_and_that_is_said():
    made = keras.Sequential([keras.Input((5,)), L.Embedding(7, 4, mask_zero=True), L.Dense(3)])
    words = np.random.default_rng(0).integers(0, 7, (20, 5))
    assert MASKED in evaluate(made, (words, words % 3)).notes


def test_a_metric_that_is_no_mean_has_an_interval_too(model):
    yes = (Y == 1).astype(int)
    made = keras.Sequential([keras.Input((6,)), L.Dense(1, activation="sigmoid")])
    found = evaluate(made, (X[:80], yes[:80]), metrics="AUC")
    assert found.measurements[0].low < found.value("AUC") < found.measurements[0].high
    assert found.measurements[0].interval == "expanded BCa bootstrap, 500 resamples"


@pytest.mark.parametrize(("metric", "positives"), [("AUC", 3), ("Recall", 1)])
def test_few_of_a_class_have_no_interval_and_that_is_said(metric, positives):
    """A resample without a positive would count as 0."""
    made = keras.Sequential([keras.Input((6,)), L.Dense(1, activation="sigmoid")])
    found = evaluate(made, (X[:100], (np.arange(100) < positives).astype(int)), metrics=metric).measurements[0]
    said = f"only {positives} sample{'s' * (positives > 1)} of a class, fewer than 10"
    assert found.low is None and found.interval == f"none: {said}"
    found = evaluate(made, (X[:100], (np.arange(100) < positives).astype(int)), metrics=metric)
    assert said in found.report


def test_which_classes_samples_have():
    rows = classes_held(np.array([[0, 1], [1, 1]]), np.zeros((2, 2)))
    assert rows.tolist() == [[False, True, True], [True, True, False]]
    places = classes_held(np.array([[0, 2], [2, 2]]), np.zeros((2, 2, 3)))
    assert places.tolist() == [[True, True], [False, True]]


def test_the_same_seed_is_the_same_record(model):
    first, again, other = (evaluate(model, (X, np.eye(3)[Y]), seed=seed, metrics="mse") for seed in (3, 3, 4))
    assert first.measurements == again.measurements
    assert first.measurements[0].low != other.measurements[0].low


def test_no_interval_where_none_is_wanted(model):
    found = evaluate(model, (X, Y), confidence=None)
    assert found.measurements[0].low is None and found.confidence is None


def test_the_record_goes_to_json_without_its_answers(model):
    found = evaluate(model, (X, Y))
    text = to_json(found)
    assert "answers" not in text and from_json(Evaluation, text) == found
    assert found.answers.outputs[0].shape == (300, 3) and found.answers.each[0].shape == (300,)
    assert found.report.splitlines()[0] == "small: keras, 300 samples"


def test_progress_is_told(model):
    told = []
    evaluate(model, (X, Y), batch_size=100, progress=lambda what, share: told.append((what, share)))
    assert told[:3] == [("running small", 1 / 3), ("running small", 2 / 3), ("running small", 1.0)]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_outputs_that_are_no_numbers_are_no_score(model, bad):
    made = keras.models.clone_model(model)
    made.set_weights(model.get_weights())
    kernel = made.get_layer("logits").kernel
    kernel.assign(np.full(kernel.shape, bad))
    with pytest.raises(VerificationError, match=r"^small: the outputs of 300 of 300 samples are NaN") as caught:
        evaluate(made, (X, Y))
    assert len(caught.value.breaches) == 1


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (X, {}, r"data: received ndarray, there are no labels in it; expected a pair \(x, y\) of arrays"),
        ((X, Y, Y), {}, r"expected pairs \(inputs, labels\); weights of samples are not taken"),
        ((X, Y[:9]), {}, "data: arrays with 9, 300 samples; expected as many in each"),
        ((X[:0], Y[:0]), {}, "data: arrays with 0 samples"),
        ([], {}, "data is empty"),
        ((X[:, :5], Y), {}, r"data: received an array of shape \(256, 5\), the model takes \(None, 6\)"),
        ((np.full_like(X, np.nan), Y), {}, "data: 1536 values are NaN or infinite"),
        ((X, [Y, Y]), {}, "data: arrays with|labels"),
        ((X, Y), {"metrics": "acuracy"}, "metric 'acuracy': Keras has none of that name"),
        ((X, Y), {"metrics": ["mse", "mse"]}, "does not take labels|'mse' is there more than once"),
        ((X, Y), {"metrics": []}, "there is none"),
        ((X, Y), {"workers": 0}, "workers=0: expected a whole number from 1"),
        ((X, Y), {"batch_size": 0}, "batch_size=0: expected a whole number from 1"),
        ((X, Y), {"workers": "2"}, "workers='2': expected a whole number from 1"),
        ((X, Y), {"batch_size": 2.5}, "batch_size=2.5: expected a whole number from 1"),
        ((X, Y), {"confidence": 95}, "confidence=95: expected a share between 0 and 1, such as 0.95, or None$"),
        ((X, Y), {"confidence": "0.9"}, "confidence='0.9': expected a share between 0 and 1"),
        ((X, Y.astype(str)), {}, r"^labels: received <U21, expected numbers: of classes 0, 1"),
        ((X, Y), {"metrics": "mse"}, r"metric 'mse': does not take labels of shape \(300,\) and outputs of shape"),
        (
            (X, Y + 100),
            {},
            r"^labels: all are no class from 0 to 2 \(100 to 102\), as many as there are outputs",
        ),
        ((X, np.where(Y == 1, np.nan, Y)), {}, r"^labels: those of \d+ of 300 samples are NaN or infinite, first of"),
        ("no.npz", {}, "data file no.npz does not exist"),
        (3, {}, "data: received int"),
    ],
)
def test_what_cannot_be_used(model, data, options, message):
    with pytest.raises(InputError, match=message):
        evaluate(model, data, **options)


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        (3, "received int, expected a Keras model, or the path"),
        ("none.tflite", "cannot read none.tflite"),
        ("none.keras", "model file none.keras does not exist"),
    ],
)
def test_things_that_cannot_be_judged(thing, message):
    with pytest.raises(InputError, match=message):
        evaluate(thing, (X, Y))


KINDS = [
    ("tflite", "float", "m.tflite"),
    ("tflite", "int8", "m8.tflite"),
    ("tflm", "int8", "m_tflm"),
    ("savedmodel", "float", "m_saved"),
    ("onnx", "float", "m.onnx"),
    ("tfjs", "float", "m_web"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("target", "mode", "name"), KINDS)
def test_a_file_is_run_in_its_own_runtime(model, wanted, tmp_path, target, mode, name):
    path = tmp_path / name
    kp.export(model, path, target=target, quantization=mode, calibration=X, on_breach="warn")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, name="loss")
    one, two = (evaluate(path, (X, Y), metrics=["accuracy", loss], workers=n, batch_size=64) for n in (1, 2))
    assert one.kind == target and one.measurements == two.measurements
    near = {"abs": 0.02} if mode == "int8" else {"rel": 1e-4}
    assert one.value("loss") == pytest.approx(wanted["loss"], **near)
    assert one.value("accuracy") == pytest.approx(wanted["accuracy"], abs=0.02 if mode == "int8" else 1e-7)


@pytest.mark.slow
@pytest.mark.parametrize(("target", "name"), [(t, n) for t, mode, n in KINDS if mode == "float" or t == "tflm"])
def test_a_file_takes_inputs_by_their_names(tmp_path, target, name):
    """By name they would go in by the alphabet, which is not the model's order: SavedModel, ONNX and TFLM did so."""
    made, path = two_outputs(), tmp_path / name
    kp.export(made, path, target=target, quantization="float", verify=list(PARTS.values()), on_breach="warn")
    labels = list(LABELS.values())
    wanted = evaluate(made, (PARTS, labels)).measurements
    for inputs in (PARTS, list(PARTS.values())):
        for measured, want in zip(evaluate(path, (inputs, labels)).measurements, wanted, strict=True):
            assert measured.value == pytest.approx(want.value, rel=1e-4)
    with pytest.raises(InputError, match="received the names 'a', 'b', expected"):
        evaluate(path, ({"a": PARTS["zed"], "b": PARTS["alpha"]}, labels))


@pytest.mark.slow
def test_a_file_of_one_probability_says_how_it_was_read(tmp_path):
    made = keras.Sequential([keras.Input((6,)), L.Dense(1, activation="sigmoid", name="d")])
    kp.export(made, tmp_path / "p.tflite", verify=X)
    yes = (X[:, 0] > 0).astype(int)
    found = evaluate(tmp_path / "p.tflite", (X, yes))
    assert found.notes == (GUESSED,) and found.value("accuracy") == evaluate(made, (X, yes)).value("accuracy")


def test_labels_that_no_output_has_are_named(model):
    """Classes counted from 1 were an accuracy near 0, and nothing said why."""
    found = evaluate(model, (X, Y + 1))
    assert found.notes == (
        f"labels: {(Y == 2).sum()} of 300 are no class from 0 to 2 (such as 3): by an accuracy they are wrong whatever "
        "the outputs are",
    )
    assert not evaluate(model, (X, Y)).notes


def test_a_metric_of_any_name_and_value_goes_to_json(model):
    """Bounds of kompakt's own names refused a percentage and a negative spread."""

    def accuracy_percent(y, p):
        return 99.1 + 0 * keras.ops.mean(p, -1)

    def loss_spread(y, p):
        return -1.0 - keras.ops.mean(p, -1) ** 2

    found = evaluate(model, (X, Y), metrics=[accuracy_percent, loss_spread])
    assert from_json(Evaluation, to_json(found)) == found
