"""The abstract target: what a form of deployment has to do to be one of ours."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import keras
import numpy as np

from kompakt.errors import InputError
from kompakt.files import read_file, there, write_atomic
from kompakt.folders import packed, read_folder, unpacked, write_folder
from kompakt.records import Census, Encoding, Measurement, SiteFact
from kompakt.targets.graph_view import View
from kompakt.targets.owned import check_ours


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to convert. A target sees plain layers and encodings; it does not know which technique made them.

    Attributes:
        model: plain float Keras model.
        encodings: site -> what the file must honour there.
        quantization: a mode of the target, "float" for none.
        io: type of inputs and outputs in an integer file: "int8", "uint8" or "float32".
        batch: the fixed batch size, or None for one that can be resized.
        floats: sites of the outputs of layers that stay float in a mixed file.
        samples: some inputs in the model's structure; an integer file needs them.
        sparse: store weights with many zeros sparse, where that takes fewer bytes.
        compress: store weights of few values as a table of them and short numbers (TFLite Micro).
        provenance: what the file says of its origin: recipe, versions, digest of the model; JSON values.
        output_names: what the model that was given calls its outputs, flattened; () for what ``model`` calls them.
    """

    model: keras.Model
    encodings: Mapping[str, Encoding] = field(default_factory=dict)
    quantization: str = "float"
    io: str = "float32"
    batch: int | None = 1
    floats: Sequence[str] = ()
    samples: Any = None
    sparse: bool = False
    compress: bool = False
    provenance: Mapping[str, Any] = field(default_factory=dict)
    output_names: Sequence[str] = ()


def check_sparse(quantization: str, where: str = "") -> None:
    """Refuse sparse storage where the runtime cannot do it.

    Raises:
        InputError: ``quantization`` is "dynamic_int8".
    """
    if quantization == "dynamic_int8":
        raise InputError(
            f"{where}sparse with quantization='dynamic_int8': LiteRT refuses such a file; export it as 'int8', "
            "'float16' or 'float', or leave sparse out"
        )


def check_backend(what: str) -> None:
    """Raise where Keras is not on TensorFlow, which ``what`` needs.

    Raises:
        InputError: it is not.
    """
    if keras.backend.backend() != "tensorflow":
        raise InputError(
            f"{what} needs Keras on TensorFlow, this is {keras.backend.backend()}: save the model, then export it with "
            "KERAS_BACKEND=tensorflow"
        )


MOST_TIMED = 64
"""Samples that are handed on to be timed: an artifact takes as many of them as its batch has."""


def to_time(inputs: Any) -> Any:
    """The first of ``inputs``, for a timer."""
    return keras.tree.map_structure(lambda leaf: np.asarray(leaf)[:MOST_TIMED], inputs)


def with_bytes(data: bytes, inputs: Any) -> list[np.ndarray]:
    """An artifact and its inputs as they go to another process."""
    return [np.frombuffer(data, "uint8"), *(np.asarray(leaf) for leaf in keras.tree.flatten(inputs))]


def keys(inputs: Any) -> list[str] | None:
    """Keys of a dict of inputs, in the order in which its leaves are flattened; None where it is none."""
    return sorted(inputs) if isinstance(inputs, Mapping) else None


@dataclass(frozen=True, kw_only=True)
class Converted:
    """The bytes of a file, and what could not be done as asked, a line each."""

    data: bytes
    notes: tuple[str, ...] = ()
    breaches: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """What a file computed.

    Attributes:
        values: one float array an output, (samples, ...), integers taken off their grid.
        lsb: the step of each output's integer grid, or None.
        breaches: what was amiss while it ran, a line each: two runtimes that do not agree.
    """

    values: tuple[np.ndarray, ...]
    lsb: tuple[float | None, ...]
    breaches: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What is wrong with a file, and where: the name of a tensor, an operator's result or a part of the file.

    Example:
        >>> str(Fault(place="conv1/kernel", text="scale is 2 times the one written"))
        'conv1/kernel: scale is 2 times the one written'
    """

    place: str
    text: str

    def __str__(self) -> str:
        return f"{self.place}: {self.text}"


def _names(ends: Any) -> tuple[str, ...]:
    """Of a note's inputs or outputs, which are names or {"name": ..., "shape": ...}; () of anything else."""
    if not isinstance(ends, list):
        return ()
    names = [end.get("name") if isinstance(end, Mapping) else end for end in ends]
    return tuple(map(str, names)) if all(isinstance(name, str) for name in names) else ()


