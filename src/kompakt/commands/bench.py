"""``kompakt bench``."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

from kompakt.commands.shared import OK, data_option, loaded, progress, say_json, show, trust_option

if TYPE_CHECKING:
    from kompakt.records_profile import Bench, LatencyRatio, Profile

ABOUT = "measure latency, memory and size of files, with their physical limits"


def options(command: ArgumentParser) -> None:
    """What the command takes."""
    command.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="file or folder of any target; of several, the others against the first",
    )
    data_option(command, required=False, why="; random inputs without")
    command.add_argument("--model", metavar="MODEL.keras", help="where layers' parameters and MACs are taken from")
    command.add_argument(
        "--threads", type=int, nargs="+", metavar="N", help="numbers of threads (default: 1 and all cores)"
    )
    command.add_argument("--operators", action="store_true", help="time each operator of a .tflite file alone, too")
    command.add_argument("--rounds", type=int, metavar="N", help="readings (default: 15, of pairs of files 30)")
    trust_option(command)


def check(options: Namespace) -> None:
    """What can be told at once."""
    from kompakt.commands.early import check_artifact, check_data, check_model

    for path in options.files:
        check_artifact(path)
    check_model(options.model)
    check_data(options.data)


def run(options: Namespace) -> int:
    """``kompakt bench``."""
    with progress() as report:
        bench = _measured(options, report)
    if options.json:
        say_json(bench)
        return OK
    from kompakt.report.profile import bench_tables

    show(*bench_tables(bench))
    return OK


def _measured(options: Namespace, report: Any) -> Bench:
    from kompakt.profile import PAIRED, ROUNDS, compare_latency, profile
    from kompakt.records_profile import Bench
    from kompakt.targets import target_at

    for path in options.files:
        target_at(path)
    model = None if options.model is None else loaded(options.model, options)
    inputs = _inputs(options, model)
    given: dict[str, Any] = {"inputs": inputs, "model": model, "threads": options.threads}
    profiles: list[Profile] = []
    for path in options.files:
        report(f"measuring {path}", len(profiles) / len(options.files))
        rounds = ROUNDS if options.rounds is None else options.rounds
        profiles.append(profile(path, rounds=rounds, operators=options.operators, **given))
    ratios: list[LatencyRatio] = []
    for path, other in zip(options.files[1:], profiles[1:], strict=True):
        for threads in dict.fromkeys(options.threads or [1]):
            if profiles[0].timing(threads) and other.timing(threads):  # a runtime of one thread has no other
                report(f"comparing {path}", len(ratios) / len(options.files))
                rounds = PAIRED if options.rounds is None else options.rounds
                ratios.append(compare_latency(path, options.files[0], inputs=inputs, threads=threads, rounds=rounds))
    return Bench(profiles=tuple(profiles), ratios=tuple(ratios))


def _inputs(options: Namespace, model: Any) -> Any:
    """The test samples, as ``model`` takes them where there is one."""
    if options.data is None:
        return None
    from kompakt.data import load_data
    from kompakt.task import data_for

    data = load_data(options.data)
    return data.x_test if model is None else data_for(model, data).x_test
