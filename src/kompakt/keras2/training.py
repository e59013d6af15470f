"""How a model of Keras 2 was compiled, as arguments of ``compile`` in Keras 3."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import keras

from kompakt.errors import InputError, first_line
from kompakt.keras2.config import registered, unknown
from kompakt.keras2.mends import Mends

Config = dict[str, Any]

GONE = ("is_legacy_optimizer", "jit_compile", "name")
"""Keys of an optimizer that have no effect on its numbers."""

WORDS = ("accuracy", "acc", "crossentropy", "ce")
"""Metrics that ``compile`` itself finds out by the shapes of outputs."""


def compile_arguments(config: Config, mends: Mends) -> Config:
    """What ``keras.Model.compile`` takes, of the training config in a file.

    Args:
        config: not changed. mends: told what is not as it was.

    Raises:
        InputError: an optimizer, loss or metric that is not known here or has settings that Keras 3 does not have.

    Example:
        >>> old = {"class_name": "SGD", "config": {"lr": 0.5, "decay": 0.0}}
        >>> made = compile_arguments({"optimizer_config": old, "loss": "mse", "metrics": ["mae"]}, Mends())
        >>> float(made["optimizer"].learning_rate), made["loss"], made["metrics"]
        (0.5, 'mse', ['mae'])
    """
    return {
        "optimizer": _optimizer(config["optimizer_config"], mends),
        "loss": _each(_loss, config.get("loss")),
        "loss_weights": config.get("loss_weights"),
        "metrics": _each(_metric, config.get("metrics")),
        "weighted_metrics": _each(_metric, config.get("weighted_metrics")),
    }


def _optimizer(item: Config, mends: Mends) -> keras.optimizers.Optimizer:
    name = item["class_name"].rsplit(">", 1)[-1]
    config = dict(item["config"])
    if "inner_optimizer" in config:  # of mixed precision
        inner = _optimizer(config["inner_optimizer"], mends)
        return keras.optimizers.LossScaleOptimizer(inner, initial_scale=config.get("initial_scale", 2.0**15))
    custom = registered(item["class_name"])
    made = custom[1] if custom else getattr(keras.optimizers, name, None)
    if not isinstance(made, type):
        raise InputError(unknown("class", name))
    config = {key: value for key, value in config.items() if key not in GONE}
    rate = _rate(name, config.pop("lr", None), config, mends)
    known = {each for base in made.__mro__ for each in inspect.signature(base).parameters}
    left = {key: value for key, value in config.items() if key not in known and value}
    if left:
        told = ", ".join(f"{key}={value!r}" for key, value in left.items())
        mends.add(f"optimizer {name}", f"left out, Keras 3 has none: {told}")
    # An epsilon of None meant Keras' own, which is the default.
    kept = {key: value for key, value in config.items() if key in known and (key != "epsilon" or value is not None)}
    return made(**kept) if rate is None else made(learning_rate=rate, **kept)


def _rate(name: str, old: Any, config: Config, mends: Mends) -> Any:
    """The learning rate: ``lr / (1 + decay * step)`` where it decayed by itself."""
    rate, decay = config.pop("learning_rate", old), config.pop("decay", 0.0)
    if isinstance(rate, Mapping):
        return keras.optimizers.schedules.deserialize(dict(rate))
    if not decay:
        return rate
    mends.add(f"optimizer {name}", f"decay={decay:.6g} is the schedule InverseTimeDecay, which is the same")
    return keras.optimizers.schedules.InverseTimeDecay(rate, decay_steps=1, decay_rate=decay)


def _each(read: Callable[[Any], Any], given: Any) -> Any:
    """``read`` of every object in lists and mappings of outputs."""
    if isinstance(given, Mapping) and "class_name" not in given:
        return {key: _each(read, value) for key, value in given.items()}
    if isinstance(given, (list, tuple)):
        return [_each(read, value) for value in given]
    return None if given is None else read(given)


def _loss(given: Any) -> Any:
    return _found(given, keras.losses.get, "loss")


def _metric(given: Any) -> Any:
    if isinstance(given, str) and given in WORDS:
        return given
    if isinstance(given, Mapping) and given["class_name"] == "MeanMetricWrapper":
        name, function = given["config"].get("name"), given["config"].get("fn")
        if name in WORDS:
            return name
        return _wrapped(function, name)
    return _found(given, keras.metrics.get, "metric")


def _wrapped(given: Any, name: str | None) -> Any:
    """The mean of a function, one of the user's or of Keras, under the name that it had."""
    word = given["config"] if isinstance(given, Mapping) else str(given)
    custom = registered(word)
    found = custom[1] if custom else _asked(keras.metrics.get, word, "metric")
    if isinstance(found, keras.metrics.Metric):
        return type(found)(name=name)
    return keras.metrics.MeanMetricWrapper(found, name=name)


def _found(given: Any, get: Callable[[Any], Any], what: str) -> Any:
    """A loss or metric by its name or config: one that is registered, else of Keras."""
    if isinstance(given, Mapping) and given["class_name"] == "function":
        given = given["config"]
    if isinstance(given, str):
        custom = registered(given)
        if custom is None:
            _asked(get, given, what)
        return given if custom is None else custom[1]
    custom = registered(given["class_name"])
    config = {key: value for key, value in given["config"].items() if key != "fn"}
    if config.get("reduction") in ("auto", "sum_over_batch_size"):
        config["reduction"] = "sum_over_batch_size"
    if custom is not None:
        return custom[1].from_config(config)
    return _asked(get, {"class_name": given["class_name"], "config": config}, what)


def _asked(get: Callable[[Any], Any], given: Any, what: str) -> Any:
    try:
        return get(given)
    except (TypeError, ValueError) as error:
        shown = given if isinstance(given, str) else given["class_name"]
        raise InputError(
            f"its {what} {shown!r} is not known here ({first_line(error)}); register it with "
            "keras.saving.register_keras_serializable, or load the model without compiled=True and compile it"
        ) from error
