"""Silence what converters print from C++ and Python while they work."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No chatter on stdout or stderr inside; errors are raised as ever. Set KOMPAKT_DEBUG=1 to see it all."""
    if os.environ.get("KOMPAKT_DEBUG"):
        yield
        return
    sys.stderr.flush()
    saved = os.dup(2)
    level = logging.root.manager.disable
    try:
        with (
            tempfile.TemporaryFile() as sink,
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            logging.disable(logging.WARNING)
            os.dup2(sink.fileno(), 2)
            yield
    finally:
        sys.stderr.flush()
        os.dup2(saved, 2)
        os.close(saved)
        logging.disable(level)
