"""Which layer hurts, and the precisions chosen by it."""

import logging

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import layers as L

import kompakt as kp
from kompakt.attach import chains_of
from kompakt.choose import Candidate, choose
from kompakt.numerics import fake_quantize_weight

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(128, 12)).astype("float32")


def chain():
    """The second layer has one weight that makes a coarse grid for the rest of its channel."""
    keras.utils.set_random_seed(0)
    i = keras.Input((12,), name="x")
    x = L.Dense(16, activation="relu", name="a")(i)
    x = L.Dense(16, activation="relu", name="b")(x)
    model = keras.Model(i, L.Dense(4, activation="softmax", name="c")(x))
    kernel = keras.ops.convert_to_numpy(model.get_layer("b").kernel).copy()
    kernel[0] = 40.0 * np.abs(kernel).max()
    model.get_layer("b").kernel.assign(kernel)
    bias = np.full(16, -1.0, "float32")
    model.get_layer("a").bias.assign(np.where(np.arange(16) == 0, -100.0, bias))
    return model


def test_the_layer_that_was_spoiled_hurts_most():
    rows = kp.sensitivity(chain(), X)
    assert rows[0].layer == "b" and rows[0].kind == "Dense" and rows[0].weights == 256
    assert {row.layer for row in rows} == {"x", "a", "b", "c"}
    by_name = {row.layer: {error.bits: error for error in row.errors} for row in rows}
    for name in ("a", "b", "c"):
        assert by_name[name][8].sqnr > by_name[name][4].sqnr
    assert rows[0].kernel.high == pytest.approx(keras.ops.convert_to_numpy(chain().get_layer("b").kernel).max())
    reach = {row.layer: row.kernel.reach for row in rows if row.kernel}
    assert all(sum(row.kernel.counts) == row.weights and len(row.kernel.counts) == 32 for row in rows if row.kernel)
    assert rows[0].kernel.reach == pytest.approx(4.0, rel=0.01) and max(reach, key=reach.get) == "b"


def test_the_error_is_that_of_the_layer_alone():
    """By hand: the last layer's weights on a 4-bit grid and its output on 8 bits, all else in floats."""
    model, x = chain(), X[:32]  # one batch of calibration: the range is the whole one
    last = model.get_layer("c")
    before = keras.Model(model.inputs, model.get_layer("b").output).predict(x, verbose=0)
    kernel, bias = map(keras.ops.convert_to_numpy, (last.kernel, last.bias))
    wanted = before @ kernel + bias
    coarse = before @ keras.ops.convert_to_numpy(fake_quantize_weight(kernel, 4, (-1,))) + bias
    low, high = min(wanted.min(), 0.0), max(wanted.max(), 0.0)
    scale = (high - low) / 255.0
    zero = np.round(-128 - low / scale)
    coarse = (np.clip(np.round(coarse / scale) + zero, -128, 127) - zero) * scale
    by_hand = 10 * np.log10((wanted**2).sum() / ((wanted - coarse) ** 2).sum())
    (row,) = (row for row in kp.sensitivity(chain(), x) if row.layer == "c")
    assert row.errors[1].sqnr == pytest.approx(by_hand, abs=0.3)


def test_labels_give_the_accuracy_lost_and_the_model_stays_as_it_was():
    model = chain()
    before = [np.array(w) for w in model.get_weights()]
    labels = model.predict(X, verbose=0).argmax(-1)
    rows = kp.sensitivity(model, (X, labels))
    plain = kp.sensitivity(model, X)
    for row, other in zip(rows, plain, strict=True):
        assert [e.drop for e in row.errors] == pytest.approx([e.drop for e in other.errors])
        assert all(0.0 <= e.drop <= 1.0 for e in row.errors)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def batches_of(x, y):
    yield from ((x[i : i + 32], y[i : i + 32]) for i in range(0, len(x), 32))


