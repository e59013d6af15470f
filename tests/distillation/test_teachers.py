"""Several teachers as one, and a model that teaches itself."""

import keras
import numpy as np
import pytest
from scipy.special import expit, softmax

import kompakt as kp
from kompakt.distillation import Ensemble, Hints

RNG = np.random.default_rng(3)
X = RNG.normal(size=(24, 6)).astype("float32")
Y = RNG.integers(0, 3, 24)


def net(end=None, units=3, width=8, seed=0, name=None):
    keras.utils.set_random_seed(seed)
    layers = [keras.Input((6,)), keras.layers.Dense(width, activation="relu", name=f"{name or 'hidden'}_in")]
    return keras.Sequential([*layers, keras.layers.Dense(units, activation=end)], name=name)


def logits_of(model):
    """By hand: what the model makes before its last function."""
    (a, b), (c, d) = (layer.get_weights() for layer in model.layers)
    return np.maximum(X @ a + b, 0) @ c + d


def weights(model):
    return [np.array(w) for w in model.get_weights()]


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("shares", [None, [1, 2, 5]])
def test_of_classes_the_probabilities_are_averaged_whatever_the_teachers_end_in(shares):
    teachers = [net("softmax", seed=1), net(None, seed=2), net("log_softmax", seed=3)]
    w = np.ones(3) / 3 if shares is None else np.array(shares) / 8
    by_hand = np.log(sum(s * softmax(logits_of(t), axis=-1) for s, t in zip(w, teachers, strict=True)))
    ensemble = Ensemble(teachers, weights=shares)
    np.testing.assert_allclose(ensemble(X), by_hand, atol=2e-6)
    assert ensemble.told[0].task == "classes" and ensemble.told[0].holds == "logits"
    assert "softmax" in ensemble.told[0].why


def test_of_yes_or_no_the_probabilities_of_each_are_averaged():
    teachers = [net("sigmoid", seed=1), net(None, seed=2)]
    p = (expit(logits_of(teachers[0])) + expit(logits_of(teachers[1]))) / 2
    np.testing.assert_allclose(Ensemble(teachers)(X), np.log(p / (1 - p)), atol=5e-6)


def test_of_numbers_the_mean_is_taken():
    teachers = [net(units=1, seed=1), net(units=1, seed=2)]
    by_hand = 0.25 * logits_of(teachers[0]) + 0.75 * logits_of(teachers[1])
    ensemble = Ensemble(teachers, weights=[1, 3])
    np.testing.assert_allclose(ensemble(X), by_hand, atol=2e-6)
    assert ensemble.told[0].task == ensemble.told[0].holds == "numbers"


def test_a_mean_of_sure_teachers_stays_finite():
    teachers = [net(seed=1), net(seed=2)]
    for teacher in teachers:
        teacher.layers[-1].kernel.assign(teacher.layers[-1].kernel * 1e4)
    assert np.isfinite(np.asarray(Ensemble(teachers)(X))).all()
    assert np.isfinite(np.asarray(Ensemble(teachers, task="binary")(X))).all()


def test_several_outputs_each_have_their_own_mean_and_the_names_of_the_first():
    def two(seed):
        keras.utils.set_random_seed(seed)
        i = keras.Input((6,))
        outputs = {"kind": keras.layers.Dense(3, activation="softmax")(i), "size": keras.layers.Dense(1)(i)}
        return keras.Model(i, outputs)

    teachers = [two(1), two(2)]
    made, each = Ensemble(teachers)(X), [teacher(X) for teacher in teachers]
    np.testing.assert_allclose(np.exp(made["kind"]), (each[0]["kind"] + each[1]["kind"]) / 2, atol=1e-6)
    np.testing.assert_allclose(made["size"], (each[0]["size"] + each[1]["size"]) / 2, atol=1e-6)


def test_the_compiled_loss_of_a_teacher_says_what_it_predicts_in_its_copy_too():
    teachers = [net(seed=1), net(seed=2)]
    teachers[1].compile(loss=keras.losses.BinaryCrossentropy(from_logits=True))
    ensemble = Ensemble(teachers)
    assert ensemble.told[0].task == "binary"
    copy = kp.distill(net("sigmoid"), ensemble).teacher
    assert copy.told == ensemble.told and copy.of_each == ensemble.of_each
    np.testing.assert_allclose(copy(X), ensemble(X), atol=1e-6)


