"""The laws, over every transform of the registry and every kind of layer they go on. Runs on each backend."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import kompakt as kp
from kompakt import testing as laws
from kompakt.attach import attach, chains_of, finalize, wrapped
from kompakt.schedules import Constant, Cosine, Iterative, OneShot, Polynomial
from kompakt.sites import sites
from kompakt.transforms import TRANSFORMS, Cluster, FakeQuant, Prune
from kompakt.transforms.scores import SCORES

RISE = Polynomial(0.0, 0.5, begin=1, end=5, frequency=1)
FACTORIES = {
    "Prune": {
        "half": lambda: Prune(0.5),
        "keep": lambda: Prune(),
        "global": lambda: Prune(0.5, scope="global", limits=(0.1, 0.9)),
        "iterative, rewound": lambda: Prune(schedule=Iterative(0.75, rounds=2, begin=2, every=2), rewind=1),
        "one shot": lambda: Prune(schedule=OneShot(0.5, begin=2)),
        "taylor blocks": lambda: Prune(schedule=RISE, pattern="2x2", score="taylor"),
        "movement, global": lambda: Prune(schedule=RISE, score="movement", scope="global"),
        "cosine": lambda: Prune(schedule=Cosine(0.0, 0.5, begin=0, end=5, frequency=1)),
        "constant": lambda: Prune(0.5, schedule=Constant(0.5, frequency=1)),
        "polynomial": lambda: Prune(0.5, schedule=Polynomial(0.0, 0.5, begin=0, end=5, frequency=1)),
    },
    "Cluster": {
        "linear": lambda: Cluster(4, start="linear"),
        "density": lambda: Cluster(4, start="density"),
        "random": lambda: Cluster(4, start="random", seed=1),
        "many": lambda: Cluster(20),
        "sum": lambda: Cluster(4, gradient="sum"),
        "in turns": lambda: Cluster(4, members=9),
        "soft": lambda: Cluster(4, soft=0.1),
        "soft, pinned, per channel": lambda: Cluster(3, soft=1.0, pin_zero=True, per_channel=True),
        "kmeans": lambda: Cluster(4),
        "per channel": lambda: Cluster(3, per_channel=True),
        "pinned": lambda: Cluster(4, pin_zero=True),
        "keep": lambda: Cluster(),
    },
    "FakeQuant": {
        "8 bits": lambda: FakeQuant(8),
        "4 bits": lambda: FakeQuant(4),
        "8 bits, learned": lambda: FakeQuant(8, ranges="lsq"),
        "3 bits, learned": lambda: FakeQuant(3, ranges="lsq"),
    },
}
EVERY = [pytest.param(f, id=f"{name}-{kind}") for name, row in FACTORIES.items() for kind, f in row.items()]
ONE_EACH = [pytest.param(next(iter(row.values())), id=name) for name, row in FACTORIES.items()]


@keras.saving.register_keras_serializable(package="kompakt_tests")
class Block(layers.Layer):
    """A user's own layer, with sublayers that it uses its own way."""

    def __init__(self, units=6, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.first = layers.Dense(units)
        self.rest = [layers.Dense(units, use_bias=False)]

    def build(self, shape):
        self.first.build(shape)
        self.rest[0].build((*shape[:-1], self.units))

    def call(self, x):
        x = self.first(x)
        return ops.matmul(ops.relu(x), self.rest[0].kernel) + x

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable(package="kompakt_tests")
class Subclassed(keras.Model):
    """A subclassed model."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.hidden = layers.Dense(8, activation="relu")
        self.drop = layers.Dropout(0.2, seed=0)
        self.head = layers.Dense(3)

    def call(self, x, training=None):
        return self.head(self.drop(self.hidden(x), training=training))


def floats(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def values(variable):
    return np.array(ops.convert_to_numpy(variable))


LAYERS = {
    "Dense": (lambda: layers.Dense(5), floats(3, 4)),
    "Dense, rank 3": (lambda: layers.Dense(5), floats(3, 2, 4)),
    "Conv1D": (lambda: layers.Conv1D(5, 2), floats(3, 6, 4)),
    "Conv2D": (lambda: layers.Conv2D(5, 3), floats(3, 6, 6, 2)),
    "Conv2D without bias": (lambda: layers.Conv2D(5, 3, use_bias=False), floats(3, 6, 6, 2)),
    "Conv2DTranspose": (lambda: layers.Conv2DTranspose(5, 3), floats(3, 6, 6, 2)),
    "DepthwiseConv2D": (lambda: layers.DepthwiseConv2D(3, depth_multiplier=2), floats(3, 6, 6, 2)),
    "SeparableConv2D": (lambda: layers.SeparableConv2D(5, 3), floats(3, 6, 6, 2)),
    "EinsumDense": (lambda: layers.EinsumDense("abc,cde->abde", (None, 2, 3)), floats(3, 2, 4)),
    "Embedding": (lambda: layers.Embedding(7, 4), np.array([[1, 2], [6, 0]])),
    "LSTM": (lambda: layers.LSTM(4), floats(3, 5, 2)),
    "Bidirectional GRU": (lambda: layers.Bidirectional(layers.GRU(4)), floats(3, 5, 2)),
    "MultiHeadAttention": (lambda: layers.MultiHeadAttention(2, 3), (floats(3, 5, 4), floats(3, 5, 4))),
    "own block": (lambda: Block(), floats(3, 4)),
}


def test_every_transform_of_the_registry_is_under_the_laws():
    assert set(FACTORIES) == set(TRANSFORMS)


@pytest.mark.long(quick=1)
@pytest.mark.parametrize("factory", EVERY)
def test_all_laws(factory):
    laws.check_transform(factory)


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("pattern", ["unstructured", "1:2", "2:4", "2x2", "channels"])
def test_laws_of_every_pattern_and_score(pattern, score, scope):
    """What the masks are at the end of the schedule is in test_masks.py."""
    if ":" in pattern and scope == "global":
        with pytest.raises(kp.InputError, match="it masks the same share everywhere; leave scope out"):
            Prune(pattern=pattern, scope=scope)
        return

    def factory():
        return Prune(schedule=RISE, pattern=pattern, score=score, scope=scope)

    laws.check_gradient_law(factory, shape=(8, 4))
    laws.check_frozen_idempotent(factory, shape=(8, 4))
    laws.check_layer_law(factory, layers.Dense(6), floats(3, 4))
    config = factory().get_config()
    assert Prune.from_config(config).get_config() == config


@pytest.mark.parametrize("factory", ONE_EACH)
@pytest.mark.parametrize("kind", LAYERS)
def test_layer_law(factory, kind):
    make, inputs = LAYERS[kind]
    laws.check_layer_law(factory, make(), inputs)


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.5, 0.75, 0.99])
@pytest.mark.parametrize("values", ["spread", "all equal", "few values"])
def test_exactly_k(sparsity, values):
    tensor = {
        "spread": floats(9, 7),
        "all equal": np.full((9, 7), 0.5, "float32"),
        "few values": np.random.default_rng(0).integers(-1, 2, (9, 7)).astype("float32"),
    }[values]
    prune = Prune(sparsity)
    prune.prepare(ops.convert_to_tensor(tensor), (-1,))
    laws.check_exactly_k(prune.mask, 63 - int(sparsity * 63 + 0.5))


def test_the_laws_can_be_broken():
    """A check that cannot fail proves nothing."""

    @keras.saving.register_keras_serializable(package="kompakt_tests")
    class Drifts(Prune):
        def call(self, x, training=False):
            return x * 0.5

    with pytest.raises(laws.LawBroken, match="idempotent"):
        laws.check_frozen_idempotent(lambda: Drifts(0.5))
    with pytest.raises(laws.LawBroken, match="2 ones were asked for"):
        laws.check_exactly_k(np.array([1.0, 1.0, 1.0]), 2)

    @keras.saving.register_keras_serializable(package="kompakt_tests")
    class Blocks(Prune):
        def call(self, x, training=False):
            return ops.stop_gradient(x) + 0.0 * x

    with pytest.raises(laws.LawBroken, match="no gradient"):
        laws.check_gradient_law(lambda: Blocks(0.5))


# --- models


def functional():
    inputs = keras.Input((6,))
    tower = layers.Dense(6, activation="relu", name="tower")
    x = tower(inputs)
    x = layers.Add(name="sum")([tower(x), inputs])
    return keras.Model(inputs, layers.Dense(3, name="head")(x))


def nested():
    inner = keras.Sequential([keras.Input((6,)), layers.Dense(5, name="inside")], name="inner")
    inputs = keras.Input((6,))
    return keras.Model(inputs, layers.Dense(3, name="head")(inner(inputs)))


def sequential():
    return keras.Sequential([keras.Input((6,)), layers.Dense(5, name="a"), layers.Dense(3, name="b")])


def subclassed():
    model = Subclassed()
    model(floats(1, 6))
    return model


def with_block():
    inputs = keras.Input((6,))
    return keras.Model(inputs, layers.Dense(3, name="head")(Block(name="block")(inputs)))


MODELS = [functional, nested, sequential, subclassed, with_block]


@pytest.mark.long(quick=4)
@pytest.mark.parametrize("factory", ONE_EACH)
@pytest.mark.parametrize("make", MODELS)
def test_models_of_every_form_keep_the_laws(make, factory):
    keras.utils.set_random_seed(0)
    model, x, y = make(), floats(16, 6), np.arange(16) % 3
    laws.check_undo(factory, model, x)
    laws.check_unchanged(factory, model, x, y)
    laws.check_round_trip(factory, model, x)


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize(
    "technique",
    [
        lambda m: kp.prune(m, 0.5, sites="*kernel"),
        lambda m: kp.cluster(m, 4),
        lambda m: kp.quantize(m, calibration=floats(8, 6)),
    ],
    ids=["prune", "cluster", "quantize"],
)
def test_every_weight_of_every_form_is_reached(make, technique):
    if make is with_block and technique(sequential()).layers[0].name.endswith("_grid"):
        expected = {"block/first/kernel", "block/rest/0/kernel", "head/kernel"}
    else:
        expected = {site.name.rsplit("/", 1)[0] for site in sites(make()) if site.variable is not None}
    reached = {name for name, _, variable in chains_of(technique(make())) if variable is not None}
    assert len(reached) == len(expected), (reached, expected)


def test_a_shared_layer_stays_shared_and_is_wrapped_once():
    attached = kp.prune(functional(), 0.5)
    towers = [layer for name, layer in wrapped(attached).items() if name == "tower"]
    assert len(towers) == 1 and len(towers[0]._inbound_nodes) == 2


def test_subclassed_model_comes_back_as_its_class():
    plain, encodings = finalize(kp.prune(subclassed(), 0.5))
    assert type(plain) is Subclassed and encodings["hidden/kernel"].zeros == 24


# --- what surrounds a weight


def test_batchnorm_moves_and_dropout_drops_under_a_transform():
    """tfmot's clustering ignored ``training``: no Dropout, frozen BatchNormalization."""
    model = laws.toy_model()
    attached = attach(model, {"conv/kernel": [Cluster(4)], "dense/kernel": [Cluster(4)]})
    x, y = laws.toy_data(64)
    before = values(attached.get_layer("norm").moving_mean)
    attached.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    attached.fit(x, y, epochs=1, verbose=0)
    assert not np.allclose(before, values(attached.get_layer("norm").moving_mean))
    a, b = (ops.convert_to_numpy(attached(ops.convert_to_tensor(x), training=True)) for _ in range(2))
    assert not np.allclose(a, b)


def test_batchnorm_inside_a_wrapped_unit_moves():
    @keras.saving.register_keras_serializable(package="kompakt_tests")
    class Normed(layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.dense, self.norm = layers.Dense(4), layers.BatchNormalization()

        def build(self, shape):
            self.dense.build(shape)
            self.norm.build((*shape[:-1], 4))

        def call(self, x, training=None):
            return self.norm(self.dense(x), training=training)

    inputs = keras.Input((6,))
    model = keras.Model(inputs, Normed(name="normed")(inputs))
    attached = kp.prune(model, 0.5)
    before = values(attached.get_layer("normed").transformed_layer.norm.moving_mean)
    attached.compile("sgd", "mse")
    attached.fit(floats(32, 6), floats(32, 4), verbose=0)
    assert not np.allclose(before, values(attached.get_layer("normed").transformed_layer.norm.moving_mean))


def test_losses_of_the_layer_inside_are_counted_once():
    def loss_of(model):
        model.compile("sgd", "mse")
        return model.evaluate(x, y, verbose=0)

    x, y = floats(8, 6), floats(8, 5)
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(5, activity_regularizer="l2", kernel_regularizer="l2", name="d")]
    )
    attached = attach(model, {"d/kernel": [Prune()]})  # nothing is zero: the same numbers
    assert loss_of(attached) == pytest.approx(loss_of(model), rel=1e-5)


