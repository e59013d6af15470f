"""A graph in the browser: Netron, on 127.0.0.1 alone and with nothing told to anyone; or Model Explorer.

Netron's page asks ``ipinfo.io`` where one is, reports its use to Google, and half a year after its release shows
nothing but a demand to update. Its server gives whatever lies beside the file to whoever asks. So Netron serves its
page to us, and what the browser gets comes through a server of our own: its policy lets the page speak with that alone,
and it has the files of the artifact and no others.
"""

from __future__ import annotations

import contextlib
import http.client
import http.server
import importlib.util
import logging
import re
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from kompakt.errors import InputError
from kompakt.targets import target_at
from kompakt.viewable import check_model

HOST = "127.0.0.1"

POLICY = (
    "default-src 'self' data: blob: 'unsafe-inline'; connect-src 'self' data: blob:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
"""Nothing is loaded from elsewhere, or sent there. Netron's own policy, in its page, holds too: no inline scripts."""

DATE = re.compile(rb'<meta name="date" content="[^"]*">')
"""By which the page tells that it is old."""

PLAIN = re.compile(r"[^\w.() -]")
"""What a name in an address had better not have."""

BINARY = "application/octet-stream"

DATA = "/data/"
"""Under which Netron serves the files of a model."""

NO_NETRON = "Netron is not installed: pip install 'kompakt[view]'"
NO_EXPLORER = (
    "Model Explorer is not installed: pip install ai-edge-model-explorer (some 600 MB), or leave out --explorer"
)


def graph_file(path: str | Path) -> Path:
    """The file that a viewer of graphs opens: ``path`` itself, or that of an artifact that is a folder.

    Raises:
        InputError: there is nothing, or a folder that is no artifact.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp()); _ = (folder / "model.json").write_text("{}")
        >>> graph_file(folder).name
        'model.json'
    """
    path = Path(path)
    if path.is_file():
        return path
    return path / target_at(path).main


@contextlib.contextmanager
def netron(path: str | Path, port: int | None = None) -> Iterator[str]:
    """Netron with the graph of ``path``, while the context lasts; gives its address.

    Args:
        port: to listen on, of this machine alone; None for one that is free.

    Raises:
        InputError: Netron is not installed, there is no such file, it is no model, or the port is taken.
    """
    if importlib.util.find_spec("netron") is None:
        raise InputError(NO_NETRON)
    import netron as package

    file = graph_file(path)
    check_model(path)
    logging.getLogger("netron").setLevel(logging.WARNING)  # it names the server that is ours alone
    name = PLAIN.sub("_", file.name)
    with tempfile.TemporaryDirectory() as folder:
        stand_in = Path(folder, name)  # Netron itself would serve all that lies beside the file
        stand_in.touch()
        inner = package.serve(str(stand_in), None, address=(HOST, 0))
        try:
            with _front(inner[1], {**_beside(Path(path), file), name: file}, port) as address:
                yield address
        finally:
            package.stop(inner)


def explorer(path: str | Path, port: int | None = None, *, browser: bool = True) -> subprocess.Popen[bytes]:
    """Model Explorer with the graph of ``path``, as a process that runs until it is ended.

    Raises:
        InputError: it is not installed, there is no such file, that is no model, or the port is taken.
    """
    if importlib.util.find_spec("model_explorer") is None:
        raise InputError(NO_EXPLORER)
    file = graph_file(path)
    check_model(path)
    number = _free_port(port)
    words = [sys.executable, "-m", "model_explorer", str(file), f"--host={HOST}", f"--port={number}"]
    return subprocess.Popen([*words, *([] if browser else ["--no_open_in_browser"])])


@contextlib.contextmanager
def _taken_port_told(port: int | None) -> Iterator[None]:
    """Say of which port it is that cannot be had."""
    try:
        yield
    except (OSError, OverflowError) as error:
        why = error.strerror if isinstance(error, OSError) else "there is no such port"
        raise InputError(f"port {port}: {why}; choose another from 1024 to 65535, or leave it out") from None


def _free_port(port: int | None) -> int:
    """``port``, or one that is free.

    Raises:
        InputError: it is taken.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as place, _taken_port_told(port):
        place.bind((HOST, port or 0))
        return int(place.getsockname()[1])


def _beside(path: Path, file: Path) -> dict[str, Path]:
    """Name below the folder of ``file`` -> the file, for those of an artifact that is a folder."""
    if path.is_file():
        return {}
    return {each.relative_to(path).as_posix(): each for each in file.parent.rglob("*") if each.is_file()}


@contextlib.contextmanager
def _front(inner: int, files: Mapping[str, Path], port: int | None) -> Iterator[str]:
    """The server that the browser speaks with; gives its address."""
    handler: Any = type("Handler", (_Handler,), {"inner": inner, "files": files})
    with _taken_port_told(port):
        server = http.server.ThreadingHTTPServer((HOST, port or 0), handler)
    handler.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://{HOST}:{handler.port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(http.server.BaseHTTPRequestHandler):
    """Hands on what Netron answers, with a policy that keeps the page to itself."""

    inner: ClassVar[int]
    files: ClassVar[Mapping[str, Path]]
    port: ClassVar[int]

    def do_GET(self) -> None:
        if self.headers.get("Host") not in {f"{HOST}:{self.port}", f"localhost:{self.port}"}:
            self._answer(403, {}, b"")  # another site's name that leads here
            return
        path = urllib.parse.urlparse(self.path).path
        status, kind, content = self._file(path) if path.startswith(DATA) else self._asked(path)
        headers = {"Content-Type": kind, "Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff"}
        if path in ("/", "/index.html"):
            content = DATE.sub(b"", content)
            headers["Set-Cookie"] = "consent=0; SameSite=Strict"  # there is nothing to consent to: it reports nothing
        self._answer(status, headers, content)

    do_HEAD = do_GET

    def _file(self, path: str) -> tuple[int, str, bytes]:
        file = self.files.get(urllib.parse.unquote(path.removeprefix(DATA)))
        try:
            return (404, BINARY, b"") if file is None else (200, BINARY, file.read_bytes())
        except OSError:
            return 404, BINARY, b""

    def _asked(self, path: str) -> tuple[int, str, bytes]:
        connection = http.client.HTTPConnection(HOST, self.inner, timeout=60)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.getheader("Content-Type", BINARY), answer.read()
        finally:
            connection.close()

    def _answer(self, status: int, headers: Mapping[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, text in headers.items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            with contextlib.suppress(ConnectionError):  # the page was closed
                self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Say nothing: the server is no one's but ours."""
