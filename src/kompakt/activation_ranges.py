"""The activation ranges of a quantized model: read, edited, written to a file and read back."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from kompakt.attach import transforms_of
from kompakt.errors import InputError
from kompakt.files import write_atomic
from kompakt.sites import match
from kompakt.transforms.quantize import FakeQuant

Ranges = Mapping[str, tuple[float, float]]
FORMAT = "kompakt ranges 1"


def get_ranges(model: keras.Model) -> dict[str, tuple[float, float]]:
    """Activation site -> (low, high) of a model from ``quantize``, those that the runtime fixes included.

    A site that was never measured (no calibration, no training yet) is not in it.

    Raises:
        InputError: the model has no activation ranges.

    Example:
        >>> import numpy as np, kompakt as kp
        >>> m = keras.Sequential([keras.Input((4,), name="input"), keras.layers.Dense(2, name="d")])
        >>> q = kp.quantize(m, calibration=np.ones((8, 4), "float32"))
        >>> list(get_ranges(q))
        ['input_grid/output', 'd/output']
    """
    return {name: t.range_now() for name, t in _grids(model).items() if float(t.seen) > 0}


def set_ranges(model: keras.Model, ranges: Ranges) -> keras.Model:
    """Give activation sites other ranges, in place; training and calibration may move them again.

    Args:
        model: from ``quantize``.
        ranges: site, or a glob of sites -> (low, high); the last that matches counts. The grid always holds 0, so
            that (2, 6) is taken as (0, 6).

    Returns:
        The same model.

    Raises:
        InputError: no such site (the text has the nearest), a range that is reversed or not finite, or one
            that the runtime fixes. Nothing is changed then.

    Example:
        >>> import numpy as np, kompakt as kp
        >>> m = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="d")])
        >>> q = kp.quantize(m, calibration=np.ones((8, 4), "float32"))
        >>> get_ranges(set_ranges(q, {"d/*": (-1.0, 3.0)}))["d/output"]
        (-1.0, 3.0)
    """
    grids = _grids(model)
    wanted: dict[str, tuple[float, float]] = {}
    for pattern, ends in ranges.items():
        names = match(str(pattern), grids)
        moving = [name for name in names if not grids[name].fixed]
        if not moving:
            transform = grids[names[0]]
            raise InputError(
                f"{names[0]}: its range is {transform.low:g} to {transform.high:g} in every file, as the runtime "
                "computes it; leave it out"
            )
        wanted.update(dict.fromkeys(moving, _ends(ends, str(pattern))))
    for name, (low, high) in wanted.items():
        grids[name].set_range(low, high)
    return model


def save_ranges(model: keras.Model, path: str | Path) -> Path:
    """Write the ranges of :func:`get_ranges` that can be set to a JSON file, to edit or to use again.

    Raises:
        InputError: the model has no activation ranges, or the file cannot be written.

    Example:
        >>> import tempfile, numpy as np, kompakt as kp
        >>> m = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="d")])
        >>> q = kp.quantize(m, calibration=np.ones((8, 4), "float32"))
        >>> path = save_ranges(q, tempfile.mkdtemp() + "/ranges.json")
        >>> get_ranges(load_ranges(kp.quantize(m), path)) == get_ranges(q)
        True
    """
    fixed = {name for name, transform in _grids(model).items() if transform.fixed}
    ranges = {name: list(ends) for name, ends in get_ranges(model).items() if name not in fixed}
    return write_atomic(path, json.dumps({"format": FORMAT, "ranges": ranges}, indent=2) + "\n")


def load_ranges(model: keras.Model, path: str | Path) -> keras.Model:
    """Set the ranges of a file from :func:`save_ranges`, in place; its sites may be globs.

    Returns:
        The same model.

    Raises:
        InputError: the file is missing or is none of ranges, or as for :func:`set_ranges`.

    Example:
        >>> import tempfile, numpy as np, kompakt as kp
        >>> m = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="d")])
        >>> q = kp.quantize(m, calibration=np.ones((8, 4), "float32"))
        >>> path = save_ranges(q, tempfile.mkdtemp() + "/ranges.json")
        >>> load_ranges(q, path) is q
        True
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; give a file from kompakt.save_ranges") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({error}); expected a file from kompakt.save_ranges") from None
    ranges = data.get("ranges") if isinstance(data, dict) and data.get("format") == FORMAT else None
    if not isinstance(ranges, dict):
        raise InputError(f"{path}: expected a JSON object with 'format': {FORMAT!r} and 'ranges', site -> [low, high]")
    try:
        return set_ranges(model, ranges)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _grids(model: keras.Model) -> dict[str, FakeQuant]:
    found = {name: t for name, t in transforms_of(model) if isinstance(t, FakeQuant) and not t.on_weights}
    if not found:
        raise InputError(
            f"the model {model.name!r} has no activation ranges: expected one from kompakt.quantize with int8, w4a8 "
            "or int16x8"
        )
    return found


def _ends(ends: Any, pattern: str) -> tuple[float, float]:
    """The two ends as float32 holds them."""
    pair = isinstance(ends, (tuple, list)) and len(ends) == 2
    if not pair or not all(isinstance(e, (int, float)) and not isinstance(e, bool) for e in map(_plain, ends)):
        raise InputError(f"range of {pattern!r} is {ends!r}: expected two numbers, (low, high)")
    low, high = (float(end) for end in ends)
    if not (math.isfinite(low) and math.isfinite(high) and max(abs(low), abs(high)) < LARGEST):
        raise InputError(f"range of {pattern!r} is {low:g} to {high:g}: expected finite numbers")
    if low > high:
        raise InputError(f"range of {pattern!r} is {low:g} to {high:g}: expected the lower end first")
    return low, high


def _plain(value: Any) -> Any:
    """A NumPy scalar as a Python number."""
    return value.item() if hasattr(value, "item") and getattr(value, "shape", None) == () else value


LARGEST = 1e37
"""So that the width of a range is a float32 too."""
