"""What an artifact for the web computes in a headless Chromium, beside the runtime that it was verified in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from kompakt.compare import relative_error
from kompakt.errors import InputError
from kompakt.targets import target_at
from kompakt.targets.tflite_file import TFLiteFile
from kompakt.targets.web_browser import Seen, run_in_browser, run_litert_js

MOST_APART = 1e-4
"""Of an output's spread: what two runtimes of float32 may differ by."""

PAGES: dict[str, Callable[[bytes, Any], Seen]] = {"tfjs": run_in_browser, "tflite": run_litert_js}
"""Target -> what runs its artifacts in a page: TF.js, or LiteRT.js."""


@dataclass(frozen=True, kw_only=True)
class BrowserCheck:
    """How a page agrees with the runtime that an artifact was verified in, on the same samples.

    Attributes:
        largest: difference, in the output's unit. relative: root mean square difference over the spread.
        milliseconds: median of a run of all samples. browser, runtime: their versions.
    """

    samples: int
    largest: float
    relative: float
    milliseconds: float
    browser: str
    runtime: str

    @property
    def agrees(self) -> bool:
        """Whether the two differ by no more than float32 does."""
        return self.relative <= MOST_APART

    @property
    def text(self) -> str:
        """One line for people."""
        return (
            f"{self.browser}, {self.runtime}: largest difference {self.largest:.3g} on {self.samples} samples, "
            f"{self.milliseconds:.3g} ms"
        )


def check_in_browser(path: str | Path, inputs: Any) -> BrowserCheck:
    """Run the artifact at ``path`` in a headless Chromium, from a page on 127.0.0.1, and compare.

    Args:
        path: of a TF.js folder, or a .tflite file with float inputs and outputs. inputs: as for its model.

    Raises:
        InputError: another artifact, no browser, or the browser does not run it.
    """
    place = target_at(path)
    if place.name not in PAGES:
        raise InputError(f"{path}: {place.name} artifacts run in no browser; {' and '.join(PAGES)} do")
    data = place.read(path)
    if place.name == "tflite":
        _check_ends(path, TFLiteFile(data))
    seen, expected = PAGES[place.name](data, inputs), place.run(data, inputs).values
    pairs = [(e, np.asarray(s, "float32").reshape(e.shape)) for e, s in zip(expected, seen.values, strict=True)]
    return BrowserCheck(
        samples=len(expected[0]),
        largest=max(float(np.abs(e - s).max()) for e, s in pairs),
        relative=max(relative_error(e, s) for e, s in pairs),
        milliseconds=median(seen.times) if seen.times else 0.0,
        browser=seen.browser,
        runtime=seen.version,
    )


NO_ENDS = ("INT8", "UINT8", "INT16")
"""What LiteRT.js has no inputs and outputs of."""


def _check_ends(path: str | Path, file: TFLiteFile) -> None:
    kinds = {file.tensors[i].kind for i in (*file.inputs, *file.outputs)} & {*NO_ENDS}
    if kinds:
        raise InputError(
            f"{path}: LiteRT.js takes no {' or '.join(sorted(kinds))} inputs and outputs; export it with --io float32"
        )
