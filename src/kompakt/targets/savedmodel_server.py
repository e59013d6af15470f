"""A SavedModel as it is loaded and called in a process of its own (:mod:`kompakt.isolated`): arrays in, arrays out."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import tensorflow as tf

from kompakt.errors import InputError, first_line
from kompakt.folders import unpacked, write_folder
from kompakt.isolated import Answer
from kompakt.targets.batches import filled
from kompakt.targets.laps import lapped
from kompakt.targets.savedmodel_graph import PB, operations, parse, refuse_dangers
from kompakt.targets.warm_up import SIGNATURE

BATCH = 256
"""Samples at once where any number may come."""

VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
"""End of the name of a variable in a checkpoint."""


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A SavedModel in memory, with its files, and the specifications of what its signature takes, by name."""

    folder: TemporaryDirectory[str]
    root: Any
    signature: Any
    specs: Mapping[str, Any]

    @property
    def place(self) -> Path:
        """Where the files are."""
        return Path(self.folder.name, "model")

    @property
    def batch(self) -> int | None:
        """The batch size that it is fixed to, or None."""
        sizes = {spec.shape[0] for spec in self.specs.values() if spec.shape.rank}
        return next((int(size) for size in sizes if size is not None), None)

    def named(self, given: Sequence[np.ndarray], names: Sequence[str] | None) -> dict[str, np.ndarray]:
        """``given`` by the names that the signature has.

        Raises:
            InputError: they are not as many, have other names, or other shapes.
        """
        if len(given) != len(self.specs):
            raise InputError(f"the SavedModel takes {len(self.specs)} inputs, received {len(given)}")
        known = names if names is not None and set(names) == set(self.specs) else sorted(self.specs)
        found = dict(zip(known, given, strict=True))
        for name, values in found.items():
            spec = self.specs[name]
            if not spec.shape[1:].is_compatible_with(values.shape[1:]):
                raise InputError(
                    f"the SavedModel's input {name!r} takes {tuple(spec.shape[1:])} a sample, received "
                    f"{values.shape[1:]}: give the model that it was made from"
                )
        return {name: values.astype(self.specs[name].dtype.as_numpy_dtype) for name, values in found.items()}

    def batches(self, named: Mapping[str, np.ndarray]) -> Iterator[dict[str, Any]]:
        """Tensors of as many samples as it takes; a last batch that is too small is filled up with its last sample."""
        size = self.batch or BATCH
        for start in range(0, len(next(iter(named.values()))), size):
            part = {name: values[start : start + size] for name, values in named.items()}
            yield {name: tf.constant(filled(values, self.batch or 0)) for name, values in part.items()}

    def outputs(self, names: Sequence[str] | None) -> Sequence[str]:
        """Names of the outputs, in the order of ``names`` where those are they."""
        made = self.signature.structured_outputs
        return names if names is not None and set(names) == set(made) else sorted(made)


@functools.lru_cache(maxsize=4)
def load(data: bytes) -> Loaded:
    """The SavedModel in memory, after a look at what its graph does.

    Raises:
        InputError: broken, dangerous, or without the signature that servers call.
    """
    files = unpacked(data)
    refuse_dangers(parse(files.get(PB, b"")))
    folder = TemporaryDirectory()
    write_folder(Path(folder.name, "model"), files)
    try:
        root = tf.saved_model.load(f"{folder.name}/model")
    except Exception as error:
        raise InputError(f"broken SavedModel: TensorFlow refuses it ({first_line(error)}); make it again") from error
    if SIGNATURE not in root.signatures:
        raise InputError(f"the SavedModel has no signature {SIGNATURE!r}, which servers call; export it again")
    signature = root.signatures[SIGNATURE]
    specs = {spec.name: spec for spec in signature.structured_input_signature[1].values()}
    return Loaded(folder=folder, root=root, signature=signature, specs=specs)


