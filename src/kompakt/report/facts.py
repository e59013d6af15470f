"""What a report says, computed from a Run. Pure functions and frozen rows; nothing here renders."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from kompakt.records import Agreement, Artifact, Run, SiteFact, Trial

BASELINE = "float"
ACCURACY = "accuracy"
POINTS = 0.5
"""Loss of accuracy, in percentage points, that the verdict allows a file."""
FEW_SAMPLES = 5
"""A change of accuracy on no more samples than this is also said in samples: it may be chance."""
RELATIVE = 0.01
"""Loss relative to float that the verdict allows where the metric is no accuracy."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """How good a model is: accuracy (a share, 0..1), or a metric of the user's own.

    Example:
        >>> error = Metric(prefix="metric", name="mean absolute error", lower_is_better=True)
        >>> error.loss(baseline=0.25, value=0.5)
        0.25
    """

    prefix: str = ACCURACY
    name: str = ACCURACY
    lower_is_better: bool = False

    @property
    def is_accuracy(self) -> bool:
        """Whether values are shares 0..1, shown in percent."""
        return self.prefix == ACCURACY

    def loss(self, *, baseline: float, value: float) -> float:
        """How much worse ``value`` is than ``baseline``; negative where it is better."""
        return value - baseline if self.lower_is_better else baseline - value

    def tolerance(self, baseline: float) -> float:
        """The loss that still counts as "as good as float": 0.5 points, or 1 % of another metric."""
        return POINTS / 100 if self.is_accuracy else RELATIVE * abs(baseline)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One variant: a line of the summary table. None stands for "not measured".

    Attributes:
        recipe: the recipe's name.
        keras: the metric of the Keras model (accuracy: 0..1).
        litert: the metric of the file, run in LiteRT.
        argmax: share of samples with the same largest output as the reference.
        difference: largest difference of an output, in ``difference_unit``.
        difference_unit: "LSB" for an integer output; "" (the output's own unit) for a float one.
        file_bytes: size of the file.
        gzip_bytes: size of the file, gzipped.
        zeros: share of exact zeros among the weights, 0..1.
        distinct: the most distinct values in any one channel.
        latency_ratio: latency of this file over that of the float file.
        latency_spread: half the interquartile range of ``latency_ratio``.
        breaches: how many limits the file breaks.
        on_front: no other file is both as small and as good.
    """

    recipe: str
    keras: float | None = None
    litert: float | None = None
    argmax: float | None = None
    difference: float | None = None
    difference_unit: str = ""
    file_bytes: int | None = None
    gzip_bytes: int | None = None
    zeros: float | None = None
    distinct: int | None = None
    latency_ratio: float | None = None
    latency_spread: float | None = None
    breaches: int = 0
    on_front: bool = False


@dataclass(frozen=True, kw_only=True)
class Point:
    """One file in the size-against-quality plane; ``index`` is its trial's place in the Run."""

    index: int
    label: str
    size: float
    value: float
    breached: bool = False


class SiteRow(NamedTuple):
    """One weight tensor of a file: what was asked of it, and whether the file holds it."""

    fact: SiteFact
    asked: bool
    held: bool


class Undone(NamedTuple):
    """Something asked and not done: ``kind`` is "breach", "not held", "no file", "skipped" or "note".

    ``recipes`` are those that say so in the same words; empty for the whole run.
    """

    recipes: tuple[str, ...]
    kind: str
    text: str


def metric(run: Run) -> Metric:
    """The metric the run's models are judged by.

    Example:
        >>> metric(Run(title="empty", trials=())).name
        'accuracy'
    """
    measurements = [m for trial in run.trials for m in trial.measurements]
    if any(m.name.startswith("accuracy_") for m in measurements):
        return Metric()
    own = next((m for m in measurements if m.name in ("metric_keras", "metric_litert")), None)
    if own is None:
        return Metric()
    return Metric(prefix="metric", name=own.where or "metric", lower_is_better=own.unit == "lower")


