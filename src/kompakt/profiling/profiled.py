"""An artifact that is profiled, and what it is run on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from keras import tree

from kompakt.errors import InputError
from kompakt.records import Artifact
from kompakt.targets import target_at
from kompakt.targets.profiler import End, Profiler, find_profiler


@dataclass(frozen=True, kw_only=True)
class Profiled:
    """An artifact and what is needed to run it.

    Attributes:
        data: the whole of it. shipped: its parts that go onto the device. ends: its inputs. inputs: what they get.
    """

    path: str
    target: str
    data: bytes
    shipped: tuple[bytes, ...]
    profiler: Profiler
    ends: Sequence[End]
    inputs: Any

    @property
    def batch(self) -> int:
        """Samples of one run."""
        return self.ends[0].batch if self.ends else 1

    @property
    def bytes(self) -> int:
        """Of what goes onto the device."""
        return sum(map(len, self.shipped))

    @property
    def input_bytes(self) -> int:
        """Of the inputs of one run, as the file takes them."""
        return sum(end.bytes * math.prod(_sizes(end, self.batch)) for end in self.ends)


def profiled_at(artifact: Artifact | str | Path, inputs: Any, seed: int) -> Profiled:
    """The artifact, read, with ``inputs`` or random ones.

    Raises:
        InputError: it is missing or broken, its runtime is not installed, or no inputs can be drawn for it.
    """
    path = artifact.path if isinstance(artifact, Artifact) else artifact
    if not isinstance(path, (str, Path)):
        raise InputError(f"received {type(artifact).__name__}, expected an Artifact or the path of one")
    place = target_at(path)
    place.ready()
    profiler = find_profiler(place.name)
    try:
        data = place.read(path)
        ends, shipped = profiler.ends(data), tuple(place.shipped(data).values())
    except InputError as error:
        raise InputError(str(error) if str(path) in str(error) else f"{path}: {error}") from error
    return Profiled(
        path=str(path),
        target=place.name,
        data=data,
        shipped=shipped,
        profiler=profiler,
        ends=ends,
        inputs=drawn(ends, seed) if inputs is None else _counted(inputs, ends, str(path)),
    )


def _counted(inputs: Any, ends: Sequence[End], path: str) -> Any:
    """``inputs``, as many as the file takes, each with samples."""
    sizes = [np.shape(leaf)[:1] for leaf in tree.flatten(inputs)]
    if len(sizes) != len(ends):
        raise InputError(f"inputs=: received {len(sizes)} arrays, {path} takes {len(ends)}")
    if (0,) in sizes or () in sizes:
        raise InputError("inputs=: expected arrays with at least one sample each, along the first axis")
    return inputs


def drawn(ends: Sequence[End], seed: int) -> list[np.ndarray]:
    """Random numbers from -1 to 1 for each input, one batch; 0 where integers are wanted.

    Raises:
        InputError: a size other than that of the batch is open.

    Example:
        >>> [a.shape for a in drawn([End(name="x", shape=(None, 4)), End(name="ids", shape=(2, 3))], 0)]
        [(1, 4), (2, 3)]
    """
    random = np.random.default_rng(seed)
    made = []
    for end in ends:
        shape = _sizes(end, end.batch)
        if None in end.shape[1:]:
            raise InputError(f"input {end.name!r} has an open size, {end.shape}: give samples with inputs= (--data)")
        made.append(np.zeros(shape, "int32") if end.integers else random.uniform(-1, 1, shape).astype("float32"))
    return made


def _sizes(end: End, batch: int) -> list[int]:
    return [batch if place == 0 else size or 1 for place, size in enumerate(end.shape)]
