"""What an artifact is made of: immutable facts, to and from JSON by :mod:`kompakt.records`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, kw_only=True)
class Grid:
    r"""The integers of a tensor, as the file has them.

    .. math:: real = scale \cdot (q - zero\_point) + offset

    Attributes:
        scale: one number, or one a channel. zero_point: one where all channels have the same, else as many.
        axis: the dimension that ``scale`` runs over; None where it is one number.
        offset: what TF.js adds ("min"), 0 elsewhere.

    Example:
        >>> Grid(scale=(0.5, 0.25), zero_point=(0,), axis=3).axis
        3
    """

    scale: tuple[float, ...]
    zero_point: tuple[int, ...] = (0,)
    axis: int | None = None
    offset: float = 0.0


@dataclass(frozen=True, kw_only=True)
class ValueFacts:
    """The numbers of a constant.

    Attributes:
        size: how many. zeros: those that stand for 0.0. distinct: different ones among them.
        channel_distinct: the most different ones in any one channel; None where the file tells of no channels.
        low, high: the least and the greatest, off the grid; None where there is no finite one.
        not_finite: NaN and infinities.

    Example:
        >>> ValueFacts(size=4, zeros=1, distinct=3, low=-1.0, high=2.0).not_finite
        0
    """

    size: int
    zeros: int
    distinct: int
    channel_distinct: int | None = None
    low: float | None = None
    high: float | None = None
    not_finite: int = 0


@dataclass(frozen=True, kw_only=True)
class TensorFact:
    """One tensor.

    Attributes:
        index: its place in its subgraph. dtype: type in the file ("INT8"), "" where the file does not say.
        shape: None for a size that is open; no shape at all where the file has none.
        constant: its values are in the file. bytes: of a constant what it takes there, else what it takes in memory;
            None where that is not known. sparse: stored sparse.
        values: of a constant of numbers.

    Example:
        >>> TensorFact(index=0, name="x", dtype="INT8", shape=(None, 3)).text_shape
        '?x3'
    """

    index: int
    name: str
    dtype: str = ""
    shape: tuple[int | None, ...] | None = None
    constant: bool = False
    bytes: int | None = None
    sparse: bool = False
    grid: Grid | None = None
    values: ValueFacts | None = None

    @property
    def text_shape(self) -> str:
        """``1x8x8x3``; ``?`` for what is open, ``scalar`` for no dimensions, "" where nothing is known."""
        if self.shape is None:
            return ""
        return "x".join("?" if n is None else str(n) for n in self.shape) or "scalar"


@dataclass(frozen=True, kw_only=True)
class OperatorFact:
    """One operator.

    Attributes:
        index: its place in its subgraph. name: what it does ("CONV_2D"). label: its own name, "" where it has none.
        inputs, outputs: indices of tensors of its subgraph; -1 for an optional one that is absent.
        options: option -> value in words; those that stand at their default are left out.
        activation: the one that is fused into it, or "".

    Example:
        >>> OperatorFact(index=0, name="ADD", inputs=(0, 1), outputs=(2,), activation="RELU").options
        {}
    """

    index: int
    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    label: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    activation: str = ""


@dataclass(frozen=True, kw_only=True)
class Subgraph:
    """Operators in their order, and the tensors between them: the whole graph, the body of a loop, or a function.

    Attributes:
        inputs, outputs: indices of tensors.

    Example:
        >>> Subgraph(name="main", operators=(), tensors=(), inputs=(), outputs=()).name
        'main'
    """

    name: str
    operators: tuple[OperatorFact, ...]
    tensors: tuple[TensorFact, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Signature:
    """A way to call the artifact.

    Attributes:
        subgraph: index of the one that is called. inputs, outputs: name -> the tensor's.

    Example:
        >>> Signature(name="serving_default", subgraph=0, inputs={"image": "x"}, outputs={}).inputs["image"]
        'x'
    """

    name: str
    subgraph: int
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A piece of metadata: its name, size and digest.

    Example:
        >>> Entry(name="min_runtime_version", bytes=16, sha256="").bytes
        16
    """

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What is in an artifact, read without running it.

    Attributes:
        bytes: of what ships. constant_bytes: of all constants, one that several tensors share once.
        note: what kompakt wrote into it about itself, as text; {} where another program made it.
        integer: it computes with integers: a tensor that is no constant has a grid. In ONNX, where grids stand between
            floats, that is for the runtime to decide.
        float_operators: in a file that computes with integers, the operators that read or make floats, conversion
            at the edges aside.
        notes: what is not shown, or shown otherwise than it ships. faults: what is damaged, a line each.

    Example:
        >>> Contents(path="m.tflite", target="tflite", bytes=9).operators
        {}
    """

    path: str
    target: str
    bytes: int
    constant_bytes: int = 0
    note: Mapping[str, str] = field(default_factory=dict)
    subgraphs: tuple[Subgraph, ...] = ()
    signatures: tuple[Signature, ...] = ()
    metadata: tuple[Entry, ...] = ()
    integer: bool = False
    float_operators: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()

    @property
    def operators(self) -> dict[str, int]:
        """Operator -> how often, in all subgraphs; the most frequent first."""
        found = Counter(op.name for part in self.subgraphs for op in part.operators)
        return dict(sorted(found.items(), key=lambda each: (-each[1], each[0])))

    @property
    def dtypes(self) -> dict[str, int]:
        """Type -> how many tensors have it, in all subgraphs."""
        found = Counter(t.dtype for part in self.subgraphs for t in part.tensors if t.dtype)
        return dict(sorted(found.items()))

    def constants(self) -> Iterator[tuple[Subgraph, TensorFact]]:
        """Constants, the largest first; one that several subgraphs have alike once."""
        found: dict[TensorFact, tuple[Subgraph, TensorFact]] = {}
        for part in self.subgraphs:
            for tensor in part.tensors:
                if tensor.constant:
                    found.setdefault(replace(tensor, index=0), (part, tensor))
        yield from sorted(found.values(), key=lambda each: -(each[1].bytes or 0))