def rows(run: Run) -> tuple[Row, ...]:
    """One Row a trial, in the run's order.

    Example:
        >>> rows(Run(title="demo", trials=(Trial(recipe="float"),)))[0].file_bytes is None
        True
    """
    shown = metric(run)
    front = {point.index for point in pareto(points(run), lower_is_better=shown.lower_is_better)}
    return tuple(_row(trial, shown, index in front) for index, trial in enumerate(run.trials))


def points(run: Run) -> tuple[Point, ...]:
    """The trials that have both a file and its metric in LiteRT.

    Example:
        >>> points(Run(title="empty", trials=()))
        ()
    """
    shown = metric(run)
    found = []
    for index, trial in enumerate(run.trials):
        value = _quality(trial, shown, "litert")
        if trial.artifact is None or value is None or not math.isfinite(value):
            continue
        found.append(
            Point(
                index=index,
                label=trial.recipe,
                size=trial.artifact.bytes,
                value=value,
                breached=bool(trial.artifact.breaches),
            )
        )
    return tuple(found)


def pareto(candidates: Iterable[Point], *, lower_is_better: bool = False) -> tuple[Point, ...]:
    """The points that no other point dominates, smallest first.

    A point is dominated where another is as small and as good; of two equal points the first stays.
    A file with a breach is no candidate: it isn't what was asked for.

    Example:
        >>> big = Point(index=0, label="a", size=9, value=0.9)
        >>> small = Point(index=1, label="b", size=5, value=0.9)
        >>> [point.label for point in pareto([big, small])]
        ['b']
    """
    sign = -1.0 if lower_is_better else 1.0
    sound = [p for p in candidates if not p.breached and math.isfinite(p.value)]
    kept: list[Point] = []
    for point in sorted(sound, key=lambda p: (p.size, -sign * p.value)):
        if not kept or sign * point.value > sign * kept[-1].value:
            kept.append(point)
    return tuple(kept)


def verdict(run: Run) -> str:
    """The run in one sentence: the smallest file that is as good as float, and what it costs.

    Example:
        >>> verdict(Run(title="empty", trials=()))
        'No recipe was tried, so there is nothing to compare.'
    """
    tried = [trial for trial in run.trials if trial.recipe != BASELINE]
    if not tried:
        return "No recipe was tried, so there is nothing to compare."
    files = [(trial, trial.artifact) for trial in tried if trial.artifact is not None]
    if not files:
        return "No recipe made a file, so there is nothing to compare."
    sound = [(trial, artifact) for trial, artifact in files if not artifact.breaches]
    left_out = _left_out(len(files) - len(sound))
    if not sound:
        return f"Every file breaks a limit, so none is recommended{left_out}."
    return _choose(run, sound) + left_out + "."


def site_rows(trial: Trial) -> tuple[SiteRow, ...]:
    """Every weight tensor of a trial's file, with whether it holds what was asked of it.

    Example:
        >>> site_rows(Trial(recipe="float"))
        ()
    """
    sites = trial.artifact.sites if trial.artifact is not None else ()
    return tuple(
        SiteRow(
            fact=site,
            asked=site.asked_zeros is not None or site.asked_palette is not None,
            held=site.zeros >= (site.asked_zeros or 0)
            and (site.asked_palette is None or site.distinct <= site.asked_palette),
        )
        for site in sites
    )


def requests(trial: Trial) -> tuple[int, int]:
    """How many weight tensors hold what was asked of them, and of how many something was asked.

    Example:
        >>> requests(Trial(recipe="float"))
        (0, 0)
    """
    asked = [row for row in site_rows(trial) if row.asked]
    return sum(row.held for row in asked), len(asked)


