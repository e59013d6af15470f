"""The numbers, against their definitions in numpy and in fractions, on whatever examples hypothesis finds."""

import math
from fractions import Fraction

import keras
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from keras import ops

from kompakt import axes, topk
from kompakt import centroids as shared
from kompakt import numerics as n

EIGHTHS = st.integers(-64, 64).map(lambda i: i / 8)
"""Numbers that float32 adds, halves and compares exactly, with many ties among them."""


def tensors(elements=EIGHTHS, **shape):
    shape = {"min_dims": 1, "max_dims": 4, "min_side": 1, "max_side": 5, **shape}
    return hnp.arrays("float32", hnp.array_shapes(**shape), elements=elements)


def numpy(tensor):
    return ops.convert_to_numpy(tensor)


@st.composite
def on_axes(draw):
    """A tensor and some of its axes, counted from either end."""
    x = draw(tensors())
    axes = draw(st.lists(st.integers(0, x.ndim - 1), unique=True, max_size=x.ndim))
    return x, tuple(a - x.ndim if draw(st.booleans()) else a for a in axes)


@st.composite
def ranges(draw):
    """(low, high) of an activation: any size, either side of 0, perhaps empty."""
    size = 10.0 ** draw(st.integers(-6, 6))
    ends = sorted(draw(st.floats(-1, 1, width=32)) * size for _ in range(2))
    return np.float32(ends[0]), np.float32(ends[1])


# Grids


@pytest.mark.parametrize(
    ("bits", "symmetric", "limits"),
    [(2, True, (-1, 1)), (2, False, (-2, 1)), (4, True, (-7, 7)), (16, False, (-32768, 32767))],
)
def test_integer_limits(bits, symmetric, limits):
    assert n.integer_limits(bits, symmetric=symmetric) == limits


@given(ranges(), st.integers(2, 16), st.booleans(), st.lists(st.floats(0, 1, width=32), min_size=1, max_size=20))
@example((np.float32(0), np.float32(0)), 8, False, [0.0])
@example((np.float32(0), np.float32(6)), 8, False, [0.5, 1.0])
@example((np.float32(-3), np.float32(-1)), 8, False, [0.5, 1.0])
def test_a_value_inside_the_range_moves_by_half_a_step_at_most(limits, bits, symmetric, shares):
    low, high = limits
    scale, zero = n.scale_from_range(ops.array(low), ops.array(high), bits, symmetric=symmetric)
    x = (low + (high - low) * np.array(shares)).astype("float32")
    q = numpy(n.quantize(ops.array(x), scale, zero, bits, symmetric=symmetric))
    back = numpy(n.dequantize(ops.array(q), scale, zero)).astype("float64")

    q_min, q_max = n.integer_limits(bits, symmetric=symmetric)
    assert (q == np.round(q)).all() and q.min() >= q_min and q.max() <= q_max
    step = float(scale)
    # float32 has 24 bits, and x / step + zero_point needs up to 17 of them before the point.
    assert np.abs(back - x).max() <= step * (0.5 + 2.0 ** (bits - 21))
    again = numpy(n.quantize(ops.array(back, "float32"), scale, zero, bits, symmetric=symmetric))
    assert np.array_equal(q, again)
    fake = numpy(n.fake_quantize(ops.array(x), scale, zero, bits, symmetric=symmetric))
    assert np.array_equal(fake, back.astype("float32"))


@given(ranges(), st.integers(2, 16), st.booleans())
def test_zero_is_on_every_grid(limits, bits, symmetric):
    scale, zero = n.scale_from_range(*map(ops.array, limits), bits, symmetric=symmetric)
    q = n.quantize(ops.array(0.0), scale, zero, bits, symmetric=symmetric)

    assert float(zero) == round(float(zero)) and float(scale) > 0
    assert not symmetric or float(zero) == 0.0
    assert float(n.dequantize(q, scale, zero)) == 0.0


@given(st.floats(1, 1e6), st.booleans())
def test_what_is_outside_the_range_is_clipped_to_its_end(far, symmetric):
    scale, zero = n.scale_from_range(ops.array(-1.0), ops.array(1.0), 8, symmetric=symmetric)
    x = ops.array([-2.0 * far, 2.0 * far])
    q_min, q_max = n.integer_limits(8, symmetric=symmetric)
    assert numpy(n.quantize(x, scale, zero, 8, symmetric=symmetric)).tolist() == [q_min, q_max]


@given(on_axes())
def test_the_reach_is_the_largest_magnitude_of_each_channel(case):
    x, axis = case
    others = tuple(a for a in range(x.ndim) if a not in {i % x.ndim for i in axis})
    assert axes.reduce_axes(x.ndim, axis) == others
    wanted = n.live_reach(ops.array(np.abs(x).max(axis=others, keepdims=True)))
    assert np.array_equal(numpy(n.own_reach(ops.array(x), axis)), numpy(wanted))


