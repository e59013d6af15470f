"""Requests that TensorFlow Serving runs when it loads a model, so that the first visitor does not wait.

The messages are those of tensorflow_serving/apis (model.proto, predict.proto, prediction_log.proto), made here with
their field numbers: the package that has them is not needed. See
https://www.tensorflow.org/tfx/serving/saved_model_warmup.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kompakt.targets.protobuf import descriptor_pb2, descriptor_pool, message_factory

PLACE = "assets.extra/tf_serving_warmup_requests"
"""Where TensorFlow Serving looks for them, below a SavedModel."""

SIGNATURE = "serving_default"
"""What servers call where they are not told what."""

TENSOR = ".tensorflow.TensorProto"
FIELDS: dict[str, tuple[tuple[str, int, str], ...]] = {
    "ModelSpec": (("name", 1, ""), ("signature_name", 3, "")),
    "PredictRequest": (("model_spec", 1, ".tensorflow.serving.ModelSpec"), ("inputs", 2, "map")),
    "PredictLog": (("request", 1, ".tensorflow.serving.PredictRequest"),),
    "PredictionLog": (("predict_log", 6, ".tensorflow.serving.PredictLog"),),
}
"""Message -> its fields that are used: name, number, type ("" for text, "map" from text to tensor)."""


@functools.cache
def prediction_log() -> Any:
    """The class of the message ``tensorflow.serving.PredictionLog``, in a pool of its own."""
    from tensorflow.core.framework import tensor_pb2

    pool = descriptor_pool.DescriptorPool()
    _copy(tensor_pb2.DESCRIPTOR, pool)
    file = descriptor_pb2.FileDescriptorProto(
        name="kompakt/warm_up.proto",
        package="tensorflow.serving",
        syntax="proto3",
        dependency=[tensor_pb2.DESCRIPTOR.name],
    )
    for name, fields in FIELDS.items():
        _add(file.message_type.add(name=name), fields)
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.serving.PredictionLog"))


def requests(model: str, batches: Sequence[Mapping[str, np.ndarray]]) -> bytes:
    """A TFRecord file with a request to ``model`` for each of ``batches``: name of an input -> array."""
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "requests")
        with tf.io.TFRecordWriter(str(path)) as writer:
            for batch in batches:
                writer.write(_request(model, batch).SerializeToString(deterministic=True))
        return path.read_bytes()


def read_requests(content: bytes) -> list[tuple[str, str, dict[str, np.ndarray]]]:
    """(model, signature, {input: array}) of each request in a file that :func:`requests` made.

    Example:
        >>> read_requests(requests("m", [{"x": np.float32([[1, 2]])}]))
        [('m', 'serving_default', {'x': array([[1., 2.]], dtype=float32)})]
    """
    import tensorflow as tf

    found = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "requests")
        path.write_bytes(content)
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            request = prediction_log().FromString(record).predict_log.request
            arrays = {name: tf.make_ndarray(_tensor(request.inputs[name])) for name in sorted(request.inputs)}
            found.append((request.model_spec.name, request.model_spec.signature_name, arrays))
    return found


def _request(model: str, batch: Mapping[str, np.ndarray]) -> Any:
    import tensorflow as tf

    log = prediction_log()()
    request = log.predict_log.request
    request.model_spec.name, request.model_spec.signature_name = model, SIGNATURE
    for name, values in batch.items():
        request.inputs[name].ParseFromString(tf.make_tensor_proto(values).SerializeToString())
    return log


def _tensor(message: Any) -> Any:
    """TensorFlow's own TensorProto of the same bytes."""
    from tensorflow.core.framework import tensor_pb2

    return tensor_pb2.TensorProto.FromString(message.SerializeToString())


def _add(message: Any, fields: Sequence[tuple[str, int, str]]) -> None:
    """Give ``message``, which is described, its fields."""
    kinds = descriptor_pb2.FieldDescriptorProto
    for name, number, kind in fields:
        field = message.field.add(name=name, number=number, label=kinds.LABEL_OPTIONAL)
        if kind == "map":
            field.label, field.type_name = kinds.LABEL_REPEATED, _entry(message, name)
        elif kind:
            field.type_name = kind
        field.type = kinds.TYPE_MESSAGE if kind else kinds.TYPE_STRING


def _entry(message: Any, name: str) -> str:
    """The type of an entry of a map from text to tensor, put into ``message``."""
    entry = message.nested_type.add(name=f"{name.title()}Entry")
    _add(entry, (("key", 1, ""), ("value", 2, TENSOR)))
    entry.options.map_entry = True
    return f".tensorflow.serving.{message.name}.{entry.name}"


def _copy(file: Any, pool: Any) -> None:
    """Put ``file``, and what it needs before it, into ``pool``."""
    for needed in file.dependencies:
        _copy(needed, pool)
    made = descriptor_pb2.FileDescriptorProto()
    file.CopyToProto(made)
    pool.Add(made)
