"""``kompakt join``."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from kompakt.commands.shared import OK, progress, say, say_json, seed
from kompakt.errors import InputError

ABOUT = "put several .tflite files into one, a signature each"


def options(command: ArgumentParser) -> None:
    """What the command takes."""
    command.add_argument("out", metavar="OUT.tflite", help="file to write")
    command.add_argument("files", nargs="+", metavar="NAME=FILE", help="signature, and the verified file that it is")
    command.add_argument("--seed", type=seed, default=0, metavar="S", help="of the inputs to compare on (default: 0)")


def check(options: Namespace) -> None:
    """What can be told at once."""
    from kompakt.commands.early import check_artifact

    for file in _named(options.files).values():
        check_artifact(file)


def run(options: Namespace) -> int:
    """``kompakt join``."""
    from kompakt.signatures import join_signatures

    given = _named(options.files)
    with progress() as report:
        report("running each signature", 0.5)
        made = join_signatures(given, options.out, seed=options.seed)
    if options.json:
        say_json(made)
        return OK
    say(f"{made.path}: {made.bytes:,} bytes, {made.gzip_bytes:,} gzipped; {made.apart:,} in files of their own")
    for name, samples in zip(made.signatures, made.samples, strict=True):
        say(f"  {name}: equal to its own file in every bit, {samples} random samples")
    return OK


def _named(files: Sequence[str]) -> dict[str, str]:
    """Signature -> file."""
    given: dict[str, str] = {}
    for text in files:
        name, _, file = text.partition("=")
        if not name or not file or name in given:
            raise InputError(f"{text!r}: expected NAME=FILE, each name once, such as classify=classify.tflite")
        given[name] = file
    return given
