"""Ways of spoiling a good file, and what ``kompakt verify`` says of each: one row a fault, the count at the end.

"seal" is the line for the file as it is, "stripped" the one where kompakt's note and seal were taken out too and
only the model tells ("-": not asked of it). The faults are those of tests/faults.

    python benchmarks/faults.py [--only TEXT]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
sys.path.insert(0, str(Path(__file__).parents[1]))

from rich.console import Console
from rich.table import Table
from tests.faults.catch import Good, caught, good, lines
from tests.faults.faults import FAULTS

MISSED = "MISSED"
WIDTH = 70


def main() -> int:
    """Spoil, verify, print; 1 where a fault was missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="faults whose name has this in it")
    only = parser.parse_args().only
    rows: list[tuple[str, str, str, str]] = []
    held: dict[tuple[str, str], Good] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for fault in (each for each in FAULTS if only in each.name):
            key = (fault.model, fault.mode)
            if key not in held:
                held[key] = good(*key, folder)
            said = [
                caught(fault, lines(held[key], fault, folder, stripped=stripped), stripped=stripped) or MISSED
                if fault.stripped or not stripped
                else "-"
                for stripped in (False, True)
            ]
            rows.append((fault.name, f"{fault.model} {fault.mode}", *said))
    show(rows, held)
    return int(any(MISSED in row for row in rows))


def show(rows: list[tuple[str, str, str, str]], held: dict[tuple[str, str], Good]) -> None:
    """The table, the count, and the good files that were called faulty."""
    table = Table("fault", "file", "seal", "stripped", box=None, pad_edge=False)
    for fault, file, sealed, stripped in rows:
        table.add_row(fault, file, sealed[:WIDTH], stripped[:WIDTH])
    console = Console(width=240 if not sys.stdout.isatty() else None)
    console.print(table)
    asked = [row[3] for row in rows if row[3] != "-"]
    alarms = [f"{name} {mode}" for (name, mode), file in held.items() if file.breaches]
    console.print(
        f"{sum(row[2] != MISSED for row in rows)} of {len(rows)} caught; without note and seal "
        f"{sum(each != MISSED for each in asked)} of {len(asked)} asked; false alarms on {len(alarms)} of "
        f"{len(held)} good files {', '.join(alarms)}"
    )


if __name__ == "__main__":
    sys.exit(main())
