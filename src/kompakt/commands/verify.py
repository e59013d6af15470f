"""``kompakt verify``."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kompakt.commands.shared import BREACH, OK, data_option, loaded, progress, say, show_artifact, trust_option
from kompakt.errors import VerificationError

if TYPE_CHECKING:
    from kompakt.browser import BrowserCheck


ABOUT = "run a file and compare it with its model"


def options(command: ArgumentParser) -> None:
    """What the command takes."""
    command.add_argument("file", metavar="OUT", help="file or folder to run, of any target")
    command.add_argument("--model", required=True, metavar="MODEL.keras", help="float model it came from")
    data_option(command)
    command.add_argument("--signature", metavar="NAME", help="of a .tflite file with several: the one to verify")
    command.add_argument(
        "--browser", action="store_true", help="run it in a headless Chromium too: tfjs, or a .tflite with float I/O"
    )
    command.add_argument(
        "--least-argmax", type=float, default=0.95, metavar="SHARE", help="agreement demanded (default: 0.95)"
    )
    trust_option(command)


def check(options: Namespace) -> None:
    """What can be told at once."""
    from kompakt.commands.early import check_artifact, check_data, check_model

    check_artifact(options.file)
    check_model(options.model)
    check_data(options.data)


def run(options: Namespace) -> int:
    """``kompakt verify``."""
    from kompakt.data import load_data
    from kompakt.targets import target_at
    from kompakt.task import data_for
    from kompakt.verify import verify_file

    target_at(options.file)
    model = loaded(options.model, options)
    data = data_for(model, load_data(options.data))
    with progress() as report:
        report("running the file", 0.5)
        artifact = verify_file(
            options.file, model, data.x_test, least_argmax=options.least_argmax, signature=options.signature
        )
        seen = _in_browser(options.file, data.x_test) if options.browser else None
    show_artifact(artifact, options)
    if seen is not None:
        say(f"  browser    {seen.text}", stderr=options.json)
        if not seen.agrees:
            raise VerificationError(f"{options.file}: other outputs in the browser, {seen.relative:.3g} of the spread")
    if artifact.breaches and Path(options.data).is_dir():
        say("kompakt: images of a folder have pixels from 0 to 255: is that what the model takes?", stderr=True)
    return BREACH if artifact.breaches else OK


def _in_browser(path: str, inputs: Any) -> BrowserCheck:
    from kompakt.browser import check_in_browser

    return check_in_browser(path, inputs)