def run(arrays: list[np.ndarray], *, inputs: Sequence[str] | None, outputs: Sequence[str] | None) -> Answer:
    """Outputs of the signature, as TensorFlow Serving calls it.

    Args:
        arrays: the bytes of the artifact, then its inputs, (samples, ...). inputs: their names. outputs: theirs, in
            the order in which they are wanted.
    """
    data, *given = arrays
    model = load(data.tobytes())
    rows = [model.signature(**batch) for batch in model.batches(model.named(given, inputs))]
    columns = [np.concatenate([np.asarray(row[name]) for row in rows]) for name in model.outputs(outputs)]
    return [column[: len(given[0])].astype("float32") for column in columns], None


def ends(arrays: list[np.ndarray]) -> Answer:
    """[name, shape with None for what is open, whether it takes integers] of each input of the signature, sorted."""
    specs = load(arrays[0].tobytes()).specs
    return [], [[name, specs[name].shape.as_list(), not specs[name].dtype.is_floating] for name in sorted(specs)]


def ways(arrays: list[np.ndarray], *, inputs: Sequence[str], outputs: Sequence[str]) -> Answer:
    """Outputs for one batch, called by the signature, by ``.serve`` and through a TFSMLayer, and how many each has."""
    import keras  # here alone: what serves starts without

    data, *given = arrays
    model = load(data.tobytes())
    batch = next(model.batches(model.named(given, inputs)))
    structure = model.root.serve.concrete_functions[0].structured_input_signature[0][0]
    packed = tf.nest.map_structure(lambda spec: batch[spec.name], structure)
    layer = keras.layers.TFSMLayer(str(model.place), call_endpoint="serve")
    made = model.signature(**batch)
    found = [[made[name] for name in model.outputs(outputs)]]
    found += [keras.tree.flatten(way(packed)) for way in (model.root.serve, layer)]
    return [np.asarray(tensor, "float32") for each in found for tensor in each], [len(each) for each in found]


def seconds(arrays: list[np.ndarray], *, inputs: Sequence[str] | None, threads: int, times: int) -> Answer:
    """Seconds of each of ``times`` calls of the signature on the smallest batch it takes, and of all."""
    if tf.config.threading.get_intra_op_parallelism_threads() != threads:  # once in the life of a process
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    data, *given = arrays
    model = load(data.tobytes())
    first = [values[: model.batch or 1] for values in given]
    batch = next(model.batches(model.named(first, inputs)))
    if times == 1:
        model.signature(**batch)
    return lapped(lambda: next(iter(model.signature(**batch).values())).numpy(), times)


def census(arrays: list[np.ndarray]) -> Answer:
    """Operation -> count in the graph, which is looked at and not loaded.

    Raises:
        InputError: it is broken, or does more than compute.
    """
    graph = parse(unpacked(arrays[0].tobytes()).get(PB, b""))
    refuse_dangers(graph)
    return [], operations(graph)


def variables(arrays: list[np.ndarray]) -> Answer:
    """The variables in the checkpoint, those of floats in float32, and [name in the checkpoint, type] of each.

    Raises:
        InputError: the checkpoint cannot be read.
    """
    files = {name: part for name, part in unpacked(arrays[0].tobytes()).items() if name.startswith("variables/")}
    try:
        with TemporaryDirectory() as folder:
            place = write_folder(Path(folder, "model"), files)
            reader = tf.train.load_checkpoint(str(place / "variables/variables"))
            kinds = reader.get_variable_to_dtype_map()
            names = sorted(name for name in kinds if name.endswith(VALUE) and kinds[name] != tf.string)
            held = [np.asarray(reader.get_tensor(name)) for name in names]
    except Exception as error:
        raise InputError("broken SavedModel: its variables cannot be read; make it again") from error
    plain = [a.astype("float32") if kinds[name].is_floating else a for name, a in zip(names, held, strict=True)]
    return plain, [[name.removesuffix(VALUE), kinds[name].name.upper()] for name in names]
