"""Weights as TF.js stores them, compressed or not, one after the other in shards. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kompakt.errors import InputError

SHARD = 4 * 1024 * 1024
"""Most bytes of a shard: what browsers keep in their cache, after the format's own converter."""

PLAIN: dict[str, np.dtype[Any]] = {
    "float32": np.dtype("<f4"),
    "int32": np.dtype("<i4"),
    "bool": np.dtype("u1"),
}
"""Type of a tensor in TF.js -> how it is stored."""

COMPRESSED: dict[str, np.dtype[Any]] = {
    "float16": np.dtype("<f2"),
    "uint8": np.dtype("u1"),
    "uint16": np.dtype("<u2"),
}
"""Way to compress float32 -> how it is stored."""

MOST_VALUES = 2**31
"""Of one tensor."""


@dataclass(frozen=True, kw_only=True)
class Weight:
    """A constant of a graph model as it is stored.

    A compressed one is read as

    .. math:: real = q \\cdot scale + min

    in double precision, then rounded to float32; float16 is read as it is (``decodeWeight`` in ``tfjs-core``,
    ``io_utils.ts``).

    Attributes:
        name: of the node in the graph.
        dtype: "float32", "int32" or "bool".
        stored: the values as stored, in the tensor's shape.
        compression: "float16", "uint8", "uint16", or None.
        scale, minimum: of the grid of integers.
    """

    name: str
    dtype: str
    stored: np.ndarray
    compression: str | None = None
    scale: float = 1.0
    minimum: float = 0.0

    @property
    def values(self) -> np.ndarray:
        """The values as TF.js computes with them."""
        if self.compression in ("uint8", "uint16"):
            return (self.stored.astype("float64") * self.scale + self.minimum).astype("float32")
        if self.dtype == "bool":
            return self.stored.astype(bool)
        return self.stored.astype(self.dtype)

    @property
    def spec(self) -> dict[str, Any]:
        """Its entry in the weights manifest."""
        entry: dict[str, Any] = {"name": self.name, "shape": list(self.stored.shape), "dtype": self.dtype}
        if self.compression is not None:
            entry["quantization"] = {"dtype": self.compression, "original_dtype": self.dtype}
        if self.compression in ("uint8", "uint16"):
            entry["quantization"] |= {"scale": self.scale, "min": self.minimum}
        return entry


def compressed(name: str, values: np.ndarray, compression: str | None) -> Weight:
    """A float32 constant, compressed; None leaves it as it is.

    Raises:
        InputError: a value does not fit, or is none.

    Example:
        >>> compressed("k", np.array([-1.0, 0.0, 0.5], "float32"), "uint8").values
        array([-1. ,  0. ,  0.5], dtype=float32)
    """
    if compression is None:
        return Weight(name=name, dtype="float32", stored=values.astype(PLAIN["float32"]))
    if not np.isfinite(values).all():
        raise InputError(f"{name}: NaN or infinite values cannot be compressed; go back to weights from before them")
    if compression == "float16":
        with np.errstate(over="ignore"):
            half = values.astype(COMPRESSED["float16"])
        if not np.isfinite(half).all():
            raise InputError(f"{name}: values up to {np.abs(values).max():g} do not fit into float16; take 'uint16'")
        return Weight(name=name, dtype="float32", stored=half, compression="float16")
    kind = COMPRESSED[compression]
    scale, minimum = affine_grid(values, np.iinfo(kind).max)
    steps = np.clip(np.rint((values.astype("float64") - minimum) / scale), 0, np.iinfo(kind).max)
    return Weight(
        name=name,
        dtype="float32",
        stored=steps.astype(kind),
        compression=compression,
        scale=scale,
        minimum=minimum,
    )


def affine_grid(values: np.ndarray, most: int) -> tuple[float, float]:
    r"""(scale, min) of the grid :math:`q \cdot scale + min`, q = 0..``most``, over the range of ``values``.

    .. math:: scale = (max - min) / most, \quad min' = -round(-min / scale) \cdot scale

    The second where 0 is within the range, which then is on the grid exactly: zeros stay zeros (Jacob et al. 2018,
    "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", section 3;
    ``_get_affine_quantization_range`` in the format's own converter). The map is monotone, so equal values stay
    equal. One value alone is stored as ``min``.

    Example:
        >>> affine_grid(np.array([-1.0, 4.1]), 255)[1] / affine_grid(np.array([-1.0, 4.1]), 255)[0]
        -50.0
    """
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    scale = (high - low) / most
    if scale == 0.0:
        return 1.0, low
    if low <= 0.0 <= high:
        low = -float(np.rint(-low / scale)) * scale
    return scale, low


