"""TensorBoard's event files, written without TensorFlow: records of protocol buffers, appended one after the other."""

from __future__ import annotations

import importlib.util
import os
import secrets
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kompakt.errors import InputError
from kompakt.files import writable_folder

VERSION = "brain.Event:2"


def log_folder(folder: str | Path) -> Path:
    """``folder``, made where it is missing.

    Raises:
        InputError: TensorBoard is not installed, or the folder cannot be written.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise InputError("TensorBoard is not installed: pip install 'kompakt[tensorboard]'")
    if "://" in str(folder):
        raise InputError(f"log_dir {str(folder)!r}: expected a folder on this machine; copy it to where it shall be")
    return writable_folder(folder)


class EventFile:
    """A file of its own in ``folder``, which TensorBoard shows as a run, beside those of earlier trainings.

    The file is opened and closed at each write: whatever ends the program, what was written can be read.

    Args:
        folder: on this machine; made where it is missing.

    Raises:
        InputError: TensorBoard is not installed, or the folder cannot be written.

    Example:
        >>> import tempfile
        >>> file = EventFile(tempfile.mkdtemp())
        >>> file.write(10, {"sparsity/conv/kernel": 0.5})
        >>> file.path.exists()
        True
    """

    def __init__(self, folder: str | Path) -> None:
        folder = log_folder(folder)
        # TensorBoard reads the files of a folder in the order of their names.
        unique = f"{time.time():017.6f}.{socket.gethostname()}.{os.getpid()}.{secrets.token_hex(4)}"
        self.path = folder / f"events.out.tfevents.{unique}"

    def begin(self, step: int) -> None:
        """Say that training begins at ``step``: of an earlier run that got further, that is not shown any more."""
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog

        self._append(Event(session_log=SessionLog(status=SessionLog.START), step=step, wall_time=time.time()))

    def write(
        self,
        step: int,
        scalars: Mapping[str, float],
        histograms: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Tag -> number, and tag -> (k, 3) array of left edge, right edge and count, at ``step``."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.histogram import metadata
        from tensorboard.plugins.scalar.summary_v2 import scalar_pb
        from tensorboard.util.tensor_util import make_tensor_proto

        summary = Summary()
        for tag, value in scalars.items():
            summary.MergeFrom(scalar_pb(tag, value))
        for tag, buckets in (histograms or {}).items():
            about = metadata.create_summary_metadata(display_name=None, description=None)
            summary.value.add(tag=tag, metadata=about, tensor=make_tensor_proto(buckets, dtype=np.float64))
        if summary.value:
            self._append(Event(summary=summary, step=step, wall_time=time.time()))

    def arrange(self, charts: Mapping[str, str]) -> None:
        """Title -> regular expression of the tags that one chart of the page "Custom Scalars" shows together."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.compat.proto.tensor_pb2 import TensorProto
        from tensorboard.compat.proto.types_pb2 import DT_STRING
        from tensorboard.plugins.custom_scalar import layout_pb2, metadata

        each = [
            layout_pb2.Chart(title=title, multiline=layout_pb2.MultilineChartContent(tag=[regex]))
            for title, regex in charts.items()
        ]
        layout = layout_pb2.Layout(category=[layout_pb2.Category(title="kompakt", chart=each)])
        summary = Summary()
        summary.value.add(
            tag=metadata.CONFIG_SUMMARY_TAG,
            metadata=metadata.create_summary_metadata(),
            tensor=TensorProto(dtype=DT_STRING, string_val=[layout.SerializeToString()]),
        )
        self._append(Event(summary=summary, wall_time=time.time()))

    def _append(self, event: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        with self.path.open("ab") as file:
            records = RecordWriter(file)
            if not file.tell():
                records.write(Event(file_version=VERSION, wall_time=time.time()).SerializeToString())
            records.write(event.SerializeToString())
