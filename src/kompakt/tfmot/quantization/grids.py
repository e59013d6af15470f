"""Quantizers as kompakt's grids: what goes on a chain for what a QuantizeConfig asks."""

from __future__ import annotations

import logging
import math
from typing import Any

from kompakt.errors import InputError
from kompakt.tfmot.quantization.own_quantizer import OwnQuantizer
from kompakt.tfmot.quantization.quantizers import FixedQuantizer, Quantizer, is_known
from kompakt.transform import Transform
from kompakt.transforms.quantize import FakeQuant

log = logging.getLogger("kompakt")

ACTIVATIONS = (8, 16)
"""Bits of activations that runtimes have kernels for."""

NARROW = "%s: narrow_range=%s is not what a file has (%s): left out"
"""What is logged of a grid that has one integer more or less than was asked."""


def weight_grid(site: str, quantizer: Quantizer, usual: FakeQuant) -> list[Transform]:
    """What goes on a weight for ``quantizer``, in the place of the ``usual`` grid.

    A weight's range is that of the weight now, whichever quantizer follows it: the file stores the weight that there
    is at the end, and a range that lags behind clips it or wastes integers.

    Raises:
        InputError: a zero point, more than 8 bits, or a range that is not around 0: no runtime has kernels for them.

    Example:
        >>> from kompakt.tfmot.quantization.quantizers import LastValueQuantizer
        >>> grid, = weight_grid("d/kernel", LastValueQuantizer(4, False, True, True), FakeQuant())
        >>> grid.bits, grid.per_tensor
        (4, True)
    """
    if not is_known(quantizer):
        return [OwnQuantizer(quantizer), _like(usual)]
    known: Any = quantizer
    if known.num_bits > 8:
        raise InputError(f"{site}: weights of {known.num_bits} bits; no runtime has kernels for more than 8")
    _say_narrow(site, known.narrow_range, wanted=True, why="weights have no lowest integer")
    if isinstance(quantizer, FixedQuantizer):
        if not math.isclose(-known.init_min, known.init_max, rel_tol=0.02):
            raise InputError(
                f"{site}: the range {known.init_min:g} to {known.init_max:g} is not around 0, and weights have no zero "
                "point in a file; give init_min=-init_max"
            )
        return [_like(usual, bits=known.num_bits, low=-known.init_max, high=known.init_max, per_tensor=True)]
    if not known.symmetric:
        raise InputError(f"{site}: symmetric=False, and weights have no zero point in a file; give symmetric=True")
    return [_like(usual, bits=known.num_bits, per_tensor=not known.per_axis)]


def activation_grid(site: str, quantizer: Quantizer, usual: FakeQuant) -> list[Transform]:
    """What goes on an activation for ``quantizer``, in the place of the ``usual`` grid.

    Raises:
        InputError: a width or a range a channel: no runtime has kernels for them.

    Example:
        >>> from kompakt.tfmot.quantization.quantizers import AllValuesQuantizer
        >>> usual = FakeQuant(symmetric=False, ranges="moving_average")
        >>> activation_grid("d/output", AllValuesQuantizer(8, False, False, False), usual)[0].ranges
        'all_values'
    """
    if usual.fixed:  # by the runtime
        return [_like(usual)]
    if not is_known(quantizer):
        return [OwnQuantizer(quantizer, on_weights=False), _like(usual)]
    known: Any = quantizer
    if known.num_bits not in ACTIVATIONS:
        raise InputError(
            f"{site}: activations of {known.num_bits} bits; no runtime has kernels for them, expected 8 or 16"
        )
    if known.num_bits != usual.bits:
        raise InputError(
            f"{site}: activations of {known.num_bits} bits in a scheme of {usual.bits}; use "
            f"DefaultNBitQuantizeScheme(num_bits_activation={known.num_bits}), or kompakt.quantize with rules="
        )
    _say_narrow(site, known.narrow_range, wanted=False, why="activations have every integer")
    if isinstance(quantizer, FixedQuantizer):
        return [_like(usual, low=known.init_min, high=known.init_max)]
    if known.per_axis:
        raise InputError(f"{site}: per_axis=True, and activations have one scale in a file; give per_axis=False")
    return [_like(usual, ranges=known.ranges, momentum=known.momentum, even=known.symmetric)]


def watched(usual: FakeQuant) -> list[Transform]:
    """What goes where a QuantizeConfig asks for nothing and a file rounds: nothing in training, and a grid after it.

    Example:
        >>> watched(FakeQuant())[0].in_training
        False
    """
    return [_like(usual, in_training=False)]


def _like(usual: FakeQuant, **changed: Any) -> FakeQuant:
    """A grid as ``usual``, without its state."""
    config = usual.get_config()
    kept = ("bits", "symmetric", "ranges", "momentum", "low", "high", "mode", "per_tensor", "even", "in_training")
    return FakeQuant(**{**{key: config[key] for key in kept}, **changed})


def _say_narrow(site: str, given: bool, *, wanted: bool, why: str) -> None:
    if bool(given) != wanted:
        log.info(NARROW, site, given, why)
