"""Cross-layer equalization of a whole float model, by itself."""

from __future__ import annotations

from collections.abc import Collection

import keras

from kompakt.attach import wrapped
from kompakt.errors import InputError
from kompakt.rewrite.equalize import apply_equalize, plan_equalize
from kompakt.rewrite.fold_batchnorm import fold_batchnorm
from kompakt.rewrite.inline import inline
from kompakt.sites import is_graph
from kompakt.spelling import nearest


def equalize(
    model: keras.Model, *, replace_relu6: bool = False, leave: Collection[str] = ()
) -> tuple[keras.Model, tuple[str, ...]]:
    r"""Even out the ranges of the channels between each two linear layers; the same function in float.

    .. math:: W_1' = S^{-1} W_1, \quad b_1' = S^{-1} b_1, \quad W_2' = W_2 S,
        \quad s_i = \frac{1}{r_i^{(2)}} \sqrt{r_i^{(1)} r_i^{(2)}}

    with :math:`r_i` the largest magnitude of channel i in either weight: Nagel et al. 2019, arXiv:1906.04721,
    section 4.1, equations (4) to (11), repeated over all pairs until nothing moves, which settles chains
    (convolution, depthwise, convolution). It needs :math:`f(s x) = s f(x)` between the two, as ReLU, LeakyReLU
    and pooling have it. Weights with a scale a channel gain little by themselves; the activation between,
    which has one scale for all channels, does where some channels are far smaller than others.

    Where there are BatchNormalizations, each is first folded into the layer before it: they would be in the way. Then,
    and where there are nested models, the new model is flat.

    Args:
        model: a float model; not changed.
        replace_relu6: make each ReLU6 that is in the way a ReLU: no longer the same function where it clipped.
        leave: names of layers to leave as they are.

    Returns:
        (a new model, a line for each BatchNormalization folded, for each pair, and for each layer that was left, with
        the reason).

    Raises:
        InputError: a model with transforms on it, a name in ``leave`` that no layer has, or a subclassed model whose
            call cannot be followed.

    Example:
        >>> import numpy as np
        >>> from keras import layers
        >>> m = keras.Sequential([keras.Input((1,)), layers.Dense(2, "relu", name="a"), layers.Dense(1, name="b")])
        >>> m.set_weights([np.array([[100.0, 1.0]]), np.zeros(2), np.array([[1.0], [1.0]]), np.zeros(1)])
        >>> new, lines = equalize(m)
        >>> lines
        ('a -> b: 2 channels, ranges of a 100 times apart, now 10 times', 'b: left as it is (an output of the model)')
        >>> [w.ravel().round(3).tolist() for w in new.get_weights()[::2]]  # kernels
        [[10.0, 1.0], [10.0, 1.0]]
    """
    if wrapped(model):
        raise InputError(
            f"equalize: the model {model.name!r} has transforms on its layers (of prune, cluster, quantize or attach); "
            "give the float model, or ask quantize for repairs=('equalize',)"
        )
    model, lines = _flat(model)
    known = [layer.name for layer in model.layers]
    for name in leave:
        if name not in known:
            raise InputError(f"equalize(leave=): the model has no layer {name!r}{nearest(str(name), known)}")
    plan = plan_equalize(model, replace_relu6=replace_relu6, leave=leave)
    return apply_equalize(model, plan), (*lines, *plan.lines)


def _flat(model: keras.Model) -> tuple[keras.Model, tuple[str, ...]]:
    """The model with nested ones entered and BatchNormalizations folded, and a line for each of those."""
    inner = model._flatten_layers(include_self=False)
    if not any(is_graph(layer) or isinstance(layer, keras.layers.BatchNormalization) for layer in inner):
        return model, ()
    flat, folded = fold_batchnorm(inline(model)[0])
    return flat, tuple(f"{each.batchnorm}: folded into {each.layer}" for each in folded)
