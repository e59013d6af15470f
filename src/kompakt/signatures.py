"""``join_signatures``: several verified TFLite files as one, each of them a signature of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from keras import tree

from kompakt.errors import InputError, VerificationError
from kompakt.export_options import checked_path
from kompakt.files import gzip_bytes, read_file, writable_folder
from kompakt.targets import find_target
from kompakt.targets.tflite_file import NUMPY, TFLiteFile
from kompakt.targets.tflite_runtime import run, run_signature
from kompakt.targets.tflite_signatures import ends_of, joined, taken_out

SAMPLES = 16
"""Random inputs a signature is compared on where none are given."""


@dataclass(frozen=True, kw_only=True)
class JoinedFile:
    """A file with several signatures.

    Attributes:
        signatures: their names, in the file's order. samples: how many each was compared on.
        bytes, gzip_bytes: of the file. apart: bytes of the files that it was made of, together.

    Example:
        >>> JoinedFile(path="b.tflite", signatures=("a", "b"), samples=(16, 16), bytes=9, gzip_bytes=8, apart=16).apart
        16
    """

    path: str
    signatures: tuple[str, ...]
    samples: tuple[int, ...]
    bytes: int
    gzip_bytes: int
    apart: int


def join_signatures(
    files: Mapping[str, str | Path], path: str | Path, *, verify: Mapping[str, Any] | None = None, seed: int = 0
) -> JoinedFile:
    """Write one TFLite file that has each of ``files`` as a signature; constants that are equal are stored once.

    Export each model by itself, which verifies it, in any mode. Here each signature of the joined file is run by
    LiteRT's signature runner, and has to give the bits that its own file gives.

    Args:
        files: name of a signature -> a TFLite file with one signature, as ``export`` writes them.
        path: of the file to write.
        verify: name -> inputs to compare on, arrays (samples, ...) in the structure that the model takes; random
            numbers for signatures that are not named. seed: of these.

    Returns:
        What was written. ``kompakt.verify_file(path, model, inputs, signature=name)`` verifies one of them later.

    Raises:
        InputError: fewer than two files, or one of them cannot be read or was changed since it was written.
        VerificationError: a signature gives other numbers than its file does.

    Example:
        >>> import keras, tempfile, kompakt as kp
        >>> x = np.random.default_rng(0).random((16, 4), dtype="float32")
        >>> i = keras.Input((4,))
        >>> h = keras.layers.Dense(64, activation="relu", name="body")(i)
        >>> whole = keras.Model(i, keras.layers.Dense(3, name="head")(h))
        >>> folder = tempfile.mkdtemp()
        >>> files = {"classify": f"{folder}/c.tflite", "features": f"{folder}/f.tflite"}
        >>> _ = kp.export(whole, files["classify"], verify=x)
        >>> _ = kp.export(keras.Model(i, h), files["features"], verify=x)
        >>> made = join_signatures(files, f"{folder}/both.tflite", verify={"classify": x})
        >>> made.signatures, made.bytes < made.apart
        (('classify', 'features'), True)
    """
    place, given = find_target("tflite"), dict(verify or {})
    if len(files) < 2 or not all(isinstance(name, str) and name for name in files):
        raise InputError(f"files={dict(files)!r}: expected two or more, name of a signature -> file")
    unknown = sorted(set(given) - set(files))
    if unknown:
        raise InputError(f"verify: there is no signature {unknown[0]!r}; there are {', '.join(files)}")
    path = checked_path(path, place)
    writable_folder(path.parent)
    parts = {name: read_file(file) for name, file in files.items()}
    made = joined(parts)
    for name, data in parts.items():
        faults = place.altered(data)
        if faults:
            raise InputError(f"{files[name]}: changed since it was written: {faults[0]}; export it again")
    counts = [
        _check(made, name, data, given[name] if name in given else _random(data, seed)) for name, data in parts.items()
    ]
    place.write(path, made)
    return JoinedFile(
        path=str(path),
        signatures=tuple(parts),
        samples=tuple(counts),
        bytes=len(made),
        gzip_bytes=gzip_bytes(made),
        apart=sum(map(len, parts.values())),
    )


def signature_differs(data: bytes, name: str, part: bytes, inputs: Any) -> str:
    """In which output the signature ``name`` of a file differs from ``part``, that file alone, or ""."""
    takes, gives = ends_of(part)
    expected = run(part, inputs)
    found = run_signature(data, name, inputs, input_names=takes, output_names=gives)
    for i, (e, f) in enumerate(zip(expected.values, found.values, strict=True)):
        if not np.array_equal(e, f, equal_nan=True):
            return f"signature {name!r}: output {i} differs by up to {np.abs(e - f).max():.3g} from its own file's"
    return ""


def _check(data: bytes, name: str, part: bytes, inputs: Any) -> int:
    """Samples that the signature was compared on."""
    if ends_of(taken_out(data, name)) == ends_of(part):
        found = signature_differs(data, name, part, inputs)
    else:
        found = f"signature {name!r}: its inputs and outputs are not called as in its own file"
    if found:
        raise VerificationError(found, (found,))
    return len(np.asarray(tree.flatten(inputs)[0]))


def _random(data: bytes, seed: int) -> list[np.ndarray]:
    """Inputs that any file takes: reals by their standard normal distribution, integers without a grid 0 or 1."""
    file, rng = TFLiteFile(data), np.random.default_rng(seed)
    made = []
    for tensor in (file.tensors[i] for i in file.inputs):
        shape = (SAMPLES * max(tensor.shape[0], 1) if tensor.shape else SAMPLES, *tensor.shape[1:])
        whole = np.dtype(NUMPY.get(tensor.kind, "float32")).kind in "iu" and not tensor.scale
        made.append(rng.integers(0, 2, shape) if whole else rng.normal(size=shape).astype("float32"))
    return made
