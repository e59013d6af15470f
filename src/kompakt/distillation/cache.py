"""What a teacher makes of a fixed set of samples, computed once and held in files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from kompakt.distillation.capture import capture, shapes_at
from kompakt.distillation.digests import data_digests, model_digest, versions
from kompakt.distillation.sheet import NEW, Column, Sheet, append, begun, finish, mapped, note, parted
from kompakt.distillation.teachers import one_teacher
from kompakt.errors import InputError
from kompakt.files import alone, writable_folder
from kompakt.progress import Report, shown


@dataclass(frozen=True, kw_only=True, eq=False)
class CachedTeacher:
    """What a teacher makes of a fixed set of samples, held in files (:func:`cache_teacher` makes it).

    ``kp.distill(student, cached)`` takes it in place of the teacher. ``fit`` then needs the same inputs, as arrays,
    and never runs the teacher.

    Attributes:
        teacher: the model. folder: where the files are. sheet: what they are of.

    Example:
        >>> import tempfile, kompakt as kp
        >>> m = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        >>> c = kp.cache_teacher(m, np.zeros((8, 4), "float32"), tempfile.mkdtemp())
        >>> len(c), [each.shape for each in c.outputs], c.features
        (8, [(8, 2)], {})
    """

    teacher: keras.Model
    folder: Path
    sheet: Sheet

    def __len__(self) -> int:
        """Samples."""
        return self.sheet.rows

    @property
    def outputs(self) -> list[np.ndarray]:
        """The teacher's predictions, one array an output, read from the files as they are needed."""
        columns = self.sheet.columns
        return [mapped(self.folder, column) for column in columns[: len(columns) - len(self.sheet.layers)]]

    @property
    def features(self) -> dict[str, np.ndarray]:
        """What the held layers made, by name."""
        layers = self.sheet.layers
        held = self.sheet.columns[len(self.sheet.columns) - len(layers) :]
        return {name: mapped(self.folder, column) for name, column in zip(layers, held, strict=True)}

    def check(self, teacher: keras.Model, layers: Sequence[str]) -> None:
        """Raise an InputError unless these are predictions of ``teacher``, with all of ``layers``."""
        faults = parted(self.sheet, replace(self.sheet, teacher=model_digest(teacher)))
        if faults:
            raise InputError(f"the teacher is not as it was when {self.folder} was made: {'; '.join(faults)}; {NEW}")
        lacking = [name for name in layers if name not in self.sheet.layers]
        if lacking:
            wanted = tuple(dict.fromkeys([*self.sheet.layers, *layers]))
            raise InputError(
                f"the cache in {self.folder} lacks the layer {lacking[0]!r} of the teacher, which a term compares; "
                f"make one with cache_teacher(..., layers={wanted!r}) in another folder"
            )

    def answers(self, x: Any, layers: Sequence[str] = ()) -> dict[str, Any]:
        """What is held of ``x``: ``outputs``, and ``features`` where layers are named.

        Raises:
            InputError: ``x`` is not what the cache was made of, or no arrays.
        """
        faults = parted(self.sheet, replace(self.sheet, data=tuple(data_digests(x))))
        if faults:
            raise InputError(
                f"fit got other inputs than the teacher's predictions in {self.folder} are of: {'; '.join(faults)}; "
                "give fit the same, in the same order, or make a cache of these in another folder"
            )
        features = self.features if layers else {}
        held = {"features": {name: features[name] for name in layers}} if layers else {}
        return {"outputs": self.outputs, **held}


