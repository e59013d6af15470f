"""What an artifact is made of, as tables for the terminal. They fit into 80 columns: names are folded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kompakt.contents import Contents, Grid, Subgraph, TensorFact
from kompakt.report.terminal import MISSING, Lines, cells, folded_table, lines

if TYPE_CHECKING:
    from rich.table import Table

LARGEST = 16
"""Constants that a summary has; ``--tensors`` has all."""

SHOWN = ("quantization", "io", "recipe", "seed", "source_sha256", "versions")
"""What a summary has of kompakt's note. Inputs, outputs and weights stand in tables anyhow."""

VALUES = (
    "zeros: that stand for 0. values / ch.: different ones, the most in any channel; in all where a tensor has no "
    "channels."
)
MEMORY = "bytes: in brackets what a computed tensor takes in memory. "


def summary(contents: Contents) -> Iterator[Lines | Table]:
    """What it is, where it comes from, its ends, operators and largest constants, and what is amiss."""
    yield lines(_headline(contents))
    yield ends_table(contents)
    yield census_table(contents)
    yield weights_table(contents)
    rest = [*_floats(contents), *(f"note: {each}" for each in contents.notes)]
    rest += [f"FAULT: {each}" for each in contents.faults]
    if rest:
        yield lines(rest)


def _headline(contents: Contents) -> list[str]:
    size = f"{contents.bytes:,} bytes, constants {contents.constant_bytes:,}"
    told = [f"{contents.path}: {contents.target}, {size}"]
    note = {name: _plain(name, text) for name, text in contents.note.items() if name.rpartition(": ")[2] in SHOWN}
    rows = list(note.items())
    if len(contents.subgraphs) > 1:
        rows.append(("subgraphs", ", ".join(part.name for part in contents.subgraphs)))
    for each in contents.signatures:
        ends = [", ".join(names) or MISSING for names in (each.inputs, each.outputs)]
        rows.append(("signature", f"{each.name}: {' -> '.join(ends)}"))
    if not contents.note:
        told.append("  no note of kompakt in it: another program made it")
    longest = max((len(name) for name, _ in rows), default=0)
    told += [f"  {name:<{longest}}  {text}" for name, text in rows]
    return told


def _plain(name: str, text: str) -> str:
    """An entry of the note; versions, which are JSON, as words."""
    if name.endswith("sha256"):
        return text[:16]
    return text.strip("{}").replace('": "', " ").replace('"', "")


def _floats(contents: Contents) -> list[str]:
    found = contents.float_operators
    if not found:
        return ["every operator computes with integers"] if contents.integer else []
    more = f" and {len(found) - 4} more" if len(found) > 4 else ""
    return [f"{len(found)} of {sum(contents.operators.values())} operators have floats: {', '.join(found[:4])}{more}"]


def ends_table(contents: Contents) -> Table:
    """Inputs and outputs of each subgraph that is called, with their grids."""
    called = list(dict.fromkeys(each.subgraph for each in contents.signatures)) or [0]
    parts = [contents.subgraphs[i] for i in called if i < len(contents.subgraphs)]
    ends = [
        (side, part.tensors[index])
        for part in parts
        for side, indices in (("input", part.inputs), ("output", part.outputs))
        for index in indices
    ]
    columns = {"": "left", "name": "left", "type": "left", "shape": "left", "scale": "right", "zero\npoint": "right"}
    table = folded_table("inputs and outputs", columns, [tensor.name for _, tensor in ends])
    for side, tensor in ends:
        table.add_row(*cells([side, tensor.name, tensor.dtype, tensor.text_shape, *grid_text(tensor.grid)]))
    return table


def census_table(contents: Contents) -> Table:
    """Operators, how often, and the activations that are fused into them."""
    total = sum(contents.operators.values())
    table = folded_table(f"operators: {total}", {"operator": "left", "count": "right", "fused": "left"})
    everything = [op for part in contents.subgraphs for op in part.operators]
    for name, count in contents.operators.items():
        fused = [op.activation for op in everything if op.name == name and op.activation]
        texts = [f"{fused.count(each)} {each}" for each in dict.fromkeys(fused)]
        table.add_row(*cells([name, f"{count}", ", ".join(texts)]))
    return table


