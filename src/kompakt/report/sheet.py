"""The variants as CSV, for a spreadsheet or a program: numbers as they were measured, not rounded."""

from __future__ import annotations

import csv
import dataclasses
import io

from kompakt.report.facts import Facts, Row

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula."""


def render(facts: Facts) -> str:
    """One line a variant, its columns the fields of :class:`kompakt.report.facts.Row`; empty where not measured.

    Example:
        >>> from kompakt.records import Run, Trial
        >>> from kompakt.report.facts import compute
        >>> render(compute([Run(title="demo", trials=(Trial(recipe="float"),))])).splitlines()[1][:6]
        'float,'
    """
    file = io.StringIO()
    sheet = csv.writer(file, lineterminator="\r\n")  # RFC 4180
    names = [field.name for field in dataclasses.fields(Row)]
    sheet.writerow(names)
    for row in facts.rows:
        sheet.writerow([_cell(getattr(row, name)) for name in names])
    return file.getvalue().encode("utf-8", "replace").decode("utf-8")


def _cell(value: object) -> object:
    """A value as it goes into a cell: a name that begins like a formula must not become one."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
