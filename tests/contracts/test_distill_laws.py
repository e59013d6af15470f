"""What a distillation promises on every backend: who is trained, how often each model runs, what is saved."""

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

import kompakt as kp

X = np.random.default_rng(0).normal(size=(24, 6, 6, 1)).astype("float32")
Y = np.random.default_rng(1).integers(0, 3, 24)


@keras.saving.register_keras_serializable(package="tests")
class Counted(L.Layer):
    """Hands on what it gets, and counts how often."""

    def build(self, shape):
        self.count = self.add_weight(name="count", initializer="zeros", trainable=False)
        self.trained = self.add_weight(name="trained", initializer="zeros", trainable=False)

    def call(self, x, training=None):
        self.count.assign_add(1.0)
        self.trained.assign_add(1.0 if training else 0.0)
        return x + 0.0


def net(width, *, seed=0, end=None, counted=False):
    keras.utils.set_random_seed(seed)
    inner = [Counted(name="counted")] if counted else []
    return keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            *inner,
            L.Conv2D(width, 3, name="conv"),
            L.BatchNormalization(name="norm"),
            L.ReLU(name="relu"),
            L.GlobalAveragePooling2D(name="pool"),
            L.Dense(3, activation=end, name="head"),
        ]
    )


def weights(model):
    return [np.array(w) for w in model.get_weights()]


def same(a, b):
    return all(map(np.array_equal, a, b))


ALL = ["soft_targets", "decoupled", "hints", "attention", "relational"]


@pytest.mark.long(quick=2)
@pytest.mark.parametrize("loss", [*ALL, ALL], ids=[*ALL, "all"])
def test_only_the_student_learns(loss):
    student, teacher = net(2), net(8, seed=1, end="softmax")
    before = weights(student), weights(teacher)
    made = kp.distill(student, teacher, losses=loss)
    held = weights(made.student), weights(made.teacher)
    history = made.fit(X, Y, batch_size=8, epochs=2, verbose=0).history
    assert same(before[0], weights(student)) and same(before[1], weights(teacher))  # those given
    assert same(held[1], weights(made.teacher)) and not same(held[0], weights(made.student))
    assert student.trainable and teacher.trainable
    assert all(np.isfinite(values).all() for values in history.values())
    assert {"loss", "student_loss", "distillation_loss", "accuracy"} <= set(history)


@pytest.mark.parametrize("loss", ["soft_targets", ["soft_targets", "hints", "relational"]])
def test_each_model_runs_once_a_step(loss):
    made = kp.distill(net(2, counted=True), net(8, seed=1, counted=True), losses=loss)
    before = [float(model.get_layer("counted").count) for model in (made.student, made.teacher)]  # shapes were tried
    made.fit(X, Y, batch_size=8, epochs=2, verbose=0)
    counts = [model.get_layer("counted") for model in (made.student, made.teacher)]
    ran = [float(layer.count) - start for layer, start in zip(counts, before, strict=True)]
    assert ran == [6.0, 6.0]
    assert [float(layer.trained) for layer in counts] == [6.0, 0.0]  # the teacher in inference mode


def test_the_value_of_the_loss():
    """Both parts by hand, weighted, with a step so small that the weights stay."""
    made = kp.distill(net(2), net(8, seed=1, end="softmax"), losses=["soft_targets"], alpha=0.3, temperature=2.0)
    made.compile(keras.optimizers.SGD(0.0), made.usual_loss())
    weight = np.linspace(0.0, 2.0, 24).astype("float32")
    made.student.get_layer("norm").trainable = False  # so that what trains predicts as what is read here
    made.compile(keras.optimizers.SGD(0.0), made.usual_loss())
    logs = made.fit(X, Y, batch_size=24, sample_weight=weight, shuffle=False, verbose=0).history
    s, p = (np.asarray(ops.convert_to_numpy(m(X, training=False)), "float64") for m in (made.student, made.teacher))
    log_q = s - np.log(np.exp(s).sum(-1, keepdims=True))
    labels = (weight * -log_q[np.arange(24), Y]).mean()
    t = np.log(p) / 2
    t, u = t - np.log(np.exp(t).sum(-1, keepdims=True)), s / 2 - np.log(np.exp(s / 2).sum(-1, keepdims=True))
    soft = (weight * 4 * (np.exp(t) * (t - u)).sum(-1)).mean()
    assert logs["student_loss"][0] == pytest.approx(labels, rel=1e-4)
    assert logs["soft_targets"][0] == pytest.approx(soft, rel=1e-3)
    assert logs["loss"][0] == pytest.approx(0.7 * labels + 0.3 * soft, rel=1e-3)