def weights_table(contents: Contents, most: int = LARGEST) -> Table:
    """The largest constants."""
    found = [tensor for _, tensor in contents.constants()]
    title = f"constants: {len(found)}" + (f", the {most} largest" if len(found) > most else "")
    columns = {"name": "left", "type": "left", "shape": "left", "bytes": "right", "zeros\n%": "right"}
    columns |= {"values\n/ ch.": "right", "scale": "right"}
    table = folded_table(title, columns, [tensor.name for tensor in found[:most]])
    for tensor in found[:most]:
        scale = _two_lines(grid_text(tensor.grid)[0])
        table.add_row(*cells([tensor.name, _kind(tensor), tensor.text_shape, _bytes(tensor), *_values(tensor), scale]))
    table.caption = VALUES
    return table


def tensors_tables(contents: Contents) -> Iterator[Table]:
    """Every tensor, a table a subgraph."""
    columns = {"#": "right", "name": "left", "type, shape": "left", "bytes": "right", "zeros\n%": "right"}
    columns |= {"values\n/ ch.": "right", "scale": "right"}
    for part in contents.subgraphs:
        title = _title(contents, part, f"{len(part.tensors)} tensors")
        table = folded_table(title, columns, [tensor.name for tensor in part.tensors])
        for tensor in part.tensors:
            size = _bytes(tensor) if tensor.constant else f"({_bytes(tensor)})"
            scale, point = grid_text(tensor.grid)
            grid = [*_two_lines(scale), *([f"zero {point}"] if point not in (MISSING, "0") else [])]
            kind = [_kind(tensor), tensor.text_shape]
            table.add_row(*cells([f"{tensor.index}", tensor.name, kind, size, *_values(tensor), grid]))
        table.caption = MEMORY + VALUES + " zero: the zero point where it is not 0."
        yield table


def operators_tables(contents: Contents) -> Iterator[Table]:
    """Every operator, a table a subgraph."""
    columns = {"#": "right", "operator": "left", "reads": "left", "makes": "left", "options": "left"}
    for part in contents.subgraphs:
        table = folded_table(_title(contents, part, f"{len(part.operators)} operators"), columns)
        for op in part.operators:
            name = [op.name, *([f"+ {op.activation}"] if op.activation else [])]
            reads = [_tensor(part, i)[0] for i in op.inputs]
            makes = [line for i in op.outputs for line in _tensor(part, i)]
            options = [f"{key} {text}" for key, text in op.options.items()]
            table.add_row(*cells([f"{op.index}", name, reads, makes, options]))
        yield table


def _title(contents: Contents, part: Subgraph, count: str) -> str:
    return count if len(contents.subgraphs) == 1 else f"{part.name}: {count}"


def _tensor(part: Subgraph, index: int) -> tuple[str, ...]:
    """(name, type and shape) of a tensor that an operator has; that it has none is MISSING."""
    if not 0 <= index < len(part.tensors):
        return (MISSING,)
    tensor = part.tensors[index]
    return tensor.name, f"{tensor.dtype} {tensor.text_shape}".strip()


def _kind(tensor: TensorFact) -> str:
    return f"{tensor.dtype} sparse" if tensor.sparse else tensor.dtype


def _two_lines(scale: str) -> list[str]:
    """A range with its upper end below the lower one, so that names have room."""
    low, dots, high = scale.partition("..")
    return [low + dots, high] if dots else scale.split(" ")


def grid_text(grid: Grid | None) -> tuple[str, str]:
    """(scale or their range, zero point) of a tensor.

    Example:
        >>> grid_text(Grid(scale=(0.5, 0.25), zero_point=(0,), axis=0))
        ('0.25..0.5', '0')
    """
    if grid is None:
        return MISSING, MISSING
    low, high = f"{min(grid.scale):.4g}", f"{max(grid.scale):.4g}"
    scale = low if low == high else f"{low}..{high}"
    offset = f" {grid.offset:+.4g}" if grid.offset else ""
    points = sorted(set(grid.zero_point))
    return scale + offset, f"{points[0]}" if len(points) == 1 else f"{points[0]}..{points[-1]}"


def _values(tensor: TensorFact) -> tuple[str, str]:
    """(share of zeros, most distinct values in a channel, else in all)."""
    facts = tensor.values
    if facts is None or not facts.size:
        return MISSING, MISSING
    many = facts.distinct if facts.channel_distinct is None else facts.channel_distinct
    return f"{100 * facts.zeros / facts.size:.1f}", f"{many:,}"


def _bytes(tensor: TensorFact) -> str:
    return MISSING if tensor.bytes is None else f"{tensor.bytes:,}"
