"""What a profile wants of TF.js models."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from kompakt.measure import Laps
from kompakt.targets import tfjs_runtime
from kompakt.targets.first_run import peak_resident, reset_peak, resident
from kompakt.targets.profiler import End, FirstRun, Profiler, Stored
from kompakt.targets.target import to_time
from kompakt.targets.tfjs import backends_of, held_sites, opened
from kompakt.targets.tfjs_runtime import Session, new_process


class TFJSProfiler(Profiler):
    """Node with the faster of the two backends that need no graphics card; one thread."""

    threads: ClassVar[bool] = False

    def ends(self, data: bytes) -> list[End]:
        _, model = opened(data)
        return [End(name=end.name, shape=tuple(end.shape), integers=end.dtype != "float32") for end in model.inputs]

    def stored(self, data: bytes) -> Sequence[Stored]:
        _, model = opened(data)
        sites = {each.weight: site for site, each in held_sites(model).items()}
        found = []
        for weight in model.weights:
            if weight.dtype == "float32":
                name = sites.get(weight.name, weight.name)
                found.append(
                    Stored(
                        name=name,
                        layer=name.rpartition("/")[0] if weight.name in sites else name,
                        kind=(weight.compression or weight.dtype).upper(),
                        values=weight.stored,
                        bytes=weight.stored.nbytes,
                        zero=round(-weight.minimum / weight.scale) if weight.compression else 0.0,
                    )
                )
        return found

    def laps(self, data: bytes, inputs: Any, *, threads: int = 1, process: str = "") -> Laps:
        files, model = opened(data)
        given = tfjs_runtime.fed(model.inputs, to_time(inputs))
        seconds = tfjs_runtime.timer(Session(files, model), given, backends_of(files)[-1])
        return lambda n: np.array([seconds(1) for _ in range(n)])

    def first_run(self, data: bytes, inputs: Any) -> FirstRun:
        files, model = opened(data)
        given = [values[: model.inputs[0].shape[0] or 1] for values in tfjs_runtime.fed(model.inputs, inputs)]
        start = time.perf_counter()
        node = new_process()
        try:
            session = Session(files, model, node)
            node.ask(do="time", count=0)  # is answered when TF.js has been read
            ready = time.perf_counter()
            before = resident(node.pid)
            reset_peak(node.pid)
            session.load(backends_of(files)[-1])
            session.run(given, together=1)
            end, peak = time.perf_counter(), peak_resident(node.pid)
            session.close()
        finally:
            node.close()
        growth = None if before is None or peak is None else max(0, peak - before)
        return FirstRun(total=end - start, runtime=ready - start, first=end - ready, growth=growth, process=peak)
