"""Write a Keras model as a SavedModel: its variables under the names of their sites, its ends under their own."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
from keras import tree

from kompakt.errors import InputError, first_line
from kompakt.folders import read_folder
from kompakt.scopes import taken, tensorflow_names
from kompakt.sites import sites
from kompakt.targets.endpoints import Endpoints, unique
from kompakt.targets.quiet import quiet
from kompakt.targets.savedmodel_graph import PB, canonical
from kompakt.targets.warm_up import SIGNATURE

WEIGHTS = "weights"
"""Attribute of a loaded SavedModel, and start of the names in its checkpoint: site -> variable."""

TABLES = (keras.layers.IntegerLookup, keras.layers.StringLookup)
"""Layers with a TensorFlow resource that is no variable."""

UNSTABLE = "fingerprint.pb"
"""A file with a random number, of which nothing depends."""


def written(model: keras.Model, ends: Endpoints, *, half: bool = False) -> dict[str, bytes]:
    """The files of a SavedModel: ``serve`` takes what the model takes, ``serving_default`` has names for all ends.

    Args:
        half: keep the weights in float16; they are made float32 where they are used.

    Raises:
        InputError: TensorFlow cannot trace or save the model.
    """
    import tensorflow as tf

    options = tf.saved_model.SaveOptions(save_debug_info=False, experimental_custom_gradients=False)
    try:
        with quiet(), tempfile.TemporaryDirectory() as folder:
            root, default = _root(model, ends, half=half)
            with tensorflow_names(model):
                tf.saved_model.save(root, folder, signatures={SIGNATURE: default}, options=options)
            files = read_folder(Path(folder))
    except Exception as error:
        raise InputError(
            f"TensorFlow refuses to save the model {model.name!r}: {first_line(error)}; replace the layer that cannot "
            "be traced"
        ) from error
    files.pop(UNSTABLE, None)
    return {**files, PB: canonical(files[PB])}


def _root(model: keras.Model, ends: Endpoints, *, half: bool) -> tuple[Any, Any]:
    """(what is saved, the function with named ends)."""
    import tensorflow as tf

    names = iter(ends.input_names)
    specs = tree.map_structure(lambda t: tf.TensorSpec(t.shape, t.dtype, next(names)), ends.inputs)
    named = dict(zip(ends.input_names, tree.flatten(specs), strict=True))
    halves = _halves(model) if half else []

    def serve(inputs: Any) -> Any:
        with tensorflow_names(model), _reading(halves):
            return model(inputs, training=False)

    root = tf.__internal__.tracking.AutoTrackable()
    root.serve = tf.function(serve, input_signature=[specs], autograph=False)

    def serving_default(inputs: Mapping[str, Any]) -> dict[str, Any]:
        given = tree.pack_sequence_as(specs, [inputs[name] for name in ends.input_names])
        return dict(zip(ends.output_names, tree.flatten(root.serve(given)), strict=True))

    default = tf.function(serving_default, input_signature=[named], autograph=False)
    used = root.serve.get_concrete_function().variables
    setattr(root, WEIGHTS, _by_site(model, used, {id(v): kept for v, kept in halves}))
    root.tables = [each.lookup_table for each in model._flatten_layers() if isinstance(each, TABLES)]
    return root, default


def _halves(model: keras.Model) -> list[tuple[Any, Any]]:
    """(Keras variable of a weight site, a TensorFlow variable with its values in float16)."""
    import tensorflow as tf

    floats = (s for s in sites(model) if s.variable is not None and s.variable.dtype == "float32")
    return [
        (s.variable, tf.Variable(tf.cast(s.variable.value, "float16"), name="/".join(map(taken, s.name.split("/")))))
        for s in floats
    ]


@contextlib.contextmanager
def _reading(halves: Sequence[tuple[Any, Any]]) -> Iterator[None]:
    """Inside, each variable reads as what is kept for it."""
    import tensorflow as tf

    if not halves:
        yield
        return
    with keras.StatelessScope(state_mapping=[(v, tf.cast(kept, v.dtype)) for v, kept in halves]):
        yield


def _by_site(model: keras.Model, used: Any, halves: Mapping[int, Any]) -> dict[str, Any]:
    """Site, or else path, of each TensorFlow variable that is used -> the variable."""
    site_of = {id(site.variable): site.name for site in sites(model) if site.variable is not None}
    name_of, left = {}, {id(variable): variable for variable in used}
    for variable in model.variables:
        held = halves.get(id(variable), variable.value)
        if left.pop(id(held), None) is not None:
            path = variable.path.removeprefix(f"{model.name}/")
            name_of[id(held)] = site_of.get(id(variable), path)
    name_of.update({key: variable.name.split(":")[0] for key, variable in left.items()})
    known = {id(variable): variable for variable in used}
    return dict(zip(unique(list(name_of.values())), (known[key] for key in name_of), strict=True))