@pytest.mark.slow
def test_saved_loaded_and_resumed(tmp_path):
    losses = [kp.distillation.SoftTargets(2.0), kp.distillation.Hints("conv", "conv", weight=0.5)]
    made = {name: kp.distill(net(2), net(8, seed=1), losses=losses) for name in ("straight", "halved")}
    made["straight"].fit(X, Y, batch_size=8, epochs=2, shuffle=False, verbose=0)
    made["halved"].fit(X, Y, batch_size=8, epochs=1, shuffle=False, verbose=0)
    made["halved"].save(tmp_path / "d.keras")
    loaded = keras.saving.load_model(tmp_path / "d.keras")
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), made["halved"].predict(X, verbose=0))
    loaded.fit(X, Y, batch_size=8, epochs=1, shuffle=False, verbose=0)
    for a, b in zip(made["straight"].get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    made["straight"].student.save(tmp_path / "s.keras")
    keras.saving.load_model(tmp_path / "s.keras")


@pytest.mark.slow
def test_a_schedule_is_followed():
    rise = kp.schedules.Polynomial(0.0, 0.8, begin=0, end=4, power=1.0)
    fall = kp.schedules.Constant(0.5, begin=2)
    made = kp.distill(net(2), net(8, seed=1), losses=[kp.distillation.SoftTargets(weight=fall)], alpha=rise)
    seen = []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if keras.backend.backend() == "jax":
                self.model.jax_state_sync()
            seen.append([round(float(v), 3) for v in ops.convert_to_numpy(made.factors)])

    made.fit(X, Y, batch_size=8, epochs=2, verbose=0, callbacks=[Watch()])
    assert seen == [[0.0, 0.0], [0.2, 0.0], [0.4, 0.5], [0.6, 0.5], [0.8, 0.5], [0.8, 0.5]]
    made.fit(X, Y, batch_size=8, epochs=1, verbose=0, callbacks=[Watch()])  # goes on where it was
    assert seen[6:] == [[0.8, 0.5]] * 3


@pytest.mark.long(quick=1)
@pytest.mark.parametrize("technique", ["prune", "cluster", "quantize"])
def test_a_student_with_transforms(technique):
    """Quantization-aware distillation: the float teacher teaches what will be deployed."""
    plain = net(4)
    student = {
        "prune": lambda: kp.prune(plain, 0.5, schedule=kp.schedules.Constant(0.5, begin=1, frequency=1)),
        "cluster": lambda: kp.cluster(plain, 4),
        "quantize": lambda: kp.quantize(plain, "int8", calibration=X),
    }[technique]()
    made = kp.distill(student, net(8, seed=1), losses=["soft_targets", "hints"])
    made.fit(X, Y, batch_size=8, epochs=2, verbose=0)
    baked, encodings = kp.finalize(made.student)
    kernel = np.asarray(baked.get_layer("conv").kernel)
    if technique == "prune":
        assert (kernel == 0).mean() == 0.5
    if technique == "cluster":
        assert len(np.unique(kernel)) <= 4
    if technique == "quantize":
        steps = kernel / np.asarray(encodings["conv/kernel"].scale)
        np.testing.assert_allclose(steps, np.round(steps), atol=1e-3)
