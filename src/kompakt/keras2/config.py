"""The config of a model of Keras 2, in the form of Keras 3."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras

from kompakt.errors import InputError
from kompakt.keras2.activations import hard_sigmoid
from kompakt.keras2.layers import translated
from kompakt.keras2.mends import Mends
from kompakt.keras2.nodes import Graph, arguments, call_of, operated
from kompakt.keras2.operators import OPERATORS
from kompakt.keras2.resizing import apart

Config = dict[str, Any]

LAMBDA = (
    "holds a Lambda layer, whose code would run here; where you trust the file, give --trust (in Python safe=False)"
)
LAMBDA_KEYS = ("module", "function_type", "output_shape_type", "output_shape_module")
HARD_SIGMOID = (
    "{key} 'hard_sigmoid' is kompakt.keras2.activations.hard_sigmoid, Keras 2's 0.2 x + 0.5 (Keras 3's is x / 6 + 0.5);"
    " import that module where Keras itself loads what you save"
)
POLICIES = ("Policy", "PolicyV1", "DTypePolicy")


def unknown(what: str, name: str) -> str:
    """What an error says of a class or function of the user's.

    Example:
        >>> unknown("class", "Scale")[:55]
        "made with the class 'Scale', which is not known here; r"
    """
    return (
        f"made with the {what} {name!r}, which is not known here; register it with "
        "keras.saving.register_keras_serializable and import its module before loading (on the command line: "
        "--import MODULE)"
    )


def registered(name: str) -> tuple[str, Any] | None:
    """(registered name, class or function) of what the user registered as ``name``, with or without a package.

    Keras 2 wrote what was not registered by its bare name. What Keras has under that name comes first, and what kompakt
    registers for itself is no user's.

    Example:
        >>> registered("no_such") is None
        True
    """
    found = keras.saving.get_registered_object(name)
    if found is not None:
        return name, found
    if ">" in name or _in_keras(name):
        return None
    known = {
        key: value
        for key, value in keras.saving.get_custom_objects().items()
        if key.endswith(f">{name}") and not key.startswith("kompakt>")
    }
    return next(iter(known.items())) if len(known) == 1 else None


def _in_keras(name: str) -> bool:
    """Whether Keras has a layer, function, loss, metric or optimizer of that name."""
    modules = (keras.layers, keras.activations, keras.losses, keras.metrics, keras.optimizers, keras)
    return any(hasattr(module, name) for module in modules) or any(
        _takes(get, name) for get in (keras.activations.get, keras.losses.get, keras.metrics.get)
    )


def _takes(get: Callable[[str], Any], name: str) -> bool:
    try:
        get(name)
    except (TypeError, ValueError):
        return False
    return True


def modern(config: Config, *, safe: bool, mends: Mends) -> Config:
    """``config`` of a model as Keras 3 reads it.

    Args:
        config: class_name and config, as in the file; not changed. safe: whether code in it is refused.
        mends: told what is left out or replaced.

    Raises:
        InputError: a layer that Keras 3 does not have, or has with other numbers; a class that is not known; code.

    Example:
        >>> layer = {"class_name": "Dense", "config": {"name": "d", "units": 2, "batch_input_shape": [None, 3]}}
        >>> new = modern({"class_name": "Sequential", "config": [layer]}, safe=True, mends=Mends())
        >>> [each["class_name"] for each in new["config"]["layers"]]
        ['InputLayer', 'Dense']
    """
    return _Reader(safe, mends).layer(config)


class _Reader:
    """Reads objects of a config, from the outside in."""

    def __init__(self, safe: bool, mends: Mends) -> None:
        self._safe, self._mends = safe, mends

    def layer(self, item: Config) -> Config:
        """A layer or model, without its calls."""
        kind, config = str(item["class_name"]), item["config"]
        if kind == "Sequential":
            return self._object("keras", kind, self._sequential(config))
        if isinstance(config, Mapping) and {"layers", "input_layers", "output_layers"} <= set(config):
            return self._functional(kind, dict(config))
        return self._plain(kind, dict(config))

    def _object(self, module: str, kind: str, config: Config) -> Config:
        return {"module": module, "class_name": kind, "config": config, "registered_name": None}

    def _plain(self, kind: str, config: Config) -> Config:
        config = {key: _value(value) for key, value in config.items()}
        custom = registered(kind)
        if custom is not None:
            return {"module": None, "class_name": kind, "config": config, "registered_name": custom[0]}
        if kind == "Lambda":
            config = self._lambda(config)
        shape = config.pop("batch_input_shape", None)
        kind, config = translated(kind, config, self._mends)
        if not isinstance(getattr(keras.layers, kind, None), type):
            raise InputError(unknown("class", kind))
        if kind == "InputLayer":
            config["batch_shape"] = config.pop("batch_shape", shape)
        name = str(config.get("name", kind))
        return self._object("keras.layers", kind, {key: self._part(name, key, value) for key, value in config.items()})

    def _part(self, name: str, key: str, value: Any) -> Any:
        """One entry of a layer's config, by the last word of its name."""
        word = key.rsplit("_", 1)[-1]
        if word == "activation":
            return self._activation(name, key, value)
        if word in ("layer", "cell"):
            return self.layer(dict(value)) if isinstance(value, Mapping) else value
        if word == "cells":
            return [self.layer(each) for each in value]
        return PARTS[word](value) if word in PARTS else value

    def _activation(self, name: str, key: str, value: Any) -> Any:
        function = value["config"] if isinstance(value, Mapping) and value.get("class_name") == "function" else value
        if isinstance(function, Mapping) and isinstance(function.get("config"), Mapping):
            return self._as_activation(name, dict(function))
        if not isinstance(function, str):
            return value
        if function == "hard_sigmoid":
            self._mends.add(name, HARD_SIGMOID.format(key=key))
            return keras.saving.serialize_keras_object(hard_sigmoid)
        custom = registered(function)
        if custom is not None:
            return keras.saving.serialize_keras_object(custom[1])
        if not _takes(keras.activations.get, function):
            raise InputError(unknown("function", function))
        return function

    def _as_activation(self, name: str, item: Config) -> Config:
        """A layer in place of a function; its weights, if it has some, are made by its ``build_config``."""
        if item["class_name"] == "PReLU" and "build_config" not in item:
            raise InputError(
                f"layer {name!r} has a PReLU as its activation, whose shape its file does not say; in Keras 2.13 or "
                "later load it and save it again"
            )
        built = {"build_config": item["build_config"]} if "build_config" in item else {}
        return {**self.layer(item), **built}

    def _lambda(self, config: Config) -> Config:
        kept = {key: value for key, value in config.items() if key not in LAMBDA_KEYS}
        function = kept.get("function")
        if isinstance(function, str):
            custom = registered(function)
            if custom is None:
                raise InputError(unknown("function", function))
            return {**kept, "function": keras.saving.serialize_keras_object(custom[1])}
        if self._safe:
            raise InputError(LAMBDA)
        if isinstance(function, (list, tuple)):
            code, defaults, closure = function
            kept["function"] = {
                "class_name": "__lambda__",
                "config": {"code": code, "defaults": defaults, "closure": closure},
            }
        return kept

    def _sequential(self, config: Any) -> Config:
        if isinstance(config, list):  # as before version 2.2.3
            config = {"name": "sequential", "layers": config}
        items = list(config["layers"])
        layers = [self.layer(item) for item in items]
        shape = _first_shape(items)
        if shape is not None:
            inside = items[0]["config"]
            dtype = inside.get("dtype") if isinstance(inside.get("dtype"), str) else "float32"
            first = {"batch_shape": shape, "dtype": dtype, "name": f"{inside['name']}_input"}
            layers.insert(0, self._object("keras.layers", "InputLayer", first))
        return {**config, "layers": layers}

    def _functional(self, kind: str, config: Config) -> Config:
        items = config["layers"]
        models = {item["name"] for item in items if _is_model(item)}
        graph = Graph(items, models)
        config["layers"] = [self._called(graph, item) for item in items]
        sequential = {item["name"] for item in items if item["class_name"] == "Sequential"}
        for key in ("input_layers", "output_layers"):
            config[key] = _ends(config[key], sequential)
        custom = registered(kind)
        if custom is not None:
            return {"module": None, "class_name": kind, "config": config, "registered_name": custom[0]}
        if kind not in ("Functional", "Model"):
            raise InputError(unknown("class", kind))
        return self._object("keras.src.models.functional", "Functional", config)

    def _called(self, graph: Graph, item: Config) -> Config:
        if item["class_name"] in OPERATORS:
            made = operated(graph, item)
            self._mends.add(item["name"], "function of TensorFlow, now the same of keras.ops")
            told = apart(made["config"].get("interpolation", ""))
            if told:
                self._mends.add(item["name"], told)
            return made
        layer = self.layer(item)
        for node in item["inbound_nodes"]:
            self._check_training(item["name"], arguments(graph, node)[1])
        calls = [call_of(layer["class_name"], graph, node) for node in item["inbound_nodes"]]
        return {**layer, "name": item["name"], "inbound_nodes": calls}

    def _check_training(self, name: str, rest: Config) -> None:
        """Keras 3 goes by how the model is called, whatever a call in it says."""
        if rest.get("training"):
            raise InputError(
                f"layer {name!r} is called with training=True, which Keras 3 does not keep: its predictions would be "
                "others; save a model in which it is called without, and call the model with training=True"
            )
        if rest.get("training") is False:
            self._mends.add(name, "called with training=False, which Keras 3 does not keep in fit; set trainable=False")


