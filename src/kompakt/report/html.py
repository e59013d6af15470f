"""The report as one self-contained HTML page: no request, both themes, phone and print."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Callable
from importlib import resources
from pathlib import Path

from kompakt.records import Run
from kompakt.report.facts import Facts, compute
from kompakt.report.sections import sections
from kompakt.report.sections.words import plain_time
from kompakt.report.table import MISSING

TEMPLATE, STYLE, SCRIPT = "report.html.j2", "report.css", "report.js"

POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src data:; base-uri 'none'; "
    "form-action 'none'"
)
"""What the page may load: nothing but what is in it; of scripts our own alone, by its digest."""


def render(run: Run) -> str:
    """The HTML text of one run's report.

    Example:
        >>> "&lt;script&gt;" in render(Run(title="<script>", trials=()))
        True
    """
    return page(compute([run]))


def page(facts: Facts) -> str:
    """The HTML text of a report. Every name in it is escaped.

    Example:
        >>> page(compute([Run(title="demo", trials=())])).splitlines()[0]
        '<!doctype html>'
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    script = _read(SCRIPT)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    text = environment.from_string(_read(TEMPLATE)).render(
        facts=facts,
        sections=sections(facts),
        missing=MISSING,
        policy=Markup(POLICY.format(digest=digest)),
        style=Markup(_read(STYLE)),
        script=Markup(script),
        safe=Markup,  # of drawings alone: what makes them escapes the names in them
        once=_once(),
        plain_time=plain_time,
    )
    return text.encode("utf-8", "replace").decode("utf-8")  # half a surrogate pair is no text


def write(run: Run, path: str | Path) -> None:
    """Write a run's report to ``path``, all of it or nothing.

    Example:
        >>> import tempfile; path = tempfile.mkdtemp() + "/report.html"
        >>> write(Run(title="demo", trials=()), path)
        >>> Path(path).read_text().splitlines()[0]
        '<!doctype html>'
    """
    from kompakt.files import write_atomic

    write_atomic(path, render(run))


def _once() -> Callable[[str], str]:
    """What makes labels that were there before other ones: regions of a page must not be called the same."""
    seen: Counter[str] = Counter()

    def once(label: str) -> str:
        seen[label] += 1
        return label if seen[label] == 1 else f"{label} ({seen[label]})"

    return once


def _read(name: str) -> str:
    return resources.files("kompakt.report").joinpath(name).read_text(encoding="utf-8")