def test_mixed_precision_trains_to_finite_numbers():
    with_policy = keras.dtype_policies.DTypePolicy("mixed_float16")
    inputs = keras.Input((6,))
    hidden = layers.Dense(8, dtype=with_policy, name="hidden")(inputs)
    model = keras.Model(inputs, layers.Dense(3, dtype=with_policy, name="head")(hidden))
    attached = attach(
        model, {"hidden/kernel": [Prune(0.5), FakeQuant(8)], "head/output": [FakeQuant(8, symmetric=False)]}
    )
    attached.compile("sgd", "mse")
    history = attached.fit(floats(16, 6), floats(16, 3), verbose=0)
    assert np.isfinite(history.history["loss"]).all()


@pytest.mark.parametrize("backend_loop", ["fit", "fit with metrics"])
def test_training_reaches_exactly_the_final_sparsity(backend_loop):
    schedule = Polynomial(0.0, 0.75, begin=0, end=6, frequency=2)
    attached = kp.prune(laws.toy_model(), 0.75, schedule=schedule)
    metrics = ["accuracy"] if "metrics" in backend_loop else None
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    attached.compile("sgd", loss, metrics=metrics)
    x, y = laws.toy_data(64)
    attached.fit(x, y, batch_size=8, verbose=0, callbacks=[kp.callbacks.Update()])
    plain, encodings = finalize(attached)
    assert encodings["conv/kernel"].zeros == 54 and encodings["dense/kernel"].zeros == int(0.75 * 432 + 0.5)
    assert int((plain.get_layer("conv").get_weights()[0] == 0).sum()) == 54


