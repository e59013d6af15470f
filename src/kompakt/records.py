"""Immutable facts, to and from JSON. Nothing here computes a number or imports a framework."""

from __future__ import annotations

import dataclasses
import json
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from kompakt.errors import InputError
from kompakt.printable import printable
from kompakt.records_bounds import (
    Amount,
    Bits,
    Bound,
    Count,
    Share,
    check_measured,
    check_number,
    check_text,
    check_together,
)
from kompakt.records_difference import EvaluationDifference
from kompakt.records_layers import Histogram, LayerSensitivity

R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class Encoding:
    r"""The numbers a deployed file must honour at one site.

    Integer grid, per tensor (one scale) or per channel (one scale for every index of ``axis``):

    .. math:: real = scale \cdot (q - zero\_point)

    after Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
    Integer-Arithmetic-Only Inference", section 2.1, equation (1).

    Attributes:
        bits: width of the stored integer, or None where the site stays float.
        scale: one value, or one a channel; always multiplies the integer.
        zero_point: the integer that stands for 0.0, as many as ``scale``.
        axis: the axes of the Keras tensor that ``scale`` runs over, flattened in C order; () = per tensor.
        symmetric: the grid is symmetric about 0 and leaves out the lowest integer (narrow range).
        palette: the most distinct values any one channel may hold, or None.
        zeros: how many exact zeros the tensor must hold at least, or None.
        shortfall: what was asked of the tensor in training and not reached, a sentence, or "".

    Example:
        >>> Encoding(bits=8, scale=(0.5,), zero_point=(0,)).bits
        8
    """

    bits: Bits | None = None
    scale: tuple[float, ...] = ()
    zero_point: tuple[int, ...] = ()
    axis: tuple[int, ...] = ()
    symmetric: bool = False
    palette: Count | None = None
    zeros: Count | None = None
    shortfall: str = ""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One measured number: ``Measurement(name="latency", value=0.41, unit="ms", where="LiteRT")``.

    Attributes:
        low, high: of the interval in which the value of very many samples lies, or None. interval: how they were found.
    """

    name: str
    value: float
    unit: str = ""
    where: str = ""
    low: float | None = None
    high: float | None = None
    interval: str = ""

    @property
    def text(self) -> str:
        """The value with its unit and interval, and where it was measured."""
        value = f"{self.value:,.0f}" if float(self.value).is_integer() else f"{self.value:.4g}"
        span = "" if self.low is None or self.high is None else f" [{self.low:.4g}, {self.high:.4g}]"
        return f"{value} {self.unit}".rstrip() + span + (f" ({self.where})" if self.where else "")


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How an artifact's outputs compare with those of the model it was made from, on the same inputs.

    Attributes:
        samples: number of inputs compared.
        argmax: share of samples with the same largest output (1.0 where an output has one value).
        max_abs: largest absolute difference, in the output's own unit.
        lsb: size of one step of the output's integer grid, or None for a float output.
        max_lsb: ``max_abs`` in steps of that grid, or None.
        exact: share of output values that are equal (to half a step where the output is an integer grid).
        reference: what it was compared with ("simulation" or "float model").
        where: the tensor that ``max_lsb`` is about: "output", or the logits before a final softmax.
        trained_argmax: share of samples with the same largest output as the fake-quantized model, which
            computes with floats between its grids; None where that is the reference itself.
        relative: root mean square difference over the spread of the reference, the worst output's.
        given: the model from before the file was quantized: "model given", or of one that came quantized already
            "same weights and float activations".
        given_argmax, given_abs, given_relative: ``argmax``, ``max_abs`` and ``relative`` with ``given``, what
            the file loses in all; None where that is the reference itself.
    """

    samples: Count
    argmax: Share
    max_abs: Amount
    exact: Share
    lsb: Amount | None = None
    max_lsb: Amount | None = None
    reference: str = "simulation"
    where: str = "output"
    trained_argmax: Share | None = None
    relative: Amount | None = None
    given: str = "model given"
    given_argmax: Share | None = None
    given_abs: Amount | None = None
    given_relative: Amount | None = None


