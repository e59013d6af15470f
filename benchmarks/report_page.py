"""Pictures of the report, made in headless Chromium: in light and dark, as it is on a desk or on a phone.

kompakt demo --out build/demo
python benchmarks/report_page.py build/demo/records.json [docs] [--phone]

Writes ``report_light.png`` and ``report_dark.png`` (``report_phone_light.png`` and so on) to the folder.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from kompakt.report.facts import compute
from kompakt.report.html import page
from kompakt.report.reading import read_run, records_at
from kompakt.targets.web_browser import photograph

DESK, PHONE = (1200, 1850), (360, 1800)
"""Width and height of the pictures."""


def main() -> None:
    """Render the records, open the page in both themes, and write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("records")
    parser.add_argument("folder", nargs="?", default="docs")
    parser.add_argument("--phone", action="store_true")
    given = parser.parse_args()
    text = page(compute([read_run(records_at(given.records))]))
    width, height = PHONE if given.phone else DESK
    for theme in ("light", "dark"):
        path = Path(given.folder) / f"report_{'phone_' if given.phone else ''}{theme}.png"
        photograph(text, path, width=width, height=height, dark=theme == "dark")
        print(path)


if __name__ == "__main__":
    main()
