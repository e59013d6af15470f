"""Schemes: what ``quantize_apply`` makes of the layers that have no QuantizeConfig of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

from kompakt.errors import InputError
from kompakt.tfmot.gone import refuse
from kompakt.tfmot.quantization.gone_names import LAYOUT, REGISTRY, K

ZEROS, CLUSTERS = "zeros", "clusters"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A mode of ``kompakt.quantize``, and what goes with it.

    Attributes:
        mode: of ``kompakt.quantize``. weights: bits of weights where they are not those of the mode, else None.
        per_tensor: weights have one scale for a tensor. keeps: "zeros" and "clusters" that stay.
    """

    mode: str = "int8"
    weights: int | None = None
    per_tensor: bool = False
    keeps: tuple[str, ...] = ()


class QuantizeScheme:
    """What ``quantize_apply(scheme=)`` takes. A scheme is one of kompakt's; layers are set apart by QuantizeConfig.

    Example:
        >>> Default8BitQuantizeScheme().plan().mode
        'int8'
    """

    def plan(self) -> Plan:
        """What the scheme asks of ``kompakt.quantize``."""
        raise InputError(
            f"{type(self).__name__}: a scheme of your own is made of layout transforms and a registry, which are gone; "
            "use Default8BitQuantizeScheme with a QuantizeConfig for the layers that differ, or kompakt.quantize "
            "with rules="
        )

    def get_layout_transformer(self) -> NoReturn:
        """Gone."""
        refuse(f"{K}.QuantizeScheme.get_layout_transformer", LAYOUT)

    def get_quantize_registry(self) -> NoReturn:
        """Gone."""
        refuse(f"{K}.QuantizeScheme.get_quantize_registry", REGISTRY)


class Default8BitQuantizeScheme(QuantizeScheme):
    """8-bit weights, a scale a channel (in Dense too, and in each channel of a depthwise kernel), 8-bit activations.

    Args:
        disable_per_axis: one scale for all channels of a weight.

    Example:
        >>> Default8BitQuantizeScheme(disable_per_axis=True).plan().per_tensor
        True
    """

    def __init__(self, disable_per_axis: bool = False) -> None:
        self.disable_per_axis = bool(disable_per_axis)

    def plan(self) -> Plan:
        return Plan(per_tensor=self.disable_per_axis)


class DefaultNBitQuantizeScheme(QuantizeScheme):
    """Weights of 2 to 8 bits with 8-bit activations, or 8-bit weights with 16-bit activations.

    Args:
        disable_per_axis: one scale for all channels of a weight.
        num_bits_weight: 4 leaves depthwise kernels and tables in 8 bits, for which no runtime has kernels of 4.
        num_bits_activation: 8 or 16.

    Raises:
        InputError: widths that no runtime has kernels for.

    Example:
        >>> DefaultNBitQuantizeScheme(num_bits_weight=4).plan().mode
        'w4a8'
        >>> DefaultNBitQuantizeScheme(num_bits_activation=4)
        Traceback (most recent call last):
        kompakt.errors.InputError: DefaultNBitQuantizeScheme(num_bits_weight=8, num_bits_activation=4): no runtime has
        kernels for that; expected weights of 2 to 8 bits with activations of 8, or 8 with 16
    """

    def __init__(self, disable_per_axis: bool = False, num_bits_weight: int = 8, num_bits_activation: int = 8) -> None:
        self.disable_per_axis = bool(disable_per_axis)
        self.num_bits_weight = num_bits_weight
        self.num_bits_activation = num_bits_activation
        if (num_bits_weight, num_bits_activation) != (8, 16) and not (
            num_bits_activation == 8 and num_bits_weight in range(2, 9)
        ):
            raise InputError(
                f"DefaultNBitQuantizeScheme(num_bits_weight={num_bits_weight}, "
                f"num_bits_activation={num_bits_activation}): no runtime has kernels for that; expected weights of 2 "
                "to 8 bits with activations of 8, or 8 with 16"
            )

    def plan(self) -> Plan:
        if self.num_bits_activation == 16:
            return Plan(mode="int16x8", per_tensor=self.disable_per_axis)
        if self.num_bits_weight == 4:
            return Plan(mode="w4a8", per_tensor=self.disable_per_axis)
        other = self.num_bits_weight if self.num_bits_weight != 8 else None
        return Plan(weights=other, per_tensor=self.disable_per_axis)


class Default8BitPrunePreserveQuantizeScheme(Default8BitQuantizeScheme):
    """8 bits, and the zeros that weights have stay zeros, in training and in the file (PQAT).

    Example:
        >>> Default8BitPrunePreserveQuantizeScheme().plan().keeps
        ('zeros',)
    """

    def plan(self) -> Plan:
        return Plan(per_tensor=self.disable_per_axis, keeps=(ZEROS,))


class Default8BitClusterPreserveQuantizeScheme(Default8BitQuantizeScheme):
    """8 bits, and the weights keep as many values as they have (CQAT), with ``preserve_sparsity`` their zeros (PCQAT).

    Example:
        >>> Default8BitClusterPreserveQuantizeScheme(preserve_sparsity=False).plan().keeps
        ('clusters',)
    """

    def __init__(self, preserve_sparsity: bool = True) -> None:
        super().__init__()
        self.preserve_sparsity = bool(preserve_sparsity)

    def plan(self) -> Plan:
        return Plan(keeps=(CLUSTERS, ZEROS) if self.preserve_sparsity else (CLUSTERS,))


def plan_of(scheme: Any) -> Plan:
    """The plan of what was given as ``scheme=``.

    Example:
        >>> plan_of(Default8BitQuantizeScheme)
        Traceback (most recent call last):
        kompakt.errors.InputError: scheme=<class '...Default8BitQuantizeScheme'>: expected an instance of a scheme,
        such as tfmot.quantization.keras.default_8bit.Default8BitQuantizeScheme()
    """
    if not isinstance(scheme, QuantizeScheme):
        raise InputError(
            f"scheme={scheme!r}: expected an instance of a scheme, such as "
            "tfmot.quantization.keras.default_8bit.Default8BitQuantizeScheme()"
        )
    return scheme.plan()
