"""Folders of images by class, read with Pillow into arrays. The values stay what the files hold: 0..255."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from kompakt.errors import InputError

Array: TypeAlias = np.ndarray[Any, Any]
Labelled: TypeAlias = list[tuple[Path, int]]

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
MODES = {"1": "L", "L": "L", "P": "RGB", "RGB": "RGB"}
"""Pillow's mode of a file -> the mode it is read in: L has one channel, RGB three."""
TEST_SHARE = 0.2
"""Share of each class held back for testing where a folder has no test folder of its own."""


def read_folder(folder: Path, *, image_size: tuple[int, int] | None = None, seed: int = 0) -> dict[str, Array]:
    """``x_train``, ``y_train``, ``x_test``, ``y_test`` and perhaps ``x_val``, ``y_val`` of a folder.

    Args:
        folder: holds ``train/<class>/*``, ``test/<class>/*`` and perhaps ``val/<class>/*``, or only
            ``<class>/*``, of which a fifth of each class becomes the test set.
        image_size: height and width to resize to (bilinear); without it all images must have one size.
        seed: decides which images become the test set.

    Returns:
        Images as float32 ``(samples, height, width, channels)`` with values 0..255, one channel where the
        files are grey; labels as int32, the place of the class in the sorted class names.
    """
    if image_size is not None and not _is_size(image_size):
        raise InputError(f"image_size={image_size!r}: expected (height, width), two whole numbers of at least 1")
    splits = _listed(folder) if _folders(folder / "train") else _divided(folder, seed)
    pixels = _read([path for split in splits.values() for path, _ in split], image_size)
    values: dict[str, Array] = {}
    start = 0
    for name, split in splits.items():
        values[f"x_{name}"] = pixels[start : start + len(split)]
        values[f"y_{name}"] = np.array([label for _, label in split], "int32")
        start += len(split)
    return values


def _is_size(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and len(value) == 2 and all(isinstance(v, int) and v >= 1 for v in value)


def _listed(folder: Path) -> dict[str, Labelled]:
    """The splits that the folder itself has."""
    names = [name for name in ("train", "val", "test") if (folder / name).is_dir()]
    if "test" not in names:
        raise InputError(f"{folder}: has train/ but no test/; expected train/<class>/ and test/<class>/")
    classes = [path.name for path in _folders(folder / "train")]
    return {name: _in_classes(folder / name, classes) for name in names}


def _divided(folder: Path, seed: int) -> dict[str, Labelled]:
    """A training and a test split, the same share of every class in each."""
    images = _in_classes(folder, [path.name for path in _folders(folder)])
    labels = np.array([label for _, label in images])
    random = np.random.default_rng(seed)
    held: set[int] = set()
    for label in np.unique(labels):
        inside = np.flatnonzero(labels == label)
        if len(inside) < 2:
            raise InputError(f"{images[inside[0]][0].parent}: holds 1 image; expected at least 2, to train and to test")
        held.update(random.permutation(inside)[: max(1, round(TEST_SHARE * len(inside)))].tolist())
    return {
        "train": [image for i, image in enumerate(images) if i not in held],
        "test": [image for i, image in enumerate(images) if i in held],
    }


def _in_classes(folder: Path, classes: Sequence[str]) -> Labelled:
    """Every image file in the class folders of ``folder``, with the rank of its class."""
    found: Labelled = []
    for inside in _folders(folder):
        if inside.name not in classes:
            raise InputError(f"{inside}: not a class of the training images ({', '.join(classes)}); rename it")
        images = sorted(path for path in inside.iterdir() if path.suffix.lower() in SUFFIXES)
        if not images:
            raise InputError(
                f"{inside}: holds no images ({', '.join(sorted(SUFFIXES))}); add some, or remove the folder"
            )
        found += [(path, classes.index(inside.name)) for path in images]
    if not found:
        raise InputError(f"{folder}: has no folders of images; expected one a class: {folder}/<class>/*.png")
    return found


def _folders(folder: Path) -> list[Path]:
    """The folders inside, sorted; hidden ones and tools' own (``__MACOSX``) are not classes."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__")))


def _read(paths: Sequence[Path], image_size: tuple[int, int] | None) -> Array:
    images = [_read_image(path, image_size) for path in paths]
    for path, image in zip(paths, images, strict=True):
        _check_alike(path, image.shape, paths[0], images[0].shape)
    return np.stack(images).astype("float32")


def _read_image(path: Path, image_size: tuple[int, int] | None) -> Array:
    from PIL import Image

    try:
        with Image.open(path) as image:
            if image.mode not in MODES:
                raise InputError(f"{path}: an image of mode {image.mode}; convert it to RGB or to 8-bit grey")
            pixels = image.convert(MODES[image.mode])
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: not an image that Pillow can read ({reason}); mend or remove the file") from None
    if image_size is not None:
        height, width = image_size
        pixels = pixels.resize((width, height), Image.Resampling.BILINEAR)
    array: Array = np.asarray(pixels)
    return array if array.ndim == 3 else array[..., None]


def _check_alike(path: Path, shape: tuple[int, ...], first: Path, expected: tuple[int, ...]) -> None:
    if shape[2] != expected[2]:
        raise InputError(
            f"{path}: has {shape[2]} colour channels, {first} has {expected[2]}; "
            "convert all images to RGB, or all to grey"
        )
    if shape != expected:
        raise InputError(
            f"{path}: is {shape[0]} high and {shape[1]} wide, "
            f"{first} is {expected[0]} high and {expected[1]} wide; "
            "make them one size, or give image_size=(height, width)"
        )
