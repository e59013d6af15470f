"""Causal SeparableConv1D, which Keras 3 does not have: what it is the convolution of is padded by a layer before it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kompakt.keras2.mends import Mends
from kompakt.keras2.names import free_name, layer_names

Config = dict[str, Any]

TOLD = "padding 'causal' of SeparableConv1D is a ZeroPadding1D before it, Keras 3 has none"


def causal_padded(item: Any, mends: Mends) -> Any:
    """``item``, a model's config in the form of Keras 2, with a ZeroPadding1D before each causal SeparableConv1D.

    .. math:: y_t = \\sum_k w_k x_{t - d (K - 1 - k)}

    which is the convolution without padding (valid) of ``d (K - 1)`` zeros and ``x``.

    Args:
        item: not changed. mends: told the names.

    Example:
        >>> conv = {"name": "c", "padding": "causal", "kernel_size": [3], "dilation_rate": [2]}
        >>> made = causal_padded({"layers": [{"class_name": "SeparableConv1D", "config": conv}]}, Mends())
        >>> [(each["config"]["name"], each["config"]["padding"]) for each in made["layers"]]
        [('c_padding', [4, 0]), ('c', 'valid')]
    """
    if isinstance(item, list):
        return [causal_padded(each, mends) for each in item]
    if not isinstance(item, dict):
        return item
    taken = set(layer_names(item))
    key = "config" if item.get("class_name") == "Sequential" and isinstance(item["config"], list) else "layers"
    item = {key: causal_padded(value, mends) for key, value in item.items()}
    if isinstance(item.get(key), list):
        item[key] = [new for each in item[key] for new in _pair(each, taken, mends)]
    return item


def _pair(layer: Any, taken: set[str], mends: Mends) -> Iterator[Any]:
    config = layer.get("config") if isinstance(layer, dict) else None
    if not isinstance(config, dict) or config.get("padding") != "causal" or not _separable(layer["class_name"]):
        yield layer
        return
    name = free_name(f"{config['name']}_padding", taken)
    before = config["dilation_rate"][0] * (config["kernel_size"][0] - 1)
    kept = {key: config[key] for key in ("dtype", "data_format", "batch_input_shape") if key in config}
    padding: Config = {"class_name": "ZeroPadding1D", "config": {"name": name, "padding": [before, 0], **kept}}
    made = {**layer, "config": {**{k: v for k, v in config.items() if k != "batch_input_shape"}, "padding": "valid"}}
    if "inbound_nodes" in layer:
        padding |= {"name": name, "inbound_nodes": layer["inbound_nodes"]}
        made["inbound_nodes"] = [[[name, index, 0, {}]] for index in range(len(layer["inbound_nodes"]))]
    mends.add(config["name"], TOLD)
    yield padding
    yield made


def _separable(kind: str) -> bool:
    return kind in ("SeparableConv1D", "SeparableConvolution1D")