def _is_model(item: Config) -> bool:
    return isinstance(item["config"], list) or "layers" in item["config"]


def _ends(given: Any, sequential: set[str]) -> Any:
    """Inputs or outputs of a model; Keras itself counts the calls of functional models as Keras 2 did."""
    if isinstance(given, Mapping):
        return {key: _ends(value, sequential) for key, value in given.items()}
    if len(given) == 3 and isinstance(given[0], str):
        return [given[0], given[1] - 1 if given[0] in sequential else given[1], given[2]]
    found = [_ends(each, sequential) for each in given]
    return found[0] if len(found) == 1 else found  # Keras 2 had no list of one


def _first_shape(items: list[Config]) -> Any:
    """(batch, ...) that the first layer says of its input, where no InputLayer does."""
    if not items or items[0]["class_name"] == "InputLayer" or _is_model(items[0]):
        return None
    return items[0]["config"].get("batch_input_shape")


def _value(value: Any) -> Any:
    """A number that was written as an array, as a number."""
    if isinstance(value, Mapping) and value.get("type") == "ndarray":
        return value["value"]
    return value


def _initializer(value: Any) -> Any:
    if not isinstance(value, Mapping) or not isinstance(value.get("config"), Mapping):
        return value
    return {**value, "config": {key: each for key, each in value["config"].items() if key != "dtype"}}


def _policy(value: Any) -> Any:
    """The name of a dtype policy, which Keras 3 takes too."""
    if isinstance(value, Mapping) and value.get("class_name") in POLICIES:
        return value["config"]["name"]
    return value


PARTS: dict[str, Callable[[Any], Any]] = {"initializer": _initializer, "dtype": _policy}
"""Last word of a key -> what reads it without knowing of the layer."""