def undone(run: Run) -> tuple[Undone, ...]:
    """Everything asked and not done, breaches first, then in the run's order.

    Example:
        >>> undone(Run(title="demo", trials=(Trial(recipe="pqat_int8"),)))[0].kind
        'no file'
    """
    found: dict[tuple[str, str], list[str]] = {}
    for trial in run.trials:
        for said in _undone_of(trial):
            found.setdefault(said, []).append(trial.recipe)
    items = [Undone(tuple(recipes), kind, text) for (kind, text), recipes in found.items()]
    items += [Undone((), "note", note) for note in run.notes]
    order = ("breach", "not held", "no file", "skipped", "note")
    return tuple(sorted(items, key=lambda item: order.index(item.kind)))


def versions(run: Run) -> tuple[tuple[str, str], ...]:
    """Package and version of the run and of its files; where they differ, all of them.

    Example:
        >>> versions(Run(title="demo", trials=(), versions={"keras": "3.15.1"}))
        (('keras', '3.15.1'),)
    """
    found: dict[str, list[str]] = {}
    sources: list[Mapping[str, str]] = [run.versions]
    sources += [trial.artifact.versions for trial in run.trials if trial.artifact is not None]
    for source in sources:
        for name, version in source.items():
            known = found.setdefault(name, [])
            if version not in known:
                known.append(version)
    return tuple((name, ", ".join(known)) for name, known in found.items())


def _quality(trial: Trial, shown: Metric, where: str) -> float | None:
    return trial.value(f"{shown.prefix}_{where}")


def _row(trial: Trial, shown: Metric, on_front: bool) -> Row:
    artifact = trial.artifact
    agreement = artifact.agreement if artifact is not None else None
    difference, unit = _difference(agreement)
    return Row(
        recipe=trial.recipe,
        keras=_quality(trial, shown, "keras"),
        litert=_quality(trial, shown, "litert"),
        argmax=agreement.argmax if agreement is not None else None,
        difference=difference,
        difference_unit=unit,
        file_bytes=artifact.bytes if artifact is not None else None,
        gzip_bytes=artifact.gzip_bytes if artifact is not None else None,
        # A file whose weights were not read has no share of zeros; 0 % would be a claim.
        zeros=artifact.zeros if artifact is not None and artifact.sites else None,
        distinct=artifact.distinct if artifact is not None and artifact.sites else None,
        latency_ratio=trial.value("latency_ratio"),
        latency_spread=trial.value("latency_ratio_spread"),
        breaches=len(artifact.breaches) if artifact is not None else 0,
        on_front=on_front,
    )


def _difference(agreement: Agreement | None) -> tuple[float | None, str]:
    if agreement is None:
        return None, ""
    if agreement.max_lsb is not None:
        return agreement.max_lsb, "LSB"
    return agreement.max_abs, ""


def _undone_of(trial: Trial) -> list[tuple[str, str]]:
    """Kind and text of what this trial left undone."""
    found = [("skipped", text) for text in trial.skipped]
    if trial.artifact is None:
        return [*found, ("no file", "the recipe made no file")]
    found += [("breach", text) for text in trial.artifact.breaches]
    found += [("note", text) for text in trial.artifact.notes]
    named = " ".join(trial.artifact.breaches)
    missed = [row.fact for row in site_rows(trial) if not row.held and row.fact.site not in named]
    return found + [("not held", _shortfall(site)) for site in missed]


def _shortfall(site: SiteFact) -> str:
    parts = []
    if site.asked_zeros is not None and site.zeros < site.asked_zeros:
        parts.append(f"{site.zeros:,} zeros where at least {site.asked_zeros:,} were asked for")
    if site.asked_palette is not None and site.distinct > site.asked_palette:
        parts.append(f"{site.distinct:,} distinct values a channel where {site.asked_palette:,} were asked for")
    return f"{site.site}: {', '.join(parts)}"


