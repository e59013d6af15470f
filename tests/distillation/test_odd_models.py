"""Half precision, padding, open lengths, weights of other shapes, regularizers, outputs that cannot be told before."""

import keras
import numpy as np
import pytest
from keras import layers as L

import kompakt as kp
from kompakt.distillation import Hints, SoftTargets
from kompakt.distillation.outputs import forms

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(32, 6)).astype("float32")
IMAGES = RANDOM.normal(size=(16, 8, 8, 1)).astype("float32")
Y = RANDOM.integers(0, 3, 32)
ALL = ["soft_targets", "decoupled", "hints", "attention", "relational"]


def dense(width, units=3, end=None, **kwargs):
    body = [L.Dense(width, "relu", name="a", **kwargs), L.Dense(units, end, name="h", **kwargs)]
    return keras.Sequential([keras.Input((6,)), *body])


def conv(width, strides=1, size=8, **kwargs):
    body = [L.Conv2D(width, 3, strides, "same", activation="relu", name="c", **kwargs), L.GlobalAveragePooling2D()]
    return keras.Sequential([keras.Input((size, size, 1)), *body, L.Dense(3, **kwargs)])


def sequence(width, units):
    return keras.Sequential(
        [
            keras.Input((5,), dtype="int32"), L.Embedding(7, width, mask_zero=True, name="e"),
            L.LSTM(width, return_sequences=True, name="l"), L.Dense(units),
        ]
    )  # fmt: skip


def still(made):
    """Steps of no length, so that what is logged can be computed afterwards."""
    made.compile(keras.optimizers.SGD(0.0), made.usual_loss())
    return made


# Half precision


def test_terms_are_computed_in_single_precision():
    made = kp.distill(conv(4, dtype="mixed_float16"), conv(8, dtype="mixed_float16"), losses=ALL)
    for images in (IMAGES, 0.0 * IMAGES):
        history = made.fit(images, Y[:16], epochs=2, verbose=0).history
        assert all(np.isfinite(values).all() for values in history.values())


def test_sure_probabilities_of_a_teacher_in_half_precision_are_finite():
    """1 - epsilon is 1 there."""
    made = kp.distill(dense(4, 2, "sigmoid"), dense(16, 2, "sigmoid", dtype="float16"))
    history = made.fit(1000.0 * X, (X[:, :2] > 0).astype("float32"), verbose=0).history
    assert np.isfinite(history["loss"]).all() and np.isfinite(made.student.get_weights()[0]).all()


# Padding, weights of positions


def test_a_sequence_of_numbers_counts_where_it_is_not_masked_and_has_weight():
    x = RANDOM.integers(1, 7, (16, 5))
    x[:, 3:] = 0
    made = still(kp.distill(sequence(4, 2), sequence(8, 2), task="numbers", alpha=1.0))
    weight = RANDOM.uniform(size=(16, 5)).astype("float32")
    y = RANDOM.normal(size=(16, 5, 2)).astype("float32")
    logs = made.fit(x, y, sample_weight=weight, batch_size=16, verbose=0).history
    s, t = (model.predict(x, verbose=0) for model in (made.student, made.teacher))
    by_hand = (weight * ((s - t) ** 2).mean(-1))[:, :3].mean()
    assert logs["soft_targets"][0] == pytest.approx(by_hand, rel=1e-3)


def test_padding_is_no_hint():
    x = RANDOM.integers(1, 7, (16, 5))
    x[:, 2:] = 0
    made = still(kp.distill(sequence(4, 4), sequence(4, 4), losses=Hints("e", "e")))
    logs = made.fit(x, RANDOM.integers(0, 4, (16, 5)), batch_size=16, verbose=0).history
    s, t = (model.get_layer("e").get_weights()[0][x[:, :2]] for model in (made.student, made.teacher))
    assert logs["hints"][0] == pytest.approx(((s - t) ** 2).mean(), rel=1e-3)


@pytest.mark.parametrize("loss", ["attention", "relational"])
def test_what_a_layer_makes_of_padding_counts_in_no_term(loss):
    x = RANDOM.integers(1, 7, (16, 5))
    x[:, 2:] = 0
    made = still(kp.distill(sequence(4, 4), sequence(4, 4), losses={"name": loss, "student_layer": "e",
                                                                    "teacher_layer": "e"}))  # fmt: skip
    y = RANDOM.integers(0, 4, (16, 5))
    seen = []
    for value in (0.0, 9.0):
        table = made.teacher.get_layer("e").get_weights()[0]
        table[0] = value  # of the padding
        made.teacher.get_layer("e").set_weights([table])
        seen += made.fit(x, y, batch_size=16, verbose=0).history[loss]
    assert seen[0] == pytest.approx(seen[1], rel=1e-5) and seen[0] > 0


@pytest.mark.parametrize("weight", [np.zeros((32, 1)), np.zeros(32)], ids=["column", "row"])
def test_samples_of_weight_zero_give_no_hint(weight):
    made = kp.distill(dense(4), dense(8), losses=["soft_targets", "hints", "relational"])
    assert made.fit(X, Y, sample_weight=weight, verbose=0).history["distillation_loss"] == [0.0]


# Open lengths


