"""Whether a file is a model that a viewer of graphs opens: read, where it is of a target, else by its beginning."""

from __future__ import annotations

import json
from pathlib import Path

from kompakt.errors import InputError
from kompakt.files import read_file
from kompakt.targets import target_at
from kompakt.targets.target import Target

HDF5, ZIP = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"

BEGINNINGS: dict[str, bytes] = {
    ".keras": ZIP,
    ".h5": HDF5,
    ".hdf5": HDF5,
    ".mar": ZIP,
    ".gguf": b"GGUF",
    **dict.fromkeys((".ort", ".tfl", ".lite", ".pb", ".pbtxt", ".pt", ".pt2", ".pth", ".mlmodel", ".safetensors"), b""),
    **dict.fromkeys(
        (".mlir", ".prototxt", ".caffemodel", ".param", ".mnn", ".paddle", ".pdmodel", ".xml", ".rknn"), b""
    ),
}
"""Ending -> what a model of another format than the targets' begins with; b"" where anything may stand there."""

GRAPHS = {"modelTopology", "weightsManifest", "nodes", "class_name", "graph"}
"""Keys of the JSON of models: TF.js, Keras, MXNet."""


def check_model(path: str | Path) -> None:
    """Raise where ``path`` holds no model.

    Raises:
        InputError: it is no model's, or damaged.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp(), "notes.txt"); _ = file.write_text("hello")
        >>> try:
        ...     check_model(file)
        ... except InputError as error:
        ...     print(str(error).replace(str(file), "notes.txt"))
        notes.txt: no model that a viewer opens; give a file or folder of any target, or a .keras, .h5 or .pb file
    """
    path = Path(path)
    place = _target_of(path)
    if place is None and not _begins_as_one(path):
        raise InputError(
            f"{path}: no model that a viewer opens; give a file or folder of any target, or a .keras, .h5 or .pb file"
        )
    if place is not None:
        _check_artifact(place, path)


def _target_of(path: Path) -> Target | None:
    """The target of an artifact; None for a file of something else."""
    try:
        return target_at(path)
    except InputError:
        if not path.is_file():
            raise
        return None


def _check_artifact(place: Target, path: Path) -> None:
    try:
        place.ready()
    except InputError:  # what reads it is not installed: a viewer has a reader of its own
        return
    try:
        place.graph(place.read(path))
    except InputError as error:
        raise InputError(str(error) if str(path) in str(error) else f"{path}: {error}") from error


def _begins_as_one(path: Path) -> bool:
    ending, data = path.suffix.lower(), read_file(path)
    if ending == ".json":
        return _is_graph(data)
    return bool(data) and ending in BEGINNINGS and data.startswith(BEGINNINGS[ending])


def _is_graph(data: bytes) -> bool:
    try:
        held = json.loads(data)
    except (ValueError, RecursionError):
        return False
    return isinstance(held, dict) and bool(GRAPHS & set(held))