@pytest.mark.slow
def test_batches_are_put_together():
    model = chain()
    labels = RANDOM.integers(0, 4, len(X))
    assert kp.sensitivity(model, batches_of(X, labels)) == kp.sensitivity(model, (X, labels))
    assert kp.sensitivity(model, (x for x, _ in batches_of(X, labels))) == kp.sensitivity(model, X)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="needs TensorFlow")
def test_a_dataset():
    import tensorflow as tf

    labels = RANDOM.integers(0, 4, len(X))
    dataset = tf.data.Dataset.from_tensor_slices((X, labels)).batch(32)
    assert kp.sensitivity(chain(), dataset) == kp.sensitivity(chain(), (X, labels))


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ((X, np.zeros(10, "int32")), "labels of shape (10,) for 128 samples: expected one label a sample"),
        (
            (X, np.zeros((128, 3))),
            "labels of shape (3,) a sample for outputs of shape (4,): expected whole numbers of classes, or the shape "
            "of the outputs",
        ),
        (3, "data: received int, expected arrays or batches of them"),
    ],
)
def test_data_that_cannot_be(data, text):
    with pytest.raises(kp.InputError) as caught:
        kp.sensitivity(chain(), data)
    assert str(caught.value) == text


@pytest.mark.long(quick=1)
@pytest.mark.parametrize("ends", ["sigmoid", None, "two outputs"])
def test_one_value_and_labels_of_0_and_1_give_an_accuracy(ends):
    keras.utils.set_random_seed(0)
    i = keras.Input((12,))
    x = L.Dense(16, activation="relu")(i)
    last = L.Dense(1, activation="sigmoid" if ends == "two outputs" else ends, name="last")(x)
    model = keras.Model(i, [last, L.Dense(2)(x)] if ends == "two outputs" else last)
    inner = keras.Model(i, last)
    middle = 0.0 if ends is None else 0.5
    labels = (inner.predict(X, verbose=0) > middle).astype("int32")  # all right before
    for row in kp.sensitivity(model, (X, labels), bits=(8, 2)):
        for error in row.errors:
            wrong = error.drop * len(X)
            assert wrong == pytest.approx(round(wrong)) and 0 <= wrong <= len(X)
    assert max(error.drop for row in kp.sensitivity(model, (X, labels), bits=(8, 2)) for error in row.errors) > 0.0


@pytest.mark.slow
def test_rows_name_the_layer_that_was_given():
    keras.utils.set_random_seed(0)
    i = keras.Input((4, 6), name="x")
    model = keras.Model(i, L.Dense(3, name="b")(L.LSTM(5, name="memory")(i)))
    rows = kp.sensitivity(model, RANDOM.normal(size=(32, 4, 6)).astype("float32"))
    assert {row.of for row in rows} == {"x", "memory", "b"}
    assert len({row.layer for row in rows if row.of == "memory"}) > 1


def test_rows_are_in_the_order_of_what_all_layers_have():
    """A sigmoid inside has no weights, and so one error, for 8 bits."""
    keras.utils.set_random_seed(0)
    i = keras.Input((12,), name="x")
    x = L.Activation("tanh", name="t")(L.Dense(16, name="a")(i))
    rows = kp.sensitivity(keras.Model(i, L.Dense(4, name="c")(L.Add(name="s")([x, x]))), X, bits=(4, 8))
    assert [error.bits for row in rows for error in row.errors if row.layer == "s"] == [8]
    at_8 = [error.sqnr for row in rows for error in row.errors if error.bits == 8]
    assert at_8 == sorted(at_8) and len(at_8) == len(rows)


def layers(*numbers):
    return [
        Candidate(layer=f"l{i}", weights=weights, sqnr_8=eight, sqnr_4=four)
        for i, (weights, eight, four) in enumerate(numbers)
    ]


