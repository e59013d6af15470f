"""``kompakt view`` with the real Netron: its page and the model come from 127.0.0.1, and nothing else does."""

import functools
import http.client
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
from pathlib import Path

import keras
import pytest

import kompakt as kp
from kompakt import viewer
from kompakt.cli import main
from kompakt.errors import InputError

needs_netron = pytest.mark.skipif(
    importlib.util.find_spec("netron") is None, reason="Netron is not installed: pip install 'kompakt[view]'"
)


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """The bytes of a TFLite file."""
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="d")])
    return Path(kp.export(model, tmp_path_factory.mktemp("made") / "m.tflite").path).read_bytes()


END = {"name": "x", "dtype": "DT_FLOAT", "tensorShape": {}}
WEB = {
    "format": "graph-model",
    "modelTopology": {"node": [{"name": "x", "op": "Placeholder", "attr": {"dtype": {"type": "DT_FLOAT"}}}]},
    "signature": {"inputs": {"x": END}, "outputs": {"x": END}},
    "weightsManifest": [],
}


@pytest.fixture
def folder(tmp_path, content):
    (tmp_path / "m.tflite").write_bytes(content)
    (tmp_path / "secret.txt").write_text("not yours")
    (tmp_path / "web").mkdir()
    (tmp_path / "web/model.json").write_text(json.dumps(WEB))
    (tmp_path / "web/w.bin").write_bytes(b"12")
    return tmp_path


def fetched(address, path, method="GET", **headers):
    """(status, headers, content) of ``path``."""
    connection = http.client.HTTPConnection(urllib.parse.urlparse(address).netloc, timeout=30)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    found = answer.status, dict(answer.getheaders()), answer.read()
    connection.close()
    return found


@needs_netron
def test_the_page_and_the_model_come_through(folder, content):
    with viewer.netron(folder / "m.tflite") as address:
        status, headers, page = fetched(address, "/")
        assert status == 200 and b"<title>Netron</title>" in page and b'content="/data/m.tflite"' in page
        assert headers["Content-Type"] == "text/html"
        assert fetched(address, "/data/m.tflite")[::2] == (200, content)
        assert fetched(address, "/view.js")[0] == 200
        assert fetched(address, "/", "HEAD")[::2] == (200, b"")


@needs_netron
def test_the_page_speaks_with_no_one_else(folder):
    """Netron asks ipinfo.io, reports to Google, and stops half a year after its release."""
    with viewer.netron(folder / "m.tflite") as address:
        _, headers, page = fetched(address, "/index.html")
    policy = dict(each.strip().split(" ", 1) for each in headers["Content-Security-Policy"].split(";"))
    for kind in ("default-src", "connect-src"):
        assert not any("http" in source or "*" in source for source in policy[kind].split())
    assert headers["Set-Cookie"].startswith("consent=") and b'name="date"' not in page


@needs_netron
def test_no_other_file_is_given_out(folder):
    with viewer.netron(folder / "m.tflite") as address:
        port = urllib.parse.urlparse(address).port
        for path in ("/data/secret.txt", "/data/../secret.txt", "/data/web/model.json", "/data/%2e%2e/m.tflite"):
            assert fetched(address, path)[0] == 404
        # nor by Netron's own server, whatever its port
        for other in _listening() - {port}:
            assert b"not yours" not in fetched(f"http://127.0.0.1:{other}", "/data/secret.txt")[2]


@needs_netron
def test_a_name_of_another_site_that_leads_here_is_refused(folder):
    with viewer.netron(folder / "m.tflite") as address:
        assert fetched(address, "/", Host="evil.example")[0] == 403
        port = urllib.parse.urlparse(address).port
        assert fetched(address, "/", Host=f"localhost:{port}")[0] == 200


@needs_netron
def test_the_shards_of_a_web_model_come_too(folder):
    with viewer.netron(folder / "web") as address:
        assert b'content="/data/model.json"' in fetched(address, "/")[2]
        assert fetched(address, "/data/w.bin")[::2] == (200, b"12")


@needs_netron
def test_a_name_with_signs_that_mean_something_in_an_address(folder, content):
    (folder / 'a#b?"<c>.tflite').write_bytes(content)
    with viewer.netron(folder / 'a#b?"<c>.tflite') as address:
        assert b'content="/data/a_b___c_.tflite"' in fetched(address, "/")[2]
        assert fetched(address, "/data/a_b___c_.tflite")[2] == content


@needs_netron
def test_it_ends_with_its_context(folder):
    with viewer.netron(folder / "m.tflite") as address:
        before = _listening()
    time.sleep(0.5)
    assert urllib.parse.urlparse(address).port not in _listening() and len(_listening()) < len(before)


@needs_netron
def test_a_port_that_is_taken_is_one_clear_error(folder):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with (
            pytest.raises(InputError, match=f"port {port}: Address already in use"),
            viewer.netron(folder / "m.tflite", port),
        ):
            pass


