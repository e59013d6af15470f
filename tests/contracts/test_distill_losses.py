"""The losses of distillation against numpy written out by hand, and their gradients."""

import itertools

import keras
import numpy as np
import pytest
from keras import ops
from scipy.special import expit, softmax

from kompakt.distillation import losses

RANDOM = np.random.default_rng(0)


def value(x):
    return np.asarray(ops.convert_to_numpy(x))


def logits(*shape):
    return (3 * RANDOM.normal(size=shape)).astype("float32")


@pytest.mark.parametrize("temperature", [1.0, 4.0, 10.0])
@pytest.mark.parametrize("shape", [(5, 3), (4, 6, 3)])
def test_soft_targets(shape, temperature):
    t, s = logits(*shape), logits(*shape)
    p, q = softmax(t / temperature, axis=-1), softmax(s / temperature, axis=-1)
    wanted = temperature**2 * (p * np.log(p / q)).sum(-1)
    np.testing.assert_allclose(value(losses.soft_targets(t, s, temperature)), wanted, rtol=1e-4, atol=1e-4)


def test_the_gradient_of_soft_targets_does_not_fall_with_the_temperature():
    """Hinton et al. 2015, section 2: it is T (q - p), which tends to (s - t) / n as T grows."""
    t, s = logits(1, 4), logits(1, 4)
    t, s = t - t.mean(), s - s.mean()
    step, found = 0.5, []  # the loss is a parabola there; a small step would show float32's rounding, times T^2
    for i in range(4):
        move = np.eye(4, dtype="float32")[i : i + 1] * step
        high, low = (value(losses.soft_targets(t, s + sign * move, 100.0))[0] for sign in (1, -1))
        found.append((high - low) / (2 * step))
    np.testing.assert_allclose(found, (s - t)[0] / 4, rtol=0.1, atol=0.03)


def test_binary_soft_targets():
    t, s = logits(5, 3), logits(5, 3)
    p, q = expit(t / 2), expit(s / 2)
    wanted = 4 * (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).mean(-1)
    np.testing.assert_allclose(value(losses.binary_soft_targets(t, s, 2.0)), wanted, rtol=1e-4, atol=1e-5)


def test_squared_error():
    t, s = logits(5, 2, 3), logits(5, 2, 3)
    np.testing.assert_allclose(value(losses.squared_error(t, s)), ((t - s) ** 2).mean(-1), rtol=1e-5)
    np.testing.assert_allclose(value(losses.squared_error(t[:, 0, 0], s[:, 0, 0])), (t - s)[:, 0, 0] ** 2, rtol=1e-5)


@pytest.mark.parametrize("power", [1.0, 2.0, 4.0])
def test_attention_transfer(power):
    t, s = logits(5, 4, 4, 7), logits(5, 4, 4, 3)
    maps = []
    for x in (t, s):
        q = (np.abs(x) ** power).sum(-1).reshape(5, -1)
        maps.append(q / np.linalg.norm(q, axis=-1, keepdims=True))
    wanted = ((maps[0] - maps[1]) ** 2).sum(-1)
    np.testing.assert_allclose(value(losses.attention_transfer(t, s, power)), wanted, rtol=1e-4, atol=1e-6)


def huber(a, b):
    d = abs(a - b)
    return 0.5 * d * d if d <= 1 else d - 0.5


def relative(x):
    n = len(x)
    d = np.array([[np.linalg.norm(x[i] - x[j]) for j in range(n)] for i in range(n)])
    return d / (d.sum() / (n * (n - 1)))


@pytest.mark.parametrize("weight", [None, np.array([1.0, 0.0, 2.0, 0.5, 3.0], "float32")])
def test_relational_distance(weight):
    t, s = logits(5, 4), logits(5, 2, 3)
    a, b = relative(t), relative(s.reshape(5, -1))
    w = np.ones(5) if weight is None else weight
    pairs = list(itertools.permutations(range(5), 2))
    wanted = sum(w[i] * w[j] * huber(a[i, j], b[i, j]) for i, j in pairs) / len(pairs)
    assert float(losses.relational_distance(t, s, weight)) == pytest.approx(wanted, rel=1e-4)


def cosine(x, i, j, k):
    a, b = x[i] - x[j], x[k] - x[j]
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


@pytest.mark.parametrize("weight", [None, np.array([1.0, 0.0, 2.0, 0.5, 3.0], "float32")])
def test_relational_angle(weight):
    t, s = logits(5, 4), logits(5, 3)
    w = np.ones(5) if weight is None else weight
    triples = list(itertools.permutations(range(5), 3))
    wanted = sum(w[i] * w[j] * w[k] * huber(cosine(t, i, j, k), cosine(s, i, j, k)) for i, j, k in triples)
    assert float(losses.relational_angle(t, s, weight)) == pytest.approx(wanted / len(triples), rel=1e-3)


