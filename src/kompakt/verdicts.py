"""When a file agrees with what it must agree with, and what is said where it does not."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kompakt.compare import LARGEST, agreement, argmax_or_tie, has_classes, relative_error
from kompakt.errors import InputError
from kompakt.precision import GRIDDED
from kompakt.records import Agreement, Census, Encoding, SiteFact
from kompakt.sites import layer_of
from kompakt.targets.target import Outputs

LEAST_ARGMAX = 0.99

LEAST_TRAINED = 0.95
"""Least argmax agreement with the fake-quantized model, which computes with floats between its grids.

Each layer multiplies a rounding that fell the other way: a correct int8 ResNet-8, bit-exact with its
simulation, has 0.984. A simulation and a file that are wrong in the same way have far less.
"""

LEAST_GIVEN = 0.95
"""Least argmax agreement with the model that was given."""

NEAR = 0.05
"""Of the spread of an output: a class that the model given rates within it of its first is as good as that.

Without it an autoencoder, whose largest output means nothing, would have 0.72 in int8.
"""

MOST_RELATIVE = {
    "float": 1e-4,
    "float16": 1e-2,
    "weight_only_int8": 1e-4,
    "dynamic_int8": 0.05,
    "int8": 0.05,
    "uint8": 1e-4,
    "uint16": 1e-4,
    "keras_int8": 1e-4,
    "keras_int4": 1e-4,
}
"""Mode -> largest relative error to the reference.

Measured over the models of tests/parity/test_kinds.py, 256 samples each: at most 5e-7, 1.2e-3 and 5e-3 with
the simulation. One that has no simulation (a layer that is not followed) is compared with its float model,
which dynamic_int8 files are at most 0.02 from. An int8 file is held to steps, and to this where an output has none.
"""

ROUNDED = {"uint8": 0.5 / 255, "uint16": 0.5 / 65535, "float16": 2.0**-11}
"""Mode of a target that rounds weights itself -> the most that a weight may move, of its tensor's reach."""

MOST_LOST = 0.25
"""Largest relative error of an int8 file's outputs of one value to the model given: in the same models, 0.14."""

MOST_LSB = 2.0

SLACK = 0.01
"""Of a step: what float32 loses when integers are taken off their grid and compared."""


def compare_outputs(expected: Sequence[np.ndarray], outputs: Outputs, *, name: str) -> Agreement:
    """How what a file computed agrees with what a model does, called ``name``.

    Raises:
        InputError: it has another number of outputs.
    """
    if len(expected) != len(outputs.values):
        raise InputError(f"the file has {len(outputs.values)} outputs, the model {len(expected)}")
    for wanted, found in zip(expected, outputs.values, strict=True):
        if wanted.shape != found.shape:
            raise InputError(
                f"the file's output has the shape {found.shape[1:]} a sample, the model's {wanted.shape[1:]}: give "
                "the model that the file was made from"
            )
    return agreement(expected, outputs.values, outputs.lsb, name=name)


def apart_from_trained(expected: Sequence[np.ndarray], outputs: Outputs, argmax: float) -> list[str]:
    """A line where the file is not the model that was trained; what two steps decide counts as a tie.

    A tie of the model's: a file whose outputs are all the same, saturated, has the model's largest among its own.
    """
    ties = [MOST_LSB * (1.0 + SLACK) * (lsb or 0.0) for lsb in outputs.lsb]
    near = min(near_share(*each) for each in zip(expected, outputs.values, ties, strict=True))
    if max(argmax, near) >= LEAST_TRAINED:
        return []
    return [
        f"argmax agreement with the fake-quantized model {argmax:.4f} ({near:.4f} with ties), "
        f"expected at least {LEAST_TRAINED}"
    ]


def with_given(agree: Agreement, expected: Sequence[np.ndarray], outputs: Outputs, *, name: str) -> Agreement:
    """``agree`` with how the file agrees with the model from before, called ``name``."""
    given = agreement(expected, outputs.values, outputs.lsb)
    return dataclasses.replace(
        agree, given=name, given_argmax=given.argmax, given_abs=given.max_abs, given_relative=given.relative
    )