@pytest.mark.parametrize("driven_before", [False, True])
def test_training_without_update_is_an_error_that_says_so_also_the_second_time(driven_before):
    attached = kp.prune(laws.toy_model(), 0.5, schedule=Constant(0.5))
    attached.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = laws.toy_data()
    if driven_before:
        attached.fit(x, y, verbose=0, callbacks=[kp.callbacks.Update()])
    text = r"training a model with Prune needs its callback: pass callbacks=\[kompakt.callbacks.Update\(\)\] to fit"
    with pytest.raises(kp.InputError, match=text):
        attached.fit(x, y, verbose=0)


def test_a_new_optimizer_does_not_start_the_schedule_anew():
    schedule = Polynomial(0.0, 0.5, begin=0, end=3, frequency=1)
    attached = kp.prune(laws.toy_model(), 0.5, schedule=schedule)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    x, y = laws.toy_data(40)
    for _ in range(2):
        attached.compile("sgd", loss)
        attached.fit(x, y, batch_size=8, verbose=0, callbacks=[kp.callbacks.Update()])
        assert finalize(attached)[1]["conv/kernel"].zeros == 36


def test_the_mean_of_the_gradient_reaches_a_centroid():
    """tfmot's default sums it, which diverges with plain gradient descent."""
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2, use_bias=False, name="d")])
    kernel = np.array([[1.0, 1.0], [1.0, -1.0], [1.0, -1.0], [1.0, -1.0]], "float32")
    model.layers[0].kernel.assign(kernel)
    attached = attach(model, {"d/kernel": [Cluster(2, start="linear")]})
    attached.compile(keras.optimizers.SGD(1.0), lambda y, p: ops.sum(p))
    attached.fit(np.ones((1, 4)), np.zeros((1, 2)), batch_size=1, verbose=0)
    (_, chain, _), *_ = chains_of(attached)
    # The loss sums over every weight once: each centroid's mean gradient is 1, the sums would be 3 and 5.
    assert np.allclose(np.sort(values(chain.transforms[0].centroids)), [[-2.0, 0.0]], atol=1e-6)


