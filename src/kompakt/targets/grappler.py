"""Grappler, TensorFlow's simplifier of graphs, as it is called in a process of its own (:mod:`kompakt.isolated`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import graph_pb2
from tensorflow.core.protobuf import config_pb2, device_properties_pb2, meta_graph_pb2
from tensorflow.python.grappler import cluster, tf_optimizer

from kompakt.isolated import Answer
from kompakt.targets.quiet import quiet

SIMPLER = ("debug_stripper", "function", "pruning", "constfold", "arithmetic", "dependency")
"""Grappler's passes, in this order: what does not depend on the inputs is computed here."""

FUSED = ("remap", "constfold", "arithmetic", "dependency")
"""Those after them: a bias and an activation go into the operator before them."""

FUSED_OPS = frozenset((b"BiasAdd", b"Relu", b"Relu6", b"Elu", b"LeakyRelu"))
"""What TF.js computes within a convolution or matrix product."""


def simplify(arrays: list[np.ndarray], *, ends: Sequence[str]) -> Answer:
    """A frozen graph, with biases and activations in the operator before them.

    Where Grappler put a function into an operator that TF.js computes without, operators stay as they were.

    Args:
        arrays: the bytes of a GraphDef. ends: names of its inputs and outputs, which stay.
    """
    with quiet():
        single = _grappled(graph_pb2.GraphDef.FromString(arrays[0].tobytes()), ends, SIMPLER)
        for node in single.node:  # the fused operators are known to Grappler on a processor alone
            node.device = "/device:CPU:0" if node.op in ("Conv2D", "MatMul") else ""
        fused = _grappled(single, ends, FUSED)
    known = all(set(node.attr["fused_ops"].list.s) <= FUSED_OPS for node in fused.node if "fused_ops" in node.attr)
    made = fused if known else single
    for node in made.node:
        node.device = ""
        for name in [
            name for name in node.attr if name.startswith("_")
        ]:  # remarks of TensorFlow to itself, on any node
            del node.attr[name]
    return [np.frombuffer(made.SerializeToString(deterministic=True), "uint8")], None


def _grappled(proto: Any, ends: Sequence[str], passes: Sequence[str]) -> Any:
    """``proto`` after some of Grappler's passes, with its ``ends`` as they are."""
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(proto, name="")
    meta = tf.compat.v1.train.export_meta_graph(graph_def=proto, graph=graph)
    kept = meta_graph_pb2.CollectionDef()
    kept.node_list.value.extend(ends)
    meta.collection_def["train_op"].CopyFrom(kept)
    config = config_pb2.ConfigProto()
    options = config.graph_options.rewrite_options
    options.optimizers.extend(passes)
    options.meta_optimizer_iterations = 2
    options.min_graph_nodes = -1
    return tf_optimizer.OptimizeGraph(config, meta, cluster=_processor())


def _processor() -> Any:
    device = device_properties_pb2.NamedDevice(name="/CPU:0")
    device.properties.type = "CPU"
    device.properties.environment["architecture"] = "4"
    return cluster.Cluster(devices=[device])