class Target(ABC):
    """A form of deployment.

    ``convert`` makes the bytes, ``run`` computes with them in the target's own runtime, ``measure`` says what they
    cost there, ``census`` and ``facts`` read them back. None of them writes a file.

    An artifact is bytes. Of a form that is a folder they are its files, :func:`kompakt.folders.packed`.

    Attributes:
        runtime: what its artifacts are run in, in words.
        modes: words for its quantization. io: mode -> what inputs and outputs may be, first the usual; float32 for
            modes that are not named.
        suffix: of its file, "" for a folder. main: the file by which a folder is told, and
            which a viewer of graphs opens.
        nearest: mode of another target -> the one here that comes nearest to it.
        rounds: modes in which ``convert`` itself rounds the weights of a float model. A file of these is compared with
            the model that holds the weights read back from it.
        usual_batch: its batch size where none is asked for. fixed_sizes: sizes that a model leaves open must be set.
        rounds_twice: it requantizes as TFLite's reference kernels do, rather than as XNNPACK.
        stores_sparse, stores_tables: it has a form for weights with many zeros, and for weights of few values.
    """

    name: ClassVar[str]
    runtime: ClassVar[str]
    modes: ClassVar[tuple[str, ...]]
    suffix: ClassVar[str]
    main: ClassVar[str] = ""
    io: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    nearest: ClassVar[Mapping[str, str]] = {}
    rounds: ClassVar[tuple[str, ...]] = ()
    usual_batch: ClassVar[int | None] = 1
    fixed_sizes: ClassVar[bool] = True
    rounds_twice: ClassVar[bool] = False
    stores_sparse: ClassVar[bool] = False
    stores_tables: ClassVar[bool] = False

    def ready(self) -> None:  # noqa: B027  most have nothing to check
        """Raise where what converts or runs it is not installed.

        Raises:
            InputError: the text says how to get it.
        """

    def claims(self, path: Path) -> bool:
        """Whether what lies at ``path`` looks like one of its artifacts, by names alone, whoever wrote it."""
        return path.suffix == self.suffix and path.is_file() if self.suffix else (path / self.main).is_file()

    def read(self, path: str | Path) -> bytes:
        """The artifact at ``path``.

        Raises:
            InputError: it cannot be read.
        """
        return read_file(path) if self.suffix else packed(read_folder(path))

    def write(self, path: str | Path, data: bytes) -> None:
        """Put the artifact at ``path``, whole or not at all.

        Raises:
            InputError: a folder there holds something else, or it cannot be written.
        """
        if self.suffix:
            write_atomic(path, data)
            return
        self.check_place(path)
        write_folder(path, self.files(data))

    def check_place(self, path: str | Path) -> None:
        """Raise where ``path`` holds what must not be replaced by an artifact.

        Raises:
            InputError: a file where a folder is written, a folder with a file that kompakt's note there does not list,
                or a place that cannot be.
        """
        path = Path(path)
        if not there(path):
            return
        if self.suffix and path.is_dir():
            raise InputError(f"{path} is a folder; name a {self.suffix} file")
        if not self.suffix and not path.is_dir():
            raise InputError(f"{path} is a file: the target {self.name!r} writes a folder; name another")
        if not self.suffix:
            check_ours(path, self.main, self.name)

    def part(self, data: bytes, signature: str | None) -> bytes:
        """The artifact, or of one that has several signatures the part that is ``signature``.

        Raises:
            InputError: it has no such, or several and none is named.
        """
        if signature is not None:
            raise InputError(
                f"signature={signature!r}: an artifact of {self.name!r} has no signatures to choose from; leave it out"
            )
        return data

    def files(self, data: bytes) -> Mapping[str, bytes]:
        """Path below the artifact -> what is written there; "" for an artifact of one file."""
        return {"": data} if self.suffix else unpacked(data)

    def shipped(self, data: bytes) -> Mapping[str, bytes]:
        """The part of ``files`` that goes onto the device, and counts as the artifact's size."""
        return self.files(data)

    def measure(self, data: bytes, inputs: Any) -> Sequence[Measurement]:
        """What the artifact costs in its runtime, latency aside: bytes of memory and the like."""
        return ()

    @abstractmethod
    def convert(self, request: Request) -> Converted:
        """The file for ``request``.

        Raises:
            InputError: the model or mode cannot be converted; the text has the reason.
        """

    @abstractmethod
    def run(self, data: bytes, inputs: Any, *, at: Sequence[str] | None = None) -> Outputs:
        """Outputs for ``inputs``: arrays (samples, ...) in the structure the model takes.

        Args:
            at: names of tensors (sites, or of ``activations``) that are shown in place of the outputs.
        """

    @abstractmethod
    def activations(self, data: bytes) -> Sequence[str]:
        """Names of the tensors that are computed for each sample, in their order."""

    @abstractmethod
    def has(self, data: bytes, site: str) -> bool:
        """Whether the file has a tensor for ``site``."""

    @abstractmethod
    def graph(self, data: bytes) -> View:
        """All operators, tensors and metadata in an artifact, whoever made it; nothing is run.

        Raises:
            InputError: it is damaged.
        """

    def flatbuffer(self, data: bytes) -> bytes:
        """The TFLite file in an artifact, one that LiteRT reads.

        Raises:
            InputError: there is none.
        """
        raise InputError(f"an artifact of {self.name!r} holds no TFLite file; give one of the target tflite or tflm")

    @abstractmethod
    def note(self, data: bytes) -> str | None:
        """What kompakt wrote into the file about itself (JSON), or None."""

    def ends(self, data: bytes) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Names of the inputs and of the outputs, in the order in which they are run; () where it does not say.

        Raises:
            InputError: kompakt's note in the artifact is broken.
        """
        try:
            note = json.loads(self.note(data) or "{}")
        except ValueError as error:
            raise InputError(
                f"kompakt's note in the {self.name} artifact is no JSON ({error}); make it again"
            ) from None
        known = note if isinstance(note, Mapping) else {}
        return _names(known.get("inputs")), _names(known.get("outputs"))

    @abstractmethod
    def census(self, data: bytes) -> Census:
        """Operators and tensor types in the file."""

    @abstractmethod
    def facts(self, data: bytes, encodings: Mapping[str, Encoding]) -> Sequence[SiteFact]:
        """The weight tensors as the file stores them, beside what ``encodings`` asked."""

    @abstractmethod
    def regridded(self, data: bytes, encodings: Mapping[str, Encoding]) -> Sequence[str]:
        """One line for each site whose grid in the file is not the one in ``encodings``."""

    @abstractmethod
    def altered(self, data: bytes) -> Sequence[Fault]:
        """What was changed in the file since it was written, by the seal that kompakt put into it."""

    @abstractmethod
    def unsound(self, data: bytes) -> Sequence[Fault]:
        """Where the file contradicts itself: bias scales, grids that an operator leaves as they are, NaN."""

    @abstractmethod
    def grid(self, data: bytes, site: str) -> Encoding | None:
        """Bits, scale and zero point of the tensor at ``site``; None where it has none or there is no such tensor."""

    @abstractmethod
    def weight(self, data: bytes, site: str, like: np.ndarray) -> np.ndarray | None:
        """The constant at ``site`` taken off its grid, in the layout and shape of ``like``, the Keras weight."""
