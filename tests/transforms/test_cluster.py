"""Clustering: where codebooks start, what moves them, and what stays as it was."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import kompakt as kp
from kompakt.attach import attach, chains_of, finalize
from kompakt.centroids import attend_centroids, nearest_centroid, share_values
from kompakt.codebook import STARTS, starting_codebook
from kompakt.recipe import load_recipe
from kompakt.testing import toy_data, toy_model
from kompakt.transforms import Cluster, FakeQuant, Prune


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def numpy(tensor):
    return np.array(ops.convert_to_numpy(tensor))


def prepared(cluster, values, axis=(-1,)):
    cluster.prepare(ops.convert_to_tensor(values), axis)
    return cluster


def table(cluster):
    return np.sort(numpy(cluster.centroids), axis=-1)


def trained(cluster, kernel, gradient, rate=1.0, steps=1):
    """(transform, model) after gradient descent on sum(weight * gradient): each weight's gradient is given."""
    model = keras.Sequential([keras.Input(kernel.shape[:1]), layers.Dense(kernel.shape[1], use_bias=False, name="d")])
    model.layers[0].kernel.assign(kernel)
    attached = attach(model, {"d/kernel": [cluster]})
    weights = ops.convert_to_tensor(gradient.astype("float32"))
    # With the identity as input the output is the weight itself.
    attached.compile(keras.optimizers.SGD(rate), lambda y, p: ops.sum(p * weights))
    x = np.eye(len(kernel), dtype="float32")
    attached.fit(x, np.zeros(gradient.shape), batch_size=len(kernel), epochs=steps, shuffle=False, verbose=0)
    (_, chain, _), *_ = chains_of(attached)
    return chain.transforms[-1], attached


# --- starts

SAMPLES = {
    "normal": normal(4000),
    "ties": np.round(normal(4000) * 20) / 20,
    "nearly all zero": np.where(normal(4000) > 1.0, normal(4000, seed=1), 0.0),
    "one far away": np.concatenate([normal(4000), [1e4]]),
    "one-sided": np.exp(normal(4000) * 2),
}


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("k", [2, 3, 16, 64])
@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize("pin_zero", [False, True])
def test_a_codebook_is_ascending_and_holds_no_value_twice(start, k, sample, pin_zero):
    """tfmot's density start gave 13 of 16 values twice."""
    values = SAMPLES[sample]
    book = starting_codebook(values, k, start, pin_zero=pin_zero)
    assert book.dtype == "float32" and len(book) == k
    assert (np.diff(book) > 0).all()
    assert min(values.min(), 0.0) <= book[0] and book[-1] <= max(values.max(), 0.0) * (1 + 1e-6)
    assert not pin_zero or 0.0 in book


@pytest.mark.parametrize("start", STARTS)
def test_fewer_values_than_clusters_are_kept_as_they_are(start):
    values = np.array([0.5, -1.0, 0.5, 2.0])
    assert starting_codebook(values, 16, start).tolist() == [-1.0, 0.5, 2.0]
    assert starting_codebook(values, 4, start, pin_zero=True).tolist() == [-1.0, 0.0, 0.5, 2.0]
    assert len(starting_codebook(values, 3, start, pin_zero=True)) == 3
    assert starting_codebook(np.zeros(9), 4, start).tolist() == [0.0]


def test_linear_is_even_over_the_range():
    assert starting_codebook(np.arange(100), 4, "linear").tolist() == [0, 33, 66, 99]


def test_density_gives_every_centroid_the_same_mass():
    values = np.exp(normal(10_000))
    slices = np.sort(values).reshape(8, -1)
    assert np.allclose(starting_codebook(values, 8, "density"), np.median(slices, axis=1), rtol=2e-3)


def test_random_draws_weights_and_kmeans_settles_on_means():
    values = normal(500)
    assert np.isin(starting_codebook(values, 8, "random"), values).all()
    book = starting_codebook(values, 8, "kmeans++")
    nearest = np.abs(values[:, None] - book).argmin(1)
    assert np.allclose(book, [values[nearest == j].mean() for j in range(8)], atol=1e-5)


def test_kmeans_is_as_good_as_that_of_scikit_learn():
    from sklearn.cluster import KMeans

    values = np.concatenate([normal(2000), 5 + normal(300) / 10])
    book = starting_codebook(values, 16, "kmeans++")
    ours = (np.abs(values[:, None] - book).min(1) ** 2).sum()
    assert ours < 1.1 * KMeans(16, n_init=10, random_state=0).fit(values[:, None]).inertia_


