"""The weight tensors of each file: size, bits, zeros, distinct values, and what was asked of them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kompakt.records import Run, SiteFact, Trial
from kompakt.records_layers import Histogram


@dataclass(frozen=True, kw_only=True)
class LayerRow:
    """One weight tensor of a file.

    Attributes:
        site, dtype, sparse, histogram: as in :class:`kompakt.records.SiteFact`.
        bits: of a stored value, by its type; None where the type's name says none.
        values: how many. bytes: values times bits, or None; share: of that in all such tensors of the file, 0..1.
        zeros: exact zeros; zero_share: of all values, 0..1. distinct: the most values in any one channel.
        asked_zeros, asked_palette: what was asked for at least, and at most, or None.
        held: whether it is so; None where nothing was asked.
    """

    site: str
    dtype: str
    values: int
    bits: int | None
    bytes: int | None
    share: float | None
    zeros: int
    zero_share: float
    distinct: int
    sparse: bool
    asked_zeros: int | None = None
    asked_palette: int | None = None
    held: bool | None = None
    histogram: Histogram | None = None


@dataclass(frozen=True, kw_only=True)
class FileLayers:
    """The weight tensors of one trial's file; ``held`` of ``asked`` have what was asked of them."""

    recipe: str
    rows: tuple[LayerRow, ...] = ()
    asked: int = 0
    held: int = 0
    applied: tuple[str, ...] = ()


def files(run: Run) -> tuple[FileLayers, ...]:
    """What each trial's file holds, of the trials that made one.

    Example:
        >>> files(Run(title="empty", trials=()))
        ()
    """
    return tuple(_file(trial) for trial in run.trials if trial.artifact is not None)


def bits_of(dtype: str) -> int | None:
    """Bits of a value of a type: the number at the end of its name.

    Example:
        >>> bits_of("INT4"), bits_of("float32"), bits_of("BFLOAT16"), bits_of("BOOL")
        (4, 32, 16, None)
    """
    found = re.fullmatch(r"(?:U?INT|B?FLOAT)(\d{1,3})", dtype, flags=re.IGNORECASE)
    return int(found[1]) if found else None


def is_held(site: SiteFact) -> bool:
    """Whether a tensor has what was asked of it; so it has where nothing was asked.

    Example:
        >>> is_held(SiteFact(site="a", tensor="a", dtype="INT8", size=4, zeros=1, distinct=3, asked_zeros=2))
        False
    """
    return site.zeros >= (site.asked_zeros or 0) and (site.asked_palette is None or site.distinct <= site.asked_palette)


def _file(trial: Trial) -> FileLayers:
    sites = trial.artifact.sites if trial.artifact is not None else ()
    sizes = [_bytes(site) for site in sites]
    total = sum(size for size in sizes if size is not None)
    rows = tuple(_row(site, size, total) for site, size in zip(sites, sizes, strict=True))
    asked = [row for row in rows if row.held is not None]
    return FileLayers(
        recipe=trial.recipe,
        rows=rows,
        asked=len(asked),
        held=sum(bool(row.held) for row in asked),
        applied=trial.applied,
    )


def _bytes(site: SiteFact) -> int | None:
    bits = bits_of(site.dtype)
    return None if bits is None else -(-site.size * bits // 8)


def _row(site: SiteFact, size: int | None, total: int) -> LayerRow:
    return LayerRow(
        site=site.site,
        dtype=site.dtype,
        values=site.size,
        bits=bits_of(site.dtype),
        bytes=size,
        share=size / total if size is not None and total > 0 else None,
        zeros=site.zeros,
        zero_share=site.zeros / site.size if site.size else 0.0,
        distinct=site.distinct,
        sparse=site.sparse,
        asked_zeros=site.asked_zeros,
        asked_palette=site.asked_palette,
        held=None if site.asked_zeros is None and site.asked_palette is None else is_held(site),
        histogram=site.histogram if site.histogram is not None and site.histogram.counts else None,
    )
