"""What an int8 file would cost on an Arm Ethos-U, as Arm's compiler Vela estimates it, where that is installed."""

from __future__ import annotations

import csv
import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from kompakt.errors import InputError
from kompakt.isolated import Limits
from kompakt.isolated_process import python_path
from kompakt.records import Measurement

ACCELERATOR = "KOMPAKT_ETHOS_U"
"""Environment variable: the accelerator to estimate for, such as ethos-u55-128; without it nothing is estimated."""


def ready() -> None:
    """Raise where an accelerator is named and Vela is not there.

    Raises:
        InputError: the text says how to get it.
    """
    accelerator = os.environ.get(ACCELERATOR, "")
    if accelerator and importlib.util.find_spec("ethosu") is None:
        raise InputError(f"{ACCELERATOR}={accelerator}: Arm's Vela is not installed: pip install 'kompakt[ethos-u]'")


def estimates(data: bytes) -> list[Measurement]:
    """Cycles and memory of a file on the accelerator that ``KOMPAKT_ETHOS_U`` names; none where it names none.

    Raises:
        InputError: Vela refuses the file or the accelerator.
    """
    accelerator = os.environ.get(ACCELERATOR, "")
    return estimate(data, accelerator) if accelerator else []


def estimate(data: bytes, accelerator: str) -> list[Measurement]:
    """Inference time (ms), SRAM and off-chip flash (KiB) of ``data``.

    Args:
        data: a TFLite file of int8. accelerator: of Vela, such as "ethos-u55-128".

    Raises:
        InputError: Vela refuses the file or the accelerator.
    """
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "model.tflite").write_bytes(data)
        command = [sys.executable, "-P", "-m", "ethosu.vela", f"{folder}/model.tflite", "--output-dir", folder]
        command += ["--accelerator-config", accelerator]
        limit = Limits.set().seconds
        try:
            environment = {**os.environ, "PYTHONPATH": python_path()}
            done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False, env=environment)
        except subprocess.TimeoutExpired:
            raise InputError(f"Vela had not finished after {limit:g} s and was stopped") from None
        summary = next(Path(folder).glob("*summary*.csv"), None)
        if done.returncode or summary is None:
            said = (done.stderr or done.stdout).strip().splitlines()
            raise InputError(f"Vela refuses the file for {accelerator}: {said[-1] if said else 'it says nothing'}")
        with summary.open(newline="") as file:
            row = next(csv.DictReader(file))
    where = f"{accelerator}, Vela's estimate"
    return [
        Measurement(name=name, value=scale * float(row[column]), unit=unit, where=where)
        for name, column, scale, unit in COLUMNS
        if row.get(column)
    ]


COLUMNS = (
    ("npu_time", "inference_time", 1e3, "ms"),
    ("npu_cycles", "cycles_total", 1.0, "cycles"),
    ("npu_sram", "sram_memory_used", 1.0, "KiB"),
    ("npu_flash", "off_chip_flash_memory_used", 1.0, "KiB"),
)
"""Name of a measurement, column of Vela's summary, factor and unit."""