@pytest.mark.parametrize("start", ["kmeans++", "random"])
def test_a_seed_gives_the_same_codebook_and_another_seed_another(start):
    values = normal(3000)
    first, again, other = (starting_codebook(values, 16, start, seed=seed) for seed in (3, 3, 4))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("start", STARTS)
def test_a_million_weights_start_in_seconds(start):
    assert len(starting_codebook(normal(1_000_000), 256, start)) == 256


# --- assignment


@pytest.mark.parametrize("k", [1, 2, 3, 15, 16, 17, 18, 31, 33, 64, 100, 256, 300])
@pytest.mark.parametrize("per_channel", [False, True])
def test_the_search_finds_the_nearest(k, per_channel):
    x = normal(40, 3)
    book = np.sort(normal(k, 1, 3 if per_channel else 1, seed=1), axis=0)
    index = numpy(nearest_centroid(ops.convert_to_tensor(x), ops.convert_to_tensor(book)))[None].astype(int)
    far = np.broadcast_to(np.abs(x[None].astype("float64") - book), (k, 40, 3))
    assert np.allclose(np.take_along_axis(far, index, axis=0)[0], far.min(axis=0), atol=1e-7)
    shared = numpy(share_values(ops.convert_to_tensor(x), ops.convert_to_tensor(book)))
    assert np.array_equal(shared, np.take_along_axis(np.broadcast_to(book, (k, 40, 3)), index, axis=0)[0])


def test_equal_centroids_and_ties_are_no_trouble():
    book = ops.convert_to_tensor(np.array([[0.0], [0.0], [1.0]], "float32"))
    x = ops.convert_to_tensor(np.array([0.5, -3.0, 0.0, 0.51], "float32"))
    assert numpy(share_values(x, book)).tolist() == [0.0, 0.0, 0.0, 1.0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("k", [4, 40])
def test_what_is_not_finite_is_never_hidden(bad, k):
    book = ops.convert_to_tensor(np.linspace(-1, 1, k, dtype="float32")[:, None])
    shared = numpy(share_values(ops.convert_to_tensor(np.array([0.1, bad], "float32")), book))
    assert np.isfinite(shared[0]) and np.isnan(shared[1])


@pytest.mark.parametrize("axis", [(-1,), (-2, -1), (2, 0), ()])
def test_a_codebook_a_channel_whatever_axes_the_channels_are_on(axis):
    values = normal(3, 4, 5)
    cluster = prepared(Cluster(3, per_channel=True), values, axis)
    kept = [a % 3 for a in axis]
    rest = [a for a in range(3) if a not in kept]
    channels = int(np.prod([values.shape[a] for a in kept], dtype=int))
    was = values.transpose(kept + rest).reshape(channels, -1)
    shared = numpy(cluster(ops.convert_to_tensor(values))).transpose(kept + rest).reshape(channels, -1)
    for row, before, book in zip(shared, was, numpy(cluster.centroids), strict=True):
        assert np.array_equal(row, book[np.abs(before[:, None] - book).argmin(1)])


# --- layers


def test_layers_without_bias_and_with_few_weights_are_reached():
    """tfmot's per-channel clustering skips every Conv2D without a bias."""
    model = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            layers.Conv2D(8, 3, use_bias=False, name="conv"),
            layers.Conv2D(2, 1, use_bias=False, name="small"),
            layers.Flatten(),
            layers.Dense(3, use_bias=False, name="dense"),
        ]
    )
    plain, encodings = finalize(kp.cluster(model, 4, per_channel=True))
    assert set(encodings) == {"conv/kernel", "small/kernel", "dense/kernel"}
    for name in ("conv", "small", "dense"):
        kernel, before = (m.get_layer(name).get_weights()[0] for m in (plain, model))
        assert max(len(np.unique(kernel[..., c])) for c in range(kernel.shape[-1])) <= 4
        assert not np.array_equal(kernel, before)


def test_a_layer_of_fewer_weights_than_clusters_is_as_it_was_and_trains():
    kernel = np.array([[0.3], [-0.2]], "float32")
    assert np.array_equal(numpy(prepared(Cluster(16), kernel)(ops.convert_to_tensor(kernel))), kernel)
    _, attached = trained(Cluster(16), kernel, np.ones((2, 1)), rate=0.1)
    assert np.allclose(finalize(attached)[0].get_weights()[0], kernel - 0.1, atol=1e-6)


