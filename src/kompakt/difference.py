"""``difference``: what is in one artifact and not in another, and what of both is not the same."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path

import numpy as np

from kompakt.changes import ArtifactDifference, Change, OperatorDifference, TensorDifference, ValueDifference
from kompakt.compare import LARGEST
from kompakt.contents import Contents, OperatorFact, Subgraph, TensorFact
from kompakt.inspect import Opened, contents_of, opened
from kompakt.records import Artifact
from kompakt.targets.graph_view import Part, Value


def difference(
    before: str | Path | Artifact, after: str | Path | Artifact, *, target: str | None = None
) -> ArtifactDifference:
    """How one artifact differs from another, of the same target or of two.

    Subgraphs are taken in their order. Operators are aligned by what they do, tensors found by their names. Values
    are compared off their grids: an int8 weight with the float weight that it came from.

    Args:
        before, after: path of a file or folder, or the record of one that was exported.
        target: of both, by default told from the path of each.

    Raises:
        InputError: one is missing or damaged.

    Example:
        >>> import keras, tempfile, kompakt as kp
        >>> m = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="d")])
        >>> x = np.random.default_rng(0).random((64, 4), dtype="float32")
        >>> folder = tempfile.mkdtemp()
        >>> one = kp.export(m, folder + "/a.tflite", verify=x)
        >>> other = kp.export(m, folder + "/b.tflite", quantization="int8", calibration=x)
        >>> found = difference(one, other)
        >>> kernel = next(each for each in found.tensors if each.name == "d/kernel")
        >>> kernel.before.dtype, kernel.after.dtype, kernel.values.largest < 0.01
        ('FLOAT32', 'INT8', True)
        >>> difference(one, one).same
        True
    """
    a, b = opened(before, target), opened(after, target)
    first, second = contents_of(a), contents_of(b)
    names = [_label(p, q) for p, q in zip_longest(first.subgraphs, second.subgraphs)]
    empty = Part(name="", nodes=(), values=(), inputs=(), outputs=())
    nothing = Subgraph(name="", operators=(), tensors=(), inputs=(), outputs=())
    tensors: list[TensorDifference] = []
    operators: list[OperatorDifference] = []
    sides = zip_longest(first.subgraphs, second.subgraphs, fillvalue=nothing)
    views = zip_longest(a.view.parts, b.view.parts, fillvalue=empty)
    for name, (p, q), (left, right) in zip(names, sides, views, strict=True):
        operators += _operators(name, p.operators, q.operators)
        tensors += _tensors(name, (p, left), (q, right))
    return ArtifactDifference(
        before=first.path,
        after=second.path,
        bytes=(first.bytes, second.bytes),
        operators=tuple(operators),
        tensors=tuple(tensors),
        ends=tuple(_changes(_ends(first), _ends(second))),
        metadata=tuple(_changes(_metadata(a, first), _metadata(b, second))),
    )


def _label(p: Subgraph | None, q: Subgraph | None) -> str:
    side = p or q
    return "" if side is None else side.name


def _operators(
    subgraph: str, before: Sequence[OperatorFact], after: Sequence[OperatorFact]
) -> Iterator[OperatorDifference]:
    """Operators that are in one only, or in both with something else about them, in the order of the graph."""
    matcher = difflib.SequenceMatcher(None, [op.name for op in before], [op.name for op in after], autojunk=False)
    for _, i, i_end, j, j_end in matcher.get_opcodes():
        same = [op.name for op in before[i:i_end]] == [op.name for op in after[j:j_end]]
        if not same:
            yield from (OperatorDifference(subgraph=subgraph, before=op) for op in before[i:i_end])
            yield from (OperatorDifference(subgraph=subgraph, after=op) for op in after[j:j_end])
            continue
        for one, other in zip(before[i:i_end], after[j:j_end], strict=True):
            what = tuple(_of_operator(one, other))
            if what:
                yield OperatorDifference(subgraph=subgraph, before=one, after=other, what=what)


def _of_operator(one: OperatorFact, other: OperatorFact) -> Iterator[str]:
    if dict(one.options) != dict(other.options):
        yield "options"
    if one.activation != other.activation:
        yield "activation"
    if len(one.inputs) != len(other.inputs):
        yield "number of inputs"
    if len(one.outputs) != len(other.outputs):
        yield "number of outputs"


def _tensors(subgraph: str, before: tuple[Subgraph, Part], after: tuple[Subgraph, Part]) -> Iterator[TensorDifference]:
    one, other = _named(*before), _named(*after)
    for key in dict.fromkeys([*one, *other]):
        p, q = one.get(key), other.get(key)
        if p is None or q is None:
            facts = [None if each is None else each[0] for each in (p, q)]
            yield TensorDifference(subgraph=subgraph, name=key[0], before=facts[0], after=facts[1])
            continue
        found = tensor_difference(subgraph, p, q)
        if found.what:
            yield found


def _named(part: Subgraph, view: Part) -> dict[tuple[str, int], tuple[TensorFact, Value]]:
    """(name, how many before it have the name) -> the tensor."""
    seen: Counter[str] = Counter()
    found = {}
    for fact, value in zip(part.tensors, view.values, strict=True):
        found[fact.name, seen[fact.name]] = (fact, value)
        seen[fact.name] += 1
    return found


def tensor_difference(
    subgraph: str, before: tuple[TensorFact, Value], after: tuple[TensorFact, Value]
) -> TensorDifference:
    """How a tensor of the same name differs; ``what`` is empty where it does not."""
    (one, left), (other, right) = before, after
    values = value_difference(left, right) if one.values and other.values else None
    what = [
        word
        for word, changed in (
            ("constant", one.constant != other.constant),
            ("dtype", one.dtype != other.dtype),
            ("shape", one.shape != other.shape),
            *_of_grids(one, other),
            ("stored", one.sparse != other.sparse),
            ("values", values is not None and values.differing > 0),
        )
        if changed
    ]
    return TensorDifference(
        subgraph=subgraph,
        name=one.name,
        before=one,
        after=other,
        what=tuple(what),
        scale_ratio=_ratio(one, other) if "scale" in what else None,
        values=values if "values" in what else None,
    )


def _of_grids(one: TensorFact, other: TensorFact) -> Iterator[tuple[str, bool]]:
    p, q = one.grid, other.grid
    yield "scale", (p.scale if p else ()) != (q.scale if q else ()) or (p.offset if p else 0) != (q.offset if q else 0)
    yield "zero point", (p.zero_point if p else ()) != (q.zero_point if q else ())
    yield "axis", bool(p and q and p.axis != q.axis)


def _ratio(one: TensorFact, other: TensorFact) -> float | None:
    """Of the scale that changed by the largest factor: after over before."""
    p, q = one.grid, other.grid
    if p is None or q is None or len(p.scale) != len(q.scale) or not all((*p.scale, *q.scale)):
        return None
    ratios = np.asarray(q.scale) / np.asarray(p.scale)
    return float(ratios[np.abs(np.log(np.abs(ratios))).argmax()])


def value_difference(before: Value, after: Value) -> ValueDifference | None:
    """How the numbers of two constants differ; None where they have not the same shape. NaN equals NaN.

    Example:
        >>> a = Value(name="k", values=np.array([1, 2], "int8"), scale=(0.5,), zero_point=(0,))
        >>> b = Value(name="k", values=np.array([1, 4], "int8"), scale=(0.5,), zero_point=(0,))
        >>> value_difference(a, b)
        ValueDifference(size=2, differing=1, largest=1.0, steps=2.0)
    """
    one, other = before.real, after.real
    if one is None or other is None or one.shape != other.shape:
        return None
    same = (one == other) | (np.isnan(one) & np.isnan(other))
    with np.errstate(invalid="ignore", over="ignore"):
        off = np.abs(np.where(same, 0.0, one - other))
    off = np.where(np.isfinite(off), off, LARGEST)
    grids = [(v.scale, v.zero_point, v.axis, v.offset) for v in (before, after)]
    steps = None
    if before.scale and grids[0] == grids[1] and before.values is not None and after.values is not None:
        steps = float(np.abs(before.values.astype("float64") - after.values.astype("float64")).max(initial=0.0))
    return ValueDifference(
        size=int(one.size), differing=int((~same).sum()), largest=float(off.max(initial=0.0)), steps=steps
    )


def _changes(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[Change]:
    for name in dict.fromkeys([*before, *after]):
        if before.get(name) != after.get(name):
            yield Change(name=name, before=before.get(name), after=after.get(name))


def _ends(contents: Contents) -> dict[str, str]:
    """Inputs, outputs and signatures as texts, by their names."""
    found = {}
    for part in contents.subgraphs[:1]:
        for side, indices in (("input", part.inputs), ("output", part.outputs)):
            for place, index in enumerate(indices):
                found[f"{side} {place}"] = _end(part.tensors[index])
    for each in contents.signatures:
        for side, ends in (("inputs", each.inputs), ("outputs", each.outputs)):
            found[f"signature {each.name}, {side}"] = ", ".join(ends)
    return found


def _end(tensor: TensorFact) -> str:
    grid = "" if tensor.grid is None else f", scale {tensor.grid.scale[0]:g}, zero point {tensor.grid.zero_point[0]}"
    return f"{tensor.name}: {tensor.dtype} {tensor.text_shape}{grid}"


def _metadata(artifact: Opened, contents: Contents) -> dict[str, str]:
    """Entries of the note, and sizes and digests of all other metadata."""
    others = {
        entry.name: f"{entry.bytes:,} bytes, SHA-256 {entry.sha256[:12]}"
        for entry in contents.metadata
        if not artifact.is_note(entry.name)
    }
    return {**contents.note, **others}
