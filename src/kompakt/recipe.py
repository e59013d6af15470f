"""Recipes: frozen, JSON, ordered rules *site pattern -> transforms*, in stages, and a form to export to."""

from __future__ import annotations

import dataclasses
import importlib.resources
import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from kompakt import schedules
from kompakt.attach import attach
from kompakt.errors import InputError
from kompakt.sites import Site, nearest
from kompakt.techniques import QUANTIZE_OPTIONS, carry, plan, quantize
from kompakt.transform import Transform
from kompakt.transforms import TRANSFORMS


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
        quantization, io, target: of the export.

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
        raise InputError(
            f"recipe {text!r}: no recipe and no file of that name{nearest(text, recipe_names())}"
        )
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
    return json.loads(json.dumps(dataclasses.asdict(recipe)))  # type: ignore[no-any-return]


def start_stage(
    model: keras.Model, stage: Stage, *, steps: int, calibration: Any, seed: int
) -> tuple[keras.Model, tuple[str, ...]]:
    """The trainable model of a stage, and one line for each rule with the sites it reached.

    Args:
        model: plain, or attached by the stage before. steps: training steps of this stage.

    Raises:
        InputError: a rule matches no site.
    """
    if stage.quantize is not None:
        attached = quantize(model, stage.quantize, calibration=calibration, **dict(stage.options))
        return attached, (f"quantize {stage.quantize}: every layer",)
    plain, keeps = carry(model)
    wanted: dict[str, list[Transform]] = {name: list(kept) for name, kept in keeps.items()}
    lines = []
    for rule in stage.rules:
        names = set()
        for spec in rule.transforms:
            reached = plan(plain, rule.sites, lambda site, spec=spec: _transform(spec, site, steps, seed))
            names.update(reached)
            for name, made in reached.items():
                wanted.setdefault(name, []).extend(made)
        what = ", ".join(str(spec["name"]) for spec in rule.transforms)
        lines.append(f"{what} on {rule.sites}: {', '.join(sorted(names))}")
    return attach(plain, wanted), tuple(lines)


def _transform(spec: Mapping[str, Any], site: Site, steps: int, seed: int) -> Transform:
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
        begin, end = (
            int(values.get(key, default) * steps) for key, default in (("begin", 0.0), ("end", 1.0))
        )
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
    stages = tuple(_stage(s, f"{where}, stage {i + 1}") for i, s in enumerate(_list(values, "stages", where)))
    return Recipe(**{**values, "stages": stages})


def _stage(data: Any, where: str) -> Stage:
    values = _checked(data, Stage, where)
    rules = tuple(_rule(r, f"{where}, rule {i + 1}") for i, r in enumerate(_list(values, "rules", where)))
    if bool(rules) == (values.get("quantize") is not None):
        raise InputError(f"{where}: expected either rules or quantize, one of the two")
    for key in values.get("options", {}):
        if key not in QUANTIZE_OPTIONS:
            raise InputError(f"{where}: unknown option {key!r}{nearest(key, QUANTIZE_OPTIONS)}")
    return Stage(**{**values, "rules": rules})


def _rule(data: Any, where: str) -> Rule:
    values = _checked(data, Rule, where)
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


def _options(kind: type) -> list[str]:
    return [name for name in inspect.signature(kind.__init__).parameters if name not in ("self", "kwargs")]


def _checked(data: Any, kind: type, where: str) -> dict[str, Any]:
    """``data`` as keyword arguments of ``kind``; a key it does not know is an error."""
    if not isinstance(data, Mapping):
        raise InputError(f"{where}: received {type(data).__name__}, expected an object")
    known = [field.name for field in dataclasses.fields(kind)]
    for key in data:
        if key not in known:
            raise InputError(f"{where}: unknown key {key!r}{nearest(str(key), known)}")
    return dict(data)


def _list(values: Mapping[str, Any], key: str, where: str) -> Sequence[Any]:
    found = values.get(key, ())
    if not isinstance(found, (list, tuple)):
        raise InputError(f"{where}: {key!r} is {type(found).__name__}, expected a list")
    return found