@pytest.mark.parametrize("start", STARTS)
def test_zeros_of_a_pruned_model_stay_zero_in_training(start):
    model, (x, y) = toy_model(), toy_data(64)
    both = kp.cluster(kp.prune(model, 0.6), 5, start=start)
    both.compile(keras.optimizers.Adam(0.05), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    both.fit(x, y, epochs=3, verbose=0)
    plain, pruned = finalize(both)[0], finalize(kp.prune(model, 0.6))[0]
    for name in ("conv", "dense"):
        kernel, before = (m.get_layer(name).get_weights()[0] for m in (plain, pruned))
        assert (kernel[before == 0] == 0).all() and len(np.unique(kernel)) <= 5


def test_zero_is_a_centroid_where_it_is_asked_for_and_stays():
    cluster, _ = trained(Cluster(4, pin_zero=True), normal(6, 5), normal(6, 5, seed=2), rate=0.3, steps=4)
    assert (numpy(cluster.centroids * cluster.movable) == 0).sum() == 1
    assert numpy(cluster.movable).sum() == 3


def test_what_is_there_is_kept_with_one_codebook_where_one_is_enough():
    values = np.array([1.0, -1.0, 2.0, 0.5], "float32")[np.random.default_rng(0).integers(0, 4, (20, 6))]
    cluster = prepared(Cluster(), values)
    assert not cluster.per_channel and cluster.clusters == 4 and numpy(cluster.centroids).shape == (1, 4)
    scaled = values * np.arange(1, 7, dtype="float32")
    cluster = prepared(Cluster(), scaled)
    assert cluster.per_channel and cluster.clusters == 4
    assert np.array_equal(numpy(cluster(ops.convert_to_tensor(scaled))), scaled)


# --- gradients


@pytest.mark.parametrize(("gradient", "how"), [("mean", np.mean), ("sum", np.sum)])
@pytest.mark.parametrize("k", [4, 20])
def test_a_centroid_moves_by_the_mean_or_the_sum_of_its_members_gradients(gradient, how, k):
    kernel, g = normal(12, 10), normal(12, 10, seed=1)
    book = table(prepared(Cluster(k, gradient=gradient), kernel))[0]
    nearest = np.abs(kernel[..., None] - book).argmin(-1)
    moved, _ = trained(Cluster(k, gradient=gradient), kernel, g, rate=0.01)
    wanted = [book[j] - 0.01 * how(g[nearest == j]) for j in range(k)]
    assert np.allclose(table(moved)[0], np.sort(wanted), atol=1e-5)


def test_each_channel_takes_the_mean_over_its_own_members():
    kernel, g = normal(12, 3), normal(12, 3, seed=1)
    start = table(prepared(Cluster(4, per_channel=True), kernel))
    moved, _ = trained(Cluster(4, per_channel=True), kernel, g, rate=0.01)
    for c, book in enumerate(start):
        nearest = np.abs(kernel[:, c, None] - book).argmin(-1)
        wanted = [book[j] - 0.01 * g[nearest == j, c].mean() for j in range(4)]
        assert np.allclose(table(moved)[c], np.sort(wanted), atol=1e-5)


def test_the_gradient_of_a_weight_is_straight_through():
    kernel, g = normal(12, 10), normal(12, 10, seed=1)
    _, attached = trained(Cluster(4), kernel, g, rate=0.01)
    (_, _, variable), *_ = chains_of(attached)
    assert np.allclose(numpy(variable), kernel - 0.01 * g, atol=1e-6)


def test_a_large_tensor_takes_turns_that_count_every_weight_once():
    kernel, g = normal(12, 10), normal(12, 10, seed=1)
    book = table(prepared(Cluster(4, members=40), kernel))[0]
    nearest = np.abs(kernel[..., None] - book).argmin(-1)
    before, rate = book, 1e-4
    for steps in (1, 2, 3):
        moved, _ = trained(Cluster(4, members=40), kernel, g, rate=rate, steps=steps)
        assert moved.turns == 3 and int(numpy(moved.turn)) == steps % 3
        rows = slice(4 * steps - 4, 4 * steps)
        wanted = [g[rows][nearest[rows] == j].mean() if (nearest[rows] == j).any() else 0.0 for j in range(4)]
        assert np.allclose((before - table(moved)[0]) / rate, wanted, atol=1e-2)
        before = table(moved)[0]


def test_only_a_mean_over_one_large_codebook_takes_turns():
    kernel = normal(12, 10)
    assert prepared(Cluster(4, members=120), kernel).turns == 1
    assert prepared(Cluster(4, members=None), kernel).turns == 1
    assert prepared(Cluster(4, members=40, gradient="sum"), kernel).turns == 1
    assert prepared(Cluster(4, members=40, per_channel=True), kernel).turns == 1
    assert prepared(Cluster(4, members=40), normal(13, 10)).turns == 1  # 13 rows cannot be shared out


def test_a_frozen_codebook_does_not_move():
    kernel, g = normal(6, 5), normal(6, 5, seed=1)
    frozen, attached = trained(Cluster(4, frozen=True), kernel, g, rate=0.1)
    assert np.array_equal(numpy(frozen.centroids), numpy(prepared(Cluster(4), kernel).centroids))
    assert len(attached.trainable_variables) == 1
    cluster = prepared(Cluster(4), kernel)
    cluster.freeze()
    assert not cluster.trainable_variables


# --- soft


def test_soft_training_mixes_and_everything_else_is_hard():
    values = normal(30, 4)
    cluster = prepared(Cluster(4, soft=0.5), values)
    assert len(np.unique(numpy(cluster(ops.convert_to_tensor(values))))) == 4
    mixed = numpy(cluster(ops.convert_to_tensor(values), training=True))
    assert len(np.unique(mixed)) > 50 and np.isfinite(mixed).all()
    assert not cluster.trainable_variables


def test_attention_is_the_equation_of_the_paper():
    x, c, heat = normal(1, 20).astype("float64"), np.sort(normal(1, 3, seed=1)).astype("float64"), 0.3
    mixed, centroids = attend_centroids(
        *(ops.convert_to_tensor(t.astype("float32")) for t in (x, c, np.ones_like(c))),
        temperature=ops.convert_to_tensor(np.array([heat], "float32")),
        iterations=2,
    )

    def attention(c):
        e = np.exp(-np.abs(x[0][:, None] - c) / heat)
        return e / e.sum(1, keepdims=True)

    book = c[0]
    for _ in range(2):
        a = attention(book)
        book = (a * x[0][:, None]).sum(0) / a.sum(0)
    assert np.allclose(numpy(centroids)[0], book, atol=1e-5)
    assert np.allclose(numpy(mixed)[0], attention(book) @ book, atol=1e-5)


def test_a_low_temperature_is_hard_and_does_not_overflow():
    values = normal(30, 4)
    cluster = prepared(Cluster(4, soft=1e-6, iterations=1), values)
    mixed = numpy(cluster(ops.convert_to_tensor(values), training=True))
    assert np.allclose(mixed, numpy(cluster(ops.convert_to_tensor(values))), atol=1e-5)


@pytest.mark.parametrize("soft", [1e-6, 0.1, 10.0])
@pytest.mark.parametrize("per_channel", [False, True])
def test_soft_gradients_are_finite_and_the_final_weights_are_few_values(soft, per_channel):
    kernel = normal(8, 5)
    kernel[0], kernel[1] = 0.0, kernel[2]
    cluster, attached = trained(
        Cluster(3, soft=soft, per_channel=per_channel), kernel, normal(8, 5, seed=1), rate=0.05, steps=3
    )
    (_, _, variable), *_ = chains_of(attached)
    assert np.isfinite(numpy(variable)).all() and not np.array_equal(numpy(variable), kernel)
    assert np.isfinite(numpy(cluster.centroids)).all()
    final = finalize(attached)[0].get_weights()[0]
    assert all(len(np.unique(column)) <= 3 for column in (final.T if per_channel else [final]))


def test_soft_leaves_masked_weights_and_the_pinned_zero_alone():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(5, use_bias=False, name="d")])
    model.layers[0].kernel.assign(normal(8, 5))
    attached = attach(model, {"d/kernel": [Prune(0.5), Cluster(4, soft=1.0)]})
    attached.compile("sgd", "mse")
    attached.fit(normal(16, 8), normal(16, 5), verbose=0)
    (_, chain, variable), *_ = chains_of(attached)
    mask = numpy(chain.transforms[0].mask)
    assert (numpy(chain(ops.convert_to_tensor(variable), training=True))[mask == 0] == 0).all()
    assert (finalize(attached)[0].get_weights()[0] == 0).sum() >= 20


