"""Run a TF.js graph model in Node: inputs and outputs go through files of raw numbers."""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from keras import tree

from kompakt.compare import relative_error
from kompakt.errors import InputError
from kompakt.isolated import Limits
from kompakt.targets.tfjs_model import End, GraphModel
from kompakt.targets.tfjs_weights import PLAIN
from kompakt.targets.web_packages import WEB, packages
from kompakt.targets.web_process import NodeProcess

BACKENDS = ("cpu", "wasm")
"""Pure JavaScript, and WebAssembly: those of TF.js that need no graphics card."""

MOST_APART = 1e-4
"""Largest relative error between the two, of the spread: in docs/web.md at most 1.2e-5."""

TOGETHER = 32
"""Samples that go through a model of any batch size at once."""

NO_KERNEL = "not registered for backend"
"""What TF.js says where a backend has not got an operator."""

Arrays = tuple[np.ndarray, ...]


class _Shared:
    """One Node process for all: to start it and load TF.js takes longer than most models do."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._node: NodeProcess | None = None

    def node(self) -> NodeProcess:
        """The process: a new one where the last has died or had other limits."""
        if self._node is not None and not (self._node.alive and self._node.limits == Limits.set()):
            self._node.close()
            self._node = None
        self._node = self._node or new_process()
        return self._node


_SHARED = _Shared()


def new_process() -> NodeProcess:
    """A Node process with TF.js, of its own."""
    return NodeProcess(WEB / "node" / "run.mjs", str(packages("node")))


@contextlib.contextmanager
def session(files: Mapping[str, bytes], model: GraphModel) -> Iterator[Session]:
    """A session in the process that all share, one after the other."""
    with _SHARED.lock:
        made = Session(files, model, _SHARED.node())
        try:
            yield made
        finally:
            made.close()


class Session:
    """A model in a Node process, and a folder for what goes in and out, which goes with it.

    Args:
        files: of the artifact. model: the same, read. node: the process, by default one of its own.
    """

    def __init__(self, files: Mapping[str, bytes], model: GraphModel, node: NodeProcess | None = None) -> None:
        self._node = node or new_process()
        self._model = model
        self._folder = tempfile.TemporaryDirectory(prefix="kompakt-tfjs-")
        for name, content in files.items():
            place = Path(self._folder.name, "model", PurePosixPath(name))
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)

    def load(self, backend: str) -> float:
        """Load the model on ``backend``; milliseconds."""
        folder = str(Path(self._folder.name, "model"))
        return float(self._node.ask(do="load", folder=folder, backend=backend)["milliseconds"])

    def run(self, given: Sequence[np.ndarray], *, together: int = TOGETHER) -> Arrays:
        """Outputs on the backend loaded last, for ``given`` as :func:`fed` gives it."""
        folder = Path(self._folder.name)
        inputs = []
        for i, (end, values) in enumerate(zip(self._model.inputs, given, strict=True)):
            file = folder / f"input_{i}.bin"
            file.write_bytes(np.ascontiguousarray(values).tobytes())
            inputs.append({"name": end.tensor, "file": str(file), "shape": list(values.shape), "dtype": end.dtype})
        outputs = [
            {"name": end.tensor, "file": str(folder / f"output_{i}.bin")} for i, end in enumerate(self._model.outputs)
        ]
        batch = {"fixed": self._model.inputs[0].shape[0], "most": together}
        made = self._node.ask(do="run", inputs=inputs, outputs=outputs, batch=batch)["outputs"]
        return tuple(
            np.frombuffer(Path(output["file"]).read_bytes(), PLAIN[each["dtype"]]).reshape(each["shape"])
            for output, each in zip(outputs, made, strict=True)
        )

    def seconds(self, count: int) -> float:
        """Of ``count`` runs on the first batch of the last :meth:`run`, as Node has measured it."""
        return float(self._node.ask(do="time", count=count)["seconds"])

    def operators(self) -> frozenset[str]:
        """The operators of TensorFlow that this TF.js has."""
        return frozenset(self._node.ask(do="operators")["operators"])

    def close(self) -> None:
        """Remove the folder."""
        self._folder.cleanup()


def on_backends(session: Session, given: Sequence[np.ndarray], backends: Sequence[str]) -> dict[str, Arrays | str]:
    """Backend -> its outputs, or why it has none: a kernel that only the first, pure JavaScript, has.

    Raises:
        InputError: the model does not run.
    """
    found: dict[str, Arrays | str] = {}
    for backend in backends:
        try:
            session.load(backend)
            found[backend] = session.run(given)
        except InputError as error:
            if backend == BACKENDS[0] or NO_KERNEL not in str(error):
                raise InputError(f"TF.js ({backend}) does not run the model: {error}") from None
            found[backend] = str(error)
    return found


def apart(found: Mapping[str, Arrays | str]) -> list[str]:
    """A line for each backend that is not the first one's like, or that does not run the model."""
    lines = []
    (_, first), *others = found.items()
    for backend, values in others:
        if isinstance(values, str):
            lines.append(f"TF.js on {backend}: {values}")
            continue
        for i, (a, b) in enumerate(zip(first, values, strict=True)):
            assert isinstance(a, np.ndarray)
            error = relative_error(a.astype("float32"), b.astype("float32"))
            if not error <= MOST_APART:
                lines.append(
                    f"output {i} on {backend} differs from pure JavaScript by {error:.3g} of its spread, expected at "
                    f"most {MOST_APART:g}"
                )
    return lines


def fed(ends: Sequence[End], inputs: Any) -> list[np.ndarray]:
    """``inputs`` as the model takes them, in its order and types.

    Where they are a dict whose keys are its names, the names decide.

    Raises:
        InputError: another number of them, another shape, or integers that do not fit.
    """
    names = [end.name for end in ends]
    by_name = isinstance(inputs, dict) and set(inputs) == set(names)
    leaves = [inputs[name] for name in names] if by_name else tree.flatten(inputs)
    if len(leaves) != len(ends):
        raise InputError(f"the model takes {len(ends)} inputs, received {len(leaves)}")
    given = [_as(end, np.asarray(leaf)) for end, leaf in zip(ends, leaves, strict=True)]
    if len({len(each) for each in given}) > 1:
        raise InputError(f"received {', '.join(str(len(each)) for each in given)} samples for the inputs of one model")
    return given


def _as(end: End, values: np.ndarray) -> np.ndarray:
    wanted = end.shape[1:]
    same = values.ndim == len(end.shape) and values.ndim > 0
    if not same or any(n not in (None, m) for n, m in zip(wanted, values.shape[1:], strict=True)):
        shape = "x".join("?" if n is None else str(n) for n in wanted) or "one number"
        raise InputError(f"the model's input {end.name!r} takes {shape} a sample, received {values.shape[1:]}")
    limits = np.iinfo("int32")
    if end.dtype == "int32" and values.size and not limits.min <= values.min() <= values.max() <= limits.max:
        raise InputError(f"the model's input {end.name!r} takes integers of 32 bits, received up to {values.max()}")
    return values.astype(PLAIN[end.dtype])


def timer(session: Session, given: Sequence[np.ndarray], backend: str) -> Callable[[int], float]:
    """A function that runs the model ``n`` times on the first sample and gives the seconds, as Node measured them."""
    session.load(backend)
    session.run([values[:1] for values in given], together=1)
    return session.seconds
