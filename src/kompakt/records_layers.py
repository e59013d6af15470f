"""Immutable facts of one layer or one tensor, to and from JSON like those of ``records``."""

from __future__ import annotations

from dataclasses import dataclass

from kompakt.records_bounds import Amount, Bits, Count


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """How often the stored values of a tensor occur: ``counts`` over equal parts of ``low`` to ``high``.

    Attributes:
        low, high: where the first part begins and the last ends. Of stored integers they are integers, and every part
            holds equally many of them: (high - low + 1) / len(counts).
        counts: how many values lie in each part.
        integers: the values are integers as they are stored; else real numbers.

    Example:
        >>> Histogram(low=-2, high=1, counts=(1, 0, 5, 2), integers=True).counts[2]
        5
    """

    low: float
    high: float
    counts: tuple[Count, ...]
    integers: bool = False


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Numbers of one tensor: least, largest, mean, standard deviation, and the 0.1 and 99.9 percentiles.

    ``reach``: the largest magnitude over the root mean square, which is large where there are outliers.
    ``counts``: how many lie in each of equal parts of ``low`` to ``high``.
    """

    low: float
    high: float
    mean: float
    std: Amount
    p001: float
    p999: float
    reach: Amount
    counts: tuple[Count, ...]


@dataclass(frozen=True, kw_only=True)
class BitError:
    """What a layer costs when only it is quantized, its weights to ``bits`` and its output to 8.

    Attributes:
        sqnr: signal to quantization noise at the model's output, dB; before a final softmax where there is one.
        drop: accuracy lost, a share (0.01 is a point), where labels were given or outputs have classes; else the
            error of the output in parts of its spread. Where the output has one value and all labels are 0 or 1, a
            sample is of class 1 above 0.5 after a sigmoid, above 0 elsewhere (before it).
    """

    bits: Bits
    sqnr: float
    drop: float


@dataclass(frozen=True, kw_only=True)
class LayerSensitivity:
    """A layer of the model, the most sensitive first in :func:`kompakt.sensitivity`.

    Attributes:
        layer, kind: its name and class. weights: how many.
        of: the layer of the model given that it was made from: one LSTM becomes several; of an input its own name.
        errors: one a number of bits; of a layer without weights one, for 8.
        output, kernel: of what it makes (after the ReLU that is fused into it) and of its largest weight tensor,
            or None.
    """

    layer: str
    of: str
    kind: str
    weights: Count
    errors: tuple[BitError, ...]
    output: Spread | None
    kernel: Spread | None