def cache_teacher(
    teacher: Any,
    x: Any,
    folder: str | Path,
    *,
    batch_size: int = 256,
    layers: Sequence[str] = (),
    task: str | None = None,
    progress: bool | Report = False,
) -> CachedTeacher:
    """What ``teacher`` makes of ``x``, computed once and held in ``folder``, for :func:`kompakt.distill`.

    An interrupted call goes on after its last finished batch when it is repeated. A finished cache is read, and the
    teacher does not run; a second process that asks for it meanwhile waits. One of another teacher, other data or other
    layers is refused. Worth it where training goes over the samples several times as they are, and is wrong where they
    are augmented on the way.

    Args:
        teacher: a built model, or a list of them (:class:`kompakt.distillation.Ensemble`).
        x: its inputs: an array, or arrays in a list or mapping.
        folder: made where it is missing.
        batch_size: samples computed at once. layers: of the teacher that terms compare, by name.
        task: of a list of teachers, see :func:`kompakt.distill`.
        progress: True shows a bar.

    Raises:
        InputError: the cache in ``folder`` is of something else, or damaged; ``x`` is no arrays; a layer is unknown;
            the folder cannot be written.

    Example:
        >>> import tempfile, kompakt as kp
        >>> def net(width):
        ...     return keras.Sequential([keras.Input((4,)), keras.layers.Dense(width), keras.layers.Dense(3)])
        >>> x, y = np.random.default_rng(0).normal(size=(64, 4)).astype("float32"), np.zeros(64, int)
        >>> cached = cache_teacher(net(64), x, tempfile.mkdtemp(), batch_size=16)
        >>> _ = kp.distill(net(4), cached).fit(x, y, epochs=2, verbose=0)
    """
    if not isinstance(batch_size, int) or batch_size < 1:
        raise InputError(f"batch_size={batch_size!r}: expected a whole number of 1 or more")
    teacher, folder, layers = one_teacher(teacher, task), Path(folder), tuple(dict.fromkeys(layers))
    if not isinstance(teacher, keras.Model):
        raise InputError(f"teacher={teacher!r}: expected a Keras model, or a list of them")
    wanted = Sheet(
        teacher=model_digest(teacher), versions=versions(), data=tuple(data_digests(x)), layers=layers
    )  # fmt: skip
    with alone(writable_folder(folder)):
        sheet = begun(folder, wanted)
        if sheet.done < sheet.rows:
            if layers:
                shapes_at(teacher, layers, "teacher")  # a layer that is not there, or not called, is told at once
            with shown(progress) as report:
                sheet = _fill(folder, sheet, _Answers(teacher, sheet.layers), x, batch_size, report)
        finish(folder, sheet)
    cached = CachedTeacher(teacher=teacher, folder=folder, sheet=sheet)
    _ = cached.outputs, cached.features  # what is damaged is told here
    return cached


class _Answers(keras.Model):  # type: ignore[misc]
    """A teacher that makes its outputs and what its layers made, in a list, computed as ``predict`` does."""

    def __init__(self, teacher: keras.Model, layers: Sequence[str]) -> None:
        super().__init__(autocast=False, name="answers")
        self.asked, self.names = teacher, tuple(layers)
        self.supports_jit = teacher.supports_jit
        self.built = True  # else JAX runs it once more to see to that

    def call(self, inputs: Any) -> list[Any]:
        with capture(self.asked, self.names, "teacher") as seen:
            outputs = tree.flatten(self.asked(inputs, training=False))
        return [*outputs, *(seen[name] for name in self.names)]


def _fill(folder: Path, sheet: Sheet, model: _Answers, x: Any, size: int, report: Report) -> Sheet:
    """Compute and write what is left, batch by batch; after each the sheet says so."""
    report("caching the teacher", sheet.done / sheet.rows)
    while sheet.done < sheet.rows:
        stop = min(sheet.done + size, sheet.rows)
        batch = tree.map_structure(lambda a, rows=slice(sheet.done, stop): _as_fit(a[rows]), x)
        made = [_storable(each) for each in model.predict_on_batch(batch)]
        found = _columns(made, sheet, stop - sheet.done)
        if not sheet.columns:
            sheet = replace(sheet, columns=found)
            note(folder, sheet)
        if found != sheet.columns:
            raise InputError(f"the teacher makes {found} of rows {sheet.done} to {stop}, before {sheet.columns}")
        for column, rows in zip(sheet.columns, made, strict=True):
            append(folder, column, sheet.done, rows)
        sheet = replace(sheet, done=stop)
        note(folder, sheet)
        report("caching the teacher", sheet.done / sheet.rows)
    return sheet


def _as_fit(rows: Any) -> np.ndarray:
    """As ``fit`` hands them on: floats in Keras' own precision."""
    array = np.asarray(ops.convert_to_numpy(rows))
    return array.astype(keras.config.floatx()) if array.dtype.kind == "f" else array


def _storable(made: Any) -> np.ndarray:
    """As numpy can write it: bfloat16 is no type of numpy's."""
    array = np.ascontiguousarray(made)
    return array if array.dtype.kind in "biuf" else array.astype("float32")


def _columns(made: Sequence[np.ndarray], sheet: Sheet, rows: int) -> tuple[Column, ...]:
    count = len(made) - len(sheet.layers)
    columns = []
    for i, array in enumerate(made):
        what, place = ("output", i) if i < count else ("layer", i - count)
        if array.shape[:1] != (rows,):
            raise InputError(
                f"{what} {place} of the teacher makes {array.shape} of {rows} samples; expected a row each"
            )
        columns.append(
            Column(file=f"{what}_{place}.npy", shape=(sheet.rows, *array.shape[1:]), dtype=array.dtype.str)
        )  # fmt: skip
    return tuple(columns)
