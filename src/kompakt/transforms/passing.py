"""The grid of a weight before its BatchNormalization is folded into it."""

from __future__ import annotations

import keras

from kompakt.records import Encoding
from kompakt.transform import Tensor
from kompakt.transforms.quantize import FakeQuant


@keras.saving.register_keras_serializable(package="kompakt")
class PassingGrid(FakeQuant):
    """A FakeQuant of a weight that the next ``quantize`` takes the place of; no file is asked for it.

    A scale a channel and a gain a channel, which folding multiplies by, make a scale a channel: a weight that is
    on its grid is still on one when its BatchNormalization has been folded.

    Example:
        >>> from keras import ops
        >>> grid = PassingGrid(4)
        >>> w = ops.array([[0.7], [0.31]])
        >>> grid.prepare(w, (-1,))
        >>> [round(float(v), 2) for v in grid(w)[:, 0]], grid.describe(w, Encoding()) == Encoding()
        ([0.7, 0.3], True)
    """

    passing = True

    def describe(self, value: Tensor, so_far: Encoding) -> Encoding:
        return so_far
