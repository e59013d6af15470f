"""How two artifacts differ, as tables for the terminal that fit into 80 columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kompakt.changes import ArtifactDifference, OperatorDifference, TensorDifference
from kompakt.contents import OperatorFact, TensorFact
from kompakt.report.contents import grid_text
from kompakt.report.terminal import MISSING, Lines, cells, folded_table, lines, shortened

if TYPE_CHECKING:
    from rich.table import Table


def difference_tables(found: ArtifactDifference) -> Iterator[Lines | Table]:
    """The differences, or a line that there are none."""
    yield lines([f"{found.before}: {found.bytes[0]:,} bytes", f"{found.after}: {found.bytes[1]:,} bytes"])
    if found.same:
        yield lines(["no difference in operators, tensors, inputs, outputs or metadata"])
    if found.operators:
        yield _changes("operators", [row for each in found.operators for row in _of_operator(each)])
    if found.tensors:
        yield _changes("tensors", [row for each in found.tensors for row in _of_tensor(each)])
    for title, changes in (("inputs, outputs, signatures", found.ends), ("metadata", found.metadata)):
        shown = [each for each in changes if each.name not in ELSEWHERE]
        if shown:
            yield _changes(title, [(each.name, "", *_sides(each.before, each.after)) for each in shown])


Row = tuple[str, str, str, str]

ELSEWHERE = ("inputs", "outputs", "sha256", "kompakt_seal")
"""Metadata whose change is the change of something that stands in another table."""


def _changes(title: str, rows: list[Row]) -> Table:
    columns = {"name": "left", "what": "left", "before": "left", "after": "left"}
    if not any(row[1] for row in rows):
        del columns["what"]
    table = folded_table(title, columns, [row[0] for row in rows])
    last = ""
    for name, what, before, after in rows:
        texts = ["" if what and name == last else name, what, before, after]
        table.add_row(*cells(texts if "what" in columns else [name, before, after]))
        last = name
    return table


def _sides(before: str | None, after: str | None) -> tuple[str, str]:
    return (MISSING if before is None else shortened(before, 120), MISSING if after is None else shortened(after, 120))


def _of_operator(each: OperatorDifference) -> Iterator[Row]:
    one, other = each.before, each.after
    if one is None or other is None:
        op = one or other
        if op is not None:
            name = f"{op.name} #{op.index}"
            text = _told(op)
            yield (name, each.state, text, MISSING) if other is None else (name, each.state, MISSING, text)
        return
    for what in each.what:
        sides = {
            "options": (_told(one), _told(other)),
            "activation": (one.activation or "none", other.activation or "none"),
            "number of inputs": (f"{len(one.inputs)}", f"{len(other.inputs)}"),
            "number of outputs": (f"{len(one.outputs)}", f"{len(other.outputs)}"),
        }
        yield (f"{one.name} #{one.index}", what, *sides[what])


def _told(op: OperatorFact) -> str:
    fused = [f"+ {op.activation}"] if op.activation else []
    return ", ".join([*fused, *(f"{key} {text}" for key, text in op.options.items())])


def _of_tensor(each: TensorDifference) -> Iterator[Row]:
    one, other = each.before, each.after
    if one is None or other is None:
        yield (
            each.name,
            each.state,
            MISSING if one is None else _kind(one),
            MISSING if other is None else _kind(other),
        )
        return
    sides = {
        "constant": tuple("constant" if t.constant else "computed" for t in (one, other)),
        "dtype": (one.dtype, other.dtype),
        "shape": (one.text_shape, other.text_shape),
        "scale": (grid_text(one.grid)[0], _scaled(each, other)),
        "zero point": (grid_text(one.grid)[1], grid_text(other.grid)[1]),
        "axis": tuple(f"{t.grid.axis}" if t.grid else MISSING for t in (one, other)),
        "stored": tuple("sparse" if t.sparse else "dense" for t in (one, other)),
        "values": ("", _values(each)),
    }
    for what in each.what:
        before, after = sides[what]
        yield (each.name, what, before, after)


def _scaled(each: TensorDifference, other: TensorFact) -> str:
    ratio = "" if each.scale_ratio is None else f" (x {each.scale_ratio:.4g})"
    return grid_text(other.grid)[0] + ratio


def _values(each: TensorDifference) -> str:
    found = each.values
    if found is None:
        return ""
    steps = "" if found.steps is None else f", {found.steps:g} steps"
    return f"{found.differing:,} of {found.size:,} differ, by up to {found.largest:.3g}{steps}"


def _kind(tensor: TensorFact) -> str:
    return f"{tensor.dtype} {tensor.text_shape}".strip()