# --- what surrounds it


def test_quantized_after_clustering_no_channel_has_more_values():
    model = keras.Sequential([keras.Input((30,)), layers.Dense(6, use_bias=False, name="d")])
    model.layers[0].kernel.assign(normal(30, 6))
    attached = attach(model, {"d/kernel": [Cluster(4), FakeQuant(8)]})
    attached.compile("sgd", "mse")
    attached.fit(normal(64, 30), normal(64, 6), epochs=2, verbose=0)
    final = finalize(attached)[0].get_weights()[0]
    assert max(len(np.unique(final[:, c])) for c in range(6)) <= 4


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"clusters": 1}, "clusters 1: expected at least 2 values"),
        ({"start": "kmeans"}, "start 'kmeans': expected one of linear, kmeans++, density, random"),
        ({"gradient": "average"}, "gradient 'average': expected one of mean, sum"),
        ({"soft": 0.0}, "soft 0.0: expected a temperature above 0, such as 0.1, or None"),
        ({"pin_zero": "no"}, "pin_zero 'no': expected True or False"),
        ({"per_channel": 1}, "per_channel 1: expected True or False"),
        ({"soft": True}, "soft True: expected a temperature above 0, such as 0.1, or None"),
        ({"soft": "x"}, "soft 'x': expected a temperature above 0, such as 0.1, or None"),
        ({"iterations": 2.5}, "iterations 2.5: expected a whole number from 1"),
        ({"iterations": 0}, "iterations 0: expected a whole number from 1"),
        ({"members": 0}, "members 0: expected a whole number from 1, or None for all"),
    ],
)
def test_a_wrong_option_is_refused_in_one_line(options, text):
    with pytest.raises(kp.InputError) as caught:
        Cluster(**{"clusters": 4, **options})
    assert str(caught.value) == text


