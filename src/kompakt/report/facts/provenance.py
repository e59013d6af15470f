"""Where the numbers come from: command, seed, data, machine, versions, files and their digests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kompakt.records import Run


@dataclass(frozen=True, kw_only=True)
class Source:
    """One run: what was done, on what, where, and with which programs (name, version).

    ``label``: of the run where there are several, else "".
    """

    label: str
    title: str
    command: str
    seed: int | None
    data: str
    machine: str
    created: str
    versions: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class FileSource:
    """One file: where it lies, its kind and digest, that of the weights it was made from, how long that took."""

    recipe: str
    path: str
    kind: str
    seconds: float
    sha256: str
    source_sha256: str


def source(run: Run, label: str = "") -> Source:
    """Where a run's numbers come from.

    Example:
        >>> source(Run(title="demo", trials=(), seed=7)).seed
        7
    """
    return Source(
        label=label,
        title=run.title,
        command=run.command,
        seed=run.seed,
        data=run.data,
        machine=run.machine,
        created=run.created,
        versions=versions(run),
    )


def file_sources(run: Run) -> tuple[FileSource, ...]:
    """The files of a run.

    Example:
        >>> file_sources(Run(title="demo", trials=()))
        ()
    """
    return tuple(
        FileSource(
            recipe=trial.recipe,
            path=file.path,
            kind=f"{file.target}, {file.quantization}, {file.io} I/O",
            seconds=trial.seconds,
            sha256=file.sha256,
            source_sha256=file.source_sha256,
        )
        for trial in run.trials
        if (file := trial.artifact) is not None
    )


def versions(run: Run) -> tuple[tuple[str, str], ...]:
    """Package and version of the run and of its files; where they differ, all of them.

    Example:
        >>> versions(Run(title="demo", trials=(), versions={"keras": "3.15.1"}))
        (('keras', '3.15.1'),)
    """
    found: dict[str, list[str]] = {}
    sources: list[Mapping[str, str]] = [run.versions]
    sources += [trial.artifact.versions for trial in run.trials if trial.artifact is not None]
    for source in sources:
        for name, version in source.items():
            known = found.setdefault(name, [])
            if version not in known:
                known.append(version)
    return tuple((name, ", ".join(known)) for name, known in found.items())
