"""Training and test data from wherever the user keeps it, checked before anything runs on it."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import os
import re
import sys
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from kompakt.errors import InputError
from kompakt.images import read_folder

Array: TypeAlias = np.ndarray[Any, Any]
Arrays: TypeAlias = Array | Mapping[str, Array]
Shape: TypeAlias = Sequence[int | None]

REQUIRED = ("x_train", "y_train", "x_test", "y_test")
OPTIONAL = ("x_val", "y_val")
KNOWN = REQUIRED + OPTIONAL
CALIBRATION = 512
"""Training samples that activation ranges are measured on."""
IN_MEMORY = "arrays in memory"
FORMS = "an .npz file, a folder of images by class, or package.module:function"

_FUNCTION = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


@dataclass(frozen=True, kw_only=True, eq=False)
class Data:
    """Inputs and labels: samples along the first axis, as many in ``x`` as in ``y``.

    Attributes:
        x_train: training inputs, an array or (several inputs) a mapping from input name to array.
        y_train: training labels: class numbers, one-hot rows or values.
        x_test: inputs that results are reported on.
        y_test: their labels.
        x_val: inputs for choices made on the way, or None.
        y_val: their labels, or None.
        source: where it came from, for messages and records.
    """

    x_train: Arrays
    y_train: Arrays
    x_test: Arrays
    y_test: Arrays
    x_val: Arrays | None = None
    y_val: Arrays | None = None
    source: str = IN_MEMORY


def load_data(spec: Any, *, image_size: tuple[int, int] | None = None, seed: int = 0) -> Data:
    """The data that ``spec`` names, checked by :func:`check_data`.

    Args:
        spec: a :class:`Data`; a mapping, or the path of an ``.npz``, with ``x_train``, ``y_train``,
            ``x_test``, ``y_test`` and perhaps ``x_val``, ``y_val``; a folder of images by class, read as pixels
            from 0 to 255 (:func:`kompakt.images.read_folder` says how; a model that was trained on 0 to 1 needs
            a Rescaling layer in front, or a function that scales); or ``package.module:function``, which returns such
            a mapping. Modules in the working directory are found.
        image_size: height and width to which the images of a folder are resized.
        seed: decides which images become the test set of a folder that has none.

    Raises:
        InputError: it is not there, cannot be read, or :func:`check_data` finds a fault.

    Example:
        >>> x, y = np.zeros((2, 8)), [0, 1]
        >>> load_data({"x_train": x, "y_train": y, "x_test": x, "y_test": y}).y_test
        array([0, 1])
    """
    is_path = isinstance(spec, (str, os.PathLike))
    if is_path and Path(spec).is_dir():
        return _from_mapping(read_folder(Path(spec), image_size=image_size, seed=seed), str(spec))
    if image_size is not None:
        raise InputError(f"image_size={image_size!r} is for a folder of images, which this data is not; leave it out")
    if isinstance(spec, Data):
        values = {field.name: getattr(spec, field.name) for field in fields(spec)}
        return _from_mapping(values, values.pop("source"))
    if isinstance(spec, Mapping):
        return _from_mapping(spec, IN_MEMORY)
    if is_path:
        return _from_text(str(spec))
    raise InputError(f"data of type {type(spec).__name__}: expected {FORMS}, or a mapping of arrays")


def check_data(
    data: Data, input_shape: Shape | Mapping[str, Shape] | None = None, output_units: int | None = None
) -> None:
    """Raise where the data cannot train or test a model; nothing is mended or replaced.

    All arrays must hold finite numbers, as many samples in ``x`` as in ``y``, and samples of one shape in
    every split.

    Args:
        data: what to check.
        input_shape: the model's ``input_shape``, batch axis first and None where any size goes; for several
            inputs a mapping from input name to shape.
        output_units: size of the model's output. Labels in rows must have as many columns; labels that are
            one number a sample must be classes from 0 to ``output_units - 1`` (any number where it is 1).

    Raises:
        InputError: one line with the array's name, what it holds, what was expected and what to do.
    """
    for split in ("train", "test", "val"):
        x, y = getattr(data, f"x_{split}"), getattr(data, f"y_{split}")
        if split == "val" and x is None and y is None:
            continue
        inputs, labels = _by_label(f"x_{split}", x), _by_label(f"y_{split}", y)
        for name, array in {**inputs, **labels}.items():
            _check_values(f"{data.source}: {name}", array)
        _check_lengths(data.source, {**inputs, **labels})
        _check_samples(f"{data.source}: x_{split}", x, _shapes(data.x_train), "x_train has")
        if input_shape is not None:
            _check_samples(f"{data.source}: x_{split}", x, _keyed(input_shape), "the model takes")
        if output_units is not None:
            for name, array in labels.items():
                _check_labels(f"{data.source}: {name}", array, output_units)


def sample_rows(inputs: Any, count: int, *, seed: int = 0) -> Any:
    """``count`` samples of ``inputs`` (arrays, in lists and mappings), or all, drawn without putting back.

    Drawn, since data may be sorted: the first samples of a folder of images are all of one class. Shuffled too:
    ranges are put together from batches, each of which should have a bit of everything.

    Example:
        >>> sample_rows(np.arange(10), 3).tolist()
        [4, 6, 2]
    """
    size = min((len(array) for array in _arrays_in(inputs)), default=0)
    rows = np.random.default_rng(seed).permutation(size)[:count]

    def take(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: take(inner) for key, inner in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)([take(inner) for inner in value])
        return value[rows]

    return take(inputs)


def _arrays_in(inputs: Any) -> Iterator[Any]:
    if isinstance(inputs, (Mapping, list, tuple)):
        for value in inputs.values() if isinstance(inputs, Mapping) else inputs:
            yield from _arrays_in(value)
    else:
        yield inputs


# --- the forms of data


def check_named(spec: str) -> None:
    """Raise where ``spec`` names nothing that :func:`load_data` reads; no data is read, and no module imported.

    Raises:
        InputError: as :func:`load_data`.

    Example:
        >>> check_named("mypackage.data:digits")
    """
    path = Path(spec)
    if path.is_dir():
        return
    if path.suffix == ".npz":
        if not path.exists():
            raise InputError(f"data file {path} does not exist; give the path of {FORMS}")
        if not zipfile.is_zipfile(path):
            raise InputError(f"{path}: not an .npz file (a zip of arrays); write one with numpy.savez")
    elif path.exists():
        raise InputError(f"{path}: a data file of an unknown form; expected {FORMS}")
    elif not _FUNCTION.fullmatch(spec):
        raise InputError(f"data {spec!r}: no such file or folder; expected {FORMS}")


def _from_text(spec: str) -> Data:
    check_named(spec)
    path = Path(spec)
    return _from_npz(path) if path.suffix == ".npz" else _from_function(spec)


def _from_mapping(values: Mapping[str, Any], source: str) -> Data:
    _check_names(values, source)
    given = {name: values[name] for name in KNOWN if values.get(name) is not None}
    data = Data(**{name: _as_arrays(f"{source}: {name}", v) for name, v in given.items()}, source=source)
    check_data(data)
    return data


def _from_npz(path: Path) -> Data:
    try:
        with np.load(path, allow_pickle=False) as file:
            values = {name: file[name] if name in KNOWN else None for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        if "allow_pickle" in str(error):
            raise InputError(
                f"{path}: holds pickled Python objects, which could run code when read, so they are refused; "
                "save plain arrays of numbers with numpy.savez"
            ) from None
        raise InputError(f"{path}: a damaged .npz file ({_one_line(error)}); write it again") from None
    return _from_mapping(values, str(path))


def _from_function(spec: str) -> Data:
    module_name, _, function_name = spec.partition(":")
    with working_directory_importable():
        module = import_module(module_name, f"data {spec}: cannot import {module_name}")
        function = getattr(module, function_name, None)
        if not callable(function):
            raise InputError(
                f"data {spec}: the module has no function {function_name!r}; expected one without arguments"
            )
        try:
            values = function()
        except (Exception, SystemExit) as error:  # and so may a user's function
            raise InputError(
                f"data {spec}: the function failed ({_one_line(error)}); call it in Python to see where"
            ) from error
    if isinstance(values, Data):
        return load_data(values)
    if not isinstance(values, Mapping):
        raise InputError(
            f"data {spec}: the function returned {type(values).__name__}; "
            f"expected a mapping with the names {', '.join(REQUIRED)}"
        )
    return _from_mapping(values, spec)


@contextlib.contextmanager
def working_directory_importable() -> Iterator[None]:
    """Modules in the folder that one is in can be imported, as in ``python script.py``."""
    here = os.getcwd()
    sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # the user's own code may have taken it out
            sys.path.remove(here)


def import_module(name: str, told: str) -> Any:
    """A module of the user's; ``told`` begins the error of one that cannot be imported.

    Raises:
        InputError: it is not found, or raises something.
    """
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:  # a user's module may raise anything
        raise InputError(f"{told} ({_one_line(error)}); expected a module that Python finds from here") from error


# --- names, and values of any kind to arrays


def _check_names(values: Mapping[str, Any], source: str) -> None:
    names = [str(name) for name in values]
    for name in names:
        if name not in KNOWN and name.lower().startswith(("x_", "y_")):
            nearest = difflib.get_close_matches(name.lower(), KNOWN, n=1, cutoff=0.0)[0]
            raise InputError(f"{source}: unknown name {name!r}; did you mean {nearest!r}? known: {', '.join(KNOWN)}")
    lacking = [name for name in REQUIRED if values.get(name) is None]
    if lacking:
        raise InputError(
            f"{source}: lacks {', '.join(lacking)}; it has {', '.join(names) or 'nothing'}, "
            f"expected {', '.join(REQUIRED)} and perhaps {', '.join(OPTIONAL)}"
        )
    if (values.get("x_val") is None) != (values.get("y_val") is None):
        raise InputError(f"{source}: has only one of x_val and y_val; give both or neither")


def _as_arrays(where: str, value: Any) -> Arrays:
    if isinstance(value, Mapping):
        return {str(key): _as_array(f"{where}[{key!r}]", inner) for key, inner in value.items()}
    return _as_array(where, value)


def _as_array(where: str, value: Any) -> Array:
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{where}: cannot be made an array ({_one_line(error)}); expected numbers in rows of one length"
        ) from None


def _keyed(value: Any) -> Mapping[str | None, Any]:
    """The arrays (or shapes) by input name; the only one goes by None."""
    return value if isinstance(value, Mapping) else {None: value}


def _shapes(value: Arrays) -> dict[str | None, Shape]:
    return {key: np.shape(array) for key, array in _keyed(value).items()}


def _by_label(name: str, value: Any) -> dict[str, Array]:
    """The arrays by the name that a message calls them."""
    return {_label(name, key): np.asarray(array) for key, array in _keyed(value).items()}


def _label(name: str, key: str | None) -> str:
    return name if key is None else f"{name}[{key!r}]"


# --- checks of the arrays


def _check_values(where: str, array: Array) -> None:
    if array.dtype.kind not in "biuf":
        raise InputError(f"{where}: has dtype {array.dtype}; expected numbers: encode what it holds as numbers")
    if array.ndim == 0 or array.size == 0:
        raise InputError(f"{where}: is empty (shape {array.shape}); expected at least one sample along the first axis")
    bad = ~np.isfinite(array)
    count = int(bad.sum())
    if count:
        first = tuple(int(i) for i in np.unravel_index(int(bad.argmax()), array.shape))
        raise InputError(
            f"{where}: {count} of {array.size} values are NaN or infinite, the first at {first}; "
            "expected finite numbers: clean the data, kompakt never replaces a value"
        )


def _check_lengths(source: str, arrays: Mapping[str, Array]) -> None:
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise InputError(f"{source}: {found} samples; expected as many in each: give one label a sample")


def _check_samples(where: str, x: Arrays, wanted: Mapping[str | None, Shape], who: str) -> None:
    """Compare the samples of ``x`` with shapes whose batch axis comes first; None stands for any size."""
    got = _shapes(x)
    if got.keys() != wanted.keys():
        raise InputError(f"{where} is {_inputs(got)}, {who} {_inputs(wanted)}; expected the same inputs in both")
    for key, shape in wanted.items():
        if not _fits(got[key][1:], shape[1:]):
            raise InputError(
                f"{_label(where, key)} has samples of shape {tuple(got[key][1:])}, "
                f"{who} samples of shape {tuple(shape[1:])}; reshape the samples, or give other data"
            )


def _inputs(keyed: Mapping[str | None, Any]) -> str:
    names = [repr(key) for key in keyed if key is not None]
    return f"a mapping with the inputs {', '.join(names)}" if names else "one array"


def _fits(shape: Shape, wanted: Shape) -> bool:
    return len(shape) == len(wanted) and all(w is None or s == w for s, w in zip(shape, wanted, strict=True))


def _check_labels(where: str, labels: Array, units: int) -> None:
    columns = labels.shape[1] if labels.ndim == 2 else 1
    if labels.ndim > 2 or columns == units:
        return  # an output with several axes is the loss function's to judge
    if columns != 1:
        raise InputError(
            f"{where}: has {columns} columns, the model has {units} outputs; "
            "expected a column an output, or one class number a sample"
        )
    lowest, highest = labels.min(), labels.max()
    if lowest < 0 or highest >= units or bool((labels != np.round(labels)).any()):
        raise InputError(
            f"{where}: has labels from {lowest} to {highest}, the model has {units} outputs; "
            f"expected whole class numbers from 0 to {units - 1}"
        )


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
