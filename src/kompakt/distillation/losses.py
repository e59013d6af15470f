"""How far a student is from its teacher: pure functions of ``keras.ops``.

Those of samples give one value a sample (or a position of one), so that weights of samples can count; those of
relations one number a batch. No gradient goes to a teacher: what calls these stops it.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

FAR = 1e4
"""What is taken off a logit so that its class has no share in a softmax."""

TINY = 1e-12


def soft_targets(teacher: Any, student: Any, temperature: float = 4.0) -> Any:
    r"""Divergence of the softened predictions.

    .. math:: T^2 \sum_c p^T_c \log\frac{p^T_c}{p^S_c}, \quad p = softmax(z / T)

    Hinton, Vinyals and Dean 2015, "Distilling the Knowledge in a Neural Network", arXiv:1503.02531, section 2; their
    cross-entropy less the teacher's entropy, which has no gradient. :math:`T^2` keeps the gradient's size.

    Args:
        teacher, student: logits (batch, ..., classes).

    Returns:
        (batch, ...).

    Example:
        >>> z = ops.array([[2.0, 0.0]])
        >>> [round(float(soft_targets(z, s, 1.0)[0]), 4) for s in (z, ops.zeros((1, 2)))]
        [0.0, 0.3278]
    """
    wanted, found = ops.log_softmax(teacher / temperature), ops.log_softmax(student / temperature)
    return temperature**2 * ops.sum(ops.exp(wanted) * (wanted - found), axis=-1)


def binary_soft_targets(teacher: Any, student: Any, temperature: float = 4.0) -> Any:
    r"""The same of outputs that are yes or no each, the mean over them.

    .. math:: \frac{T^2}{n} \sum_i D(\sigma(z^T_i / T), \sigma(z^S_i / T)), \quad
        D(p, q) = p \log\frac{p}{q} + (1 - p) \log\frac{1 - p}{1 - q}

    Args:
        teacher, student: logits (batch, ..., n).

    Returns:
        (batch, ...).

    Example:
        >>> float(binary_soft_targets(ops.array([[1.0]]), ops.array([[1.0]]))[0])
        0.0
    """
    wanted, found = teacher / temperature, student / temperature
    yes = ops.sigmoid(wanted) * (ops.log_sigmoid(wanted) - ops.log_sigmoid(found))
    no = ops.sigmoid(-wanted) * (ops.log_sigmoid(-wanted) - ops.log_sigmoid(-found))
    return temperature**2 * ops.mean(yes + no, axis=-1)


def squared_error(teacher: Any, student: Any) -> Any:
    r""":math:`\frac{1}{n} \sum_i (t_i - s_i)^2` over the last axis: outputs of a regression, and hints.

    Romero et al. 2015, "FitNets", arXiv:1412.6550, section 2.2, equation (3), there with a half and without the mean.

    Returns:
        (batch, ...), for the mean over places to leave out those that are padding; (batch,) of (batch,).

    Example:
        >>> float(squared_error(ops.array([[1.0, 2.0]]), ops.array([[1.0, 4.0]]))[0])
        2.0
    """
    square = ops.square(teacher - student)
    return ops.mean(square, axis=-1) if len(square.shape) > 1 else square


def attention_map(features: Any, power: float = 2.0) -> Any:
    r"""Where a layer looks: :math:`q = \sum_c |a_c|^p`, as a vector of length 1: (batch, places).

    Zagoruyko and Komodakis 2017, "Paying More Attention to Attention", arXiv:1612.03928, section 3.1.

    Args:
        features: (batch, ..., channels).

    Example:
        >>> ops.convert_to_numpy(attention_map(ops.array([[[3.0, 0.0], [0.0, 0.0]]]))).tolist()
        [[1.0, 0.0]]
    """
    energy = ops.sum(ops.power(ops.abs(features), power), axis=-1)
    flat = ops.reshape(energy, (ops.shape(energy)[0], -1))
    return flat / ops.sqrt(ops.maximum(ops.sum(ops.square(flat), axis=-1, keepdims=True), TINY))


def attention_transfer(teacher: Any, student: Any, power: float = 2.0) -> Any:
    r"""Squared distance of the attention maps, :math:`\|q^T - q^S\|_2^2`.

    Zagoruyko and Komodakis 2017, equation (2), squared, as their own code has it: the root has no gradient where the
    maps are one.

    Args:
        teacher, student: (batch, ..., channels), of the same places; channels may differ.

    Returns:
        (batch,).

    Example:
        >>> a, b = ops.array([[[1.0], [0.0]]]), ops.array([[[0.0], [2.0]]])
        >>> float(attention_transfer(a, b)[0])
        2.0
    """
    return ops.sum(ops.square(attention_map(teacher, power) - attention_map(student, power)), axis=-1)


def relational_distance(teacher: Any, student: Any, weight: Any = None) -> Any:
    r"""Distances between the samples of a batch, each over their mean, by Huber's loss.

    .. math:: \frac{1}{n (n - 1)} \sum_{i \neq j} l(\psi^T_{ij}, \psi^S_{ij}), \quad \psi_{ij} = \|f_i - f_j\| / \mu

    Park et al. 2019, "Relational Knowledge Distillation", arXiv:1904.05068, section 3.2.1, equations (4) to (6).

    Args:
        teacher, student: (batch, ...), flattened a sample; widths may differ. weight: (batch,), that of a pair is
            the product.

    Returns:
        a number; 0 for a batch of one.

    Example:
        >>> x = ops.array([[0.0], [1.0], [3.0]])
        >>> float(relational_distance(x, 5.0 * x)) < 1e-6
        True
    """
    off = 1.0 - ops.eye(ops.shape(teacher)[0], dtype=student.dtype)
    found = _huber(_relative(teacher, off), _relative(student, off))
    return _mean(found, off, _pairs(weight, off))


def relational_angle(teacher: Any, student: Any, weight: Any = None) -> Any:
    r"""Cosines of the angles that three samples of a batch make, by Huber's loss; the mean over all triples.

    .. math:: \psi_{ijk} = \left\langle \frac{f_i - f_j}{\|f_i - f_j\|}, \frac{f_k - f_j}{\|f_k - f_j\|}\right\rangle

    Park et al. 2019, section 3.2.2, equations (7) and (8). Needs the cube of the batch in numbers.

    Args:
        teacher, student, weight: as for :func:`relational_distance`.

    Example:
        >>> x = ops.array([[0.0, 1.0], [1.0, 0.0], [3.0, 1.0]])
        >>> float(relational_angle(x, 2.0 * x)) < 1e-6
        True
    """
    off = 1.0 - ops.eye(ops.shape(teacher)[0], dtype=student.dtype)
    apart = off[:, :, None] * off[None, :, :] * off[:, None, :]
    pairs = _pairs(weight, off)
    weights = None if pairs is None else pairs[:, :, None] * ops.reshape(weight, (1, 1, -1))
    return _mean(_huber(_cosines(teacher), _cosines(student)), apart, weights)


def decoupled(
    teacher: Any, student: Any, labels: Any, *, alpha: float = 1.0, beta: float = 8.0, temperature: float = 4.0
) -> Any:
    r"""Target and other classes apart: :math:`T^2 (\alpha D(b^T, b^S) + \beta D(\hat p^T, \hat p^S))`.

    :math:`b` is the share of the target against all others, :math:`\hat p` the softmax over the others alone. Zhao et
    al. 2022, "Decoupled Knowledge Distillation", arXiv:2203.08679, section 3.2, equation (7).

    Args:
        teacher, student: logits (batch, ..., classes). labels: class numbers (batch, ...) or (batch, ..., 1), or
            one-hot.

    Returns:
        (batch, ...).

    Example:
        >>> z = ops.array([[2.0, 0.0, 1.0]])
        >>> float(decoupled(z, z, ops.array([0]))[0])
        0.0
    """
    target = _one_hot(labels, student)
    wanted, found = teacher / temperature, student / temperature
    p, q = (ops.sum(ops.softmax(z) * target, axis=-1) for z in (wanted, found))
    others_wanted, others_found = ops.log_softmax(wanted - FAR * target), ops.log_softmax(found - FAR * target)
    others = ops.exp(others_wanted) * (others_wanted - others_found) * (1.0 - target)
    return temperature**2 * (alpha * _two(p, q) + beta * ops.sum(others, axis=-1))


def mean_over(values: Any, weight: Any = None, mask: Any = None) -> Any:
    r"""The mean of (batch, ...) values, :math:`\frac{1}{n} \sum_i w_i v_i`, over those that the mask leaves.

    As Keras' losses have it: the sum is divided by how many values there are, not by the sum of the weights.

    Args:
        weight: (batch,), (batch, 1) or of the values' shape. mask: of the first axes of the values.

    Example:
        >>> v = ops.array([1.0, 3.0])
        >>> float(mean_over(v)), float(mean_over(v, ops.array([2.0, 0.0]))), float(mean_over(v, mask=v > 2))
        (2.0, 1.0, 3.0)
    """
    if weight is not None:
        values = values * _aligned(ops.cast(weight, values.dtype), values)
    if mask is None:
        return ops.mean(values)
    kept = ops.broadcast_to(_aligned(ops.cast(mask, values.dtype), values), ops.shape(values))
    return ops.sum(values * kept) / ops.maximum(ops.sum(kept), 1.0)


def _aligned(small: Any, values: Any) -> Any:
    """``small`` with axes of length 1 added, or taken away, at its end."""
    while len(small.shape) > len(values.shape):
        small = ops.squeeze(small, axis=-1)
    return ops.reshape(small, (*ops.shape(small), *[1] * (len(values.shape) - len(small.shape))))


def _one_hot(labels: Any, like: Any) -> Any:
    if len(labels.shape) == len(like.shape) and labels.shape[-1] == like.shape[-1]:
        labels = ops.argmax(labels, axis=-1)
    elif len(labels.shape) == len(like.shape):
        labels = ops.squeeze(labels, axis=-1)
    return ops.one_hot(ops.cast(labels, "int32"), like.shape[-1], dtype=like.dtype)


def _two(p: Any, q: Any) -> Any:
    """Divergence of two shares of yes and no."""
    end = keras.config.epsilon()
    p, q = ops.clip(p, end, 1.0 - end), ops.clip(q, end, 1.0 - end)
    return p * ops.log(p / q) + (1.0 - p) * ops.log((1.0 - p) / (1.0 - q))


def _products(features: Any) -> Any:
    flat = ops.reshape(features, (ops.shape(features)[0], -1))
    flat = flat - ops.mean(flat, axis=0, keepdims=True)  # distances stay, and are not lost in large numbers
    return ops.matmul(flat, ops.transpose(flat))


def _distances(products: Any) -> Any:
    square = ops.diagonal(products)
    return ops.sqrt(ops.maximum(square[:, None] + square[None, :] - 2.0 * products, TINY))


def _relative(features: Any, off: Any) -> Any:
    distances = _distances(_products(features)) * off
    return distances / ops.maximum(_mean(distances, off, None), TINY)


def _cosines(features: Any) -> Any:
    """(batch, batch, batch): at [i, j, k] that of the angle at j."""
    products = _products(features)
    lengths = _distances(products)
    at = ops.diagonal(products)[None, :, None]
    inner = products[:, None, :] - products[:, :, None] - products[None, :, :] + at
    return inner / (lengths[:, :, None] * lengths[None, :, :])


def _huber(a: Any, b: Any) -> Any:
    size = ops.abs(a - b)
    return ops.where(size <= 1.0, 0.5 * ops.square(size), size - 0.5)


def _pairs(weight: Any, like: Any) -> Any:
    if weight is None:
        return None
    flat = ops.reshape(ops.cast(weight, like.dtype), (-1,))
    return flat[:, None] * flat[None, :]


def _mean(values: Any, kept: Any, weight: Any) -> Any:
    total = values * kept if weight is None else values * kept * weight
    return ops.sum(total) / ops.maximum(ops.sum(kept), 1.0)