def sharded(weights: Sequence[Weight], *, most: int = SHARD) -> tuple[list[dict[str, Any]], dict[str, bytes]]:
    """(the weights manifest, file name -> bytes) with files of at most ``most`` bytes.

    Example:
        >>> weight = compressed("k", np.zeros(3, "float32"), None)
        >>> [len(part) for part in sharded([weight], most=8)[1].values()]
        [8, 4]
    """
    whole = b"".join(np.ascontiguousarray(weight.stored).tobytes() for weight in weights)
    count = max(1, math.ceil(len(whole) / most))
    names = [f"group1-shard{i + 1}of{count}.bin" for i in range(count)]
    files = {name: whole[i * most : (i + 1) * most] for i, name in enumerate(names)}
    return [{"paths": names, "weights": [weight.spec for weight in weights]}], files


def joined(manifest: Any, files: Mapping[str, bytes]) -> list[Weight]:
    """The weights of a manifest, whoever wrote it.

    Raises:
        InputError: it is no manifest, names files that are not there, or sizes that do not fit.
    """
    if not isinstance(manifest, list):
        raise InputError(f"broken model.json: weightsManifest is {type(manifest).__name__}, expected a list")
    return [weight for group in manifest for weight in _group(group, files)]


def _group(group: Any, files: Mapping[str, bytes]) -> list[Weight]:
    paths, specs = (group.get("paths"), group.get("weights")) if isinstance(group, dict) else (None, None)
    if not isinstance(paths, list) or not isinstance(specs, list):
        raise InputError("broken model.json: a group of weightsManifest has no lists 'paths' and 'weights'")
    if len({str(path) for path in paths}) < len(paths):
        raise InputError("broken model.json: a group of weightsManifest names a file twice")
    whole, at, found = b"".join(_file(path, files) for path in paths), 0, []
    for spec in specs:
        name, dtype, shape, compression = _checked(spec)
        kind = PLAIN[dtype] if compression is None else COMPRESSED[compression["dtype"]]
        size = math.prod(shape) * kind.itemsize
        if at + size > len(whole):
            raise InputError(
                f"broken model.json: {name!r} has shape {shape} as {kind.name}, {size} bytes from {at}, but "
                f"{', '.join(paths)} has {len(whole)}"
            )
        stored = np.frombuffer(whole, kind, math.prod(shape), at).reshape(shape)
        found.append(_weight(name, dtype, stored, compression))
        at += size
    if at != len(whole):
        raise InputError(f"broken model.json: its weights take {at} bytes, {', '.join(paths)} has {len(whole)}")
    return found


def _weight(name: str, dtype: str, stored: np.ndarray, compression: Mapping[str, Any] | None) -> Weight:
    if compression is None:
        return Weight(name=name, dtype=dtype, stored=stored)
    return Weight(
        name=name,
        dtype=dtype,
        stored=stored,
        compression=compression["dtype"],
        scale=float(compression.get("scale", 1.0)),
        minimum=float(compression.get("min", 0.0)),
    )


def _file(path: Any, files: Mapping[str, bytes]) -> bytes:
    if not isinstance(path, str) or path not in files:
        raise InputError(
            f"broken model.json: its weights are in {path!r:.80}, which is no file of the folder; "
            f"there are {', '.join(sorted(files)[:6])}"
        )
    return files[path]


def _checked(spec: Any) -> tuple[str, str, tuple[int, ...], Mapping[str, Any] | None]:
    """(name, type, shape, compression) of an entry of a manifest."""
    if not isinstance(spec, dict) or not isinstance(spec.get("name"), str):
        raise InputError(f"broken model.json: a weight without a name: {spec!r:.80}")
    name: str = spec["name"]
    dtype: Any = spec.get("dtype")
    shape: Any = spec.get("shape")
    how: Any = spec.get("quantization")
    if dtype not in PLAIN:
        raise InputError(f"model.json: {name!r} is {dtype!r:.40}, expected one of {', '.join(PLAIN)}")
    whole = isinstance(shape, list) and all(type(n) is int and 0 <= n < MOST_VALUES for n in shape)
    if not whole or math.prod(shape) >= MOST_VALUES:
        raise InputError(f"broken model.json: {name!r} has the shape {shape!r:.80}")
    if how is not None:
        _check_compression(name, dtype, how)
    return name, dtype, tuple(shape), how


def _check_compression(name: str, dtype: str, how: Any) -> None:
    kind = how.get("dtype") if isinstance(how, dict) else None
    if kind not in COMPRESSED or dtype != "float32":
        raise InputError(
            f"model.json: {name!r}, {dtype}, is compressed as {how!r:.80}, expected float32 as one of "
            f"{', '.join(COMPRESSED)}"
        )
    numbers = [how.get("scale"), how.get("min")] if kind != "float16" else []
    if not all(isinstance(n, (int, float)) and math.isfinite(n) for n in numbers):
        raise InputError(f"broken model.json: {name!r} has scale and min {numbers!r:.80}, expected finite numbers")
