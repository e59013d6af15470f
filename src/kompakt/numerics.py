"""Pure functions of ``keras.ops``: the same numbers on TensorFlow, JAX and torch.

``scale`` always multiplies the integer. Tensors are float32 unless said otherwise. Where a function takes
an ``axis`` it is a tuple of the axes that keep their own value (the channels); () means one for the tensor.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from kompakt.compiled import compiled

Tensor = Any
WIDE = 16
"""Bits of the finer activations: runtimes have no zero point for them, and XNNPACK no kernels."""

SMALLEST_RANGE = 1e-8
"""A range narrower than this is widened to it: a dead channel must not divide by zero."""


def integer_limits(bits: int, *, symmetric: bool) -> tuple[int, int]:
    """Smallest and largest signed integer of a grid; a symmetric one of up to 8 bits leaves out the lowest.

    Those of 16 bits hold activations, which TFLite's kernels clip at -32768 while the step is that of 32767.

    Example:
        >>> integer_limits(8, symmetric=False), integer_limits(8, symmetric=True)
        ((-128, 127), (-127, 127))
        >>> integer_limits(16, symmetric=True)
        (-32768, 32767)
    """
    top = 2 ** (bits - 1) - 1
    return (-top, top) if symmetric and bits != WIDE else (-top - 1, top)


def incoming(args: Sequence[Tensor], upstream: Tensor | None) -> Tensor:
    """The gradient that Keras hands to a ``custom_gradient``: as ``upstream`` on torch, by place elsewhere."""
    return args[0] if upstream is None else upstream


def reduce_axes(rank: int, axis: Sequence[int]) -> tuple[int, ...]:
    """The axes that are not channels.

    Example:
        >>> reduce_axes(4, (-1,))
        (0, 1, 2)
    """
    kept = {a % rank for a in axis}
    return tuple(a for a in range(rank) if a not in kept)


def live_reach(reach: Tensor) -> Tensor:
    """``reach`` (largest magnitude of each channel) with dead channels given one that a bias can live with.

    A bias is stored in 32 bits on the grid of step ``input scale * weight scale``: a channel of zeros, or
    next to zero, would have a step so small that the bias overflows. A channel of zeros takes the largest
    reach of the tensor, and none is less than a 65,536th of it; a tensor of zeros takes 1.

    Example:
        >>> ops.convert_to_numpy(live_reach(ops.array([0.0, 0.5, 2.0]))).tolist()
        [2.0, 0.5, 2.0]
    """
    largest = ops.max(reach)
    largest = ops.where(largest > 0, largest, ops.ones_like(largest))
    return ops.where(reach > 0, ops.maximum(reach, largest * 2.0**-16), largest)


def scale_from_range(low: Tensor, high: Tensor, bits: int, *, symmetric: bool) -> tuple[Tensor, Tensor]:
    r"""Scale and zero point of the grid that covers ``[low, high]`` and holds 0.0 exactly.

    Asymmetric: :math:`s = (max(h,0) - min(l,0)) / (2^b - 1)`, :math:`z = round(q_{min} - min(l,0)/s)`;
    symmetric: :math:`s = max(|l|, |h|) / (2^{b-1} - 1)`, :math:`z = 0`.
    Jacob et al. 2018, section 3 and appendix; narrow range after TensorFlow Lite's int8 specification.

    Args:
        low, high: float tensors of any one shape.
        bits: width, 2..16.
        symmetric: narrow symmetric grid.

    Returns:
        (scale, zero_point), float tensors of the shape of ``low``; the zero point holds whole numbers.

    Example:
        >>> s, z = scale_from_range(ops.array(0.0), ops.array(255.0), 8, symmetric=False)
        >>> float(s), float(z)
        (1.0, -128.0)
    """
    q_min, q_max = integer_limits(bits, symmetric=symmetric)
    if symmetric:
        reach = ops.maximum(ops.maximum(ops.abs(low), ops.abs(high)), SMALLEST_RANGE)
        return reach / q_max, ops.zeros_like(reach)
    low, high = ops.minimum(low, 0.0), ops.maximum(high, 0.0)
    scale = ops.maximum(high - low, SMALLEST_RANGE) / (q_max - q_min)
    return scale, ops.clip(ops.round(q_min - low / scale), q_min, q_max)


TIE = 2.0**-10
"""How near to a half counts as one: more than float32 loses in a mean, less than a mean of 500 can be off."""


def round_half_away(x: Tensor) -> Tensor:
    """Round half away from zero, as TFLite's integer average pooling divides.

    Example:
        >>> ops.convert_to_numpy(round_half_away(ops.array([0.5, -2.5, 1.2]))).tolist()
        [1.0, -3.0, 1.0]
    """
    return ops.sign(x) * ops.floor(ops.abs(x) + (0.5 + TIE))


def round_half_up(x: Tensor) -> Tensor:
    """Round half towards plus infinity, as XNNPACK's integer resizing does.

    Example:
        >>> ops.convert_to_numpy(round_half_up(ops.array([0.5, -2.5, 1.2]))).tolist()
        [1.0, -2.0, 1.0]
    """
    return ops.floor(x + (0.5 + TIE))


def quantize(x: Tensor, scale: Tensor, zero_point: Tensor, bits: int, *, symmetric: bool) -> Tensor:
    r"""Whole numbers :math:`q = clip(round(x / s) + z, q_{min}, q_{max})`, as floats of the shape of ``x``.

    Halves are rounded to even, as XNNPACK does, before the zero point is added: in float32 a sum with it would
    make halves of what is near one.

    Args:
        scale, zero_point: broadcast against ``x``.
    """
    q_min, q_max = integer_limits(bits, symmetric=symmetric)
    return ops.clip(ops.round(x / scale) + zero_point, q_min, q_max)


def dequantize(q: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    """Real numbers ``scale * (q - zero_point)``."""
    return (q - zero_point) * scale


def fake_quantize(x: Tensor, scale: Tensor, zero_point: Tensor, bits: int, *, symmetric: bool) -> Tensor:
    """``dequantize(quantize(x))``, straight through inside the grid's range, gradient zero outside it.

    ``scale`` and ``zero_point`` get no gradient.

    Example:
        >>> y = fake_quantize(ops.array([0.26, 9.0]), ops.array(0.5), ops.array(0.0), 4, symmetric=True)
        >>> ops.convert_to_numpy(y).tolist()
        [0.5, 3.5]
    """
    q_min, q_max = integer_limits(bits, symmetric=symmetric)

    def forward(x: Tensor, scale: Tensor, zero_point: Tensor) -> Any:
        def backward(*args: Tensor, upstream: Tensor = None) -> tuple[Tensor, Tensor, Tensor]:
            gradient = incoming(args, upstream)
            # Half a step more on either side: what rounds onto the grid has not been clipped.
            low, high = (q_min - zero_point - 0.5) * scale, (q_max - zero_point + 0.5) * scale
            inside = ops.logical_and(x >= low, x <= high)
            return ops.where(inside, gradient, 0.0), ops.zeros_like(scale), ops.zeros_like(zero_point)

        integers = quantize(x, scale, zero_point, bits, symmetric=symmetric)
        return dequantize(integers, scale, zero_point), backward

    x, scale, zero_point = (ops.cast(t, "float32") for t in (x, scale, zero_point))
    return ops.custom_gradient(forward)(x, ops.stop_gradient(scale), ops.stop_gradient(zero_point))


def fake_quantize_weight(x: Tensor, bits: int, axis: Sequence[int]) -> Tensor:
    r"""A weight on the symmetric grid of its own reach, :math:`s = \max|x| / (2^{b-1} - 1)` a channel.

    Nothing is outside that grid, so the gradient is straight through everywhere.

    Args:
        axis: the channels, () for one scale.

    Example:
        >>> y = fake_quantize_weight(ops.array([[0.5, -1.27], [0.004, 0.1]]), 8, (-1,))
        >>> ops.convert_to_numpy(ops.round(y * 1e4)).tolist()
        [[5000.0, -12700.0], [39.0, 1000.0]]
    """
    on_grid = _on_own_grid(bits, tuple(axis))

    def forward(x: Tensor) -> Any:
        def backward(*args: Tensor, upstream: Tensor = None) -> Tensor:
            return incoming(args, upstream)

        return on_grid(x), backward

    return ops.custom_gradient(forward)(ops.cast(x, "float32"))


@functools.cache
def _on_own_grid(bits: int, axis: tuple[int, ...]) -> Any:
    def on_grid(x: Tensor) -> Tensor:
        reach = own_reach(x, axis)
        scale, zero_point = scale_from_range(-reach, reach, bits, symmetric=True)
        return dequantize(quantize(x, scale, zero_point, bits, symmetric=True), scale, zero_point)

    return compiled(on_grid)


def own_reach(x: Tensor, axis: Sequence[int]) -> Tensor:
    """Largest magnitude of each channel, kept broadcastable, dead channels as in :func:`live_reach`."""
    reduced = reduce_axes(len(x.shape), axis)
    magnitude = ops.abs(x)
    return live_reach(ops.max(magnitude, axis=reduced, keepdims=True) if reduced else magnitude)


def fake_quantize_learned(
    x: Tensor, scale: Tensor, zero_point: Tensor, bits: int, *, symmetric: bool, gain: float = 1.0
) -> Tensor:
    r"""``fake_quantize`` whose scale and zero point are learned.

    With :math:`v = x / s` and :math:`q` the integer that :math:`x` gets, less the zero point,

    .. math::

        \frac{\partial y}{\partial s} = q - v \text{ inside, } q \text{ outside}, \quad
        \frac{\partial y}{\partial z} = 0 \text{ inside, } -s \text{ outside},

    each times ``gain``. Esser et al. 2020, "Learned Step Size Quantization", arXiv:1902.08153, equation (3); the
    zero point as the offset of Bhalgat et al. 2020, "LSQ+", arXiv:2004.09576, section 3.1, kept a whole number.

    Args:
        scale, zero_point: of one shape, () or the rank of ``x`` with ones; the zero point is rounded here, straight
            through.
        gain: on the gradients of both.

    Example:
        >>> y = fake_quantize_learned(ops.array([0.26, 9.0]), ops.array(0.5), ops.array(0.2), 4, symmetric=True)
        >>> ops.convert_to_numpy(y).tolist()
        [0.5, 3.5]
    """
    q_min, q_max = integer_limits(bits, symmetric=symmetric)
    shape = tuple(scale.shape)
    summed = tuple(i for i, n in enumerate(shape) if n == 1) if shape else None

    def forward(x: Tensor, scale: Tensor, zero_point: Tensor) -> Any:
        zero = ops.round(zero_point)
        level = quantize(x, scale, zero, bits, symmetric=symmetric) - zero

        def total(values: Tensor) -> Tensor:
            if summed is None:
                return gain * ops.sum(values)
            return gain * (ops.sum(values, axis=summed, keepdims=True) if summed else values)

        def backward(*args: Tensor, upstream: Tensor = None) -> tuple[Tensor, Tensor, Tensor]:
            gradient = incoming(args, upstream)
            low, high = (q_min - zero - 0.5) * scale, (q_max - zero + 0.5) * scale
            inside = ops.logical_and(x >= low, x <= high)
            to_scale = gradient * (level - ops.where(inside, x / scale, 0.0))
            to_zero = ops.where(inside, 0.0, -gradient * scale)
            return ops.where(inside, gradient, 0.0), total(to_scale), total(to_zero)

        return level * scale, backward

    x, scale, zero_point = (ops.cast(t, "float32") for t in (x, scale, zero_point))
    return ops.custom_gradient(forward)(x, scale, zero_point)


SHARES = tuple(1.0 - 0.01 * i for i in range(81))
"""Ranges tried for a channel of a weight, as shares of its reach: of two bits the best is about a third."""


def best_step(x: Tensor, bits: int, axis: Sequence[int]) -> Tensor:
    r"""Step of a symmetric grid for ``x`` a channel, the one with the least squared error.

    Of :math:`c \max|x| / q_{max}` with :math:`c` from 1 down to 0.2. Where learning starts from
    :math:`2 \overline{|x|} / \sqrt{q_{max}}` instead (Esser et al. 2020, section 2.1), a normal weight of 4 bits has
    a step 1.8 times as long and more than twice the error.

    Returns:
        float32 of the rank of ``x``, ones where there is no channel; above 0.

    Example:
        >>> round(float(best_step(ops.array([[0.5, -1.27], [0.004, 0.1]]), 8, ())[0, 0]), 6)
        0.01
    """
    reduced = reduce_axes(len(x.shape), axis)
    whole = own_reach(x, axis) / integer_limits(bits, symmetric=True)[1]

    def error(step: Tensor) -> Tensor:
        apart = (x - dequantize(quantize(x, step, 0.0, bits, symmetric=True), step, 0.0)) ** 2
        return ops.sum(apart, axis=reduced, keepdims=True) if reduced else apart

    best, least = whole, error(whole)
    for share in SHARES[1:]:
        found = error(whole * share)
        best, least = ops.where(found < least, whole * share, best), ops.minimum(found, least)
    return best


def keep_topk(score: Tensor, k: int) -> Tensor:
    """Mask with exactly ``k`` ones, at the largest scores; ties go to the lower flat index.

    A ``score > threshold`` mask keeps too few or too many on ties (clustered weights). Masks are made between
    training steps, so the threshold is found on the host: a partial selection costs :math:`O(n)`, where a
    sort on every backend costs ten times as much at a million weights.

    Args:
        score: any shape. k: 0..size.

    Returns:
        float32 mask of the same shape.

    Example:
        >>> ops.convert_to_numpy(keep_topk(ops.array([1.0, 1.0, 1.0, 0.5]), 2)).tolist()
        [1.0, 1.0, 0.0, 0.0]
    """
    flat = ops.convert_to_numpy(score).ravel()
    if k <= 0:
        return ops.zeros(score.shape, "float32")
    threshold = nth_smallest(flat, flat.size - k)
    kept = flat > threshold
    kept[np.flatnonzero(flat == threshold)[: k - int(kept.sum())]] = True
    return ops.convert_to_tensor(kept.reshape(score.shape).astype("float32"))


def nth_smallest(flat: Any, n: int) -> Any:
    """The value that would be at ``n`` if the one-dimensional NumPy array ``flat`` were sorted.

    Two values of a sample, evenly taken, nearly always lie around it; only what is between them is then
    selected from, a sixteenth of the array. Where they do not, all of it is.

    Example:
        >>> nth_smallest(np.array([3.0, 1.0, 2.0]), 1).item()
        2.0
    """
    if flat.size >= MANY:
        sample = np.sort(flat[:: flat.size // SAMPLE | 1])  # odd, so that it goes through all columns
        place = n * len(sample) // flat.size
        low, high = sample[max(0, place - SPREAD)], sample[min(len(sample) - 1, place + SPREAD)]
        below, between = np.count_nonzero(flat < low), flat[(flat >= low) & (flat <= high)]
        if 0 <= n - below < len(between):
            return np.partition(between, n - below)[n - below]
    return np.partition(flat, n)[n]


MANY, SAMPLE, SPREAD = 2**16, 2**12, 2**7
"""Values from which on a sample is worth its while, the values in it, and four standard errors of a rank in it."""


def keep_topk_of_each(score: Tensor, k: int) -> Tensor:
    """Mask with exactly ``k`` ones in each row of the last axis; ties go to the lower index.

    Costs :math:`O(n m)` for rows of ``m``: meant for the short rows of N:M sparsity.

    Example:
        >>> ops.convert_to_numpy(keep_topk_of_each(ops.array([[1.0, 3.0, 3.0, 2.0]]), 1)).tolist()
        [[0.0, 1.0, 0.0, 0.0]]
    """
    size = int(score.shape[-1])
    mine, other = ops.expand_dims(score, -1), ops.expand_dims(score, -2)
    earlier = ops.expand_dims(ops.arange(size), 0) < ops.expand_dims(ops.arange(size), -1)
    ahead = ops.logical_or(other > mine, ops.logical_and(other == mine, earlier))
    return ops.cast(ops.sum(ops.cast(ahead, "int32"), axis=-1) < k, "float32")


def share_out(
    scores: Sequence[Any], sizes: Sequence[int], drop: int, limits: Sequence[tuple[int, int]]
) -> tuple[int, ...]:
    """How many groups each tensor drops where the lowest scores of all of them together go.

    Args:
        scores: one array a tensor, a score a group. sizes: values in a group of each tensor.
        drop: values to drop in all. limits: fewest and most groups that each tensor may drop.

    Returns:
        Groups to drop a tensor; their values come to ``drop``, or to the nearest count under it that whole
        groups and the limits admit.

    Example:
        >>> share_out([np.array([0.1, 0.2, 9.0]), np.array([0.3, 8.0])], [1, 1], 3, [(0, 3), (0, 2)])
        (2, 1)
    """
    order = [np.sort(np.asarray(ops.convert_to_numpy(s), "float64").ravel()) for s in scores]
    least = np.array([low for low, _ in limits])
    free = [s[low:high] for s, (low, high) in zip(order, limits, strict=True)]
    owner = np.repeat(np.arange(len(free)), [len(s) for s in free])
    cheapest = owner[np.argsort(np.concatenate(free), kind="stable")]
    spent = np.cumsum(np.asarray(sizes)[cheapest])
    within = int(np.searchsorted(spent, drop - int((least * np.asarray(sizes)).sum()), side="right"))
    counts = least + np.bincount(cheapest[:within], minlength=len(free))
    return tuple(int(n) for n in counts)


def nearest_centroid(x: Tensor, centroids: Tensor) -> Tensor:
    r"""Index of the nearest of the ascending ``centroids``: the number of midpoints that lie below.

    Nearest in one dimension needs no all-pairs distance. At most ``AT_ONCE`` midpoints, evenly chosen, are
    compared with every value; where there are more, the interval found is halved until one is left, so the cost
    is :math:`O(n \log k)`. A value in the middle goes to the lower centroid.

    Args:
        x: float.
        centroids: (k, ...) float, ascending along the first axis; the others broadcast against ``x``, as
            :func:`along_channels` lays them out.

    Returns:
        int32 of the shape of ``x``, values 0..k-1.

    Example:
        >>> i = nearest_centroid(ops.array([-1.0, 0.4, 0.6]), ops.array([[0.0], [1.0]]))
        >>> ops.convert_to_numpy(i).tolist()
        [0, 0, 1]
    """
    k = int(centroids.shape[0])
    index = ops.zeros(x.shape, dtype="int32")
    if k == 1:
        return index
    middle = (centroids[1:] + centroids[:-1]) / 2.0
    stride = 1
    while (k - 1) // stride > AT_ONCE:
        stride *= 2
    for j in range(stride - 1, k - 1, stride):
        index += ops.cast(x > middle[j], "int32")
    index *= stride
    while stride > 1:
        stride //= 2
        probe = ops.minimum(index + stride, k - 1)
        beyond = ops.logical_and(x > _pick(middle, probe - 1), index + stride <= k - 1)
        index = ops.where(beyond, index + stride, index)
    return index


def _pick(table: Tensor, index: Tensor) -> Tensor:
    """``table[index]`` for each value, in its own channel; ``table`` is (k, ...) as for ``nearest_centroid``."""
    return ops.take(ops.reshape(table, (-1,)), _flat(table, index))


def _flat(table: Tensor, index: Tensor) -> Tensor:
    """``index`` into the flattened ``table``."""
    channels = int(np.prod(table.shape[1:], dtype=int))
    if channels == 1:
        return index
    return index * channels + ops.reshape(ops.arange(channels, dtype="int32"), table.shape[1:])


AT_ONCE = 15
"""Midpoints that are compared with every value: so many fit in registers and cost less than one look-up."""

LANES = 16
"""Running sums kept for one centroid side by side: adding to one, over and over, waits for the sum before."""


def share_values(x: Tensor, centroids: Tensor, *, mean: bool = True, turn: Tensor = 0, turns: int = 1) -> Tensor:
    r"""Each value replaced by the nearest centroid, :math:`y_i = c_{a(i)}`, exactly.

    The gradient of ``x`` is straight through; that of a centroid is the mean of its members',
    :math:`\frac{1}{|a^{-1}(j)|}\sum_{a(i)=j} g_i`, or, without ``mean``, their sum (Han et al. 2016,
    arXiv:1510.00149, section 3.3, equation (3)). Values that are not finite come out as NaN.

    Args:
        x, centroids: as for :func:`nearest_centroid`.
        turn, turns: take the means over one of ``turns`` blocks of rows alone (a row is along the last axis;
            their number is a multiple of ``turns``). For one codebook; sums are always over all.

    Example:
        >>> y = share_values(ops.array([-1.0, 0.4, 0.6]), ops.array([[0.0], [1.0]]))
        >>> ops.convert_to_numpy(y).tolist()
        [0.0, 0.0, 1.0]
    """

    def forward(x: Tensor, centroids: Tensor) -> Any:
        def backward(*args: Tensor, upstream: Tensor = None) -> tuple[Tensor, Tensor]:
            gradient = incoming(args, upstream)
            to_centroids = _member_means(turns) if mean else _member_sums
            return gradient, to_centroids(gradient, x, centroids, turn)

        return _nearest_value(x, centroids), backward

    # TensorFlow takes a variable that is read inside for one more input: read it here.
    return ops.custom_gradient(forward)(ops.cast(x, "float32"), ops.cast(centroids, "float32"))


@compiled
def _nearest_value(x: Tensor, centroids: Tensor) -> Tensor:
    k = int(centroids.shape[0])
    if k > AT_ONCE + 1:
        return _pick(centroids, nearest_centroid(x, centroids)) + (x - x)
    # Compilers make one loop over registers of this; an index and a look-up cost them three times as much.
    middle = (centroids[1:] + centroids[:-1]) / 2.0
    value = ops.broadcast_to(centroids[0], x.shape)
    for j in range(k - 1):
        value = ops.where(x > middle[j], centroids[j + 1], value)
    return value + (x - x)


@functools.cache
def _member_means(turns: int) -> Any:
    def means(values: Tensor, x: Tensor, centroids: Tensor, turn: Tensor) -> Tensor:
        table = centroids
        if turns > 1:
            values, x = (_block(t, turn, turns) for t in (values, x))
            table = ops.reshape(centroids, (centroids.shape[0], 1, 1))  # of the block's rank
        pairs = ops.stack([values, ops.ones_like(values)], axis=-1)  # sums and counts in one pass
        sums = _member_totals(pairs, x, table)
        return ops.reshape(sums[..., 0] / ops.maximum(sums[..., 1], 1.0), centroids.shape)

    return compiled(means)


@compiled
def _member_sums(values: Tensor, x: Tensor, centroids: Tensor, _turn: Tensor) -> Tensor:
    return _member_totals(ops.expand_dims(values, -1), x, centroids)[..., 0]


def _block(x: Tensor, turn: Tensor, turns: int) -> Tensor:
    """Block ``turn`` of ``turns`` blocks of rows: (rows / turns, x.shape[-1])."""
    width = int(x.shape[-1])
    rows = int(np.prod(x.shape, dtype=int)) // (turns * width)
    return ops.reshape(ops.slice(ops.reshape(x, (turns, rows, width)), (turn, 0, 0), (1, rows, width)), (rows, width))


def _member_totals(values: Tensor, x: Tensor, centroids: Tensor) -> Tensor:
    """``values`` (*x.shape, m) summed over the members of each centroid: (*centroids.shape, m)."""
    size = int(np.prod(centroids.shape, dtype=int))
    index = ops.reshape(_flat(centroids, nearest_centroid(x, centroids)), (-1,))
    lanes = LANES if int(centroids.shape[0]) == size else 1
    if lanes > 1:
        index = index * lanes + ops.arange(index.shape[0], dtype="int32") % lanes
    sums = ops.segment_sum(ops.reshape(values, (-1, values.shape[-1])), index, num_segments=size * lanes)
    return ops.reshape(ops.sum(ops.reshape(sums, (size, lanes, -1)), axis=1), (*centroids.shape, values.shape[-1]))


def attend_centroids(
    x: Tensor, centroids: Tensor, movable: Tensor, *, temperature: Tensor, iterations: int
) -> tuple[Tensor, Tensor]:
    r"""Values mixed of centroids by attention, and the centroids as the means that it settles on.

    .. math::

        a_{ij} = softmax_j(-|x_i - c_j| / \tau), \quad c_j \leftarrow \frac{\sum_i a_{ij} x_i}{\sum_i a_{ij}},
        \quad y_i = \sum_j a_{ij} c_j

    The middle step is done ``iterations`` times, the others once more after it. Gradients go through all of it.
    Cho et al. 2022, "DKM: Differentiable k-Means Clustering Layer for Neural Network Compression",
    arXiv:2108.12659, section 3.2.

    Args:
        x: (channels, n). centroids: (channels, k). movable: (channels, k), 0 where a centroid stays as it is.
        temperature: (channels,), above 0.

    Returns:
        (y of the shape of ``x``, centroids); memory is iterations * channels * n * k floats.

    Example:
        >>> y, c = attend_centroids(
        ...     ops.array([[-1.0, 1.0, 3.0]]), ops.array([[-1.0, 1.0]]), ops.ones((1, 2)),
        ...     temperature=ops.array([0.01]), iterations=1)
        >>> ops.convert_to_numpy(ops.round(y)).tolist()
        [[-1.0, 2.0, 2.0]]
    """
    values = ops.expand_dims(x, -1)
    cool = ops.reshape(1.0 / ops.maximum(temperature, SMALLEST_RANGE), (-1, 1, 1))

    def attention(centroids: Tensor) -> Tensor:
        return ops.softmax(-ops.abs(values - ops.expand_dims(centroids, -2)) * cool, axis=-1)

    for _ in range(iterations):
        shares = attention(centroids)
        # A centroid that nobody attends to stays where it is.
        mass = ops.sum(shares, axis=-2) + SMALLEST_RANGE
        means = (ops.sum(shares * values, axis=-2) + SMALLEST_RANGE * centroids) / mass
        centroids = centroids + movable * (means - centroids)
    return ops.sum(attention(centroids) * ops.expand_dims(centroids, -2), axis=-1), centroids


def channels_first(x: Tensor, axis: Sequence[int]) -> Tensor:
    """(channels, values a channel) view of ``x``; one channel where ``axis`` is ()."""
    rank = len(x.shape)
    kept = tuple(a % rank for a in axis)
    size = 1
    for a in kept:
        size *= int(x.shape[a])
    return ops.reshape(ops.transpose(x, kept + reduce_axes(rank, kept)), (size, -1))


def channels_back(flat: Tensor, shape: Sequence[int], axis: Sequence[int]) -> Tensor:
    """Undo :func:`channels_first` for a tensor of ``shape``."""
    rank = len(shape)
    kept = tuple(a % rank for a in axis)
    order = kept + reduce_axes(rank, kept)
    moved = ops.reshape(flat, tuple(int(shape[a]) for a in order))
    back = ops.transpose(moved, tuple(order.index(a) for a in range(rank)))
    # Laid out in memory as any weight is: torch multiplies a transposed view in another order.
    return ops.reshape(ops.reshape(back, (-1,)), tuple(int(n) for n in shape))


def rows_of(x: Tensor, axis: Sequence[int]) -> Tensor:
    """(outputs, places, inputs) view of a kernel, TFLite's layout: ``inputs`` is the last axis that is no channel.

    Example:
        >>> tuple(rows_of(ops.zeros((3, 3, 4, 8)), (-1,)).shape)
        (8, 9, 4)
    """
    flat = channels_first(x, axis)
    rest = reduce_axes(len(x.shape), axis)
    inputs = int(x.shape[rest[-1]]) if rest else 1
    return ops.reshape(flat, (int(flat.shape[0]), -1, inputs))


def rows_back(rows: Tensor, shape: Sequence[int], axis: Sequence[int]) -> Tensor:
    """Undo :func:`rows_of` for a kernel of ``shape``."""
    return channels_back(ops.reshape(rows, (int(rows.shape[0]), -1)), shape, axis)


def along(scale: Any, shape: Sequence[int], axis: Sequence[int]) -> Any:
    """``scale``, an array of one value a channel, shaped to multiply a tensor of ``shape`` over its channel axes.

    Example:
        >>> along(ops.convert_to_numpy(ops.ones(4)), (3, 3, 2, 4), (-1,)).shape
        (1, 1, 1, 4)
    """
    kept = {a % len(shape) for a in axis}
    return scale.reshape([n if i in kept else 1 for i, n in enumerate(shape)])


def along_channels(rows: Tensor, shape: Sequence[int], axis: Sequence[int]) -> Tensor:
    """(m, channels) as (m, ...) that broadcasts against a tensor of ``shape`` whose channels are on ``axis``.

    The order of the channels is that of :func:`channels_first`.

    Example:
        >>> tuple(along_channels(ops.zeros((3, 8)), (5, 5, 2, 8), (-1,)).shape)
        (3, 1, 1, 1, 8)
    """
    rank = len(shape)
    kept = tuple(a % rank for a in axis)
    rows = ops.reshape(rows, (rows.shape[0], *(int(shape[a]) for a in kept)))
    if sorted(kept) != list(kept):
        rows = ops.transpose(rows, (0, *(1 + kept.index(a) for a in sorted(kept))))
    return ops.reshape(rows, (rows.shape[0], *(int(n) if a in kept else 1 for a, n in enumerate(shape))))
