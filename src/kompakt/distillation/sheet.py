"""The files of a cache of a teacher's predictions, and the sheet beside them that says what they are of."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np

from kompakt.distillation.digests import ArrayDigest
from kompakt.errors import InputError, first_line
from kompakt.files import writable_folder, write_atomic

SHEET = "teacher.json"
FORM = 1
"""Version of the sheet."""

NEW = "delete the folder to have it made anew, or give another folder"


@dataclass(frozen=True, kw_only=True)
class Column:
    """A file of a cache: what is held of one output or layer.

    Attributes:
        file: its name, ``output_0.npy`` or ``layer_0.npy``. shape: of all rows. dtype: as numpy writes it, "<f4".
    """

    file: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def header(self) -> bytes:
        """What an ``.npy`` file of it begins with."""
        made = BytesIO()
        whole = {"descr": self.dtype, "fortran_order": False, "shape": self.shape}
        np.lib.format.write_array_header_1_0(made, whole)
        return made.getvalue()

    def end(self, rows: int) -> int:
        """Length of the file with that many rows, in bytes."""
        return len(self.header) + rows * int(np.prod(self.shape[1:])) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """What a cache is of, and how far it is: the JSON beside its files.

    Attributes:
        teacher: digests of its config and weights. versions: of what computed it. data: a digest an array of the
            inputs. layers: that are held beside the outputs. columns: the files, empty before the first batch.
            done: rows that are written.
    """

    teacher: dict[str, str]
    versions: dict[str, str]
    data: tuple[ArrayDigest, ...]
    layers: tuple[str, ...]
    columns: tuple[Column, ...] = ()
    done: int = 0

    @property
    def rows(self) -> int:
        """Samples of the data."""
        return self.data[0].shape[0]


def begun(folder: Path, wanted: Sheet) -> Sheet:
    """The sheet that is in ``folder``, with the rows that are written; ``wanted`` where there is none.

    Raises:
        InputError: it is of something else, or damaged; the folder cannot be written.
    """
    path = writable_folder(folder) / SHEET
    if not path.exists():
        foreign = sorted(folder.glob("output_*.npy"))
        if foreign:
            raise InputError(f"{foreign[0]} is there, without a {SHEET} that says what it is of; give another folder")
        return wanted
    found = _read(path)
    faults = parted(found, wanted)
    if faults:
        raise InputError(f"the cache in {folder} is of something else: {'; '.join(faults)}; {NEW}")
    return replace(found, done=_rows_there(folder, found))


def _rows_there(folder: Path, sheet: Sheet) -> int:
    """Rows that all files have. One that has its name is whole, so where another is not it is made again."""
    whole = [(folder / column.file).exists() for column in sheet.columns]
    if sheet.done < sheet.rows and any(whole):
        return 0
    held = [
        sheet.rows if there else _rows_of(_part(folder, column), column)
        for column, there in zip(sheet.columns, whole, strict=True)
    ]
    done = min([sheet.done, *held]) if held else 0
    return done if done == sheet.rows or not any(whole) else 0


def _rows_of(path: Path, column: Column) -> int:
    row = column.end(1) - column.end(0)
    size = path.stat().st_size - column.end(0) if path.exists() else -1
    return size // row if size >= 0 and row else 0


def parted(held: Sheet, wanted: Sheet) -> list[str]:
    """What differs, in words."""
    teacher = wanted.teacher.items()
    faults = [f"the teacher's {part} differ" for part, digest in teacher if held.teacher.get(part) != digest]
    for part, version in wanted.versions.items():
        if held.versions.get(part) != version:
            faults.append(f"made with {part} {held.versions.get(part)}, here is {version}")
    if {each.name for each in held.data} != {each.name for each in wanted.data}:
        names = [", ".join(each.name for each in sheet.data) for sheet in (held, wanted)]
        faults.append(f"it is of the inputs {names[0]}, given are {names[1]}")
    else:
        faults += [text for old, new in zip(held.data, wanted.data, strict=True) if (text := _differs(old, new))]
    if set(held.layers) != set(wanted.layers):
        faults.append(f"it holds the layers {list(held.layers)}, asked are {list(wanted.layers)}")
    return faults


def _differs(old: ArrayDigest, new: ArrayDigest) -> str:
    if (old.shape, old.dtype) != (new.shape, new.dtype):
        return f"{old.name} was {old.dtype} of {old.shape}, now it is {new.dtype} of {new.shape}"
    return "" if old == new else f"{old.name} has other values, or the same in another order"


def append(folder: Path, column: Column, done: int, rows: np.ndarray) -> None:
    """Write ``rows`` after the first ``done``, to the disk.

    Raises:
        InputError: it cannot be written, where the disk is full for example.
    """
    path = _part(folder, column)
    try:
        with path.open("r+b" if done else "wb") as file:
            if not done:
                file.write(column.header)
            file.seek(column.end(done))
            file.write(rows.tobytes())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; make room there and call it again to go on") from None


def finish(folder: Path, sheet: Sheet) -> None:
    """Give the files their names, which they have only when they are whole."""
    for column in sheet.columns:
        if _part(folder, column).exists():
            _part(folder, column).replace(folder / column.file)


def _part(folder: Path, column: Column) -> Path:
    return folder / f"{column.file}.part"


def note(folder: Path, sheet: Sheet) -> None:
    """Write the sheet."""
    write_atomic(folder / SHEET, json.dumps({"form": FORM, **asdict(sheet)}, indent=1))


def _read(path: Path) -> Sheet:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if (form := found.pop("form")) != FORM:
            raise ValueError(f"form {form}, expected {FORM}")
        parts = {
            "data": tuple(ArrayDigest(**{**each, "shape": tuple(each["shape"])}) for each in found["data"]),
            "columns": tuple(Column(**{**each, "shape": tuple(each["shape"])}) for each in found["columns"]),
            "layers": tuple(found["layers"]),
        }
        if any(Path(column.file).name != column.file for column in parts["columns"]):
            raise ValueError("files of another folder")
        return Sheet(**{**found, **parts, "done": max(0, int(found["done"]))})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: not the sheet of a teacher's cache ({first_line(error)}); {NEW}") from None


def mapped(folder: Path, column: Column) -> np.ndarray:
    """What a file holds, read from it as it is needed.

    Raises:
        InputError: it is damaged, gone, or not what the sheet says.
    """
    path = folder / column.file
    try:
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: damaged, or gone ({first_line(error)}); {NEW}") from None
    if array.shape != column.shape or array.dtype.str != column.dtype:
        raise InputError(
            f"{path}: {array.dtype} of {array.shape}, the sheet beside it says {column.dtype} of {column.shape}; {NEW}"
        )
    return array