@given(
    st.lists(
        st.tuples(st.integers(1, 1000), st.floats(0, 60), st.floats(0, 60)), min_size=1, max_size=8
    ),
    st.lists(st.floats(0.0, 0.2), min_size=8, max_size=8),
    st.floats(0.0, 1.0),
)  # fmt: skip
def test_what_is_chosen_holds_the_floor_whatever_layers_cost(numbers, costs, floor):
    """Float scores 1; each layer in 8 bits costs, in 4 bits three times as much, in 16 a tenth."""
    factor = {"int8": 1.0, 4: 3.0, "int16x8": 0.1, "float": 0.0}

    def score(rules):
        every = rules.get("*", "int8")
        return 1.0 - sum(factor[rules.get(f"l{i}", every)] * costs[i] for i in range(len(numbers)))

    choice = choose(layers(*numbers), score, floor)
    assert choice.score == score(choice.rules) >= floor - 1e-12


def test_insensitive_layers_go_to_4_bits_and_sensitive_ones_up():
    three = layers((100, 50.0, 35.0), (100, 10.0, 2.0), (1000, 45.0, 30.0))

    def score(rules):
        bad = 0.5 * (rules.get("l1") not in ("int16x8", "float") and rules.get("*") is None)
        return 1.0 - bad - 0.02 * (rules.get("l0") == 4) - 0.02 * (rules.get("l2") == 4)

    choice = choose(three, score, 0.97)
    assert choice.rules == {"l1": "int16x8", "l2": 4}
    assert any(line.startswith("l1: int16x8, alone in 8 bits") for line in choice.why)
    assert "l2: 4-bit weights, 500 bytes less, noise at 30.0 dB" in choice.why


@pytest.mark.slow
def test_max_drop_holds_on_a_model(caplog, tmp_path):
    model = chain()
    labels = model.predict(X, verbose=0).argmax(-1)

    def accuracy(made):
        return float((made.predict(X, verbose=0).argmax(-1) == labels).mean())

    with caplog.at_level(logging.WARNING, "kompakt"):
        made = kp.quantize(model, "int8", calibration=X, ranges="minmax", max_drop=0.2, evaluate=accuracy)
    assert accuracy(made) >= 0.8
    said = [record.getMessage() for record in caplog.records]
    assert any("assignments were scored" in line for line in said)
    bits = {name: chain.bits for name, held, _ in chains_of(made) for chain in held if name.endswith("kernel")}
    assert 4 in bits.values()
    assert kp.export(made, tmp_path / "m.tflite", verify=X).breaches == ()
    strict = kp.quantize(model, "int8", calibration=X, ranges="minmax", max_drop=0.05, evaluate=accuracy)
    assert accuracy(strict) >= 0.95


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"max_drop": 0.1}, "give both, a drop of 0 or more and a function of a model"),
        ({"max_drop": -0.1, "evaluate": len}, "give both, a drop of 0 or more and a function of a model"),
        ({"max_drop": 0.1, "evaluate": len}, "max_drop= needs mode='int8', which it starts from, and calibration="),
    ],
)
def test_max_drop_that_cannot_be(given, text):
    with pytest.raises(kp.InputError) as caught:
        kp.quantize(chain(), "int8", **given)
    assert text in str(caught.value)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), None])
def test_a_score_that_is_no_finite_number_is_said(bad):
    """NaN once held every limit, so that all layers went to 4 bits."""
    with pytest.raises(kp.InputError) as caught:
        kp.quantize(chain(), calibration=X, max_drop=0.1, evaluate=lambda made: bad)
    assert str(caught.value).startswith(f"evaluate returned {bad!r} for the float model: expected a finite number")
    scores = iter([1.0, bad])
    with pytest.raises(kp.InputError, match=rf"evaluate returned {bad!r} for rules=\{{\}}"):
        kp.quantize(chain(), calibration=X, max_drop=0.1, evaluate=lambda made: next(scores))


def kernel_bits(made):
    return {name: each.bits for name, held, _ in chains_of(made) for each in held if name.endswith("kernel")}


