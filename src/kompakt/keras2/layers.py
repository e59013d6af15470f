"""Configs of single layers, from Keras 2 to Keras 3: the table of what differs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras

from kompakt.errors import InputError
from kompakt.keras2.mends import Mends
from kompakt.keras2.resizing import apart, resizes, why_not

Config = dict[str, Any]

RECURRENT = ("RNN", "SimpleRNN", "LSTM", "GRU", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D")
DEPTHWISE = ("DepthwiseConv1D", "DepthwiseConv2D", "SeparableConv1D", "SeparableConv2D")
TRANSPOSE = ("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose")
SPATIAL = ("SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D")
RESIZED = ("Resizing", "UpSampling2D")
UNUSED = tuple(f"kernel_{part}" for part in ("initializer", "regularizer", "constraint"))
ANY = object()
"""Any value: the key never changes what is computed."""


@dataclass(frozen=True)
class Gone:
    """Keys that Keras 3 does not have, of layers of some types.

    Attributes:
        types: class names. keys: of their configs.
        neutral: the value with which leaving the key out changes nothing; ANY where none does.
    """

    types: tuple[str, ...]
    keys: tuple[str, ...]
    neutral: Any = ANY


GONE_KEYS = (
    Gone((*DEPTHWISE, *TRANSPOSE), ("groups",), 1),
    Gone(DEPTHWISE, UNUSED),  # its kernels have other names, and initializers of their own
    Gone(RECURRENT, ("time_major",), False),
    Gone(("Embedding",), ("input_length",)),  # the Input says it
    Gone(("MultiHeadAttention",), ("query_shape", "key_shape", "value_shape")),  # the call says them
    Gone(("MultiHeadAttention",), ("softmax_robust_masking",), False),
    Gone(("StackedRNNCells",), ("reverse_state_order",), False),
    Gone(SPATIAL, ("noise_shape",), None),
    Gone((*SPATIAL, "Discretization"), ("trainable",)),  # they have no weights
    Gone(("BatchNormalization",), ("renorm",), False),
    Gone(("BatchNormalization",), ("virtual_batch_size", "adjustment"), None),
    Gone(("BatchNormalization",), ("fused", "renorm_clipping", "renorm_momentum")),  # of no effect without renorm
)

SAME = {"BatchNormalizationV1": "BatchNormalization", "BatchNormalizationV2": "BatchNormalization"}
"""Class under the name of an early TensorFlow -> its name."""

_STRIP = "a wrapper of tfmot: in Keras 2 save what tfmot.{0}.keras.strip_{1}(model) gives, and {2} it here"
_FLOAT = "a wrapper of tfmot: save the float model that it was made from, and quantize that here"

NOT_IN_KERAS_3 = {
    "PruneLowMagnitude": _STRIP.format("sparsity", "pruning", "prune"),
    "ClusterWeights": _STRIP.format("clustering", "clustering", "cluster"),
    "QuantizeAnnotate": _FLOAT,
    "QuantizeLayer": _FLOAT,
    "QuantizeWrapper": _FLOAT,
    "QuantizeWrapperV2": _FLOAT,
    "CuDNNLSTM": "in Keras 2 put an LSTM with the same units in its place, load the weights and save that model",
    "CuDNNGRU": "in Keras 2 put a GRU(reset_after=True) in its place, load the weights and save that model",
    "LocallyConnected1D": "write the layer yourself and register it under that name",
    "LocallyConnected2D": "write the layer yourself and register it under that name",
    "DenseFeatures": "give the model the numbers that its feature columns make",
    "TensorFlowOpLayer": "build the model again in Keras 3, with keras.ops in place of TensorFlow's function, and load "
    "the weights",
}
"""Class that is gone -> what to do."""


def translated(kind: str, config: Config, mends: Mends) -> tuple[str, Config]:
    """(class name, config) of a Keras layer in the form of Keras 3.

    Args:
        kind: class name in Keras 2. config: of the layer; not changed. mends: told what is left out or replaced.

    Raises:
        InputError: leaving out what Keras 3 has not would change what the layer computes.

    Example:
        >>> mends = Mends()
        >>> translated("DepthwiseConv2D", {"name": "dw", "kernel_size": [3, 3], "groups": 1}, mends)
        ('DepthwiseConv2D', {'name': 'dw', 'kernel_size': [3, 3]})
        >>> mends.lines()
        ["dw: key 'groups' (1) left out, Keras 3 has none"]
    """
    name = str(config.get("name", kind))
    bare = kind.rsplit(">", 1)[-1]
    if bare in NOT_IN_KERAS_3:
        raise InputError(f"layer {name!r} is a {bare}, which Keras 3 does not have: {NOT_IN_KERAS_3[bare]}")
    kind = SAME.get(kind, kind)
    if kind in SUCCESSORS:
        kind, config = SUCCESSORS[kind](name, config, mends)
    config = _spelled(kind, config)
    for row in GONE_KEYS:
        if kind in row.types:
            config = _without(row, name, kind, config, mends)
    _check_numbers(name, kind, config, mends)
    return kind, config


def _check_numbers(name: str, kind: str, config: Config, mends: Mends) -> None:
    """Values of keys that Keras 3 takes and then fails on, or computes otherwise."""
    if kind == "SeparableConv1D" and config.get("padding") == "causal":  # of one that stands in a model see causal.py
        raise InputError(
            f"layer {name!r} ({kind}) has padding='causal', which Keras 3 cannot compute inside another layer; in "
            "Keras 2 put a ZeroPadding1D before it, with padding='valid', and save the model again"
        )
    way = config.get("interpolation")
    if way is None or kind not in RESIZED:
        return
    if not resizes(way):
        raise InputError(f"layer {name!r} ({kind}) has {why_not(way)}")
    told = apart(way)
    if told:
        mends.add(name, told)


def _without(row: Gone, name: str, kind: str, config: Config, mends: Mends) -> Config:
    gone = [key for key in row.keys if key in config]
    for key in gone:
        if row.neutral is not ANY and config[key] != row.neutral:
            raise InputError(
                f"layer {name!r} ({kind}) has {key}={config[key]!r}, which Keras 3 cannot compute; expected "
                f"{row.neutral!r}: build the layer another way in Keras 2, and save the model again"
            )
    if gone:
        told = ", ".join(f"{key!r}{_shown(config[key])}" for key in gone)
        mends.add(name, f"key{'s' * (len(gone) > 1)} {told} left out, Keras 3 has none")
    return {key: value for key, value in config.items() if key not in gone}


def _shown(value: Any) -> str:
    """A plain value in brackets."""
    return f" ({value!r})" if isinstance(value, (int, float, str)) else ""


def _spelled(kind: str, config: Config) -> Config:
    """The same under the words of Keras 3."""
    config = dict(config)
    config.pop("rng_type", None)  # of tf_keras 2.21: where random layers have their numbers from
    if kind in ("BatchNormalization", "LayerNormalization"):
        axis = config.get("axis")
        if isinstance(axis, (list, tuple)) and len(axis) == 1:
            config["axis"] = axis[0]
    if kind == "LeakyReLU" and "alpha" in config:
        config["negative_slope"] = config.pop("alpha")
    if kind == "Discretization" and "int" in str(config.get("dtype")):
        del config["dtype"]  # of what it gives; Keras 3 would make whole numbers of what it is given
    if kind in ("GRU", "GRUCell"):
        config.setdefault("reset_after", False)  # the default when files did not say it
    return config


def _synchronized(name: str, config: Config, mends: Mends) -> tuple[str, Config]:
    mends.add(name, "SyncBatchNormalization is BatchNormalization(synchronized=True)")
    # The other backends refuse it; it counts in training on several devices alone.
    return "BatchNormalization", {**config, "synchronized": keras.backend.backend() == "tensorflow"}


def _thresholded(name: str, config: Config, mends: Mends) -> tuple[str, Config]:
    mends.add(name, "ThresholdedReLU(theta) is ReLU(threshold=theta)")
    return "ReLU", {**{key: value for key, value in config.items() if key != "theta"}, "threshold": config["theta"]}


def _resized(name: str, config: Config, mends: Mends) -> tuple[str, Config]:
    told = "RandomCrop is Resizing(crop_to_aspect_ratio=True), as outside training; Keras 3's does nothing there"
    mends.add(name, told)
    return "Resizing", {**{k: v for k, v in config.items() if k != "seed"}, "crop_to_aspect_ratio": True}


def _left_out(kind: str) -> Callable[[str, Config, Mends], tuple[str, Config]]:
    """What works in training alone, as a layer that does nothing."""

    def made(name: str, config: Config, mends: Mends) -> tuple[str, Config]:
        mends.add(name, f"{kind} is Identity: it changes images in training alone, and Keras 3 has none")
        return "Identity", {key: config[key] for key in ("name", "dtype", "batch_input_shape") if key in config}

    return made


SUCCESSORS: dict[str, Callable[[str, Config, Mends], tuple[str, Config]]] = {
    "SyncBatchNormalization": _synchronized,
    "ThresholdedReLU": _thresholded,
    "RandomCrop": _resized,
    **{kind: _left_out(kind) for kind in ("RandomHeight", "RandomWidth")},
}
"""Class that is another in Keras 3 -> its name and config there."""
