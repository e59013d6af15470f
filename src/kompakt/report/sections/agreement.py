"""How outputs of files compare with those of the models that they were made from."""

from __future__ import annotations

from kompakt.records import Agreement
from kompakt.report.blocks import Cell, Column, Line, Section, Table, Words
from kompakt.report.facts import Facts
from kompakt.report.sections.words import name, numbers, numeric

LEGEND = (
    "Argmax: samples with the same largest output. Equal: output values that are the same, to half a step of an "
    "integer grid. Relative: root mean square difference over the spread of the output. Against the model given: what "
    "the file lost in all, where the first comparison is with a simulation of its integers."
)


def agreement(facts: Facts) -> Section:
    """One line a file that was compared."""
    title = "Agreement"
    if not facts.agreement:
        return Section(key="agreement", title=title, blocks=(Words(text="No file was compared with its model."),))
    columns = (
        Column(title="recipe"),
        Column(title="compared with"),
        *numbers("samples"),
        *numbers("argmax, %", "equal, %", "largest", "LSB", "relative", group="against that"),
        *numbers("argmax, %", "largest", "relative", group="against the model given"),
    )
    lines = tuple(Line(cells=(name(each.recipe), *_cells(each.agreement))) for each in facts.agreement)
    table = Table(label=title, columns=columns, lines=lines)
    return Section(key="agreement", title=title, blocks=(table, Words(text=LEGEND, note=True)))


def _cells(a: Agreement) -> tuple[Cell, ...]:
    return (
        Cell(text=a.reference),
        numeric(a.samples),
        numeric(a.argmax, "{:.2f}", 100),
        numeric(a.exact, "{:.1f}", 100),
        numeric(a.max_abs, "{:.3g}"),
        numeric(a.max_lsb, "{:.2f}"),
        numeric(a.relative, "{:.2g}"),
        numeric(a.given_argmax, "{:.2f}", 100),
        numeric(a.given_abs, "{:.3g}"),
        numeric(a.given_relative, "{:.2g}"),
    )
