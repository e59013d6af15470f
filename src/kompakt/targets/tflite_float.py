"""A Keras model as a float TFLite file, through TensorFlow's converter."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Sequence

import keras
from keras import tree

from kompakt.errors import InputError, first_line
from kompakt.graph import symbolic_inputs
from kompakt.isolated import call
from kompakt.scopes import tensorflow_names
from kompakt.targets.endpoints import output_names
from kompakt.targets.quiet import quiet
from kompakt.targets.savedmodel_write import TABLES
from kompakt.targets.tflite_file import TFLiteFile

CONVERTER = "kompakt.targets.litert_converter:convert"

ENDPOINT = "serving_default"
"""What the converter looks for; under another name Keras would write the function twice."""


def _flattened(model: keras.Model, batch: int | None) -> tuple[list[str], keras.Model]:
    """(names of the inputs, the model with a list of inputs and of outputs and a fixed batch).

    A fixed batch, so that no shape is computed at run time. Lists, with inputs called ``input_0``,
    ``input_1``, because the converter shuffles lists and refuses dicts.
    """
    inputs = symbolic_inputs(model, batch)
    names = [tensor.name.split(":")[0] for tensor in tree.flatten(inputs)]
    count = iter(range(len(names)))
    numbered = tree.map_structure(
        lambda t: keras.Input(batch_shape=t.shape, dtype=t.dtype, name=f"input_{next(count)}"), inputs
    )
    return names, keras.Model(tree.flatten(numbered), tree.flatten(model(numbered)), name=model.name)


def float_file(model: keras.Model, batch: int | None, *, half: bool, outputs: Sequence[str] = ()) -> TFLiteFile:
    """The model as a float file, with its inputs and outputs in the model's own order.

    Args:
        batch: of its inputs. half: constants as float16. outputs: names for its signature, by default its own.
    """
    names, fixed = _flattened(model, batch)
    data = _convert(fixed, half=half)
    file = TFLiteFile(data)
    numbered = [f"input_{i}" for i in range(len(names))]
    ends = [f"output_{i}" for i in range(len(fixed.outputs))]
    file.order_edges(numbered, ends)
    file.name_ends("inputs", dict(zip(numbered, names, strict=True)))
    file.name_ends("outputs", dict(zip(ends, outputs or output_names(model), strict=True)))
    return file


def _convert(model: keras.Model, *, half: bool) -> bytes:
    """TensorFlow's converter, by way of a SavedModel: of a Keras model it hides what it stumbles over."""
    import tensorflow as tf

    specs = [tf.TensorSpec(t.shape, t.dtype, name=t.name) for t in model.inputs]
    try:
        with quiet(), tensorflow_names(model), tempfile.TemporaryDirectory() as folder:
            archive = keras.export.ExportArchive()
            for layer in model._flatten_layers():
                if isinstance(layer, TABLES):  # variables are found without, and to walk all layers is slow
                    archive.track(layer)
            archive.add_endpoint(
                ENDPOINT, functools.partial(model, training=False), [specs] if len(specs) > 1 else specs
            )
            archive.write_out(folder, verbose=False)
            (made,), _ = call(CONVERTER, [], of="TensorFlow's converter", folder=folder, half=half)
            return made.tobytes()
    except Exception as error:
        raise InputError(
            f"TensorFlow's converter refuses the model {model.name!r}: {first_line(error)}; {_remedy(error)}"
        ) from error


def _remedy(error: Exception) -> str:
    if "TensorList" in str(error):
        return "a recurrent layer needs a fixed batch, batch=1, or unroll=True where it is made"
    return "replace the layer it names by layers with a TFLite operator"
