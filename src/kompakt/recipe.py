"""Recipes: frozen, JSON, ordered rules *site pattern -> transforms*, in stages, and a form to export to."""

from __future__ import annotations

import dataclasses
import functools
import importlib.resources
import inspect
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from kompakt import schedules
from kompakt.attach import attach
from kompakt.errors import InputError
from kompakt.sites import Site, nearest
from kompakt.targets import TARGETS
from kompakt.targets.target import check_sparse
from kompakt.techniques import LEFT_OUT, QUANTIZE_OPTIONS, TRAINABLE_MODES, carry, left_out, plan, quantize
from kompakt.transform import Transform
from kompakt.transforms import TRANSFORMS

MODES = ("float", "float16", "dynamic_int8", "int8")
"""What ``quantization`` of a recipe may be."""

IO = ("int8", "uint8", "float32")
"""What ``io`` of a recipe may be."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Transforms for the weight sites that a glob pattern matches; depthwise kernels only where it is not "*".

    ``transforms`` holds a mapping each: ``name`` of the registry, and its options. A schedule with
    ``"unit": "share"`` gives ``begin`` and ``end`` as shares of the stage's training steps.
    """

    sites: str = "*"
    transforms: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One step of a recipe: attach by ``rules``, or ``quantize``, then train.

    Each stage starts from the plain model of the one before, with what that one did preserved.

    Attributes:
        rules: in order. quantize: mode of :func:`kompakt.quantize`, or None. options: its keyword arguments.
        train: share of the recipe's epochs, 0 for none. learning_rate: of this stage's training.
    """

    rules: tuple[Rule, ...] = ()
    quantize: str | None = None
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    train: float = 0.0
    learning_rate: float = 1e-3


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


def recipe_names() -> list[str]:
    """Names of the recipes that come with kompakt.

    Example:
        >>> "qat_int8" in recipe_names()
        True
    """
    folder = importlib.resources.files("kompakt") / "recipes"
    return sorted(file.name.removesuffix(".json") for file in folder.iterdir() if file.name.endswith(".json"))


def load_recipe(recipe: str | Path | Mapping[str, Any] | Recipe) -> Recipe:
    """A recipe by name, from a JSON file, or from a mapping.

    Raises:
        InputError: unknown name, key, transform or option; the text has the nearest valid one.
    """
    if isinstance(recipe, Recipe):
        return recipe
    if isinstance(recipe, Mapping):
        return _recipe(recipe, "recipe")
    text = str(recipe)
    if text in recipe_names():
        return _recipe(
            _json((importlib.resources.files("kompakt") / "recipes" / f"{text}.json").read_text(), text), text
        )
    path = Path(text)
    if not path.is_file():
        raise InputError(f"recipe {text!r}: no recipe and no file of that name{nearest(text, recipe_names())}")
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"recipe {text}: cannot be read ({error}); expected a JSON file") from None
    return _recipe(_json(content, text), text)


def to_dict(recipe: Recipe) -> dict[str, Any]:
    """Plain data that :func:`load_recipe` reads again.

    Example:
        >>> load_recipe(to_dict(load_recipe("qat_int8"))) == load_recipe("qat_int8")
        True
    """
    return json.loads(json.dumps(dataclasses.asdict(recipe)))


@dataclass(frozen=True, kw_only=True)
class Started:
    """A stage ready to train: the model, one line a rule with the sites it reached, and what it left out."""

    model: keras.Model
    applied: tuple[str, ...]
    skipped: tuple[str, ...] = ()


def start_stage(model: keras.Model, stage: Stage, *, steps: int, calibration: Any, seed: int) -> Started:
    """Begin a stage.

    Args:
        model: plain, or attached by the stage before. steps: training steps of this stage.

    Raises:
        InputError: a rule matches no site.
    """
    if stage.quantize is not None:
        attached = quantize(model, stage.quantize, calibration=calibration, **dict(stage.options))
        return Started(model=attached, applied=(f"quantize {stage.quantize}: every layer",))
    plain, keeps = carry(model)
    wanted: dict[str, list[Transform]] = {name: list(kept) for name, kept in keeps.items()}
    applied, skipped = [], []
    for rule in stage.rules:
        what = ", ".join(str(spec["name"]) for spec in rule.transforms)
        reached: dict[str, list[Transform]] = {}
        for spec in rule.transforms:
            make = functools.partial(_transform, spec, steps=steps, seed=seed)
            for name, made in plan(plain, rule.sites, make).items():
                reached.setdefault(name, []).extend(made)
        for name, made in reached.items():
            wanted.setdefault(name, []).extend(made)
        applied.append(f"{what} on {rule.sites}: {', '.join(sorted(reached))}")
        skipped += [f"{what}: {LEFT_OUT % name}" for name in left_out(plain, rule.sites) if name not in reached]
    return Started(model=attach(plain, wanted), applied=tuple(applied), skipped=tuple(skipped))


def _transform(spec: Mapping[str, Any], _: Site | None, *, steps: int, seed: int) -> Transform:
    options = {key: value for key, value in spec.items() if key != "name"}
    kind = TRANSFORMS[spec["name"]]
    if "seed" in _options(kind) and "seed" not in options:
        options["seed"] = seed
    if isinstance(options.get("schedule"), Mapping):
        options["schedule"] = _in_steps(options["schedule"], steps)
    return kind(**options)


def _in_steps(schedule: Mapping[str, Any], steps: int) -> schedules.Schedule:
    """The schedule with shares of the training turned into steps."""
    values = dict(schedule)
    if values.pop("unit", "step") == "share":
        begin, end = (int(values.get(key, default) * steps) for key, default in (("begin", 0.0), ("end", 1.0)))
        values.update(begin=begin, end=max(end, begin + 1))
        values.setdefault("frequency", max(1, (end - begin) // 20))
    return schedules.from_config(values)


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"recipe {where}: not JSON ({error})") from None


def _recipe(data: Any, where: str) -> Recipe:
    values = _checked(data, Recipe, where)
    if "name" not in values:
        raise InputError(f"{where}: the key 'name' is missing")
    _check_types(values, {"name": str, "about": str, "epochs": int, "quantization": str, "target": str}, where)
    _known(values, "target", TARGETS, where)
    _known(values, "quantization", MODES, where)
    _known(values, "io", IO, where)
    if not isinstance(values.get("sparse", False), bool):
        raise InputError(f"{where}: 'sparse' is {values['sparse']!r}, expected true or false")
    if values.get("sparse"):
        check_sparse(values.get("quantization", "float"), f"{where}: ")
    if values.get("epochs", 0) < 0:
        raise InputError(f"{where}: 'epochs' is {values['epochs']}, expected 0 or more")
    stages = tuple(_stage(s, f"{where}, stage {i + 1}") for i, s in enumerate(_list(values, "stages", where)))
    return Recipe(**{**values, "stages": stages})


def _stage(data: Any, where: str) -> Stage:
    values = _checked(data, Stage, where)
    _check_types(values, {"train": (int, float), "learning_rate": (int, float), "options": Mapping}, where)
    _known(values, "quantize", TRAINABLE_MODES, where)
    for key, least in (("train", 0.0), ("learning_rate", 1e-12)):
        if values.get(key, 1.0) < least:
            wanted = "a share of 0 or more" if key == "train" else "more than 0"
            raise InputError(f"{where}: {key!r} is {values[key]}, expected {wanted}")
    rules = tuple(_rule(r, f"{where}, rule {i + 1}") for i, r in enumerate(_list(values, "rules", where)))
    if bool(rules) == (values.get("quantize") is not None):
        raise InputError(f"{where}: expected either rules or quantize, one of the two")
    for key in values.get("options", {}):
        if key not in QUANTIZE_OPTIONS:
            raise InputError(f"{where}: unknown option {key!r}{nearest(key, QUANTIZE_OPTIONS)}")
    return Stage(**{**values, "rules": rules})


def _rule(data: Any, where: str) -> Rule:
    values = _checked(data, Rule, where)
    _check_types(values, {"sites": str}, where)
    transforms = _list(values, "transforms", where)
    if not transforms:
        raise InputError(f"{where}: 'transforms' is missing or empty; known: {', '.join(TRANSFORMS)}")
    for spec in transforms:
        _check_transform(spec, where)
    return Rule(**{**values, "transforms": tuple(dict(spec) for spec in transforms)})


def _check_transform(spec: Any, where: str) -> None:
    name = spec.get("name") if isinstance(spec, Mapping) else spec
    if name not in TRANSFORMS:
        raise InputError(f"{where}: unknown transform {name!r}{nearest(str(name), TRANSFORMS)}")
    known = _options(TRANSFORMS[name])
    for key in spec:
        if key != "name" and key not in known:
            raise InputError(f"{where}: {name} has no option {key!r}{nearest(key, known)}")
    _transform(spec, None, steps=100, seed=0)  # a value out of range, or a mistyped schedule, is found now


def _options(kind: type) -> list[str]:
    return [name for name in inspect.signature(kind).parameters if name != "kwargs"]


def _checked(data: Any, kind: type, where: str) -> dict[str, Any]:
    """``data`` as keyword arguments of ``kind``; a key it does not know is an error."""
    if not isinstance(data, Mapping):
        raise InputError(f"{where}: received {type(data).__name__}, expected an object")
    known = [field.name for field in dataclasses.fields(kind)]
    for key in data:
        if key not in known:
            raise InputError(f"{where}: unknown key {key!r}{nearest(str(key), known)}")
    return dict(data)


def _check_types(values: Mapping[str, Any], kinds: Mapping[str, Any], where: str) -> None:
    for key, kind in kinds.items():
        if key in values and (not isinstance(values[key], kind) or isinstance(values[key], bool)):
            wanted = {str: "a text", int: "a whole number", Mapping: "an object"}.get(kind, "a number")
            raise InputError(f"{where}: {key!r} is {values[key]!r}, expected {wanted}")


def _known(values: Mapping[str, Any], key: str, known: Iterable[str], where: str) -> None:
    word = values.get(key)
    if word is not None and word not in known:
        raise InputError(f"{where}: {key!r} is {word!r}{nearest(str(word), known)}")


def _list(values: Mapping[str, Any], key: str, where: str) -> Sequence[Any]:
    found = values.get(key, ())
    if not isinstance(found, (list, tuple)):
        raise InputError(f"{where}: {key!r} is {type(found).__name__}, expected a list")
    return found