def _choose(run: Run, sound: list[tuple[Trial, Artifact]]) -> str:
    shown = metric(run)
    measured = [
        (trial, artifact, value)
        for trial, artifact in sound
        if (value := _quality(trial, shown, "litert")) is not None and math.isfinite(value)
    ]
    baseline = next((trial for trial in run.trials if trial.recipe == BASELINE), None)
    if baseline is None or baseline.artifact is None:
        trial, artifact = min(sound, key=lambda pair: pair[1].bytes)
        return f"There is no float file to compare with; the smallest file is {trial.recipe} ({artifact.bytes:,} bytes)"
    reference = _quality(baseline, shown, "litert")
    if reference is None:
        reference = _quality(baseline, shown, "keras")
    if reference is None or not math.isfinite(reference) or not measured:
        trial, artifact = min(sound, key=lambda pair: pair[1].bytes)
        return (
            f"The {shown.name} of the files was not measured; the smallest file is {trial.recipe}, "
            f"{_smaller(baseline.artifact.bytes, artifact.bytes)}"
        )
    return _judge(shown, baseline.artifact, reference, measured)


def _judge(shown: Metric, float_file: Artifact, reference: float, measured: list[tuple[Trial, Artifact, float]]) -> str:
    def loss(item: tuple[Trial, Artifact, float]) -> float:
        return shown.loss(baseline=reference, value=item[2])

    limit = f"{POINTS} points" if shown.is_accuracy else f"{RELATIVE * 100:g} %"
    # 1e-9: a loss of exactly 0.5 points is a little more in binary.
    good = [item for item in measured if loss(item) <= shown.tolerance(reference) + 1e-9]
    if not good:
        best = min(measured, key=lambda item: (loss(item), item[1].bytes))
        return (
            f"No file is within {limit} of float {shown.name}; the closest is {best[0].recipe}, "
            f"{_smaller(float_file.bytes, best[1].bytes)}, {_change(shown, loss(best), best[1])}"
        )
    best = min(good, key=lambda item: (item[1].bytes, loss(item)))
    text = (
        f"{best[0].recipe} is the smallest file within {limit} of float {shown.name}: "
        f"{_smaller(float_file.bytes, best[1].bytes)} ({best[1].bytes:,} bytes instead of "
        f"{float_file.bytes:,}), {_change(shown, loss(best), best[1])}"
    )
    ties = [item[0].recipe for item in good if item[1].bytes == best[1].bytes and item is not best]
    if ties:
        text += f"; {', '.join(ties)} {'is' if len(ties) == 1 else 'are'} as small"
    packed = min(good, key=lambda item: (item[1].gzip_bytes, loss(item)))
    if packed[1].gzip_bytes < best[1].gzip_bytes:
        text += (
            f"; gzipped, it is {packed[0].recipe}: "
            f"{_smaller(float_file.gzip_bytes, packed[1].gzip_bytes)}, {_change(shown, loss(packed), packed[1])}"
        )
    return text


def _smaller(float_bytes: int, file_bytes: int) -> str:
    if not file_bytes or not float_bytes:
        return f"{file_bytes:,} bytes instead of {float_bytes:,}"
    if file_bytes > float_bytes:
        return f"{file_bytes / float_bytes:.2f} times larger than float"
    ratio = float_bytes / file_bytes
    return f"{ratio:.1f} times smaller than float" if file_bytes < float_bytes else "as large as float"


def _change(shown: Metric, loss: float, artifact: Artifact) -> str:
    """What was lost or gained; where that is a handful of samples, how many."""
    if abs(loss) < 5e-5 if shown.is_accuracy else loss == 0:
        return f"no {shown.name} lost" if shown.is_accuracy else f"{shown.name} unchanged"
    if shown.is_accuracy:
        samples = artifact.agreement.samples if artifact.agreement is not None else 0
        count = round(abs(loss) * samples)
        told = f" ({count} of {samples:,} test samples)" if 0 < count <= FEW_SAMPLES else ""
        return f"{abs(loss) * 100:.2f} points {'lost' if loss > 0 else 'gained'}{told}"
    return f"{shown.name} {abs(loss):.3g} {'worse' if loss > 0 else 'better'}"


def _left_out(breached: int) -> str:
    if not breached:
        return ""
    noun, verb = ("file", "was") if breached == 1 else ("files", "were")
    return f"; {breached} {noun} with a breach {verb} left out"
