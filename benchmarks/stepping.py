"""Time the training steps of two models in turns. Needs numpy and a Keras of any generation, nothing of kompakt."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

STEPS_A_TURN = 2
"""Steps one model trains before the other has its turn: few, so that a slow moment of the machine hits both."""


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """Step time of one model over that of another.

    Attributes:
        median, low, high: of the turns' ratios of elapsed time, with the quartiles. cpu: ratio of the processor
            time of all turns, which other processes disturb less. seconds: elapsed, of a step of the first model.
        first: seconds of its first step, which traces and compiles.
    """

    median: float
    low: float
    high: float
    cpu: float
    seconds: float
    first: float

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


class _Turns:
    """Lets two threads run one at a time, changing over when the running one says so."""

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._running = 0
        self._gone: set[int] = set()

    def wait(self, side: int) -> None:
        with self._change:
            self._change.wait_for(lambda: self._running == side or 1 - side in self._gone)

    def hand_over(self, side: int) -> None:
        with self._change:
            self._running = 1 - side
            self._change.notify_all()

    def leave(self, side: int) -> None:
        with self._change:
            self._gone.add(side)
            self._change.notify_all()


def _stopwatch(base: type, clock: _Turns, side: int, owner: Any, taken: list[tuple[float, float]], turns: int) -> Any:
    """A callback that notes elapsed and processor time of each turn of ``owner``, until there are ``turns``."""

    class Stopwatch(base):  # type: ignore[misc]
        seen = 0

        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            if self.seen % STEPS_A_TURN == 0:
                clock.wait(side)
                self.start = time.perf_counter(), time.process_time()

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.seen += 1
            if self.seen % STEPS_A_TURN == 0:
                float(logs["loss"])  # waits for what runs in the background
                taken.append((time.perf_counter() - self.start[0], time.process_time() - self.start[1]))
                clock.hand_over(side)
                owner.stop_training = len(taken) >= turns

    return Stopwatch()


def step_ratio(
    model: Any, plain: Any, data: tuple[Any, Any], *, base: type, callbacks: Sequence[Any], turns: int, batch: int = 32
) -> Ratio:
    """Time of a step of ``model`` over that of ``plain``, each in a ``fit`` of its own, the two running in turns.

    The first turn of each traces and compiles and is left out, and one more for the caches. All that ``fit``
    does in a step counts, callbacks too.

    Args:
        model, plain: compiled. data: (x, y), gone through as often as ``turns`` need. base: the Callback class of
            their Keras. callbacks: of ``model``.
    """
    clock = _Turns()
    taken: list[list[tuple[float, float]]] = [[], []]
    failed: list[BaseException] = []

    def fit(side: int, trained: Any, extra: Sequence[Any]) -> None:
        clock.wait(side)
        # Ours is called first, so that the time of the callbacks after it counts.
        calls = [_stopwatch(base, clock, side, trained, taken[side], turns + 2), *extra]
        try:
            trained.fit(*data, batch_size=batch, epochs=10**6, shuffle=False, verbose=0, callbacks=calls)
        except BaseException as error:  # noqa: BLE001  handed to the caller's thread
            failed.append(error)
        clock.leave(side)

    threads = [
        threading.Thread(target=fit, args=(side, *each)) for side, each in enumerate([(model, callbacks), (plain, ())])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    ours, theirs = (np.array(each[2:]) for each in taken)
    low, median, high = np.quantile(ours[:, 0] / theirs[:, 0], (0.25, 0.5, 0.75))
    return Ratio(
        median=float(median),
        low=float(low),
        high=float(high),
        cpu=float(ours[:, 1].sum() / theirs[:, 1].sum()),
        seconds=float(np.median(ours[:, 0])) / STEPS_A_TURN,
        first=taken[0][0][0],
    )
