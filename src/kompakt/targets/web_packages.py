"""Node, and the packages that it runs TF.js and pages with: found, or installed once into the user's cache."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from kompakt.errors import InputError
from kompakt.files import alone, sha256, writable_folder

WEB = Path(__file__).parent / "web"
"""What runs in Node and in pages; ``node`` and ``browser`` have a lock file each."""

OLDEST = 18
"""Version of Node that the packages need."""

INSTALLING = 900
"""Seconds that an installation may take."""

CACHE = "KOMPAKT_CACHE"
"""Environment variable: the folder that packages are installed in."""


def node() -> str:
    """Path of Node.

    Raises:
        InputError: it is not installed, or too old.
    """
    found = shutil.which("node")
    if found is None:
        raise InputError(
            f"Node.js {OLDEST} or newer was not found on PATH; TF.js models are run in it. Install it from "
            "https://nodejs.org or with your system's packages (apt install nodejs npm, brew install node)"
        )
    version = _version(found)
    if version < OLDEST:
        raise InputError(f"{found} is Node.js {version}: {OLDEST} or newer is needed, see https://nodejs.org")
    return found


@functools.cache
def _version(path: str) -> int:
    try:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=60, check=False).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError(f"{path} --version does not run ({error}); install Node.js anew") from None
    number = re.match(r"v(\d+)\.", said)
    if number is None:
        raise InputError(f"{path} --version says {said!r:.80}, expected a version of Node.js; install it anew")
    return int(number[1])


def packages(which: str, root: Path = WEB) -> Path:
    """The folder with ``node_modules`` of ``<root>/<which>``; installed by ``npm ci`` where it is not there yet.

    The lock file pins each package by version and digest, and its own digest is part of the folder's name: another
    release of kompakt with other packages has another folder. An installation that is stopped leaves none behind.

    Raises:
        InputError: there is no npm, the registry cannot be reached, or the cache cannot be written.
    """
    lock = (root / which / "package-lock.json").read_bytes()
    folder = cache_folder() / f"web-{which}-{sha256(lock)[:12]}"
    if folder.is_dir():
        return folder
    writable_folder(folder.parent)
    with alone(folder.parent):
        if not folder.is_dir():
            _install(root / which, folder)
    return folder


def cache_folder() -> Path:
    """Where packages are kept: ``KOMPAKT_CACHE``, else the place that the system has for it."""
    own = os.environ.get(CACHE)
    if own:
        return Path(own)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "kompakt"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "kompakt" / "Cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kompakt"


def _install(source: Path, folder: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise InputError("npm was not found on PATH; it comes with Node.js (https://nodejs.org) or as the package npm")
    beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        for name in ("package.json", "package-lock.json"):
            shutil.copyfile(source / name, beside / name)
        _npm_ci(npm, beside)
        for unused in beside.rglob("*.map"):  # two thirds of it: where a line of the packed code was written
            unused.unlink()
        beside.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _npm_ci(npm: str, folder: Path) -> None:
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", "--fetch-retries=1"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=INSTALLING, check=False)
    except subprocess.TimeoutExpired:
        raise InputError(f"npm ci did not end within {INSTALLING} s; is the registry reachable? Try again") from None
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if "npm error" in line and len(line.strip()) > 15]
        raise InputError(
            f"npm ci could not install the packages that run TF.js: {_cause(lines) or done.stderr.strip()[-200:]}; "
            f"with a network it is done once, into {cache_folder()} ({CACHE} names another place)"
        )


def _cause(lines: list[str]) -> str:
    """The line of npm's that says most: a network error before the rest."""
    said = [line.removeprefix("npm error").strip() for line in lines]
    return next(
        (line for line in said if re.search(r"ENOTFOUND|ECONN|EAI_AGAIN|ETIMEDOUT|network", line)), "".join(said[:1])
    )
