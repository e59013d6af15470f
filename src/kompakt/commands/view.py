"""``kompakt view``."""

from __future__ import annotations

import argparse
import contextlib
import select
import subprocess
import sys
import threading
import webbrowser
from argparse import ArgumentParser, Namespace

from kompakt.commands.shared import OK, say_json

ABOUT = "show a graph in the browser (Netron)"


def port(text: str) -> int:
    """A port, as argparse reads it."""
    if not text.isdecimal() or not 0 < int(text) < 2**16:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a port from 1 to 65535")
    return int(text)


def options(command: ArgumentParser) -> None:
    """What the command takes."""
    command.add_argument("file", metavar="FILE", help="file or folder of any target, or whatever Netron opens")
    command.add_argument("--port", type=port, metavar="N", help="to listen on, on 127.0.0.1 (default: a free one)")
    command.add_argument("--no-browser", action="store_true", help="print the address and open nothing")
    command.add_argument("--explorer", action="store_true", help="Model Explorer in place of Netron")


def check(options: Namespace) -> None:
    """What can be told at once."""
    from kompakt.commands.early import check_artifact

    check_artifact(options.file)


def run(options: Namespace) -> int:
    """``kompakt view``: until it is interrupted, or nobody is left who reads what it prints (``| head -1``)."""
    return _explorer(options) if options.explorer else _netron(options)


def _netron(options: Namespace) -> int:
    from kompakt.viewer import netron

    with netron(options.file, options.port) as address:
        if options.json:
            say_json({"address": address}, indent=None)
        else:
            print(f"{address} (Ctrl-C ends it)", flush=True)
        if not options.no_browser:
            webbrowser.open(address)
        with contextlib.suppress(KeyboardInterrupt):
            while not threading.Event().wait(1.0):  # without a time, Windows would not hear Ctrl-C
                _check_reader()
    return OK


def _check_reader() -> None:
    """Raise as a write would where the other end of the pipe that we print to is closed."""
    if not hasattr(select, "poll"):  # Windows
        return
    pipe = select.poll()
    try:
        pipe.register(sys.stdout.fileno(), 0)  # errors are told unasked
    except (OSError, ValueError):  # no file
        return
    if any(event & (select.POLLERR | select.POLLHUP) for _, event in pipe.poll(0)):
        raise BrokenPipeError


def _explorer(options: Namespace) -> int:
    from kompakt.viewer import explorer

    process = explorer(options.file, options.port, browser=not options.no_browser)
    try:
        while process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1.0)
            _check_reader()
        return process.returncode
    except KeyboardInterrupt:
        return OK
    finally:
        process.terminate()
        process.wait()