@pytest.mark.slow
def test_layers_that_rules_name_stay_as_they_say(tmp_path):
    """{"a": 8} once became 4 bits: what was chosen came after the user's rules."""
    model = chain()
    first, *others = kernel_bits(kp.quantize(model, calibration=X))
    easy = {"calibration": X, "max_drop": 1.0, "evaluate": lambda made: 1.0}
    for pattern in (first, first.split("/")[0]):
        made = kernel_bits(kp.quantize(model, rules={"*": "int8", pattern: 8}, **easy))
        assert made.pop(first) == 8
        assert made == dict.fromkeys(others, 4)

    def only_float(made):  # all but the layer named has to become float
        return float(set(kernel_bits(made)) <= {first})

    made = kp.quantize(model, rules={first.split("/")[0]: 8}, calibration=X, max_drop=0.0, evaluate=only_float)
    assert kernel_bits(made) == {first: 8}
    assert kp.export(made, tmp_path / "m.tflite", verify=X).breaches == ()


def test_batches_of_several_inputs_with_labels_are_calibrated_on():
    keras.utils.set_random_seed(0)
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    model = keras.Model(
        [a, b], L.Dense(3, name="d")(L.Concatenate()([L.Dense(4, name="c")(a), L.Dense(4, name="e")(b)]))
    )
    x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    given = (((x[i : i + 16], 2 * x[i : i + 16]), np.zeros(16)) for i in range(0, 64, 16))
    made = kp.quantize(model, calibration=given, method="minmax", max_drop=1.0, evaluate=lambda made: 1.0)
    low, high = kp.get_ranges(made)["b_grid/output"]
    assert (low, high) == pytest.approx((2 * x.min(), 2 * x.max()))


def test_a_dataset_without_end_is_refused_before_it_is_read():
    tf = pytest.importorskip("tensorflow")
    data = tf.data.Dataset.from_tensor_slices(X).batch(16).repeat()
    with pytest.raises(kp.InputError, match=r"repeats without end; give dataset\.take"):
        kp.quantize(chain(), calibration=data, max_drop=1.0, evaluate=lambda made: 1.0)


@pytest.mark.parametrize("given", [(), [], 4, "8", (8, 1), (9,), (4.5,)])
def test_bits_that_cannot_be(given):
    with pytest.raises(kp.InputError, match="expected a list of whole numbers from 2 to 8"):
        kp.sensitivity(chain(), X, bits=given)


@pytest.mark.slow
def test_a_list_of_batches_with_labels_gives_what_arrays_give():
    labels = chain().predict(X, verbose=0).argmax(-1)
    wanted = kp.sensitivity(chain(), (X, labels), bits=[np.int64(4)])
    found = kp.sensitivity(chain(), [(X[:64], labels[:64]), (X[64:], labels[64:])], bits=(4,))
    assert found == wanted
    assert kp.sensitivity(chain(), [X[:64], X[64:]], bits=(4,)) == kp.sensitivity(chain(), (X,), bits=(4,))


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        (
            np.arange(128) % 4 + 100,
            "from 100 to 103 for outputs of 4 classes: expected whole numbers from 0 to 3",
        ),
        (np.arange(128) % 4 - 1, "labels from -1 to 2 for outputs of 4 classes"),
        (np.full(128, 0.5), "expected whole numbers from 0 to 3"),
        (np.full(128, "cat"), "labels are of type <U3, expected numbers"),
    ],
)
def test_labels_that_match_no_class_are_an_error(labels, text):
    """They gave a drop of 0.0 without a word."""
    with pytest.raises(kp.InputError, match=text):
        kp.sensitivity(chain(), (X, labels))


@pytest.mark.slow
def test_max_drop_says_the_scores_and_the_bytes(caplog):
    with caplog.at_level(logging.WARNING, "kompakt"):
        kp.quantize(chain(), calibration=X, max_drop=1.0, evaluate=lambda made: 0.75)
    # 12 * 16 + 16, 16 * 16 + 16 and 16 * 4 + 4 weights, half a byte each
    assert "max_drop: the score is 0.7500, the float model's 0.7500; 274 bytes less than all in int8" in caplog.messages


def test_raised_to_float_takes_more_bytes():
    layers = [Candidate(layer="a", weights=100, sqnr_8=10.0, sqnr_4=1.0)]
    assert choose(layers, lambda rules: float("float" in rules.values()), 0.5).saved == -300
