"""Training curves."""

from __future__ import annotations

from kompakt.report.blocks import Cell, Column, Fold, Gallery, Line, Picture, Section, Table, Words
from kompakt.report.facts import Curve, Facts, Panel
from kompakt.report.sections.words import name, numbers, numeric


def curves(facts: Facts) -> Section:
    """A small plot for each recipe and metric."""
    title = "Training curves"
    if not facts.curves:
        return Section(key="curves", title=title, blocks=(Words(text="No recipe trained."),))
    gallery = Gallery(pictures=tuple(_picture(i, panel) for i, panel in enumerate(facts.curves)))
    table = Fold(summary="The numbers of these plots", blocks=(_table(facts),))
    note = Words(
        text="By epoch, over the stages of a recipe that measured it. Dashed: on the validation data.", note=True
    )
    return Section(key="curves", title=title, blocks=(note, gallery, table))


def curve_text(curve: Curve) -> str:
    """A curve in words.

    Example:
        >>> values = {"first": 2.0, "last": 1.5, "lowest": 1.0, "lowest_at": 2, "highest": 2.0, "highest_at": 1}
        >>> curve_text(Curve(name="loss", values=(2.0, 1.0, 1.5), **values))
        'loss: 2 at first, 1.5 at the end of 3 epochs; lowest 1 in epoch 2, highest 2 in epoch 1'
    """
    count = len(curve.values)
    epochs = "1 epoch" if count == 1 else f"{count} epochs"
    return (
        f"{curve.name}: {curve.first:.3g} at first, {curve.last:.3g} at the end of {epochs}; "
        f"lowest {curve.lowest:.3g} in epoch {curve.lowest_at}, highest {curve.highest:.3g} in epoch {curve.highest_at}"
    )


def _picture(index: int, panel: Panel) -> Picture:
    title = f"{panel.recipe}: {panel.name}"
    text = ". ".join(curve_text(curve) for curve in panel.curves) + "."

    def draw(name: str, _narrow: bool) -> str:
        from kompakt.report.plots.curves import panel_svg

        return panel_svg(panel, name, title, text)

    return Picture(key=f"curve-{index}", title=title, text=text, draw=draw, caption=title)


def _table(facts: Facts) -> Table:
    columns = (
        Column(title="recipe"),
        Column(title="metric"),
        *numbers("epochs", "first", "last", "lowest", "highest"),
        Column(title="by epoch", code=True),
    )
    lines = tuple(_line(panel.recipe, curve) for panel in facts.curves for curve in panel.curves)
    return Table(label="Training curves: the numbers", columns=columns, lines=lines)


def _line(recipe: str, curve: Curve) -> Line:
    ends = (curve.first, curve.last, curve.lowest, curve.highest)
    return Line(
        cells=(
            name(recipe),
            name(curve.name),
            numeric(len(curve.values)),
            *(numeric(value, "{:.4g}") for value in ends),
            Cell(text=" ".join(f"{value:.4g}" for value in curve.values)),
        )
    )
