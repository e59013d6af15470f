"""``kompakt view``."""

from __future__ import annotations

import argparse
import contextlib
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
    """``kompakt view``: until it is interrupted."""
    return _explorer(options) if options.explorer else _netron(options)


def _netron(options: Namespace) -> int:
    from kompakt.viewer import netron

    with netron(options.file, options.port) as address:
        if options.json:
            say_json({"address": address})
        else:
            print(f"{address} (Ctrl-C ends it)", flush=True)
        if not options.no_browser:
            webbrowser.open(address)
        with contextlib.suppress(KeyboardInterrupt):
            while not threading.Event().wait(1.0):  # without a time, Windows would not hear Ctrl-C
                continue
    return OK


def _explorer(options: Namespace) -> int:
    from kompakt.viewer import explorer

    process = explorer(options.file, options.port, browser=not options.no_browser)
    try:
        return process.wait()
    except KeyboardInterrupt:
        return OK
    finally:
        process.terminate()
        process.wait()