def test_options_reach_the_transform_from_python_and_from_a_recipe():
    attached = kp.cluster(toy_model(), 4, start="density", gradient="sum", soft=0.2, pin_zero=True, seed=3)
    (_, chain, _), *_ = chains_of(attached)
    config = chain.transforms[0].get_config()
    wanted = {"start": "density", "gradient": "sum", "soft": 0.2, "pin_zero": True, "seed": 3}
    assert {key: config[key] for key in wanted} == wanted
    rule = {"transforms": [{"name": "Cluster", "clusters": 8, "start": "random", "soft": 0.1, "members": None}]}
    recipe = load_recipe({"name": "soft", "stages": [{"rules": [rule], "train": 1.0}]})
    assert recipe.stages[0].rules[0].transforms[0]["soft"] == 0.1


@pytest.mark.parametrize("inputs", [4, 16])
@pytest.mark.parametrize("asked", [None, 16])
def test_values_that_a_tensor_shares_stay_those_of_the_tensor(inputs, asked):
    """A channel of a 1x1 kernel has fewer values than the tensor: no reason to let the channels drift apart."""
    kernel = prepared(Cluster(16), normal(1, 1, inputs, 16))(normal(1, 1, inputs, 16))
    kept = prepared(Cluster(asked=asked), numpy(kernel))
    assert not kept.per_channel and len(np.unique(numpy(kernel))) == kept.clusters == 16


def test_values_of_channels_that_were_scaled_are_those_of_the_channels():
    kernel = numpy(prepared(Cluster(4), normal(3, 3, 8, 6))(normal(3, 3, 8, 6))) * np.linspace(0.5, 2.0, 6)
    kept = prepared(Cluster(asked=4), kernel.astype("float32"))
    assert kept.per_channel and kept.clusters == 4


def test_a_kept_codebook_outlives_training():
    model = keras.Sequential(
        [keras.Input((5, 5, 16)), layers.Conv2D(16, 1, name="c"), layers.Flatten(), layers.Dense(3)]
    )
    x, y = normal(32, 5, 5, 16), np.arange(32) % 3
    plain = finalize(kp.cluster(model, 16, sites="c/kernel"))[0]
    kept = kp.cluster(plain, keep="clusters", sites="c/kernel")
    kept.compile(keras.optimizers.Adam(0.05), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    kept.fit(x, y, epochs=3, verbose=0)
    assert len(np.unique(numpy(finalize(kept)[0].get_layer("c").kernel))) <= 16


@pytest.mark.parametrize("start", STARTS)
def test_values_that_are_not_finite_have_no_codebook(start):
    with pytest.raises(kp.InputError, match="values with NaN or infinities cannot be clustered"):
        starting_codebook(np.array([1.0, np.nan, 2.0, 3.0, 4.0]), 2, start)
