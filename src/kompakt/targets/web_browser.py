"""Models run in a headless Chromium, from a page that is served on this machine alone."""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import math
import os
import queue
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from kompakt.errors import InputError
from kompakt.folders import unpacked
from kompakt.targets.tfjs_model import End, read_json, unpacked_model
from kompakt.targets.tfjs_page import PAGE, tensors
from kompakt.targets.tfjs_runtime import fed
from kompakt.targets.tfjs_weights import PLAIN
from kompakt.targets.web_packages import WEB, packages
from kompakt.targets.web_process import NodeProcess, node_process

CHROMIUM = "KOMPAKT_CHROMIUM"
"""Environment variable: path of a Chromium or Chrome to use."""

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
"""What it is called on PATH. Where there is none, one comes with the packages (Linux on x86-64)."""

IN_BROWSER = ("wasm", "webgl", "cpu")
"""TF.js' backends in a browser."""

SECONDS = 300.0
"""That a page may take."""

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".mjs": "text/javascript",
    ".json": "application/json",
}


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a page computed.

    Attributes:
        values: one array an output, (samples, ...). times: milliseconds of each run after the first.
        loading: milliseconds to load the model. version: of the runtime. browser: which it was.
    """

    values: tuple[np.ndarray, ...]
    times: tuple[float, ...]
    loading: float
    version: str
    browser: str


def run_in_browser(data: bytes, inputs: Any, backend: str = "wasm", *, count: int = 10) -> Seen:
    """Run a TF.js artifact in a headless Chromium on ``inputs``, all samples as one batch.

    Args:
        backend: "wasm", "webgl" (drawn in software where there is no graphics card) or "cpu".
        count: runs that are timed.

    Raises:
        InputError: there is no browser, or it does not run the model.
    """
    if backend not in IN_BROWSER:
        raise InputError(f"backend {backend!r}: expected one of {', '.join(IN_BROWSER)}")
    files = unpacked(data)
    model = unpacked_model(files)
    given = tensors(model.inputs, fed(model.inputs, inputs))
    wanted = [{"name": end.name, "tensor": end.tensor} for end in model.outputs]
    vector = {"inputs": given, "outputs": wanted}
    shown = {**files, **_pages("tfjs_check.html"), "vector.json": json.dumps(vector).encode()}
    return _seen(shown, f"tfjs_check.html?backend={backend}&count={count}")


def run_litert_js(data: bytes, inputs: Any) -> Seen:
    """Run a ``.tflite`` file with LiteRT.js (WebAssembly) in a headless Chromium, sample by sample.

    Its inputs and outputs are floats or 32-bit integers: LiteRT.js takes no others. Export with io="float32".

    Raises:
        InputError: there is no browser, or LiteRT.js does not run the file.
    """
    from keras import tree

    leaves = [np.asarray(leaf) for leaf in tree.flatten(inputs)]
    kinds = ["float32" if leaf.dtype.kind == "f" else "int32" for leaf in leaves]
    ends = [
        End(name=f"input_{i}", tensor="", dtype=kind, shape=leaf.shape)
        for i, (leaf, kind) in enumerate(zip(leaves, kinds, strict=True))
    ]
    vector = {"inputs": tensors(ends, leaves)}
    shown = {**_pages("litert_check.html"), "model.tflite": data, "vector.json": json.dumps(vector).encode()}
    return _seen(shown, "litert_check.html")


def take_screenshot(
    data: bytes, path: str | Path, *, backend: str = "wasm", width: int = 900, dark: bool = False
) -> dict[str, Any]:
    """Open the page of a TF.js artifact, wait for its result, and write a picture of it (PNG) to ``path``.

    Returns:
        What the page found: "same", "milliseconds", "backend".

    Raises:
        InputError: there is no browser, or the page has no result.
    """
    with _served(unpacked(data)) as (origin, _), _chromium() as browser:
        url = f"{origin}/index.html?backend={backend}"
        browser.ask(do="open", url=url, width=width, height=600, scale=2, dark=dark)
        found = browser.ask(do="result", timeout=SECONDS)["result"]
        browser.ask(do="screenshot", file=str(Path(path).resolve()))
    return dict(found)


def photograph(page: str, path: str | Path, *, width: int, height: int, dark: bool = False) -> None:
    """Open an HTML page without a network and write a picture of a window of this size (PNG, in pixels) to ``path``.

    Raises:
        InputError: there is no browser.
    """
    with _served({"index.html": page.encode()}) as (origin, _), _chromium() as browser:
        browser.ask(do="open", url=f"{origin}/index.html", width=width, height=height, scale=1, dark=dark)
        browser.ask(do="screenshot", file=str(Path(path).resolve()), whole=False)


def chromium() -> str:
    """Path of a Chromium: what ``KOMPAKT_CHROMIUM`` names, else one on PATH, else "" for the one of the packages.

    Raises:
        InputError: the variable names none.
    """
    own = os.environ.get(CHROMIUM)
    if own and not shutil.which(own):
        raise InputError(f"{CHROMIUM}={own}: no program is there; give the path of a Chromium or Chrome")
    return own or next((found for name in NAMES if (found := shutil.which(name))), "")


def _pages(name: str) -> dict[str, bytes]:
    return {each: (WEB / "page" / each).read_bytes() for each in (*PAGE, name)}


def _seen(files: Mapping[str, bytes], page: str) -> Seen:
    with _served(files) as (origin, results), _chromium() as browser:
        version = browser.ask(do="open", url=f"{origin}/{page}", width=800, height=600, scale=1, dark=False)
        browser.ask(do="result", timeout=SECONDS)
        found = read_json(results.get(timeout=10), "the result of the page")
    if "error" in found:
        raise InputError(f"the browser does not run the model: {str(found['error'])[:400]}")
    return Seen(
        values=tuple(_values(each) for each in found["outputs"]),
        times=tuple(float(each) for each in found["times"]),
        loading=float(found["loading"]),
        version=str(found["version"]),
        browser=str(version["version"]),
    )


def _values(output: Mapping[str, Any]) -> np.ndarray:
    """An output that a page has sent."""
    raw, shape = base64.b64decode(output["base64"]), output["shape"]
    kind = PLAIN[output["dtype"]]
    if len(raw) != math.prod(shape) * kind.itemsize:
        raise InputError(f"the page sent {len(raw)} bytes for an output of shape {shape}")
    return np.frombuffer(raw, kind).reshape(shape)


@contextlib.contextmanager
def _chromium() -> Iterator[NodeProcess]:
    folders: Sequence[Path] = (packages("browser"), packages("node"))
    script = WEB / "browser" / "browser.mjs"
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,  # Chromium may be writing to it still
        node_process(script, chromium(), profile, *map(str, folders)) as process,
    ):
        yield process


@contextlib.contextmanager
def _served(files: Mapping[str, bytes]) -> Iterator[tuple[str, queue.SimpleQueue[bytes]]]:
    """(address of a server of ``files`` on 127.0.0.1, what is posted to it)."""
    results: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    handler = type("Handler", (_Handler,), {"served": dict(files), "results": results})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", results
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(http.server.BaseHTTPRequestHandler):
    """Gives the files it was made with, and nothing else; takes results."""

    served: ClassVar[dict[str, bytes]]
    results: ClassVar[queue.SimpleQueue[bytes]]

    def do_GET(self) -> None:
        name = self.path.split("?")[0].lstrip("/") or "index.html"
        content = self.served.get(name)
        self.send_response(404 if content is None else 200)
        self.send_header("Content-Type", TYPES.get(Path(name).suffix, "application/octet-stream"))
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        self.wfile.write(content or b"")

    def do_POST(self) -> None:
        self.results.put(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing: the server is no one's but ours."""