@given(hnp.arrays("float32", st.integers(1, 6), elements=st.sampled_from([0.0, 1e-30, 1e-6, 0.5, 1.0, 300.0])))
def test_a_dead_channel_gets_a_reach_that_is_not_small_beside_the_largest(reach):
    live = numpy(n.live_reach(ops.array(reach)))
    largest = reach.max() or np.float32(1)

    assert np.array_equal(live[reach == 0], np.full((reach == 0).sum(), largest))
    assert (live >= largest / 65536).all() and live.max() == largest
    ordinary = reach > largest / 65536
    assert np.array_equal(live[ordinary], reach[ordinary])


# Rounding


@given(tensors(st.integers(-4000, 4000).map(lambda i: i / 8), max_dims=1, max_side=20))
@example(np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5], "float32"))
def test_rounding_agrees_with_fractions(x):
    half = Fraction(1, 2)
    exact = [Fraction(float(v)) for v in x]
    assert numpy(n.round_half_up(ops.array(x))).tolist() == [math.floor(v + half) for v in exact]
    assert numpy(n.round_half_away(ops.array(x))).tolist() == [
        math.copysign(math.floor(abs(v) + half), v) for v in exact
    ]


@pytest.mark.parametrize("count", [6, 36, 100, 484])
def test_a_mean_that_is_an_exact_half_rounds_as_one(count):
    """In float32 a sum times 1/count misses the half that its integers have; the tolerance takes it back."""
    random = np.random.default_rng(0)
    for _ in range(200):
        values = random.integers(-128, 128, count)
        values[0] -= values.sum() % count - count // 2
        mean = np.float32(values.sum()) * np.float32(1 / count)
        wanted = Fraction(int(values.sum()), count)
        assert wanted.denominator == 2
        assert float(n.round_half_up(ops.array(mean))) == math.floor(wanted + Fraction(1, 2))


def test_rounding_of_halves_in_quantize():
    x, one, zero = ops.array([-2.5, -0.5, 0.5, 2.5]), ops.array(1.0), ops.array(0.0)
    assert numpy(n.quantize(x, one, zero, 8, symmetric=False)).tolist() == [-2.0, 0.0, 0.0, 2.0]


# Gradients


def gradient(function, x):
    """d sum(function(x)) / dx, on the backend in use."""
    x = np.asarray(x, "float32")
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            value = tf.Variable(x)
            loss = ops.sum(function(tf.convert_to_tensor(value)))
        return tape.gradient(loss, value).numpy()
    if keras.backend.backend() == "jax":
        import jax

        return np.asarray(jax.grad(lambda v: ops.sum(function(v)))(x))
    import torch

    value = torch.tensor(x, requires_grad=True)
    ops.sum(function(value)).backward()
    return value.grad.numpy()


def test_what_is_near_a_half_is_rounded_before_the_zero_point_is_added():
    """In float32, 0.49999997 - 63 is -62.5, which is rounded to the even -62: LiteRT makes -63 of it."""
    below = np.nextafter(np.float32(0.5), np.float32(0.0))
    assert float(n.quantize(ops.array([below]), ops.array(1.0), ops.array(-63.0), 8, symmetric=False)[0]) == -63.0


def test_a_weight_is_on_the_grid_of_its_reach_and_its_gradient_is_straight_through():
    x = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
    scale, zero = n.scale_from_range(-n.own_reach(x, (-1,)), n.own_reach(x, (-1,)), 8, symmetric=True)
    wanted = n.fake_quantize(ops.array(x), scale, zero, 8, symmetric=True)
    assert np.array_equal(numpy(n.fake_quantize_weight(ops.array(x), 8, (-1,))), numpy(wanted))
    assert (gradient(lambda v: n.fake_quantize_weight(v, 8, (-1,)), x) == 1).all()


def test_the_gradient_of_a_grid_ends_where_clipping_begins():
    """Grid -7..7 times 0.5: what is up to a quarter beyond 3.5 still rounds onto it."""

    def on_grid(x):
        return n.fake_quantize(x, ops.array(0.5), ops.array(0.0), 4, symmetric=True)

    assert gradient(on_grid, [-4.0, -3.7, -3.5, 0.1, 3.7, 4.0]).tolist() == [0, 1, 1, 1, 1, 0]


# Masks and codebooks


@given(tensors(st.sampled_from([0.0, 0.5, 0.5, 1.0, 2.0])), st.data())
def test_keep_topk_keeps_exactly_k_of_the_largest_and_the_first_of_equals(score, data):
    k = data.draw(st.integers(0, score.size))
    mask = numpy(topk.keep_topk(ops.array(score), k))

    assert mask.shape == score.shape and mask.dtype == np.float32
    assert set(np.unique(mask)) <= {0.0, 1.0} and mask.sum() == k
    first = sorted(range(score.size), key=lambda i: (-score.ravel()[i], i))[:k]
    assert sorted(np.flatnonzero(mask)) == sorted(first)


@st.composite
def books(draw):
    """(values, ascending centroids), a row a channel, with centroids that repeat and values in the middle."""
    channels, values, k = (draw(st.integers(1, most)) for most in (3, 9, 17))
    centroids = np.sort(draw(hnp.arrays("float32", (channels, k), elements=EIGHTHS)), -1)
    return draw(hnp.arrays("float32", (channels, values), elements=EIGHTHS)), centroids


