"""How many bits each operator of a float file is to compute with, from the encodings of the sites it holds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from kompakt.records import Encoding
from kompakt.sites import BOTH, OUTPUT, layer_of
from kompakt.targets.tflite_file import PRODUCERS, Op, TFLiteFile, moved
from kompakt.targets.tflite_links import Link

NARROW = ("CONV_2D", "FULLY_CONNECTED")
"""Operators whose weights may be stored in 4 bits; others keep theirs in 8, on the same grid."""


UNSAID = 0
"""Bits of an operator whose tensors have no sites of their own."""


@dataclass(frozen=True, kw_only=True)
class Width:
    """Bits that an operator's weights are stored in, and of its activations; None where it stays float."""

    weights: int
    activations: int | None


def stored_bits(bits: int, reader: str) -> int:
    """Bits in which a weight of ``bits`` is stored for the operator that reads it.

    Example:
        >>> stored_bits(3, "CONV_2D"), stored_bits(4, "DEPTHWISE_CONV_2D"), stored_bits(5, "CONV_2D")
        (4, 8, 8)
    """
    return 4 if bits <= 4 and reader in NARROW else 8


def widths(
    file: TFLiteFile, encodings: Mapping[str, Encoding], floats: Sequence[str], links: Sequence[Link], usual: int
) -> list[Width]:
    """The width of every operator of the float ``file``, in order.

    An operator has that of the weight it reads and the tensor it makes; one that only moves numbers that of what
    it reads; one inside a layer of many that of the first operator that reads it.

    Args:
        floats: sites of outputs that stay float. usual: bits of activations where nothing says otherwise.
    """
    at: dict[int, list[str]] = defaultdict(list)
    for link in (link for link in links if not link.between):
        at[link.tensor].append(link.site)
    found = [_said(op, at, encodings, floats) for op in file.ops]
    given = {
        index: next((bits for bits in (_bits(site, encodings) for site in at[index]) if bits), UNSAID)
        for index in file.inputs
    }
    _follow_moves(file, found, given, {site.rsplit("/", 1)[0] for site in floats})
    for i in reversed(range(len(file.ops))):
        if found[i] == UNSAID:
            made = set(file.ops[i].outputs)
            after = (found[j] for j, op in enumerate(file.ops) if made & set(op.inputs))
            found[i] = next((each for each in after if each != UNSAID), usual)
    return [
        Width(weights=_stored(op, at, encodings), activations=each) for op, each in zip(file.ops, found, strict=True)
    ]


def _follow_moves(
    file: TFLiteFile, found: list[int | None], inputs: Mapping[int, int], floats: Collection[str]
) -> None:
    """Give an operator that only moves numbers the bits of what it reads; inside a layer of integers not floats."""
    maker = {output: i for i, op in enumerate(file.ops) for output in op.outputs}
    given = {index: None if file.tensors[index].name in floats else bits for index, bits in inputs.items()}
    for made, source in moved(file.ops).items():
        if found[maker[made]] == UNSAID:
            before = found[maker[source]] if source in maker else given.get(source, UNSAID)
            if before is not None or layer_of(file.tensors[made].name) in floats:
                found[maker[made]] = before


def _said(op: Op, at: Mapping[int, list[str]], encodings: Mapping[str, Encoding], floats: Sequence[str]) -> int | None:
    """Bits of the activations by the sites of the operator's own tensors, None for float."""
    weights = [site for i in op.inputs for site in at.get(i, ()) if _is_weight(site)]
    made = [site for i in op.outputs for site in at.get(i, ())]
    if any(site in floats for site in made):
        return None
    if weights and op.name in PRODUCERS and all(_bits(site, encodings) is None for site in weights):
        return None
    widths = [_bits(site, encodings) for site in made]
    return next((bits for bits in widths if bits is not None), UNSAID)


def _stored(op: Op, at: Mapping[int, list[str]], encodings: Mapping[str, Encoding]) -> int:
    weights = (_bits(site, encodings) for i in op.inputs for site in at.get(i, ()) if _is_weight(site))
    return stored_bits(next((bits for bits in weights if bits is not None), 8), op.name)


def _is_weight(site: str) -> bool:
    return site.rsplit("/", 1)[-1] not in (OUTPUT, BOTH)


def _bits(site: str, encodings: Mapping[str, Encoding]) -> int | None:
    encoding = encodings.get(site)
    return None if encoding is None else encoding.bits
