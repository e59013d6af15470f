"""The stages of a recipe: what each is, and how it begins on a model."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras

from kompakt import schedules
from kompakt.attach import attach, chains_of, wrapped
from kompakt.errors import InputError
from kompakt.planning import LEFT_OUT, UNREACHED, carry, plan, unreached
from kompakt.precision import PRECISIONS
from kompakt.progress import Report
from kompakt.quantization import quantize
from kompakt.repairs import needs_data
from kompakt.shrink import plan_shrink, shrink
from kompakt.sites import Site
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
    """One step of a recipe: attach by ``rules``, or ``quantize``, or ``shrink``, or nothing, then train.

    Each stage starts from the plain model of the one before, with what that one did preserved.

    Attributes:
        rules: in order. quantize: mode of :func:`kompakt.quantize`, or None. shrink: share that
            :func:`kompakt.shrink` keeps, or None. options: keyword arguments of ``quantize`` or ``shrink``.
        distill: keyword arguments of :func:`kompakt.distill` where the training has a teacher, else None; schedules
            as in rules.
        train: share of the recipe's epochs, 0 for none. learning_rate: of Adam, at the start of this stage's training;
            it falls to 0 as half a cosine.
    """

    rules: tuple[Rule, ...] = ()
    quantize: str | None = None
    shrink: float | None = None
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    distill: Mapping[str, Any] | None = None
    train: float = 0.0
    learning_rate: float = 1e-3


@dataclass(frozen=True, kw_only=True)
class Started:
    """A stage ready to train: the model, one line a rule with the sites it reached, and what it left out."""

    model: keras.Model
    applied: tuple[str, ...]
    skipped: tuple[str, ...] = ()


def start_stage(
    model: keras.Model,
    stage: Stage,
    *,
    steps: int,
    calibration: Any,
    seed: int,
    progress: bool | Report = False,
) -> Started:
    """Begin a stage.

    Args:
        model: plain, or attached by the stage before. steps: training steps of this stage.
        progress: of :func:`kompakt.quantize`.

    Raises:
        InputError: a rule matches no site.
    """
    if stage.quantize is not None:
        options = {"progress": progress, **stage.options}
        if PRECISIONS[stage.quantize].integer or needs_data(stage.options.get("repairs", ())):
            options["calibration"] = calibration
        attached = quantize(model, stage.quantize, **options)
        weights = sorted(name for name, _, variable in chains_of(attached) if variable is not None)
        left = tuple(UNREACHED % path for path in unreached(attached))
        return Started(model=attached, applied=(f"quantize {stage.quantize}: {', '.join(weights)}",), skipped=left)
    if stage.shrink is not None:
        return _shrunk(model, stage.shrink, stage.options, seed)
    if not stage.rules:  # it trains what is there: a distillation
        return Started(model=model, applied=())
    plain, keeps = carry(model)
    wanted: dict[str, list[Transform]] = {name: list(kept) for name, kept in keeps.items()}
    applied, skipped = [], []
    for rule in stage.rules:
        what = ", ".join(map(in_words, rule.transforms))
        reached: dict[str, list[Transform]] = {}
        for spec in rule.transforms:
            make = functools.partial(make_transform, spec, steps=steps, seed=seed)
            planned = plan(plain, rule.sites, make, spares_ends=TRANSFORMS[spec["name"]].spares_ends)
            for name, made in planned.transforms.items():
                reached.setdefault(name, []).extend(made)
            skipped += _late(spec, rule, steps)
            skipped += [f"{spec['name']}: {LEFT_OUT % left}" for left in planned.left.items()]
        for name, made in reached.items():
            wanted.setdefault(name, []).extend(made)
        applied.append(f"{what} on {rule.sites}: {', '.join(sorted(reached))}")
    skipped += [UNREACHED % path for path in unreached(plain)]
    return Started(model=attach(plain, wanted), applied=tuple(applied), skipped=tuple(skipped))


def in_words(spec: Mapping[str, Any]) -> str:
    """A transform or schedule of a recipe as a call.

    Example:
        >>> in_words({"name": "Prune", "sparsity": 0.75})
        'Prune(sparsity=0.75)'
    """
    options = ", ".join(
        f"{key}={in_words(value) if isinstance(value, Mapping) else value}"
        for key, value in spec.items()
        if key != "name"
    )
    return f"{spec['name']}({options})" if options else str(spec["name"])


def _shrunk(model: keras.Model, share: float, options: Mapping[str, Any], seed: int) -> Started:
    """A smaller model. Channels go first: zeros and values that were kept for the old shapes would be lost."""
    if wrapped(model):
        raise InputError("a stage with shrink comes before those that prune, cluster or quantize: move it to the front")
    planned = plan_shrink(model, share, seed=seed, **options)
    rows = ", ".join(f"{', '.join(row.layers)} {row.before} to {row.after} channels" for row in planned.groups)
    what = f"shrink to {share:g} of the {planned.of} (reached {planned.reached:.3f}): {rows}"
    left = tuple(f"the {f.channels} channels of {f.layer} stay: {f.reason}" for f in planned.fixed)
    return Started(model=shrink(model, planned.masks), applied=(what,), skipped=left)


def make_transform(spec: Mapping[str, Any], _: Site | None, *, steps: int, seed: int) -> Transform:
    """The transform that a rule names, with its schedule in steps of the stage's training."""
    options = {key: value for key, value in spec.items() if key != "name"}
    kind = TRANSFORMS[spec["name"]]
    if "seed" in options_of(kind) and "seed" not in options:
        options["seed"] = seed
    if isinstance(options.get("schedule"), Mapping):
        options["schedule"] = in_steps(options["schedule"], steps)
    return kind(**options)


