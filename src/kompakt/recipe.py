"""Recipes: frozen, JSON, ordered rules *site pattern -> transforms*, in stages, and a form to export to."""

from __future__ import annotations

import dataclasses
import json
import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kompakt import schedules
from kompakt.checks import check_keys, check_type, check_types, check_word, get_list
from kompakt.distill import DISTILL_OPTIONS, check_options
from kompakt.errors import InputError
from kompakt.keras_modes import is_keras_mode
from kompakt.precision import of_rule
from kompakt.quantization import FROZEN, LIVE, QUANTIZE_OPTIONS, TRAINABLE_MODES
from kompakt.recipe_files import read_recipe
from kompakt.recipe_files import recipe_names as recipe_names
from kompakt.repairs import REPAIRS
from kompakt.spelling import nearest
from kompakt.stages import Rule, Stage, in_training, make_transform, options_of
from kompakt.targets import TARGETS
from kompakt.targets.target import check_sparse
from kompakt.targets.words import IO, WORDS
from kompakt.transforms import TRANSFORMS
from kompakt.transforms.quantize import RANGES
from kompakt.transforms.ranges import METHODS

UNITS = ("step", "share")
"""What ``unit`` of a schedule may be."""


SHRINK_OPTIONS = ("of", "rank", "scope", "round_to", "min_channels", "skip")
"""Keyword arguments of ``shrink`` that a recipe may set."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What to do with a model, from the float model to the file.

    Attributes:
        name: decodes itself: ``pcqat_int8`` prunes, clusters, trains quantized, exports int8.
        about: one sentence. stages: in order. epochs: of training over all stages, unless the user says.
        quantization, io, target, sparse: of the export.

    Example:
        >>> load_recipe("ptq_int8").quantization
        'int8'
    """

    name: str
    about: str = ""
    stages: tuple[Stage, ...] = ()
    epochs: int = 0
    quantization: str = "float"
    io: str | None = None
    target: str = "tflite"
    sparse: bool = False


def load_recipe(recipe: str | Path | Mapping[str, Any] | Recipe) -> Recipe:
    """A recipe by name, from a JSON file, or from a mapping.

    Raises:
        InputError: unknown name, key, transform or option; the text has the nearest valid one.

    Example:
        >>> load_recipe("qat_int8").name, load_recipe({"name": "mine", "quantization": "float16"}).name
        ('qat_int8', 'mine')
    """
    if isinstance(recipe, Recipe):
        return _recipe(to_dict(recipe), f"recipe {recipe.name}")
    if isinstance(recipe, Mapping):
        return _recipe(recipe, "recipe")
    return _recipe(read_recipe(recipe), str(recipe))


def to_dict(recipe: Recipe) -> dict[str, Any]:
    """Plain data that :func:`load_recipe` reads again.

    Example:
        >>> load_recipe(to_dict(load_recipe("qat_int8"))) == load_recipe("qat_int8")
        True
    """
    return json.loads(json.dumps(dataclasses.asdict(recipe)))


def _recipe(data: Any, where: str) -> Recipe:
    values = check_keys(data, Recipe, where)
    if "name" not in values:
        raise InputError(f"{where}: the key 'name' is missing")
    check_types(
        values, {"name": str, "about": str, "epochs": int, "quantization": str, "target": str, "sparse": bool}, where
    )
    _check_name(values["name"], where)
    check_word(values, "target", TARGETS, where)
    check_word(values, "quantization", WORDS, where)
    check_word(values, "io", IO, where)
    if values.get("sparse"):
        check_sparse(values.get("quantization", "float"), f"{where}: ")
    if values.get("epochs", 0) < 0:
        raise InputError(f"{where}: 'epochs' is {values['epochs']}, expected 0 or more")
    stages = tuple(_stage(s, f"{where}, stage {i + 1}") for i, s in enumerate(get_list(values, "stages", where)))
    return Recipe(**{**values, "stages": stages})


def _stage(data: Any, where: str) -> Stage:
    values = check_keys(data, Stage, where)
    numbers = dict.fromkeys(("train", "learning_rate", "shrink"), float)
    check_types({key: v for key, v in values.items() if v is not None}, {**numbers, "options": dict}, where)
    if is_keras_mode(values.get("quantize")):
        raise InputError(
            f"{where}: 'quantize' is {values['quantize']!r}, which is for servers, and a recipe ends in a TFLite file: "
            "kompakt.quantize(model, mode), then model.export(folder)"
        )
    check_word(values, "quantize", TRAINABLE_MODES, where)
    for key, least in (("train", 0.0), ("learning_rate", 1e-12)):
        if not least <= values.get(key, 1.0) < math.inf:
            wanted = "a share of 0 or more" if key == "train" else "more than 0"
            raise InputError(f"{where}: {key!r} is {values[key]}, expected {wanted}")
    rules = tuple(_rule(r, f"{where}, rule {i + 1}") for i, r in enumerate(get_list(values, "rules", where)))
    given = sum([bool(rules), values.get("quantize") is not None, values.get("shrink") is not None])
    if given > 1 or (given == 0 and values.get("distill") is None):
        raise InputError(f"{where}: expected rules, quantize or shrink, one of the three, or distill")
    if values.get("distill") is not None:
        values["distill"] = check_distill(values["distill"], where)
        if not values.get("train"):
            raise InputError(f"{where}: 'distill' is how a stage trains, and this one has no 'train'")
    if values.get("shrink") is None:
        _check_quantize_options(values.get("options", {}), values.get("quantize"), where)
    for key in values.get("options", {}) if values.get("shrink") is not None else ():
        if key not in SHRINK_OPTIONS:
            raise InputError(f"{where}: unknown option {key!r}{nearest(key, SHRINK_OPTIONS)}")
    return Stage(**{**values, "rules": rules})


