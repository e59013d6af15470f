"""The run in one sentence, and which files are worse than float by more than chance."""

from __future__ import annotations

import math

from kompakt.records import Artifact, Run, Trial
from kompakt.report.facts.metric import POINTS, RELATIVE, Metric, metric, of_keras, quality
from kompakt.report.facts.speed import in_words
from kompakt.report.facts.variants import BASELINE

FEW_SAMPLES = 5
"""A change of accuracy on no more samples than this is also said in samples."""


def verdict(run: Run) -> str:
    """The run in one sentence: the smallest file that is as good as float, what it costs, and whether that is chance.

    Files that are worse by more than chance explains are named in a second one. A file is called faster or slower only
    where the interval of the ratio of latencies leaves out 1, by 1 % or more.

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
    return _choose(run, sound) + left_out + "." + _worse(run, sound)


def _choose(run: Run, sound: list[tuple[Trial, Artifact]]) -> str:
    shown = metric(run)
    measured = [
        (trial, artifact, value)
        for trial, artifact in sound
        if (value := quality(trial, shown)) is not None and math.isfinite(value)
    ]
    baseline = next((trial for trial in run.trials if trial.recipe == BASELINE), None)
    if baseline is None or baseline.artifact is None:
        trial, artifact = min(sound, key=lambda pair: pair[1].bytes)
        return f"There is no float file to compare with; the smallest file is {trial.recipe} ({artifact.bytes:,} bytes)"
    reference = quality(baseline, shown)
    if reference is None and (by_keras := of_keras(baseline, shown)) is not None:
        reference = by_keras.value
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
            f"{_smaller(float_file.bytes, best[1].bytes)}{_faster(best[0])}, {_change(shown, loss(best), *best[:2])}"
        )
    best = min(good, key=lambda item: (item[1].bytes, loss(item)))
    text = (
        f"{best[0].recipe} is the smallest file within {limit} of float {shown.name}: "
        f"{_smaller(float_file.bytes, best[1].bytes)} ({best[1].bytes:,} bytes instead of "
        f"{float_file.bytes:,}){_faster(best[0])}, {_change(shown, loss(best), *best[:2])}"
    )
    ties = [item[0].recipe for item in good if item[1].bytes == best[1].bytes and item is not best]
    if ties:
        text += f"; {', '.join(ties)} {'is' if len(ties) == 1 else 'are'} as small"
    packed = min(good, key=lambda item: (item[1].gzip_bytes, loss(item)))
    if packed[1].gzip_bytes < best[1].gzip_bytes:
        text += (
            f"; gzipped, it is {packed[0].recipe}: "
            f"{_smaller(float_file.gzip_bytes, packed[1].gzip_bytes)}, {_change(shown, loss(packed), *packed[:2])}"
        )
    return text


def _smaller(float_bytes: int, file_bytes: int) -> str:
    if not file_bytes or not float_bytes:
        return f"{file_bytes:,} bytes instead of {float_bytes:,}"
    if file_bytes > float_bytes:
        return f"{file_bytes / float_bytes:.2f} times larger than float"
    ratio = float_bytes / file_bytes
    return f"{ratio:.1f} times smaller than float" if file_bytes < float_bytes else "as large as float"


def _faster(trial: Trial) -> str:
    """How many times faster or slower than float, where that is told apart."""
    ratio = trial.measurement("latency_ratio")
    words = "" if ratio is None else in_words(ratio.value, ratio.low, ratio.high)
    return f", {words}" if words else ""


def _change(shown: Metric, loss: float, trial: Trial, artifact: Artifact) -> str:
    """What was lost or gained; where that is a handful of samples, how many; whether it may be chance."""
    if abs(loss) < 5e-5 if shown.is_accuracy else loss == 0:
        return f"no {shown.name} lost" if shown.is_accuracy else f"{shown.name} unchanged"
    if shown.is_accuracy:
        compared = trial.difference or artifact.agreement
        samples = 0 if compared is None else compared.samples
        count = round(abs(loss) * samples)
        told = f" ({count} of {samples:,} test samples)" if 0 < count <= FEW_SAMPLES else ""
        return f"{abs(loss) * 100:.2f} points {'lost' if loss > 0 else 'gained'}{told}{_chance(trial)}"
    return f"{shown.name} {abs(loss):.3g} {'worse' if loss > 0 else 'better'}{_chance(trial)}"


def _chance(trial: Trial) -> str:
    """Whether the difference to the float file may be chance; "" where it was not measured."""
    found = trial.difference
    if found is None or (found.p is None and (found.low is None or found.high is None)):
        return ""
    judged = "is more than chance explains" if found.told_apart else "may be chance"
    if found.p is not None:
        return f", which {judged} (McNemar's exact test: p = {found.p:.2g})"
    sure = f"{100 * found.confidence:g} % interval of the difference"
    return f", which {judged} ({sure} {found.low:.3g} to {found.high:.3g})"


def _worse(run: Run, sound: list[tuple[Trial, Artifact]]) -> str:
    """The files that are worse than float by more than chance explains."""
    shown = metric(run)
    names = [
        trial.recipe
        for trial, _ in sound
        if trial.difference is not None
        and trial.difference.told_apart
        and shown.loss(baseline=0.0, value=trial.difference.value) > 0
    ]
    return f" Worse than float by more than chance explains: {', '.join(names)}." if names else ""


def _left_out(breached: int) -> str:
    if not breached:
        return ""
    noun, verb = ("file", "was") if breached == 1 else ("files", "were")
    return f"; {breached} {noun} with a breach {verb} left out"
