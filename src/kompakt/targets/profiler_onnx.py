"""What a profile wants of ONNX files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from kompakt.isolated import call
from kompakt.targets.onnx import SERVER, input_names, noted
from kompakt.targets.profiler import End, Question, ServedProfiler, Stored, Work
from kompakt.targets.target import with_bytes

WORK = "kompakt.targets.onnx_work"
NAME = "onnxruntime"


class ONNXProfiler(ServedProfiler):
    """onnxruntime on the CPU."""

    def ends(self, data: bytes) -> list[End]:
        _, found = call(f"{WORK}:ends", [np.frombuffer(data, "uint8")], of="onnx")
        ends = {name: End(name=name, shape=tuple(shape), integers=whole) for name, shape, whole in found}
        names = noted(data, "inputs")
        return [ends[name] for name in names] if names and set(names) == set(ends) else list(ends.values())

    def stored(self, data: bytes) -> list[Stored]:
        arrays, about = call(f"{WORK}:stored", [np.frombuffer(data, "uint8")], of="onnx")
        sites = {each["tensor"]: site for site, each in (noted(data, "layouts") or {}).items()}
        found = []
        for values, (name, made, kind, size, zero, weight) in zip(arrays, about, strict=True):
            site = sites.get(made, sites.get(name, made))
            layer = sites.get(weight, site).rpartition("/")[0] or site
            found.append(Stored(name=site, layer=layer, kind=kind, values=values, bytes=size, zero=zero))
        return found

    def work(self, data: bytes) -> Sequence[Work]:
        _, rows = call(f"{WORK}:work", [np.frombuffer(data, "uint8")], of="onnx")
        sites = {each["tensor"]: site.rpartition("/")[0] for site, each in (noted(data, "layouts") or {}).items()}
        return [
            Work(name=name, layer=sites.get(weight, output), output=output, macs=macs, arithmetic=kind, traffic=traffic)
            for name, weight, output, macs, kind, traffic in rows
        ]

    def timed(self, data: bytes, inputs: Any, threads: int) -> Question:
        values = {"inputs": input_names(data, inputs), "threads": threads}
        return Question(function=f"{SERVER}:seconds", of=NAME, arrays=with_bytes(data, inputs), values=values)

    def run_once(self, data: bytes, inputs: Any) -> Question:
        values = {"inputs": input_names(data, inputs)}
        return Question(function=f"{SERVER}:run", of=NAME, arrays=with_bytes(data, inputs), values=values)
