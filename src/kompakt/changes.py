"""How two artifacts differ: immutable facts, to and from JSON by :mod:`kompakt.records`."""

from __future__ import annotations

from dataclasses import dataclass

from kompakt.contents import OperatorFact, TensorFact


@dataclass(frozen=True, kw_only=True)
class ValueDifference:
    """How the numbers of two constants of one shape differ, off their grids.

    Attributes:
        size: how many there are. differing: how many are not equal. largest: absolute difference.
        steps: ``largest`` in steps of the grid, where both are on the same one.

    Example:
        >>> ValueDifference(size=9, differing=1, largest=0.5).steps is None
        True
    """

    size: int
    differing: int
    largest: float
    steps: float | None = None


@dataclass(frozen=True, kw_only=True)
class TensorDifference:
    """A tensor of one artifact, of the other, or of both and not the same.

    Attributes:
        subgraph: name of the one that it is in. before, after: the tensor; None where there is no such.
        what: what changed of "constant", "dtype", "shape", "scale", "zero point", "axis", "stored", "values".
        scale_ratio: the scale that changed most, after over before; None where they are not as many.

    Example:
        >>> x = TensorFact(index=0, name="x", dtype="INT8")
        >>> TensorDifference(subgraph="main", name="x", before=x).state
        'removed'
    """

    subgraph: str
    name: str
    before: TensorFact | None = None
    after: TensorFact | None = None
    what: tuple[str, ...] = ()
    scale_ratio: float | None = None
    values: ValueDifference | None = None

    @property
    def state(self) -> str:
        """One of "added", "removed" and "changed"."""
        return _state(self.before, self.after)


@dataclass(frozen=True, kw_only=True)
class OperatorDifference:
    """An operator of one artifact, of the other, or of both with other options, activation or number of ends.

    Example:
        >>> add = OperatorFact(index=0, name="ADD", inputs=(0, 1), outputs=(2,))
        >>> OperatorDifference(subgraph="main", after=add).state
        'added'
    """

    subgraph: str
    before: OperatorFact | None = None
    after: OperatorFact | None = None
    what: tuple[str, ...] = ()

    @property
    def state(self) -> str:
        """One of "added", "removed" and "changed"."""
        return _state(self.before, self.after)


@dataclass(frozen=True, kw_only=True)
class Change:
    """Something with a name that is not the same: its text before and after, None where there was none.

    Example:
        >>> Change(name="quantization", before="float", after="int8").after
        'int8'
    """

    name: str
    before: str | None = None
    after: str | None = None


@dataclass(frozen=True, kw_only=True)
class ArtifactDifference:
    """How one artifact differs from another.

    Attributes:
        before, after: their paths. bytes: of the two. metadata: of the note and all other entries.
        ends: inputs, outputs and signatures.

    Example:
        >>> ArtifactDifference(before="a.tflite", after="b.tflite", bytes=(9, 9)).same
        True
    """

    before: str
    after: str
    bytes: tuple[int, ...]
    operators: tuple[OperatorDifference, ...] = ()
    tensors: tuple[TensorDifference, ...] = ()
    ends: tuple[Change, ...] = ()
    metadata: tuple[Change, ...] = ()

    @property
    def same(self) -> bool:
        """Whether no difference was found."""
        return not (self.operators or self.tensors or self.ends or self.metadata)


def _state(before: object, after: object) -> str:
    return "added" if before is None else "removed" if after is None else "changed"
