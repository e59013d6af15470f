"""Records from files that someone gave: read, or refused in one clear line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from kompakt.errors import InputError
from kompakt.records import Run, from_json
from kompakt.records_layers import LayerSensitivity

RECORDS = "records.json"


def records_at(path: str | Path) -> Path:
    """The records that ``path`` names: a file, or the folder it is in.

    Example:
        >>> records_at("build/records.json").name
        'records.json'
    """
    return Path(path) / RECORDS if Path(path).is_dir() else Path(path)


def read_run(path: Path) -> Run:
    """The run that a ``records.json`` holds; keys that came later may be missing.

    Raises:
        InputError: it cannot be read, or is no run of kompakt's.

    Example:
        >>> import tempfile; path = Path(tempfile.mkdtemp()) / "records.json"
        >>> _ = path.write_text('{"title": "demo", "trials": []}')
        >>> read_run(path).title
        'demo'
    """
    try:
        return from_json(Run, _text(path))
    except InputError as error:
        raise InputError(f"{path}: {error}; {_remedy(str(error))}") from None


def read_sensitivity(path: Path) -> tuple[LayerSensitivity, ...]:
    """The layers that ``kompakt sensitivity --json`` printed.

    Raises:
        InputError: it cannot be read, or is something else.

    Example:
        >>> import tempfile; path = Path(tempfile.mkdtemp()) / "layers.json"
        >>> _ = path.write_text("[]")
        >>> read_sensitivity(path)
        ()
    """
    try:
        found = json.loads(_text(path))
        if not isinstance(found, list):
            raise InputError(f"expected a list, received {type(found).__name__}")
        return tuple(from_json(LayerSensitivity, json.dumps(each)) for each in found)
    except (ValueError, RecursionError) as error:  # InputError and what is no JSON are ValueErrors
        raise InputError(f"{path}: {error}; give what kompakt sensitivity --json printed") from None


def labels(paths: Sequence[Path]) -> list[str]:
    """A name for each run: its folder's, where that tells them apart; else its path.

    Example:
        >>> labels([Path("monday/records.json"), Path("tuesday/records.json")])
        ['monday', 'tuesday']
        >>> labels([Path("a.json"), Path("b.json")]), labels([Path("a.json"), Path("b/a.json")])
        (['a', 'b'], ['a.json', 'b/a.json'])
    """
    names = [path.parent.name if path.name == RECORDS else path.stem for path in paths]
    return names if len(set(names)) == len(names) and all(names) else [str(path) for path in paths]


def _remedy(error: str) -> str:
    """What to do about records that are refused."""
    if "unknown key" in error:  # title and trials are there
        return "was it written by another version of kompakt? Write it again with kompakt optimize or demo"
    return f"give the {RECORDS} that kompakt optimize or demo wrote, as it wrote it"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InputError("not a text of UTF-8") from None
    except OSError as error:
        raise InputError(f"cannot read it ({error.strerror or error})") from None