def apart_from_given(
    expected: Sequence[np.ndarray], outputs: Outputs, least: float, *, name: str, mode: str
) -> list[str]:
    """A line for each way in which a file is not the model it was made from.

    Where outputs have classes, the largest has to be the same on ``least`` of the samples, or one that the model
    rates as high (:data:`NEAR`). Where they have one value, they may differ by a part of their spread.
    """
    lines = []
    pairs = list(zip(expected, outputs.values, strict=True))
    classes = [(e, f) for e, f in pairs if has_classes(e)]
    if classes:
        argmax = agreement([e for e, _ in classes], [f for _, f in classes], [None] * len(classes)).argmax
        near = min(near_share(e, f, NEAR * float(e.std())) for e, f in classes)
        if max(argmax, near) < least:
            ties = f" ({near:.4f} with ties)" if near > argmax else ""
            lines.append(f"argmax agreement with the {name} {argmax:.4f}{ties}, expected at least {least}")
    error = max((relative_error(e, f) for e, f in pairs if not has_classes(e)), default=0.0)
    most = MOST_LOST if mode in GRIDDED else MOST_RELATIVE.get(mode, MOST_LOST)
    if error > most:
        lines.append(f"outputs differ from the {name} by {error:.3g} of their spread, expected at most {most:g}")
    return lines


def near_share(expected: np.ndarray, found: np.ndarray, tie: float) -> float:
    """Share of samples whose largest value in ``found`` is at most ``tie`` under the largest in ``expected``."""
    if expected.shape != found.shape or not np.isfinite(found).all():
        return 0.0
    return argmax_or_tie([found], [expected], [tie])


def few_agree(agree: Agreement, expected: Sequence[np.ndarray], outputs: Outputs) -> list[str]:
    """A line where the argmax is not the given model's though that is no breach."""
    if agree.given_argmax is None or agree.given_argmax >= LEAST_GIVEN:
        return []
    near = min(
        near_share(e, f, NEAR * float(e.std())) for e, f in zip(expected, outputs.values, strict=True) if has_classes(e)
    )
    if agree.given != "model given" and near >= LEAST_GIVEN:  # it was trained to be another
        return []
    return [
        f"argmax {agree.given_argmax:.4f} with the {agree.given}, {near:.4f} with those that it rates within "
        f"{NEAR:.0%} of the spread of its first"
    ]


def accuracies(
    outputs: Sequence[np.ndarray], before: Sequence[np.ndarray], given: Any, *, name: str
) -> tuple[str, ...]:
    """The accuracy of a file with one output of several classes, where the labels are class numbers or one-hot.

    Args:
        outputs: of the file. before: of the model called ``name``, from before it was quantized.
    """
    found, labels = outputs[0], np.asarray(given)
    if len(outputs) > 1 or found.ndim != 2 or found.shape[1] < 2:
        return ()
    classes = labels.argmax(-1) if labels.shape == found.shape else labels.ravel()
    if classes.shape != found.shape[:1]:
        return ()
    file, model = (float((each.argmax(-1) == classes).mean()) for each in (found, before[0]))
    return (f"accuracy {file:.4f} on the {len(classes)} labels given; {model:.4f} of the {name}",)


def float_ties(expected: Sequence[np.ndarray], outputs: Outputs, mode: str) -> float:
    """Argmax agreement of a float file, where values as far apart as it may be off count as equal; 0 for integers.

    An autoencoder's largest output means nothing: of two that are nearly the same half precision picks either.
    """
    if mode in GRIDDED or mode not in MOST_RELATIVE:
        return 0.0
    pairs = zip(expected, outputs.values, strict=True)
    return min(near_share(e, f, MOST_RELATIVE[mode] * float(e.std())) for e, f in pairs)