def test_no_two_centroids_start_equal():
    """tfmot's density start gave 13 of 16 values twice."""
    cluster = Cluster(16)
    cluster.prepare(ops.convert_to_tensor(floats(20, 20)), (-1,))
    assert len(np.unique(values(cluster.centroids))) == 16


def test_activation_ranges_start_from_the_first_batch_and_then_move():
    quant = FakeQuant(8, symmetric=False, ranges="moving_average", momentum=0.9)
    quant.build(())
    quant(ops.convert_to_tensor([-1.0, 3.0]), training=True)
    assert (float(quant.range_min), float(quant.range_max)) == (-1.0, 3.0)
    quant(ops.convert_to_tensor([-2.0, 13.0]), training=True)
    assert float(quant.range_max) == pytest.approx(4.0) and float(quant.range_min) == pytest.approx(-1.1)


def test_combinations_keep_what_each_did_through_folding():
    keras.utils.set_random_seed(0)
    model, (x, _) = laws.toy_model(), laws.toy_data(64)
    model.get_layer("norm").moving_variance.assign([0.5, 2.0, 3.0, 1.5])
    both = kp.cluster(kp.prune(model, 0.6), 5)
    plain, encodings = finalize(kp.quantize(both, calibration=x))
    for name in ("conv", "dense"):
        kernel = plain.get_layer(name).get_weights()[0]
        assert (kernel == 0).sum() >= round(0.6 * kernel.size)
        assert max(len(np.unique(kernel[..., c])) for c in range(kernel.shape[-1])) <= 5
        assert encodings[f"{name}/kernel"].palette <= 5