@dataclass(frozen=True, kw_only=True)
class Census:
    """What a file is made of, read out of the file itself.

    Attributes:
        ops: operator name -> count.
        tensors: tensor type ("INT8", "FLOAT32", ...) -> count.
        float_ops: names of operators with a float input or output, I/O conversion aside.
        float_tensors: names of float tensors, float I/O aside.
    """

    ops: Mapping[str, Count]
    tensors: Mapping[str, Count]
    float_ops: tuple[str, ...] = ()
    float_tensors: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SiteFact:
    """One weight tensor as it is stored in the file.

    Attributes:
        site: Keras name, such as ``conv1/kernel``.
        tensor: name in the file.
        dtype: type in the file.
        size: number of values.
        zeros: exact zeros among them (integers equal to the zero point).
        distinct: the most distinct values in any one output channel.
        asked_zeros: zeros that had to be kept, or None.
        asked_palette: the most distinct values a channel that were asked for, or None.
        sparse: whether the file stores it sparse.
        histogram: of its values as they are stored, or None.
    """

    site: str
    tensor: str
    dtype: str
    size: Count
    zeros: Count
    distinct: Count
    asked_zeros: Count | None = None
    asked_palette: Count | None = None
    sparse: bool = False
    histogram: Histogram | None = None


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A file that was written, run in its own runtime and compared.

    ``report`` is the text for people: what was asked, what the file holds, agreement, sizes.

    Attributes:
        io: type of the inputs and outputs. bytes, gzip_bytes, sha256: of the file.
        source_sha256: digest of the weights of the model that was given.
        measurements: what it costs in its runtime: bytes of memory and the like.
        notes: what is worth knowing and no fault. breaches: what is amiss, a line each.
        versions: of the programs that made the file.

    Example:
        >>> known = {"path": "m.tflite", "target": "tflite", "quantization": "float", "io": "float32"}
        >>> size = {"bytes": 9, "gzip_bytes": 8, "sha256": "", "source_sha256": ""}
        >>> made = Artifact(**known, **size, census=Census(ops={}, tensors={}))
        >>> made.report.splitlines()[1]
        '  size       9 bytes, 8 gzipped'
    """

    path: str
    target: str
    quantization: str
    io: str
    bytes: Count
    gzip_bytes: Count
    sha256: str
    source_sha256: str
    census: Census
    agreement: Agreement | None = None
    sites: tuple[SiteFact, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    notes: tuple[str, ...] = ()
    breaches: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def zeros(self) -> float:
        """Share of zeros among the weights of the file, 0..1."""
        size = sum(s.size for s in self.sites)
        return sum(s.zeros for s in self.sites) / size if size else 0.0

    @property
    def distinct(self) -> int:
        """The most distinct values in any channel of any weight tensor of the file."""
        return max((s.distinct for s in self.sites), default=0)

    @property
    def sparse(self) -> int:
        """How many weight tensors the file stores sparse."""
        return sum(s.sparse for s in self.sites)

    @property
    def report(self) -> str:
        """Plain text, one fact a line."""
        lines = [
            f"{self.path}: {self.target}, {self.quantization}, {self.io} I/O",
            f"  size       {self.bytes:,} bytes, {self.gzip_bytes:,} gzipped",
            "  operators  " + ", ".join(f"{n} {op}" for op, n in sorted(self.census.ops.items())),
            "  tensors    " + ", ".join(f"{n} {kind}" for kind, n in sorted(self.census.tensors.items())),
        ]
        if self.sites:
            sparse = f"; {self.sparse} of {len(self.sites)} stored sparse" if self.sparse else ""
            lines.append(
                f"  weights    {self.zeros:.1%} zeros, at most {self.distinct} distinct values a channel{sparse}"
            )
        for site in self.sites:
            asked = [f">= {site.asked_zeros} zeros"] if site.asked_zeros else []
            asked += [f"<= {site.asked_palette} values a channel"] if site.asked_palette else []
            if asked:
                lines.append(
                    f"  asked      {site.site}: {', '.join(asked)}; "
                    f"held: {site.zeros} zeros, {site.distinct} values a channel"
                )
        if self.agreement is not None:
            a = self.agreement
            steps = f"; {a.max_lsb:.2f} LSB at {a.where}" if a.max_lsb is not None else ""
            lines.append(
                f"  agreement  argmax {a.argmax:.4f} with the {a.reference} on {a.samples} samples, "
                f"{a.exact:.1%} of outputs equal, largest difference {a.max_abs:.3g}{steps}"
            )
            if a.trained_argmax is not None:
                lines.append(f"             argmax {a.trained_argmax:.4f} with the fake-quantized model")
            if a.given_argmax is not None:
                lines.append(
                    f"             argmax {a.given_argmax:.4f} with the {a.given}, largest difference "
                    f"{a.given_abs:.3g}, {a.given_relative:.3g} of the spread"
                )
        wide = max([9, *(len(m.name) for m in self.measurements)])
        lines += [f"  {m.name:<{wide}}  {m.text}" for m in self.measurements]
        lines += [f"  note       {note}" for note in self.notes]
        lines += [f"  BREACH     {breach}" for breach in self.breaches]
        return "\n".join(map(printable, lines))


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """What became of one model at one target: the artifact, or why there is none.

    Attributes:
        failed: it was made, and not verified, rather than refused.
        milliseconds: of one run in the target's own runtime, the median; spread: half the interquartile range.

    Example:
        >>> Deployment(target="tflm", refused="no operator for GELU").artifact is None
        True
    """

    target: str
    artifact: Artifact | None = None
    refused: str = ""
    failed: bool = False
    milliseconds: Amount | None = None
    spread: Amount | None = None


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One recipe tried on one model: the file it made and what was measured.

    ``history`` maps a training metric to one value an epoch; ``applied`` says which rule reached which sites,
    ``skipped`` what was asked and not done. ``difference`` is how good the file is beside the float file, on the same
    samples; None of that itself, and in records from before it was measured. ``command`` and ``seed`` are those that
    it was carried out with.
    """

    recipe: str
    artifact: Artifact | None = None
    measurements: tuple[Measurement, ...] = ()
    history: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    applied: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    seconds: Amount = 0.0
    difference: EvaluationDifference | None = None
    command: str = ""
    seed: Count | None = None

    def value(self, name: str, default: float | None = None) -> float | None:
        """Value of the measurement called ``name``, or ``default``."""
        found = self.measurement(name)
        return default if found is None else found.value

    def measurement(self, name: str) -> Measurement | None:
        """The measurement called ``name``, or None."""
        return next((m for m in self.measurements if m.name == name), None)