def in_steps(schedule: Mapping[str, Any], steps: int) -> schedules.Schedule:
    """The schedule with shares of the training turned into steps, the last of which is ``steps - 1``."""
    values = dict(schedule)
    if values.pop("unit", "step") != "share":
        return schedules.from_config(values)
    takes, last = schedules.options(values.get("name")), max(1, steps - 1)
    values["begin"] = min(int(values.get("begin", 0.0) * steps), last - 1)
    if "every" in takes:
        values["every"] = max(1, int(values.get("every", 0.0) * steps))
    if "end" in takes:
        values["end"] = min(max(int(values.get("end", 1.0) * steps), values["begin"] + 1), last)
    if "frequency" in takes:
        values.setdefault("frequency", max(1, (values.get("end", last) - values["begin"]) // 20))
    made = schedules.from_config(values)
    # Without training there is nothing to spread it over.
    return made if steps > 1 else schedules.OneShot(made(max(made.begin, made.end)))


def in_training(options: Any, steps: int) -> Any:
    """Options of a distillation, with schedules in shares of the stage's training turned into steps of it.

    Example:
        >>> rise = {"name": "Polynomial", "initial": 0.0, "final": 0.5, "begin": 0.0, "end": 0.5, "unit": "share"}
        >>> in_training({"alpha": rise, "temperature": 2.0}, 100)["alpha"].end
        50
    """
    if isinstance(options, Mapping):
        inner = {key: in_training(value, steps) for key, value in options.items()}
        return in_steps(inner, steps) if "unit" in options else inner
    return [in_training(each, steps) for each in options] if isinstance(options, (list, tuple)) else options


def _late(spec: Mapping[str, Any], rule: Rule, steps: int) -> list[str]:
    """A line where the training is over before the schedule is."""
    if not isinstance(spec.get("schedule"), Mapping):
        return []
    schedule = in_steps(spec["schedule"], steps)
    end = max(schedule.begin, schedule.end)
    if end < max(steps, 2):
        return []
    reached = next((schedule(step) for step in reversed(range(steps)) if schedule.acts(step)), 0.0)
    return [
        f"{spec['name']} on {rule.sites}: its schedule ends at step {end}, the stage has {steps}; "
        f"it reaches {reached:.3f} of {schedule(end):.3f}"
    ]


def options_of(kind: type) -> list[str]:
    """Keyword arguments of a transform."""
    return [name for name in inspect.signature(kind).parameters if name != "kwargs"]
