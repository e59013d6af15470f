"""What ``verify_file`` says of a spoiled file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

import kompakt as kp

from .faults import Fault, spoiled
from .models import made


def trained(model: keras.Model, inputs: Any, steps: int = 3) -> keras.Model:
    """``model`` after some small steps towards its own outputs."""
    wanted = model.predict(inputs, verbose=0)
    model.compile(keras.optimizers.SGD(1e-3), "mse")
    model.fit(inputs, wanted, batch_size=len(inputs), epochs=steps, verbose=0)
    return model


def mixed(model: keras.Model, inputs: Any) -> keras.Model:
    """Float, 4, 8 and 16 bits in one file."""
    rules = {"conv1": "float", "conv2": "w4a8", "logits": "int16x8"}
    return kp.quantize(model, "int8", rules=rules, calibration=inputs)


WAYS = {
    "pruned": lambda model, _: kp.prune(model, 0.5, sites="conv2/*"),
    "clustered": lambda model, _: kp.cluster(model, 8, sites="conv2/*"),
    "mixed": mixed,
    "trained": lambda model, x: trained(kp.quantize(model, "int8", calibration=x), x),
    "lsq": lambda model, x: trained(kp.quantize(model, "int8", calibration=x, ranges="lsq"), x),
    "repaired": lambda model, x: kp.quantize(model, calibration=x, repairs=("equalize", "adaround", "bias")),
}
"""Name -> how the cnn is made smaller, from it and its inputs."""


@dataclass(frozen=True, kw_only=True)
class Good:
    """A file without fault, its model and inputs, and what verify says of it."""

    data: bytes
    model: keras.Model
    inputs: Any
    breaches: tuple[str, ...]
    notes: tuple[str, ...]


def good(name: str, mode: str, folder: Path) -> Good:
    """The file of one of the models, or of the cnn made smaller in one of :data:`WAYS`."""
    model, inputs = made("cnn" if name in WAYS else name)
    path = folder / f"{name}_{mode}.tflite"
    given = WAYS[name](model, inputs) if name in WAYS else model
    kp.export(given, path, quantization=mode, calibration=inputs)
    model = kp.finalize(given)[0] if name in WAYS else model
    found = kp.verify_file(path, model, inputs)
    return Good(data=path.read_bytes(), model=model, inputs=inputs, breaches=found.breaches, notes=found.notes)


def lines(file: Good, fault: Fault, folder: Path, *, stripped: bool = False) -> Sequence[str]:
    """The breaches of ``file`` with a fault in it; what is no file any more is said in one line."""
    path = folder / "m.tflite"
    path.write_bytes(spoiled(file.data, fault, stripped=stripped))
    try:
        return kp.verify_file(path, file.model, file.inputs).breaches
    except kp.InputError as error:
        return [f"file: {error}"]


def caught(fault: Fault, said: Sequence[str], *, stripped: bool = False) -> str | None:
    """The line that names the place of the fault and, with the seal, its kind; None where there is none."""
    places = fault.stripped if stripped else fault.place
    kinds = () if stripped else fault.kind
    named = (line for line in said if line.startswith(places))
    return next((line for line in named if not kinds or any(kind in line for kind in kinds)), None)
