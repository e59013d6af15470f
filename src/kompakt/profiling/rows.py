"""One row a layer: what it costs in the model, and what the file stores for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from kompakt.cost import LayerCost
from kompakt.profiling import symbols
from kompakt.records_profile import LayerProfile
from kompakt.targets.profiler import Stored, Work

BY_FILE = "constant"
"""Kind of what the file stores for no operator or layer that is known."""


@dataclass
class _Held:
    """What the file stores for one layer, added up."""

    stored: int = 0
    bytes: int = 0
    zeros: int = 0
    largest: int = 0
    distinct: int = 0
    bits: float = 0.0
    bound: int = 0
    table: int = field(default=0)

    def add(self, each: Stored) -> None:
        occurrences = symbols.counts(each.values)
        size = int(each.values.size)
        self.stored += size
        self.bytes += each.bytes
        self.zeros += symbols.zeros(each.values, each.zero)
        self.bits += symbols.entropy(occurrences) * size
        self.bound += symbols.bound(occurrences)
        self.table += occurrences.size * each.values.dtype.itemsize
        if size > self.largest:
            self.largest, self.distinct = size, int(occurrences.size)

    def on(self, row: LayerProfile) -> LayerProfile:
        entropy = self.bits / self.stored if self.stored else 0.0
        return replace(
            row,
            stored=self.stored,
            bytes=self.bytes,
            zeros=self.zeros,
            distinct=self.distinct,
            entropy=entropy,
            bound=self.bound,
        )


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The layers, and the bytes of tables of all symbols: see :class:`kompakt.records_profile.Profile`."""

    layers: tuple[LayerProfile, ...]
    table_bytes: int


def layer_rows(costs: Sequence[LayerCost] | None, work: Sequence[Work] | None, stored: Iterable[Stored]) -> Rows:
    """A row for each layer of the model, or of the file where there is no model; what fits no row gets its own.

    Args:
        costs: of the model. work: of the file. stored: its constants.
    """
    rows = {row.layer: row for row in (_of_model(costs) if costs is not None else _of_file(work or ()))}
    held: dict[str, _Held] = {}
    for each in stored:
        name = _row_of(each, rows)
        held.setdefault(name, _Held()).add(each)
        if name not in rows:
            rows[name] = LayerProfile(layer=name, kind=BY_FILE)
    if costs is None:
        rows = {n: replace(r, parameters=held[n].stored if n in held else 0) for n, r in rows.items()}
    made = tuple(held[name].on(row) if name in held else row for name, row in rows.items())
    shown = [row for row in made if row.parameters or row.stored or row.macs != 0]
    return Rows(layers=tuple(shown), table_bytes=sum(each.table for each in held.values()))


def _row_of(each: Stored, rows: Mapping[str, LayerProfile]) -> str:
    """The row whose layer's name begins that of the tensor or of its reader, the longest; else the file's own word."""
    for name in (each.name, each.layer):
        fitting = [row for row in rows if name == row or name.startswith(f"{row}/")]
        if fitting:
            return max(fitting, key=len)
    return each.layer


def _of_model(costs: Sequence[LayerCost]) -> list[LayerProfile]:
    """A layer that is called several times has its parameters once, and multiplies each time."""
    found: dict[str, LayerProfile] = {}
    for cost in costs:
        before = found.get(cost.layer)
        macs = cost.macs if before is None else _sum([before.macs, cost.macs])
        found[cost.layer] = LayerProfile(layer=cost.layer, kind=cost.kind, parameters=cost.parameters, macs=macs)
    return list(found.values())


def _of_file(work: Sequence[Work]) -> list[LayerProfile]:
    """Operators of one layer together, called what the one is that multiplies most, or else moves most."""
    found: dict[str, LayerProfile] = {}
    most: dict[str, tuple[int, int]] = {}
    for each in work:
        before, weight = found.get(each.layer), (each.macs or 0, each.traffic)
        total = each.macs if before is None else _sum([before.macs, each.macs])
        kind = each.name if before is None or weight > most[each.layer] else before.kind
        most[each.layer] = max(weight, most.get(each.layer, weight))
        found[each.layer] = LayerProfile(layer=each.layer, kind=kind, macs=total)
    return list(found.values())


def _sum(counts: Sequence[int | None]) -> int | None:
    return None if None in counts else sum(n for n in counts if n is not None)