@pytest.mark.parametrize("size", [1, 2])
def test_relations_of_a_small_batch(size):
    t, s = logits(size, 4), logits(size, 3)
    assert np.isfinite(float(losses.relational_distance(t, s))) and float(losses.relational_angle(t, s)) == 0.0
    if size == 1:
        assert float(losses.relational_distance(t, s)) == 0.0


@pytest.mark.parametrize("labels", ["numbers", "column", "one hot"])
def test_decoupled(labels):
    """Zhao et al. 2022, equations (5) and (7), with the shares written out."""
    t, s, y = logits(6, 4), logits(6, 4), np.array([0, 1, 2, 3, 1, 0])
    given = {"numbers": y, "column": y[:, None], "one hot": np.eye(4, dtype="float32")[y]}[labels]
    wanted, temperature = [], 3.0
    for row in range(6):
        p, q = softmax(t[row] / temperature), softmax(s[row] / temperature)
        others = [c for c in range(4) if c != y[row]]
        b, d = np.array([p[y[row]], p[others].sum()]), np.array([q[y[row]], q[others].sum()])
        ph, qh = p[others] / p[others].sum(), q[others] / q[others].sum()
        target, rest = (b * np.log(b / d)).sum(), (ph * np.log(ph / qh)).sum()
        wanted.append(temperature**2 * (0.5 * target + 2.0 * rest))
    found = losses.decoupled(t, s, ops.convert_to_tensor(given), alpha=0.5, beta=2.0, temperature=temperature)
    np.testing.assert_allclose(value(found), wanted, rtol=1e-3, atol=1e-4)


def test_decoupled_with_the_factors_of_its_definition_is_soft_targets():
    """Zhao et al. 2022, equation (6): KD = TCKD + (1 - p_t) NCKD."""
    t, s, y = logits(1, 4), logits(1, 4), np.array([2])
    p = softmax(t / 2.0, axis=-1)[0, 2]
    both = float(losses.decoupled(t, s, y, alpha=1.0, beta=float(1 - p), temperature=2.0)[0])
    assert both == pytest.approx(float(losses.soft_targets(t, s, 2.0)[0]), rel=1e-3)


def test_weights_and_masks():
    values = np.array([[1.0, 2.0], [3.0, 4.0]], "float32")
    assert float(losses.mean_over(values)) == 2.5
    assert float(losses.mean_over(values, np.array([1.0, 0.0]))) == pytest.approx(3 / 4)
    assert float(losses.mean_over(values, np.array([[1.0], [0.0]]))) == pytest.approx(3 / 4)
    assert float(losses.mean_over(values[:, 0], np.array([[1.0], [0.0]]))) == pytest.approx(1 / 2)
    mask = np.array([[True, False], [True, True]])
    assert float(losses.mean_over(values, None, mask)) == pytest.approx(8 / 3)
    assert float(losses.mean_over(values, np.array([0.0, 1.0]), mask)) == pytest.approx(7 / 3)


ZEROS = np.zeros((4, 3), "float32")

LIKE = {
    "soft": lambda t, s: losses.soft_targets(t, s),
    "binary": lambda t, s: losses.binary_soft_targets(t, s),
    "squared": lambda t, s: losses.squared_error(t, s),
    "attention": lambda t, s: losses.attention_transfer(t[..., None], s[..., None]),
    "distance": lambda t, s: losses.relational_distance(t, s),
    "angle": lambda t, s: losses.relational_angle(t, s),
    "decoupled": lambda t, s: losses.decoupled(t, s, np.zeros(4, int)),
}
STARTS = (ZEROS, ZEROS + 1, 1e4 * np.sign(RANDOM.normal(size=(4, 3))))
"""Where two samples are one, where all are, and at the ends of what a float can tell apart."""


@pytest.mark.parametrize("name", LIKE)
def test_gradients_are_finite_at_ties_and_ends(name):
    layer = Free(STARTS, LIKE[name])
    model = keras.Sequential([keras.Input((1,)), layer])
    model.compile(keras.optimizers.SGD(1e-3), lambda _, loss: ops.mean(loss))
    model.fit(np.zeros((4, 1)), np.zeros((4, 1)), batch_size=4, epochs=2, verbose=0)
    assert all(np.isfinite(value(weight)).all() for weight in layer.weights)


class Free(keras.layers.Layer):
    """The loss of variables: one step of training is a step along its gradient."""

    def __init__(self, starts, loss):
        super().__init__()
        self.loss, self.free = loss, [self.add_weight(shape=start.shape, initializer="zeros") for start in starts]
        for variable, start in zip(self.free, starts, strict=True):
            variable.assign(start)

    def call(self, x):
        teacher = ops.convert_to_tensor(ZEROS)
        return ops.zeros_like(x) + sum(ops.sum(self.loss(teacher, ops.convert_to_tensor(v))) for v in self.free)