@dataclass(frozen=True, kw_only=True)
class Run:
    """Everything one command found out: what ``records.json`` holds and a report renders.

    The trial called "float" (where there is one) is what the others are compared with. ``sensitivity`` is of the
    float model's layers, where it was measured.
    """

    title: str
    trials: tuple[Trial, ...]
    seed: Count | None = None
    command: str = ""
    machine: str = ""
    created: str = ""
    data: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    sensitivity: tuple[LayerSensitivity, ...] = ()

    @property
    def artifact(self) -> Artifact | None:
        """The file of the last trial."""
        return self.trials[-1].artifact if self.trials else None


def to_json(record: Any, *, indent: int | None = 2, only_ascii: bool = False) -> str:
    """JSON text of a record. NaN is refused: a fact that is not a number is a failure, not a value.

    Args:
        only_ascii: no other characters, which JSON has escapes for: what can be printed anywhere.

    Example:
        >>> to_json(Deployment(target="tflm", refused="no GELU"), indent=None)[:62]
        '{"target": "tflm", "artifact": null, "refused": "no GELU", "fa'
    """
    text = json.dumps(_plain(record), indent=indent, allow_nan=False, ensure_ascii=only_ascii)
    return _NUMBERS.sub(lambda found: " ".join(found[0].split()).replace("[ ", "[").replace(" ]", "]"), text)


