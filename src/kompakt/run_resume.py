"""What an earlier run left in its folder, and by what it is known to be of the same model, data and settings."""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np

from kompakt.data import Data
from kompakt.errors import InputError
from kompakt.files import sha256
from kompakt.records import Trial, from_json
from kompakt.targets import find_target

Curves = dict[str, tuple[float, ...]]
"""Metric of training -> a value an epoch."""


def digest_of_subject(model: keras.Model, data: Data) -> str:
    """Of a model and its data."""
    splits = ("x_train", "y_train", "x_test", "y_test", "x_val", "y_val")
    arrays = keras.tree.flatten([getattr(data, split) for split in splits])
    parts = [digest_of_model(model).encode(), *(np.ascontiguousarray(a).tobytes() for a in arrays if a is not None)]
    return sha256(b"".join(sha256(part).encode() for part in parts))[:16]


def digest_of_model(model: keras.Model) -> str:
    """Of a model's config, code and weights."""
    weights = [np.ascontiguousarray(w).tobytes() for w in model.get_weights()]
    parts = [model.to_json().encode(), _source(type(model)).encode(), *weights]
    return sha256(b"".join(sha256(part).encode() for part in parts))


def held(file: Path, curves: Path) -> tuple[keras.Model, Curves] | None:
    """The model of a stage that was finished before and its curves; None where they are not both there and whole."""
    try:
        return keras.saving.load_model(file, compile=False), json.loads(curves.read_text())
    except Exception:  # noqa: BLE001  damaged, or of a class that is not read back: the stage is trained again
        return None


def _source(kind: type) -> str:
    """The code of a user's own model, whose config does not say what it computes; "" where there is none."""
    try:
        return "" if kind.__module__.startswith("keras.") else inspect.getsource(kind)
    except (OSError, TypeError):
        return ""


def finished(record: Path, wanted: Mapping[str, str], folder: Path) -> Trial | None:
    """The trial in ``record``, if that has what is ``wanted`` and what it wrote is still in ``folder``."""
    try:
        known = json.loads(record.read_text())
        trial = from_json(Trial, json.dumps(known["trial"]))
        same = all(known[name] == value for name, value in wanted.items()) and trial.artifact is not None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not same or trial.artifact is None:
        return None
    path = folder / Path(trial.artifact.path).name
    try:
        data = find_target(trial.artifact.target).read(path)
    except InputError:
        return None
    if sha256(data) != trial.artifact.sha256:
        return None
    return dataclasses.replace(trial, artifact=dataclasses.replace(trial.artifact, path=str(path)))