def test_dropout_and_moving_averages_of_teachers_rest_in_training_mode():
    def noisy(seed):
        keras.utils.set_random_seed(seed)
        parts = [keras.layers.BatchNormalization(), keras.layers.Dropout(0.5), keras.layers.Dense(3)]
        return keras.Sequential([keras.Input((6,)), *parts])

    teachers = [noisy(1), noisy(2)]
    ensemble, before = Ensemble(teachers), weights(teachers[0])
    assert np.array_equal(ensemble(X, training=True), ensemble(X, training=False))
    assert same(before, weights(teachers[0]))


@pytest.mark.slow
def test_fit_from_several_teachers_is_fit_from_their_mean_and_leaves_them_as_they_were():
    teachers = [net("softmax", seed=1), net(None, seed=2)]
    before = [weights(teacher) for teacher in teachers]
    student, distillations = net(width=4, seed=5), []
    for teacher in (teachers, Ensemble(teachers)):
        d = kp.distill(student, teacher)
        keras.utils.set_random_seed(0)
        d.fit(X, Y, epochs=2, batch_size=8, verbose=0)
        distillations.append(d)
        assert not d.teacher.trainable_variables
        assert all(same(old, weights(copy)) for old, copy in zip(before, d.teacher.teachers, strict=True))
    assert all(same(old, weights(teacher)) for old, teacher in zip(before, teachers, strict=True))
    assert all(teacher.trainable for teacher in teachers)
    assert same(*(weights(d.student) for d in distillations))
    assert not same(weights(student), weights(distillations[0].student))


def test_the_term_is_the_divergence_from_the_mean():
    teachers, student = [net("softmax", seed=1), net(None, seed=2)], net(width=4, seed=5)
    p = (softmax(logits_of(teachers[0]), axis=-1) + softmax(logits_of(teachers[1]), axis=-1)) / 2
    q = softmax(logits_of(student), axis=-1)
    d = kp.distill(student, teachers, temperature=1.0, alpha=1.0)
    d.optimizer.learning_rate = 0.0
    loss = d.fit(X, Y, batch_size=24, verbose=0).history["loss"][0]
    assert loss == pytest.approx((p * np.log(p / q)).sum(-1).mean(), abs=1e-5)


def test_each_teacher_is_called_once_a_batch():
    @keras.saving.register_keras_serializable(package="test_teachers")
    class Counted(keras.layers.Layer):
        calls = 0

        def call(self, inputs):
            Counted.calls += 1
            return inputs

    def counted(seed):
        return keras.Sequential([keras.Input((6,)), Counted(), net(seed=seed, name=f"n{seed}")])

    d = kp.distill(net(), [counted(1), counted(2), counted(4)])
    d.compile(run_eagerly=True)
    Counted.calls = 0
    d.fit(X, Y, batch_size=8, epochs=2, verbose=0)
    assert Counted.calls == 3 * 3 * 2


def test_a_layer_that_one_teacher_has_can_be_compared():
    teachers = [net(seed=1, name="a"), net(seed=2, name="b", width=5)]
    d = kp.distill(net(width=4, name="s"), teachers, losses=["soft_targets", Hints("s_in", "b_in")])
    assert "hints" in d.fit(X, Y, verbose=0).history
    assert d.projections["1"].kernel.shape == (4, 5)


def test_a_layer_of_an_ensemble_must_be_told_and_be_of_one_teacher():
    with pytest.raises(kp.InputError, match="teacher_layer='hidden_in': the teacher has 2 of that name"):
        kp.distill(net(name="s"), [net(seed=1), net(seed=2)], losses=Hints("s_in", "hidden_in"))
    with pytest.raises(kp.InputError, match="teacher_layer='nope': the teacher has none"):
        kp.distill(net(name="s"), [net(seed=1), net(seed=2)], losses=Hints("s_in", "nope"))
    with pytest.raises(kp.InputError, match="give teacher_layer="):
        kp.distill(net(), [net(seed=1), net(seed=2)], losses="hints")