@given(books())
@example((np.array([[0.5, -0.5]], "float32"), np.array([[0.0, 1.0]], "float32")))
@example((np.array([[5.0, -5.0]], "float32"), np.array([[1.0, 1.0, 1.0]], "float32")))
def test_nearest_centroid_is_what_trying_all_of_them_finds(case):
    x, centroids = case
    index = numpy(shared.nearest_centroid(ops.array(x), ops.array(centroids.T[:, :, None])))
    distance = np.abs(x[:, :, None] - centroids[:, None, :])

    assert index.shape == x.shape and str(index.dtype) == "int32"
    found = np.take_along_axis(centroids, index, -1)
    # argmin takes the first of equals, which is the lower one: centroids ascend.
    assert np.array_equal(found, np.take_along_axis(centroids, distance.argmin(-1), -1))


def jax_sizes(jaxpr):
    """Values in each result of each operation, those inside calls too."""
    for operation in jaxpr.eqns:
        yield from (math.prod(out.aval.shape) for out in operation.outvars)
        for inner in operation.params.values():
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                yield from jax_sizes(inner)


def tensorflow_sizes(graph):
    """Values in each result of each operation, those inside calls too."""
    for nodes in (graph.node, *(function.node_def for function in graph.library.function)):
        for node in nodes:
            for shape in node.attr["_output_shapes"].list.shape:
                yield math.prod(dim.size for dim in shape.dim)


def sizes_of(function, *arrays):
    """Values in each result of each operation of ``function`` and of its gradient."""
    if keras.backend.backend() == "jax":
        import jax

        return list(jax_sizes(jax.make_jaxpr(lambda *given: jax.vjp(function, *given)[1](given[0]))(*arrays).jaxpr))
    if keras.backend.backend() != "tensorflow":
        pytest.skip("torch has no graph to read the sizes from")
    import tensorflow as tf

    def both(*given):
        with tf.GradientTape() as tape:
            tape.watch(given)
            found = function(*given)
        return tape.gradient(found, given, output_gradients=given[0])

    graph = tf.function(both).get_concrete_function(*map(tf.constant, arrays)).graph
    return list(tensorflow_sizes(graph.as_graph_def(add_shapes=True)))


@pytest.mark.parametrize("channels", [1, 8])
def test_the_cost_of_sharing_values_does_not_grow_with_clusters_times_weights(channels):
    """tfmot lays out a distance for each pair. Here no result is of that size, and k doubled is one halving more."""
    x = np.linspace(-1, 1, 2**16, dtype="float32").reshape(-1, 8)
    count = {}
    for k in (8, 16, 32, 64, 128, 256):
        centroids = np.tile(np.linspace(-1, 1, k, dtype="float32").reshape(k, 1, 1), (1, 1, channels))
        sizes = sizes_of(shared.share_values, x, centroids)
        assert max(sizes) == 2 * x.size  # the gradient and a 1 for each weight: sums and counts in one pass
        count[k] = sum(size >= x.size for size in sizes)
    halving = count[64] - count[32]
    assert 0 < halving < count[16] - count[8]
    assert [count[128] - count[64], count[256] - count[128]] == [halving, halving]


# Channels


@given(on_axes())
def test_channels_first_and_back_are_inverse(case):
    x, axis = case
    rows = numpy(axes.channels_first(ops.array(x), axis))

    channels = math.prod(x.shape[a] for a in axis)
    assert rows.shape == (channels, x.size // channels)
    assert np.array_equal(numpy(axes.channels_back(ops.array(rows), x.shape, axis)), x)


def test_channels_first_puts_each_channel_in_a_row():
    kernel = np.arange(24, dtype="float32").reshape(2, 3, 4)
    assert np.array_equal(axes.channels_first(ops.array(kernel), (-1,)), kernel.reshape(6, 4).T)
    assert np.array_equal(axes.channels_first(ops.array(kernel), (-2, -1)), kernel.reshape(2, 12).T)
    assert np.array_equal(axes.channels_first(ops.array(kernel), ()), kernel.reshape(1, 24))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.75, 1.0])
@pytest.mark.parametrize("kind", ["normal", "ties", "sorted", "rows that differ", "all the same"])
def test_the_value_at_a_rank_is_that_of_a_sort(kind, share):
    random = np.random.default_rng(0)
    size = topk.MANY * 2
    values = {
        "normal": lambda: random.normal(size=size),
        "ties": lambda: random.integers(0, 5, size),
        "sorted": lambda: np.sort(random.normal(size=size)),
        "rows that differ": lambda: (random.normal(size=(size // 512, 512)) * np.arange(512)).ravel(),
        "all the same": lambda: np.ones(size),
    }[kind]().astype("float32")
    rank = min(int(share * size), size - 1)
    assert topk.nth_smallest(values, rank) == np.sort(values)[rank]