def disagreement(agree: Agreement, mode: str, most_steps: float = MOST_LSB, *, ties: float = 0.0) -> list[str]:
    """One line for each way in which an agreement falls short.

    Args:
        most_steps: that an output may be away. ties: argmax agreement in which values that are as good as equal count.
    """
    lines = []
    if max(agree.argmax, ties) < LEAST_ARGMAX:
        lines.append(
            f"argmax agreement with the {agree.reference} {agree.argmax:.4f}, expected at least {LEAST_ARGMAX}"
        )
    error, most = agree.relative, MOST_RELATIVE.get("int8" if mode in GRIDDED else mode)
    stepless = mode not in GRIDDED or agree.max_lsb is None
    if error is not None and most is not None and stepless and most < error < LARGEST:
        lines.append(
            f"outputs differ from the {agree.reference} by {error:.3g} of their spread (up to {agree.max_abs:.3g}), "
            f"expected at most {most:g}"
        )
    if mode in GRIDDED and agree.max_lsb is not None and agree.max_lsb > most_steps + SLACK:
        lines.append(
            f"outputs differ from the {agree.reference} by up to {agree.max_lsb:.1f} LSB, "
            f"expected at most {most_steps:.0f}"
        )
    return lines


def moved(site: str, before: np.ndarray, held: np.ndarray | None, mode: str) -> list[str]:
    """A line where a weight in the file is not the model's, rounded once to ``mode``.

    Example:
        >>> moved("d/kernel", np.array([0.0, 1.0]), np.array([0.0, 0.9]), "uint8")
        ['d/kernel: up to 0.1 from the model, where uint8 rounds by at most 0.00196']
    """
    if held is None:
        return []
    if held.shape != before.shape:
        return [f"{site}: the file holds the shape {held.shape}, the model {before.shape}"]
    reach = max(float(before.max()), 0.0) - min(float(before.min()), 0.0)
    most, off = ROUNDED[mode] * reach, float(np.abs(held - before).max())
    if off <= most * (1.0 + SLACK):
        return []
    return [f"{site}: up to {off:.3g} from the model, where {mode} rounds by at most {most:.3g}"]


def not_finite(outputs: Outputs) -> list[str]:
    """One line for each output with a NaN or infinity."""
    return [
        f"output {i}: {int((~np.isfinite(values)).sum())} values are NaN or infinite"
        for i, values in enumerate(outputs.values)
        if not np.isfinite(values).all()
    ]


def islands(census: Census, mode: str, floats: Sequence[str] = ()) -> list[str]:
    """One line for each operator that computes with floats in an integer file, and that no rule left float.

    Args:
        floats: the layers that a mixed file may compute in floats.
    """
    if mode not in GRIDDED:
        return []
    article = "an" if mode.startswith("int") else "a"
    lines = [f"float operator in {article} {mode} file: {op}" for op in census.float_ops if _made_by(op) not in floats]
    if census.float_tensors and not floats:
        lines.append(f"float tensors in {article} {mode} file: {', '.join(census.float_tensors[:5])}")
    return lines


def _made_by(op: str) -> str:
    """The layer of ``CONV_2D (conv1/output)`` or ``CONV_2D (conv1:t12)``."""
    return layer_of(op.split(" (", 1)[-1].rstrip(")"))


def lost_properties(facts: Sequence[SiteFact]) -> list[str]:
    """One line for each tensor of the file that lost zeros or holds too many values."""
    lines = []
    for fact in facts:
        if fact.asked_zeros is not None and fact.zeros < fact.asked_zeros:
            lines.append(f"{fact.site}: {fact.asked_zeros} zeros had to be kept, the file holds {fact.zeros}")
        if fact.asked_palette is not None and fact.distinct > fact.asked_palette:
            lines.append(
                f"{fact.site}: at most {fact.asked_palette} values a channel were asked for, "
                f"the file holds {fact.distinct}"
            )
    return lines


def unseen_properties(facts: Sequence[SiteFact], encodings: Mapping[str, Encoding]) -> list[str]:
    """One line for each site with zeros or few values that no tensor of the file could be told to be."""
    held = {fact.site for fact in facts}
    lines = []
    for site, encoding in encodings.items():
        asked = [f"{encoding.zeros} zeros"] if encoding.zeros else []
        asked += [f"at most {encoding.palette} values a channel"] if encoding.palette else []
        if asked and site not in held and encoding.bits is None:  # with bits it is a breach already
            lines.append(f"{site}: asked for {' and '.join(asked)}, but no tensor of the file has its numbers")
    return lines