_NUMBERS = re.compile(r"\[\n[-+0-9.eE,\s]*\]")
"""A list of numbers over several lines: a histogram is one line. No text has a line break of its own in JSON."""

APART = {"apart": True}
"""Metadata of a field that is kept out of JSON: arrays with a value a sample."""


def _plain(value: Any) -> Any:
    """A record as dicts and lists, without the fields that are kept apart."""
    if dataclasses.is_dataclass(value):
        fields = (f.name for f in dataclasses.fields(value) if not f.metadata.get("apart"))
        return {name: _plain(getattr(value, name)) for name in fields}
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def from_json(kind: type[R], text: str) -> R:
    """The record of type ``kind`` that ``text`` holds.

    Raises:
        InputError: it has unknown or missing keys, or values that no record has: of another type, out of the bounds
            that the types of the fields have, or contradicting each other.

    Example:
        >>> from_json(Measurement, '{"name": "latency", "value": 1.5}').value
        1.5
    """

    def refuse(word: str) -> None:
        raise InputError(f"{kind.__name__}: holds {word}, which no record of kompakt does")

    try:
        data = json.loads(text, parse_constant=refuse)
    except InputError:
        raise
    except (ValueError, RecursionError) as error:  # the latter where brackets are nested without end
        raise InputError(f"not JSON ({error}): expected a {kind.__name__} record written by kompakt") from None
    return typing.cast(R, _build(kind, data, kind.__name__))


def _build(kind: Any, data: Any, where: str, bound: Bound | None = None) -> Any:
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        _check_type(data, dict, "an object", where)
        return _record(kind, data, where)
    if origin is typing.Annotated:
        return _build(args[0], data, where, args[1])
    if origin in (types.UnionType, typing.Union):
        if data is None and type(None) in args:
            return None
        return _build(next(a for a in args if a is not type(None)), data, where)
    if origin is tuple:
        _check_type(data, list, "a list", where)
        return tuple(_build(args[0], item, f"{where}[{i}]") for i, item in enumerate(data))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        _check_type(data, dict, "an object", where)
        for key in data:
            check_text(key, where)
        return {key: _build(args[1], value, f"{where}.{key}") for key, value in data.items()}
    return _leaf(kind, data, where, bound)


def _record(kind: Any, data: Mapping[str, Any], where: str) -> Any:
    """A record of the dataclass ``kind``, of the fields in ``data``."""
    fields = [f for f in dataclasses.fields(kind) if not f.metadata.get("apart")]
    hints = typing.get_type_hints(kind, include_extras=True)
    needed = [f.name for f in fields if f.default is f.default_factory is dataclasses.MISSING]
    missing = [name for name in needed if name not in data]
    names = [f.name for f in fields]
    unknown = sorted(set(data) - set(names))
    if unknown and (set(data) & set(names) or not missing):  # what has no key of ours is no record of ours
        raise InputError(f"{where}: unknown key {unknown[0]!r}; known: {', '.join(names)}")
    if missing:
        raise InputError(f"{where}: lacks {' and '.join(map(repr, missing[:2]))}")
    values = {key: _build(hints[key], value, f"{where}.{key}") for key, value in data.items()}
    check_together(values, where)
    if kind in (Trial, Artifact):  # kompakt names these; those of an evaluation are anybody's functions
        for i, measured in enumerate(values.get("measurements", ())):
            check_measured(vars(measured), f"{where}.measurements[{i}]")
    return kind(**values)


def _leaf(kind: Any, data: Any, where: str, bound: Bound | None) -> Any:
    """A text, a number, or yes or no."""
    if kind is float and type(data) is int:
        check_number(data, where)
        data = float(data)
    _check_type(data, kind, kind.__name__, where)
    if kind is str:
        check_text(data, where)
    elif kind is not bool:
        check_number(data, where, bound)
    return data


def _check_type(data: Any, kind: type, wanted: str, where: str) -> None:
    if type(data) is not kind:
        raise InputError(f"{where}: expected {wanted}, received {type(data).__name__}")