@needs_netron
@pytest.mark.slow
def test_the_command_runs_until_it_is_interrupted(folder, content):
    command = [sys.executable, "-m", "kompakt", "view", "m.tflite", "--no-browser", "--json"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    heard = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background job ignores it
    with subprocess.Popen(command, cwd=folder, preexec_fn=heard, **pipes) as process:
        try:
            address = json.loads(process.stdout.readline())["address"]
            assert address.startswith("http://127.0.0.1:")
            assert fetched(address, "/data/m.tflite")[2] == content
            hosts = _hosts_of(process.pid)
            assert hosts == {"127.0.0.1"}, hosts
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0 and process.stderr.read() == ""
        finally:
            process.kill()


@needs_netron
@pytest.mark.slow
@pytest.mark.parametrize("name", ["m.tflite", "m.h5"])
def test_the_command_ends_with_the_reader_of_what_it_prints(folder, name):
    """``kompakt view m.h5 | head -1`` once never ended."""
    if name == "m.h5":
        keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save(folder / name)
    command = [sys.executable, "-m", "kompakt", "view", name, "--no-browser"]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=folder, **pipes) as process:
        try:
            assert process.stdout.readline().startswith("http://127.0.0.1:")
            process.stdout.close()
            assert process.wait(30) == 141 and process.stderr.read() == ""
        finally:
            process.kill()


def _listening(pid="self"):
    """Ports on which a process listens on 127.0.0.1."""
    return {port for host, port in _sockets(pid) if host == "127.0.0.1"}


def _hosts_of(pid):
    return {host for host, _ in _sockets(pid)}


def _sockets(pid):
    """(address, port) of each socket of a process that listens, as Linux tells."""
    if not os.path.exists("/proc/net/tcp"):
        pytest.skip("no /proc to see what a process listens on")
    own = set()
    for each in os.listdir(f"/proc/{pid}/fd"):
        try:
            own.add(os.readlink(f"/proc/{pid}/fd/{each}"))
        except OSError:
            continue
    found = set()
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        path = f"/proc/{pid}/net/{table}"
        for line in Path(path).read_text().splitlines()[1:] if os.path.exists(path) else []:
            fields = line.split()
            if fields[3] != "0A" or f"socket:[{fields[9]}]" not in own:
                continue
            host, port = fields[1].split(":")
            words = [bytes.fromhex(host)[i : i + 4][::-1] for i in range(0, len(host) // 2, 4)]
            found.add((socket.inet_ntop(family, b"".join(words)), int(port, 16)))
    return found


def test_the_file_of_a_folder(folder):
    assert viewer.graph_file(folder / "web") == folder / "web/model.json"
    assert viewer.graph_file(folder / "m.tflite") == folder / "m.tflite"
    with pytest.raises(InputError, match=r"is no artifact, and holds some: name one of .*web \(tfjs\)"):
        viewer.graph_file(folder)
    with pytest.raises(InputError, match="No such file"):
        viewer.graph_file(folder / "none")


@pytest.mark.parametrize(
    ("missing", "arguments", "said"),
    [
        ("netron", (), "kompakt: Netron is not installed: pip install 'kompakt[view]'\n"),
        (
            "model_explorer",
            ("--explorer",),
            "pip install ai-edge-model-explorer (some 600 MB), or leave out --explorer\n",
        ),
    ],
)
def test_what_is_not_installed_is_one_line(missing, arguments, said, folder, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)  # as where it is not installed
    assert main(["view", str(folder / "m.tflite"), *arguments]) == 2
    assert capsys.readouterr().err.endswith(said)


OTHERS = {
    "notes.txt": b"hello",
    "records.json": b'{"title": "t", "trials": []}',
    "list.json": b"[1]",
    "deep.json": b"[" * 200_000,
    "empty.keras": b"",
    "text.keras": b"no zip",
    "text.h5": b"no HDF5",
    "empty.pb": b"",
    "empty.tflite": b"",
    "text.tflite": b"no flatbuffer",
    "d.npz": b"PK\x03\x04",
}


@pytest.mark.parametrize("more", [(), ("--explorer",)])
@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_model_is_not_served(name, more, tmp_path, capsys, monkeypatch):
    """Whatever file was named was served."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: True)  # whether the viewers are installed or not
    (tmp_path / name).write_bytes(OTHERS[name])
    assert main(["view", str(tmp_path / name), "--no-browser", *more]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"kompakt: {tmp_path / name}: ") and err.count("\n") == 1


@needs_netron
@pytest.mark.parametrize("name", ["m.keras", "graph.json", "w.H5"])
def test_models_of_other_formats_are_served(name, tmp_path):
    made = {"graph.json": b'{"nodes": []}', "w.H5": b"\x89HDF\r\n\x1a\n", "m.keras": b"PK\x03\x04"}[name]
    (tmp_path / name).write_bytes(made)
    with viewer.netron(tmp_path / name) as address:
        assert fetched(address, f"/data/{name}")[2] == made


@pytest.mark.parametrize("port", ["0", "65536", "-1", "x"])
def test_a_port_that_is_none_is_one_line(port, folder, capsys):
    assert main(["view", str(folder / "m.tflite"), "--port", port]) == 2
    assert capsys.readouterr().err.count("\n") == 1
