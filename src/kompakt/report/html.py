"""A Run as one self-contained HTML file: no script, no request, both themes, phone and print."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from kompakt.records import Run
from kompakt.report import facts, plot, table

TEMPLATE = "report.html.j2"


def render(run: Run) -> str:
    """The HTML text of a run's report. Every name in it is escaped.

    Example:
        >>> "&lt;script&gt;" in render(Run(title="<script>", trials=()))
        True
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    source = resources.files("kompakt.report").joinpath(TEMPLATE).read_text(encoding="utf-8")
    metric = facts.metric(run)
    return environment.from_string(source).render(
        run=run,
        metric=metric,
        verdict=facts.verdict(run),
        rows=[(row, table.cells(row, metric)) for row in facts.rows(run)],
        # The one string that isn't escaped here: plot.py escapes the names in it.
        plot=Markup(plot.size_against_metric(run)),
        files=[(trial, trial.artifact) for trial in run.trials if trial.artifact is not None],
        undone=facts.undone(run),
        versions=facts.versions(run),
        site_rows=facts.site_rows,
        requests=facts.requests,
    )


def write(run: Run, path: str | Path) -> None:
    """Write the report to ``path``, all of it or nothing.

    Example:
        >>> import tempfile; path = tempfile.mkdtemp() + "/report.html"
        >>> write(Run(title="demo", trials=()), path)
        >>> Path(path).read_text().splitlines()[0]
        '<!doctype html>'
    """
    from kompakt.files import write_atomic

    write_atomic(path, render(run))