class Own(keras.Model):
    def __init__(self, units=3, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.head = keras.layers.Dense(units, name="own_head")

    def call(self, inputs):
        return keras.ops.softmax(self.head(inputs))

    def get_config(self):
        return {"units": self.units, "name": self.name}


def test_subclassed_teachers_and_layers_of_them():
    own = Own()
    own(X)
    d = kp.distill(net(name="s", width=3), [own, net(seed=2)], losses=["soft_targets", Hints("s_in", "own_head")])
    d.fit(X, Y, verbose=0)
    p = (np.asarray(own(X)) + softmax(logits_of(d.teacher.teachers[1]), axis=-1)) / 2
    np.testing.assert_allclose(np.exp(d.teacher(X)), p, atol=1e-6)


def test_save_and_load_keep_the_ensemble_and_training_goes_on(tmp_path):
    teachers = [net("softmax", seed=1, name="same"), net(None, seed=2, name="same")]
    d = kp.distill(net(width=4, seed=5), Ensemble(teachers, weights=[1, 3]))
    d.fit(X, Y, verbose=0, batch_size=8, shuffle=False)
    d.save(tmp_path / "d.keras")
    loaded = kp.load_model(tmp_path / "d.keras", compiled=True)
    assert loaded.teacher.shares == (0.25, 0.75)
    assert np.array_equal(loaded.teacher(X), d.teacher(X))
    for each in (d, loaded):
        each.fit(X, Y, verbose=0, batch_size=8, shuffle=False)
    for a, b in zip(weights(d.student), weights(loaded.student), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Ensemble([net()]), r"expected a list of two Keras models or more"),
        (lambda: Ensemble([net(), "b"]), r"teachers\[1\]='b': expected a Keras model"),
        (lambda: Ensemble([net(), keras.Sequential([keras.layers.Dense(3)])]), "has no weights yet"),
        (lambda: Ensemble([net(), net()], weights=[1]), r"weights=\[1\]: expected 2 numbers over 0"),
        (lambda: Ensemble([net(), net()], weights=[1, 0]), "expected 2 numbers over 0"),
        (lambda: Ensemble([net(), net()], weights=[1, float("nan")]), "expected 2 numbers over 0"),
        (lambda: Ensemble([net(), net()], weights="ab"), "expected 2 numbers over 0"),
        (lambda: Ensemble([net("softmax"), net("sigmoid")]), "of one it is for classes .*, of teachers.1. for binary"),
        (lambda: kp.distill(net(), []), "teachers=.*expected a list of two"),
        (lambda: kp.distill(net("softmax"), [net("sigmoid"), net(seed=1)]), "the teacher's output is for binary"),
    ],
)
def test_what_cannot_be_an_ensemble_is_an_error(make, text):
    with pytest.raises(kp.InputError, match=text):
        make()


def test_a_model_given_twice_is_an_error():
    model = net()
    with pytest.raises(kp.InputError, match=r"teachers\[2\] is a model that is there already"):
        Ensemble([model, net(), model])


def test_outputs_of_other_shapes_are_an_error():
    with pytest.raises(kp.InputError, match=r"outputs of the shapes \[\(24, 3\), \(24, 4\)\]; expected the same"):
        Ensemble([net(), net(units=4)])(X)


def test_a_model_teaches_itself_and_the_teacher_stays():
    model = net("softmax", seed=7)
    before = weights(model)
    d = kp.distill(model, model, alpha=0.5)
    d.fit(X, Y, epochs=3, verbose=0)
    assert same(before, weights(model)) and same(before, weights(d.teacher))
    assert not same(before, weights(d.student))
    assert model.trainable and model.trainable_variables


@pytest.mark.slow
def test_born_again_generations_and_their_ensemble():
    generations = [net("softmax", seed=7)]
    for _ in range(2):
        first = keras.models.clone_model(generations[-1])
        d = kp.distill(first, generations[-1])
        d.fit(X, Y, epochs=2, verbose=0)
        generations.append(d.student)
    assert len({id(each) for each in generations}) == 3
    history = kp.distill(net(width=4), generations).fit(X, Y, verbose=0).history
    assert np.isfinite(history["soft_targets"]).all()