def check_distill(options: Any, where: str) -> dict[str, Any]:
    """Options of :func:`kompakt.distill` that a recipe gives, tried once."""
    check_types({"distill": options}, {"distill": dict}, where)
    for key in options:
        if key not in DISTILL_OPTIONS:
            raise InputError(f"{where}: 'distill' has the unknown option {key!r}{nearest(str(key), DISTILL_OPTIONS)}")
    try:
        check_options(**in_training(options, steps=100))
    except InputError as error:
        raise InputError(f"{where}, distill: {error}") from None
    return dict(options)


def _check_quantize_options(options: Mapping[str, Any], mode: str | None, where: str) -> None:
    if options and mode is None:
        raise InputError(f"{where}: 'options' are those of 'quantize', which this stage has not")
    for key in options:
        if key not in QUANTIZE_OPTIONS:
            raise InputError(f"{where}: unknown option {key!r}{nearest(str(key), QUANTIZE_OPTIONS)}")
    check_types(
        options,
        {"ranges": str, "momentum": float, "method": str, "rules": dict, "repairs": list, "batchnorm": str},
        where,
    )
    for value in options.get("rules", {}).values():
        of_rule(value)
    for word in options.get("repairs", []):
        if word not in REPAIRS:
            raise InputError(f"{where}: 'repairs' has {word!r}{nearest(str(word), REPAIRS)}")
    check_word(options, "ranges", RANGES, where)
    check_word(options, "method", METHODS, where)
    check_word(options, "batchnorm", (FROZEN, LIVE), where)
    if not 0.0 <= options.get("momentum", 0.0) < 1.0:
        raise InputError(f"{where}: 'momentum' is {options['momentum']}, expected a share from 0 to below 1")


def _check_name(name: str, where: str) -> None:
    """A recipe's name is that of its file too."""
    if not name or len(name) > 100 or name.startswith(".") or set(name) & set("/\\\0"):
        raise InputError(f"{where}: 'name' is {name!r}, expected a text that can name a file, such as 'my_int8'")


def _rule(data: Any, where: str) -> Rule:
    values = check_keys(data, Rule, where)
    check_types(values, {"sites": str}, where)
    transforms = get_list(values, "transforms", where)
    if not transforms:
        raise InputError(f"{where}: 'transforms' is missing or empty; known: {', '.join(TRANSFORMS)}")
    for spec in transforms:
        _check_transform(spec, where)
    return Rule(**{**values, "transforms": tuple(dict(spec) for spec in transforms)})


def _check_transform(spec: Any, where: str) -> None:
    name = spec.get("name") if isinstance(spec, Mapping) else spec
    if not isinstance(name, str) or name not in TRANSFORMS:
        raise InputError(f"{where}: unknown transform {name!r}{nearest(str(name), TRANSFORMS)}")
    known = options_of(TRANSFORMS[name])
    hints = typing.get_type_hints(TRANSFORMS[name].__init__)
    where = f"{where}, {name}"
    for key, value in spec.items():
        if key == "name":
            continue
        if key not in known:
            raise InputError(f"{where}: unknown option {key!r}{nearest(str(key), known)}")
        check_type(value, typing.get_args(hints[key]) or (hints[key],), f"{where}: {key!r}")
        if isinstance(value, Mapping):
            _check_schedule(value, f"{where}, {key}")
    try:
        make_transform(spec, None, steps=100, seed=0)  # a value out of range is found now
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _check_schedule(schedule: Mapping[str, Any], where: str) -> None:
    name = schedule.get("name")
    if not isinstance(name, str) or name not in schedules.SCHEDULES:
        raise InputError(f"{where}: unknown schedule {name!r}{nearest(str(name), schedules.SCHEDULES)}")
    known = [field.name for field in dataclasses.fields(schedules.SCHEDULES[name])]  # type: ignore[arg-type]
    for key, value in schedule.items():
        if key not in (*known, "name", "unit"):
            raise InputError(f"{where}: unknown key {key!r}{nearest(str(key), [*known, 'unit'])}")
        if key not in ("name", "unit"):
            check_type(value, (float,), f"{where}: {key!r}")
    check_word(schedule, "unit", UNITS, where)
