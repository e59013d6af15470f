"""The abstract target: what a form of deployment has to do to be one of ours."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import keras
import numpy as np

from kompakt.errors import InputError
from kompakt.records import Census, Encoding, SiteFact

MODES = ("float", "float16", "dynamic_int8", "weight_only_int8", "int8", "w4a8", "int16x8", "mixed")
"""What a file may be quantized to."""

IO = ("int8", "uint8", "int16", "float32")
"""What the inputs and outputs of an integer file may be."""


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
    """

    model: keras.Model
    encodings: Mapping[str, Encoding] = field(default_factory=dict)
    quantization: str = "float"
    io: str = "float32"
    batch: int | None = 1
    floats: Sequence[str] = ()
    samples: Any = None
    sparse: bool = False


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
    """

    values: tuple[np.ndarray, ...]
    lsb: tuple[float | None, ...]


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


class Target(ABC):
    """A form of deployment.

    ``convert`` makes the bytes, ``run`` computes with them in the target's own runtime, ``census`` and
    ``facts`` read them back. None of them writes a file.
    """

    name: ClassVar[str]
    modes: ClassVar[tuple[str, ...]]
    suffix: ClassVar[str]

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
    def note(self, data: bytes) -> str | None:
        """What kompakt wrote into the file about itself (JSON), or None."""

    @abstractmethod
    def timer(self, data: bytes, inputs: Any, *, threads: int = 1) -> Callable[[int], float]:
        """A function that runs the file ``n`` times on the first of ``inputs`` and gives the seconds."""

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
