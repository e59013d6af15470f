"""Profiles as tables for the terminal, 80 columns wide. Nothing here computes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kompakt.printable import printable
from kompakt.records_profile import Bench, LatencyRatio, LayerProfile, Operators, OperatorTime, Profile, Roofline
from kompakt.report.facts.speed import RULE
from kompakt.report.table import MISSING
from kompakt.report.units import count, in_bytes, microseconds, milliseconds, plus_minus, short, size

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

    from kompakt.report.fitting import FittingTable

LAYERS = (
    "zeros: % of the stored values. distinct: values in the largest tensor. bits: a value takes in the file. entropy: "
    "bits that its symbols carry (Shannon 1948). bound: bytes at that, without a table of the symbols."
)

RATIOS = (
    "latency / first: median of paired, alternated rounds ± half their interquartile range; then the interval in which "
    "the median lies with 95 % confidence. " + RULE
)

OPERATORS = (
    "Each operator is cut out and run alone, in turn with the others and the whole file: µs ± half the interquartile "
    "range. bound: by the roofline. A call costs {call} µs whatever is computed."
)


def bench_tables(bench: Bench) -> list[RenderableType]:
    """One file in full; several side by side, with what is missing or worth knowing of each below."""
    if len(bench.profiles) == 1:
        return profile_tables(bench.profiles[0])
    names = _names(bench)
    lines = ratio_lines(bench) + [f"{names[p.path]}: {line}" for p in bench.profiles for line in _said(p)]
    apart = [
        part
        for p in bench.profiles
        if p.operators
        for part in (_text(f"\n{printable(p.path)}"), operators_table(p.operators))
    ]
    return [bench_table(bench), *(_cell(line) for line in dict.fromkeys(lines)), *apart]


def profile_tables(profile: Profile) -> list[RenderableType]:
    """Latency, what else is measured, and the layers; the operators where they were timed."""
    shown: list[RenderableType] = [_text(heading(profile)), latency_table(profile), _text("")]
    shown.append(facts_table(profile))
    if profile.layers:
        shown += [_text(""), layers_table(profile)]
    if profile.operators is not None:
        shown += [_text(""), operators_table(profile.operators)]
    return shown + [_cell(line) for line in _said(profile)]


def heading(profile: Profile) -> str:
    """What was measured, and where."""
    many = f", {profile.batch} samples a run" if profile.batch > 1 else ""
    return f"{printable(profile.path)}: {profile.target}{many}\n{profile.machine}\n"


def facts_table(profile: Profile) -> Table:
    """Start, memory, sizes and the limits of the machine, a word and a text each."""
    table = _table(("", ""))
    table.show_header = False
    for column in table.columns:
        column.justify, column.no_wrap = "left", False
    for word, text in fact_lines(profile):
        table.add_row(word, _cell(text))
    return table


def fact_lines(profile: Profile) -> list[tuple[str, str]]:
    """(word, text) of each fact that is no table.

    Example:
        >>> sizes = dict(bytes=10, gzip_bytes=9, weight_bytes=6, other_bytes=4, entropy_bytes=3, table_bytes=1)
        >>> p = Profile(path="m", target="tflite", machine="", batch=1, macs=2, parameters=3, **sizes)
        >>> fact_lines(p)[0]
        ('size', '10 bytes (9 gzipped): 6 of weights, 4 of all else')
    """
    p = profile
    sizes = (
        f"{p.bytes:,} bytes ({p.gzip_bytes:,} gzipped): {p.weight_bytes:,} of weights, {p.other_bytes:,} of all else"
    )
    bound = f"weights at their entropy {p.entropy_bytes:,} bytes; a table of all symbols {p.table_bytes:,}"
    lines = [
        ("size", sizes),
        ("bound", bound),
        ("costs", f"{count(p.macs)} MACs a sample, {p.parameters:,} parameters"),
    ]
    if p.cold_start is not None:
        c = p.cold_start
        parts = f"runtime {c.runtime:.0f}, loading and first run {c.first:.1f} (median of {c.repeats})"
        lines.append(("start", f"{c.total:.0f} ms in a new process: {parts}"))
    m = p.memory
    if m.growth is not None:
        whole = "" if m.process is None else f" (whole process {in_bytes(m.process)})"
        lines.append(("memory", f"{in_bytes(m.growth)} at the most to load and run it{whole}"))
    if m.arena is not None:
        lines.append(("arena", f"{m.arena:,} bytes, the smallest in which it runs"))
    return lines + [("machine", _machine_line(roof)) for roof in p.rooflines]


def latency_table(profile: Profile) -> Table:
    """One row for each number of threads, the bound beside it."""
    heads = ("threads", "runs", "min ms", "median", "±", "95 %", "bound ms", "of", "reached")
    table = _table(heads, ("runs", "of", "95 %"))
    roofs = {roof.threads: roof for roof in profile.rooflines}
    for t in profile.latency:
        roof = roofs.get(t.threads)
        bound = [MISSING] * 3 if roof is None else [milliseconds(roof.bound), _kind(roof), f"{roof.share:.0%}"]
        table.add_row(
            str(t.threads),
            f"{t.runs:,}",
            milliseconds(t.minimum),
            milliseconds(t.median),
            plus_minus(t.spread, milliseconds(t.median)),
            milliseconds(t.p95),
            *bound,
        )
    return table


def layers_table(profile: Profile) -> Table:
    """One row a layer, and their sum."""
    heads = ("params", "MACs", "bytes", "bits", "zeros", "distinct", "entropy", "bound")
    table = _table(("layer", *heads), ("entropy", "distinct", "bound"))
    for row in profile.layers:
        table.add_row(_cell(row.layer), *map(_cell, _layer_cells(row)))
    stored = sum(row.stored for row in profile.layers)
    bits = f"{8 * profile.weight_bytes / stored:.1f}" if stored else MISSING
    table.add_section()
    table.add_row(
        "all",
        short(profile.parameters),
        MISSING if profile.macs is None else short(profile.macs),
        f"{profile.weight_bytes:,}",
        bits,
        *[""] * 3,
        f"{profile.entropy_bytes:,}",
    )
    table.caption = LAYERS
    return table


def operators_table(operators: Operators) -> Table:
    """One row an operator, their sum and the whole file, in microseconds."""
    table = _table(("operator", "makes", "MACs", "µs", "±", "bound", "% of sum"), ("bound", "MACs"))
    for row in operators.rows:
        table.add_row(_cell(row.name), _cell(row.output), *map(_cell, _operator_cells(row, operators.sum)))
    table.add_section()
    table.add_row("sum", "", "", microseconds(operators.sum))
    table.add_row("less calls", "", "", microseconds(operators.sum - operators.call))
    table.add_row("whole file", "", "", microseconds(operators.whole))
    timed = sum(row.milliseconds is not None for row in operators.rows)
    told = OPERATORS.format(call=microseconds(operators.call / timed if timed else 0.0))
    lost = [f"Not alone: {row.name} ({row.output}): {row.missing}." for row in operators.rows if row.missing]
    table.caption = _cell(" ".join([told, *lost, operators.note]).rstrip())
    return table


def bench_table(bench: Bench) -> Table:
    """One row a file; the ratios are those on the first number of threads."""
    heads = ("file", "ms", "latency / first", "bytes", "gzip", "entropy", "MACs", "memory", "start")
    table = _table(heads, ("entropy", "start", "MACs", "memory", "gzip"))
    ratios, names = _shown_ratios(bench), _names(bench)
    for i, p in enumerate(bench.profiles):
        ratio = ratios.get(p.path)
        table.add_row(
            _cell(names[p.path]),
            milliseconds(p.latency[0].median) if p.latency else MISSING,
            "1" if i == 0 else MISSING if ratio is None else _ratio(ratio),
            *map(size, (p.bytes, p.gzip_bytes, p.entropy_bytes)),
            MISSING if p.macs is None else short(p.macs),
            MISSING if p.memory.growth is None else in_bytes(p.memory.growth),
            MISSING if p.cold_start is None else f"{p.cold_start.total:.0f} ms",
        )
    table.caption = RATIOS
    return table


def _names(bench: Bench) -> dict[str, str]:
    """Path -> the last part of it, or all of it where another file has the same."""
    last = {p.path: name(p) for p in bench.profiles}
    return {path: path if list(last.values()).count(word) > 1 else word for path, word in last.items()}


def ratio_lines(bench: Bench) -> list[str]:
    """The ratios on further numbers of threads."""
    names = _names(bench)
    return [
        f"{names[r.path]} on {r.threads} threads: {r.ratio:.3f} ±{r.spread:.3f} of "
        f"{names[r.other]}, {r.low:.3f}..{r.high:.3f}"
        for r in bench.ratios
        if r not in _shown_ratios(bench).values()
    ]


def _shown_ratios(bench: Bench) -> dict[str, LatencyRatio]:
    """Path -> the ratio that is in the table: the one that was measured first."""
    return {ratio.path: ratio for ratio in reversed(bench.ratios)}


def _ratio(found: LatencyRatio) -> str:
    return f"{found.ratio:.3f} ±{found.spread:.3f}\n{found.low:.3f}..{found.high:.3f}"


def name(profile: Profile) -> str:
    """The last part of its path."""
    return os.path.basename(profile.path.rstrip("/\\")) or profile.path


def _said(profile: Profile) -> list[str]:
    return [f"note: {line}" for line in profile.notes] + [f"not measured: {line}" for line in profile.missing]


def _layer_cells(row: LayerProfile) -> list[str]:
    macs = MISSING if row.macs is None else short(row.macs)
    if not row.stored:
        return [short(row.parameters), macs, *[MISSING] * 6]
    return [
        short(row.parameters),
        macs,
        f"{row.bytes:,}",
        f"{row.bits:.1f}",
        f"{100 * row.zeros / row.stored:.0f}",
        f"{row.distinct:,}",
        f"{row.entropy:.2f}",
        f"{row.bound:,}",
    ]


def _operator_cells(row: OperatorTime, total: float) -> list[str]:
    macs = MISSING if row.macs is None else short(row.macs)
    if row.milliseconds is None or row.spread is None:
        return [macs, MISSING, "", microseconds(row.bound), ""]
    share = f"{row.milliseconds / total:.0%}" if total else MISSING
    time = microseconds(row.milliseconds)
    return [macs, time, plus_minus(1e3 * row.spread, time), microseconds(row.bound), share]


def _machine_line(roof: Roofline) -> str:
    peaks = ", ".join(f"{speed / 1e9:.3g} G {kind}" for kind, speed in roof.peak.items())
    threads = f"{roof.threads} thread{'s' * (roof.threads > 1)}"
    return f"{threads}: {peaks} MACs/s, {roof.bandwidth / 1e9:.3g} GB/s for {in_bytes(roof.traffic)}"


def _kind(roof: Roofline) -> str:
    return "arithmetic" if roof.compute >= roof.memory else "memory"


def _table(heads: Sequence[str], least_first: Sequence[str] = ()) -> FittingTable:
    from kompakt.report.fitting import FittingTable

    table = FittingTable(box=None, pad_edge=False, caption_justify="left", padding=(0, 1, 0, 0))
    table.least_first = tuple(least_first)
    for head in heads:
        text = head in ("layer", "operator", "makes", "file", "of")
        table.add_column(head, justify="left" if text else "right", overflow="fold", no_wrap=not text)
    return table


def _cell(text: str) -> Text:
    from rich.text import Text

    return Text(printable(text))


def _text(text: str) -> Text:
    from rich.text import Text

    return Text(printable(text, keep="\n"))