class Lengths(keras.utils.PyDataset):
    """A batch of each length."""

    sizes = (4, 6, 7)

    def __init__(self, images):
        super().__init__()
        self.images = images

    def __len__(self):
        return len(self.sizes)

    def __getitem__(self, place):
        size = self.sizes[place]
        return self.images[:, :size, :size], Y[:16]


def test_layers_of_open_size_are_compared_at_the_same_places():
    losses = ["hints", "attention"]
    open_sizes = still(kp.distill(conv(4, 2, None), conv(8, 1, None), losses=losses))
    found = open_sizes.fit(Lengths(IMAGES), shuffle=False, verbose=0).history
    single = []
    for size in Lengths.sizes:
        fixed = still(kp.distill(conv(4, 2, size), conv(8, 1, size), losses=losses))
        fixed.set_weights(open_sizes.get_weights())
        single.append(fixed.fit(IMAGES[:, :size, :size], Y[:16], batch_size=16, verbose=0).history)
    for name in losses:
        assert found[name][0] == pytest.approx(np.mean([each[name][0] for each in single]), rel=1e-4)


# Regularizers, what it was compiled with


def test_regularizers_of_the_student_count_in_full():
    decay = keras.regularizers.L2(1.0)
    for options in ({"x": X}, {"x": X, "y": Y}):
        made = still(kp.distill(dense(4, kernel_regularizer=decay), dense(8), alpha=1.0))
        logs = made.fit(**options, verbose=0).history
        extra = sum(float((kernel**2).sum()) for kernel in made.student.get_weights()[::2])
        assert logs["loss"][0] == pytest.approx(logs["distillation_loss"][0] + extra, rel=1e-4)


def two(width):
    i = keras.Input((6,))
    h = L.Dense(width, activation="relu")(i)
    return keras.Model(i, {"kind": L.Dense(3, name="kind")(h), "sort": L.Dense(3, name="sort")(h)})


def test_several_outputs_of_classes_have_an_accuracy_each():
    made = kp.distill(two(4), two(8))
    assert {"kind_accuracy", "sort_accuracy"} <= set(made.fit(X, {"kind": Y, "sort": Y}, verbose=0).history)
    i = keras.Input((6,))
    plain = keras.Model(i, list(two(4)(i).values()))
    assert np.isfinite(kp.distill(plain, plain).fit(X, [Y, Y], verbose=0).history["loss"]).all()


def test_weights_of_losses_are_the_students_and_stay_when_saved(tmp_path):
    student = two(4)
    cross = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    student.compile("sgd", {"kind": cross, "sort": cross}, loss_weights={"kind": 0.0, "sort": 2.0})
    made = kp.distill(student, two(8), alpha=0.0)
    y = {"kind": Y, "sort": Y}
    made.save(tmp_path / "d.keras")
    for model in (made, keras.saving.load_model(tmp_path / "d.keras")):
        logs = model.evaluate(X, y, return_dict=True, verbose=0)
        assert logs["loss"] == pytest.approx(2.0 * logs["sort_loss"], rel=1e-4)


def test_fit_takes_its_arguments_in_keras_order():
    kp.distill(dense(4), dense(8)).fit(X, Y, 8, 1, 0, [])


# Subclassed models


@keras.saving.register_keras_serializable(package="test_odd_models")
class Head(keras.Model):
    def __init__(self, units=3, **kwargs):
        super().__init__(**kwargs)
        self.units, self.head = units, L.Dense(units, name="head")

    def call(self, x):
        return self.head(x)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def head(units=3):
    model = Head(units)
    model(X)
    return model


def test_a_teacher_is_frozen_after_loading_too(tmp_path):
    made = kp.distill(head(), head())
    made.compile(keras.optimizers.AdamW(0.1, weight_decay=0.5), made.usual_loss())
    made.fit(X, Y, verbose=0)
    made.save(tmp_path / "d.keras")
    loaded = keras.saving.load_model(tmp_path / "d.keras")
    assert len(loaded.trainable_variables) == len(made.trainable_variables) == 2
    before = loaded.teacher.get_weights()
    for model in (made, loaded):
        model.fit(X, Y, shuffle=False, verbose=0)
    assert all(map(np.array_equal, before, loaded.teacher.get_weights()))
    np.testing.assert_allclose(loaded.student.get_weights()[0], made.student.get_weights()[0], atol=1e-5)


def test_outputs_of_other_widths_are_no_silent_broadcast():
    text = r"the teacher makes \(1,\) a sample, the student \(3,\); expected 1 of the same shapes"
    with pytest.raises(kp.InputError, match=text):
        kp.distill(head(3), head(1)).fit(X, Y, verbose=0)


def test_a_teacher_that_is_not_finite_is_refused():
    teacher = dense(8)
    teacher.layers[0].bias.assign([np.nan] * 8)
    with pytest.raises(kp.InputError, match=r"the teacher's .*a/bias: 8 of 8 values are NaN or infinite"):
        kp.distill(dense(4), [dense(8), teacher], losses=[SoftTargets()])


@pytest.mark.parametrize("loss", ["msle", "mape", "poisson", "cosine_similarity"])
def test_losses_of_numbers(loss):
    model = dense(4)
    model.compile("sgd", loss)
    assert forms(model)[0].task == "numbers"
