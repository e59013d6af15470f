"""Labelled samples, batch by batch, and what a model or a file answers to them."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from keras import tree

from kompakt.calibrate import checked_kind
from kompakt.data import Data, load_data
from kompakt.errors import InputError, VerificationError
from kompakt.isolated import lanes
from kompakt.progress import Report
from kompakt.subjects import Subject, in_order
from kompakt.targets.target import Outputs

Array = np.ndarray[Any, Any]
Pair = tuple[Any, Any]

EXPECTED = "a pair (x, y) of arrays, batches of such pairs, or what kompakt.load_data takes"


@dataclass(frozen=True, kw_only=True, eq=False)
class Labelled:
    """Samples to judge by.

    Attributes:
        pairs: gives (inputs, labels) of a batch each. batches: how many, or None where that is not known.
        again: whether ``pairs`` gives them more than once. source: where they are from.
    """

    pairs: Callable[[], Iterable[Pair]]
    batches: int | None
    again: bool
    source: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """Outputs of a model or file, and the labels of the same samples: an array an output, (samples, ...) each."""

    outputs: tuple[Array, ...]
    labels: tuple[Array, ...]
    breaches: tuple[str, ...] = ()


def labelled(data: Any, batch_size: int) -> Labelled:
    """Data of any form in batches of samples and labels.

    Args:
        data: (x, y) of arrays (several inputs in lists or mappings); an iterable of such pairs: a list, a generator, a
            ``tf.data.Dataset``, a ``keras.utils.PyDataset``; or what :func:`kompakt.load_data` gives or takes, of which
            the test samples are meant. batch_size: of arrays.

    Raises:
        InputError: none of these.

    Example:
        >>> found = labelled((np.zeros((5, 2)), np.arange(5)), 4)
        >>> [y.tolist() for _, y in found.pairs()]
        [[0, 1, 2, 3], [4]]
    """
    if batch_size < 1:
        raise InputError(f"batch_size={batch_size}: expected a whole number from 1")
    if isinstance(data, (str, Path, Data)) or (isinstance(data, Mapping) and "x_test" in data):
        found = load_data(data)
        return _of_arrays(found.x_test, found.y_test, batch_size, found.source)
    if isinstance(data, tuple) and data and not isinstance(data[0], tuple):
        return _of_arrays(*_pair(data), batch_size, "arrays in memory")
    if isinstance(data, Mapping) or hasattr(data, "shape"):
        raise InputError(f"data: received {type(data).__name__}, there are no labels in it; expected {EXPECTED}")
    checked_kind(data, "data")
    return Labelled(
        pairs=lambda: map(_pair, checked_kind(data, "data")),
        batches=_length(data),
        again=not isinstance(data, Iterator),
        source=f"batches of a {type(data).__name__}",
    )


def _of_arrays(x: Any, y: Any, batch_size: int, source: str) -> Labelled:
    x, y = (tree.map_structure(np.asarray, _arrays(each)) for each in (x, y))
    sizes = {len(leaf) if leaf.ndim else 0 for leaf in tree.flatten((x, y))}
    if len(sizes) != 1 or not max(sizes):
        raise InputError(
            f"data: arrays with {', '.join(map(str, sorted(sizes)))} samples; expected as many in each, 1 or more"
        )
    (size,) = sizes

    def pairs() -> Iterator[Pair]:
        for start in range(0, size, batch_size):
            few = slice(start, start + batch_size)
            yield tree.map_structure(lambda a, few=few: a[few], x), tree.map_structure(lambda a, few=few: a[few], y)

    return Labelled(pairs=pairs, batches=math.ceil(size / batch_size), again=True, source=source)


def _arrays(values: Any) -> Any:
    """A list of numbers as an array; a list of arrays as it is."""
    lists = isinstance(values, (list, tuple))
    return np.asarray(values) if lists and not any(hasattr(v, "shape") for v in values) else values


def _pair(batch: Any) -> Pair:
    if not isinstance(batch, tuple) or len(batch) != 2:
        got = f"{len(batch)} things" if isinstance(batch, tuple) else type(batch).__name__
        weights = "; weights of samples are not taken" if isinstance(batch, tuple) and len(batch) == 3 else ""
        raise InputError(f"data: received {got}, expected pairs (inputs, labels){weights}")
    return batch[0], batch[1]


def _length(data: Any) -> int | None:
    try:
        return len(data)
    except (TypeError, NotImplementedError):  # a generator, or a Dataset that does not know
        return None


def answers(judged: Subject, data: Labelled, *, threads: int, report: Report) -> Answers:
    """Run ``judged`` on all of ``data``; everything it gives is held in memory.

    Args:
        threads: batches that are computed at once, each in a process of its own; a Keras model uses all cores anyway.

    Raises:
        InputError: no samples, or labels that do not belong to the outputs.
        VerificationError: an output is NaN or infinite.
    """
    rows: list[tuple[Outputs, list[Array]]] = []
    work = _work(judged)
    several = threads if judged.path is not None else 1
    for done, made in enumerate(_mapped(work, data.pairs(), several), 1):
        rows.append(made)
        report(f"running {judged.name}", done / data.batches if data.batches else None)
    if not rows:
        raise InputError("data is empty: expected at least one sample")
    try:
        outputs = [np.concatenate(column) for column in zip(*(made.values for made, _ in rows), strict=True)]
        labels = [np.concatenate(column) for column in zip(*(given for _, given in rows), strict=True)]
    except ValueError as error:
        raise InputError(f"{judged.name}: batches of different shapes ({error}); pad them to one") from None
    _check_finite(judged.name, outputs)
    said = dict.fromkeys(itertools.chain.from_iterable(made.breaches for made, _ in rows))
    return Answers(outputs=tuple(outputs), labels=tuple(labels), breaches=tuple(said))


def _work(judged: Subject) -> Callable[[Pair], tuple[Outputs, list[Array]]]:
    def work(pair: Pair) -> tuple[Outputs, list[Array]]:
        inputs = tree.map_structure(np.asarray, in_order(pair[0], judged.inputs, "data"))
        made = judged.run(inputs)
        return made, _labels(pair[1], made.values, judged.outputs)

    return work


def _labels(given: Any, outputs: Sequence[Array], names: Sequence[str] | None) -> list[Array]:
    """The labels as an array an output."""
    count = len(outputs)
    if count > 1:
        found = [np.asarray(each) for each in tree.flatten(in_order(given, names, "labels"))]
    else:
        leaves = tree.flatten(given)
        found = [np.asarray(leaves[0] if len(leaves) == 1 and np.ndim(leaves[0]) else given)]
    if len(found) != count:
        raise InputError(
            f"data: labels for {len(found)} outputs, there are {count}; expected a list with one array for each"
        )
    for label, output in zip(found, outputs, strict=True):
        if not label.ndim or len(label) != len(output):
            raise InputError(f"data: labels of shape {label.shape} for {len(output)} samples; expected one a sample")
    return found


def _mapped(work: Callable[[Any], Any], items: Iterable[Any], threads: int) -> Iterator[Any]:
    """``map``, of which ``threads`` run at once; as many more wait, not all that there are."""
    if threads == 1:
        yield from map(work, items)
        return
    with lanes(threads) as pool:
        waiting: deque[Any] = deque()
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _check_finite(name: str, outputs: Sequence[Array]) -> None:
    bad = np.zeros(len(outputs[0]), bool)
    for values in outputs:
        bad |= ~np.isfinite(values.reshape(len(values), -1)).all(-1)
    if bad.any():
        text = (
            f"{name}: the outputs of {int(bad.sum())} of {len(bad)} samples are NaN or infinite, the first is sample "
            f"{int(bad.argmax())}; a metric of them would be no number"
        )
        raise VerificationError(text, (text,))
