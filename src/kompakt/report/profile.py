"""Profiles as tables for the terminal, 80 columns wide. Nothing here computes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kompakt.records_profile import Bench, LayerProfile, Operators, OperatorTime, Profile, Roofline
from kompakt.report.table import MISSING, printable

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

LAYERS = (
    "zeros: % of the stored values. distinct: values in the largest tensor. bits: a value takes in the file. entropy: "
    "bits that its symbols carry (Shannon 1948). bound: bytes at that, without a table of the symbols."
)

RATIOS = (
    "latency / first: median of paired, alternated rounds ± half their interquartile range; then the interval in which "
    "the median lies with 95 % confidence. Where 1.00 is inside it, no difference is shown."
)

OPERATORS = (
    "Each operator is cut out and run alone, in turn with the others and the whole file; ms ± half the interquartile "
    "range. bound: by the roofline. A call costs {call} whatever is computed: of the sum, {calls}."
)


def bench_tables(bench: Bench) -> list[RenderableType]:
    """One file in full; several side by side, with what is missing or worth knowing of each below."""
    if len(bench.profiles) == 1:
        return profile_tables(bench.profiles[0])
    lines = [f"{name(p)}: {line}" for p in bench.profiles for line in _said(p)]
    return [comparison_table(bench), *(_text(line) for line in dict.fromkeys(lines))]


def profile_tables(profile: Profile) -> list[RenderableType]:
    """Latency, what else is measured, and the layers; the operators where they were timed."""
    shown: list[RenderableType] = [_text(heading(profile)), latency_table(profile), _text("")]
    shown += [_text(line) for line in fact_lines(profile)]
    if profile.layers:
        shown += [_text(""), layers_table(profile)]
    if profile.operators is not None:
        shown += [_text(""), operators_table(profile.operators)]
    return shown + [_text(line) for line in _said(profile)]


def heading(profile: Profile) -> str:
    """What was measured, and where."""
    many = f", {profile.batch} samples a run" if profile.batch > 1 else ""
    return f"{profile.path}: {profile.target}{many}\n{profile.machine}\n"


def fact_lines(profile: Profile) -> list[str]:
    """Start, memory, sizes and the limits of the machine, a line each.

    Example:
        >>> sizes = dict(bytes=10, gzip_bytes=9, weight_bytes=6, other_bytes=4, entropy_bytes=3, table_bytes=1)
        >>> p = Profile(path="m", target="tflite", machine="", batch=1, macs=2, parameters=3, **sizes)
        >>> fact_lines(p)[0]
        'size      10 bytes, 9 gzipped: weights 6, all else 4'
    """
    p = profile
    lines = [
        f"size      {p.bytes:,} bytes, {p.gzip_bytes:,} gzipped: weights {p.weight_bytes:,}, all else {p.other_bytes:,}",
        f"          weights at the entropy of their symbols {p.entropy_bytes:,}, and a table of all {p.table_bytes:,}",
        f"costs     {_count(p.macs)} multiply-accumulates a sample, {p.parameters:,} parameters",
    ]
    if p.cold_start is not None:
        c = p.cold_start
        lines.append(
            f"start     {c.total:.0f} ms in a new process: runtime {c.runtime:.0f}, loading and first run {c.first:.1f}"
            f" (median of {c.repeats})"
        )
    m = p.memory
    if m.growth is not None:
        whole = "" if m.process is None else f"; the whole process {_bytes(m.process)}"
        lines.append(f"memory    {_bytes(m.growth)} at the most for loading and running it{whole}")
    if m.arena is not None:
        lines.append(f"arena     {m.arena:,} bytes, the smallest in which it runs")
    return lines + [_machine_line(roof) for roof in p.rooflines]


def latency_table(profile: Profile) -> Table:
    """One row for each number of threads, the bound beside it."""
    table = _table(("threads", "runs", "min ms", "median", "± ", "95 %", "bound ms", "of", "reached"), first="right")
    roofs = {roof.threads: roof for roof in profile.rooflines}
    for t in profile.latency:
        roof = roofs.get(t.threads)
        bound = [MISSING] * 3 if roof is None else [_ms(roof.bound), _kind(roof), f"{roof.share:.0%}"]
        table.add_row(
            str(t.threads), f"{t.runs:,}", _ms(t.minimum), _ms(t.median), _ms(t.spread, 1), _ms(t.p95), *bound
        )
    return table


def layers_table(profile: Profile) -> Table:
    """One row a layer, and their sum."""
    heads = ("params", "MACs", "bytes", "bits", "zeros", "distinct", "entropy", "bound")
    table = _table(("layer", *heads))
    for row in profile.layers:
        table.add_row(_cell(row.layer), *map(_cell, _layer_cells(row)))
    stored = sum(row.stored for row in profile.layers)
    bits = f"{8 * profile.weight_bytes / stored:.1f}" if stored else MISSING
    table.add_section()
    table.add_row(
        "all",
        _short(profile.parameters),
        MISSING if profile.macs is None else _short(profile.macs),
        f"{profile.weight_bytes:,}",
        bits,
        *[""] * 3,
        f"{profile.entropy_bytes:,}",
    )
    table.caption = LAYERS
    return table


def operators_table(operators: Operators) -> Table:
    """One row an operator, their sum and the whole file."""
    from rich.text import Text

    table = _table(("operator", "makes", "MACs", "ms", "±", "bound", "% of sum"))
    for row in operators.rows:
        table.add_row(_cell(row.name), _cell(row.output), *map(_cell, _operator_cells(row, operators.sum)))
    table.add_section()
    table.add_row("sum", "", "", _ms(operators.sum))
    table.add_row("without calls", "", "", _ms(operators.sum - operators.call))
    table.add_row("whole file", "", "", _ms(operators.whole))
    count = sum(row.milliseconds is not None for row in operators.rows)
    each = operators.call / count if count else 0.0
    table.caption = Text(OPERATORS.format(call=f"{_ms(each)} ms", calls=f"{_ms(operators.call)} ms"))
    return table


def comparison_table(bench: Bench) -> Table:
    """One row a file."""
    table = _table(("file", "ms", "latency / first", "bytes", "gzip", "entropy", "MACs", "memory", "start"))
    ratios = {ratio.path: ratio for ratio in bench.ratios}
    for p in bench.profiles:
        ratio = ratios.get(p.path)
        compared = "1" if ratio is None else f"{ratio.ratio:.2f} ±{ratio.spread:.2f}\n{ratio.low:.2f}..{ratio.high:.2f}"
        table.add_row(
            _cell(name(p)),
            _ms(p.latency[0].median) if p.latency else MISSING,
            compared,
            f"{p.bytes:,}",
            f"{p.gzip_bytes:,}",
            f"{p.entropy_bytes:,}",
            MISSING if p.macs is None else _short(p.macs),
            MISSING if p.memory.growth is None else _bytes(p.memory.growth),
            MISSING if p.cold_start is None else f"{p.cold_start.total:.0f} ms",
        )
    table.caption = RATIOS
    return table


def name(profile: Profile) -> str:
    """The last part of its path."""
    return os.path.basename(profile.path.rstrip("/\\")) or profile.path


def _said(profile: Profile) -> list[str]:
    return [f"note: {line}" for line in profile.notes] + [f"not measured: {line}" for line in profile.missing]


def _layer_cells(row: LayerProfile) -> list[str]:
    macs = MISSING if row.macs is None else _short(row.macs)
    if not row.stored:
        return [_short(row.parameters), macs, *[MISSING] * 6]
    return [
        _short(row.parameters),
        macs,
        f"{row.bytes:,}",
        f"{row.bits:.1f}",
        f"{100 * row.zeros / row.stored:.0f}",
        f"{row.distinct:,}",
        f"{row.entropy:.2f}",
        f"{row.bound:,}",
    ]


def _operator_cells(row: OperatorTime, total: float) -> list[str]:
    macs = MISSING if row.macs is None else _short(row.macs)
    if row.milliseconds is None or row.spread is None:
        return [macs, MISSING, "", _ms(row.bound), printable(row.missing)[:24]]
    share = f"{row.milliseconds / total:.0%}" if total else MISSING
    return [macs, _ms(row.milliseconds), _ms(row.spread, 1), _ms(row.bound), share]


def _machine_line(roof: Roofline) -> str:
    peaks = ", ".join(f"{speed / 1e9:.3g} G {kind}" for kind, speed in roof.peak.items())
    threads = f"{roof.threads} thread{'s' * (roof.threads > 1)}"
    return f"machine   {threads}: {peaks} MACs/s, {roof.bandwidth / 1e9:.3g} GB/s for {_bytes(roof.traffic)}"


def _kind(roof: Roofline) -> str:
    return "arithmetic" if roof.compute >= roof.memory else "memory"


def _table(heads: Sequence[str], first: str = "left") -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, caption_justify="left", padding=(0, 1, 0, 0))
    for i, head in enumerate(heads):
        text = head in ("layer", "operator", "makes", "file", "of")
        table.add_column(head, justify="left" if text else "right", overflow="fold", no_wrap=not text)
    return table


def _cell(text: str) -> RenderableType:
    from rich.text import Text

    return Text(printable(text))


def _text(text: str) -> RenderableType:
    from rich.text import Text

    return Text(printable(text, keep="\n"))


def _ms(value: float | None, digits: int = 3) -> str:
    """Milliseconds to so many digits, without an exponent.

    Example:
        >>> _ms(0.0040372), _ms(1234.4), _ms(0.0000213, 1)
        ('0.00404', '1234', '0.00002')
    """
    if value is None:
        return MISSING
    if value <= 0.0:
        return "0"
    import math

    places = max(0, digits - 1 - math.floor(math.log10(value)))
    return f"{value:.{places}f}"


def _count(value: int | None) -> str:
    return "unknown" if value is None else f"{value:,}"


def _short(value: int) -> str:
    """A count in at most six signs.

    Example:
        >>> _short(950), _short(13824), _short(568_740_352)
        ('950', '13.8k', '569M')
    """
    for size, word in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{word}"
    return str(value)


def _bytes(value: int) -> str:
    """Bytes in a unit for people, of powers of ten.

    Example:
        >>> _bytes(950), _bytes(3_579_904)
        ('950 B', '3.58 MB')
    """
    for size, word in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= size:
            return f"{value / size:.3g} {word}"
    return f"{value} B"
