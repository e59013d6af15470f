"""Folders are written whole: what a killed process leaves, what is never replaced."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from kompakt.errors import InputError
from kompakt.folders import _exchanged, _replaced, packed, read_folder, unpacked, write_folder

OLD = {"saved_model.pb": b"old" * 1000, "variables/one.bin": b"old" * 100_000}
NEW = {"saved_model.pb": b"new" * 1000, "variables/two.bin": b"new" * 200_000}

WRITER = """
import sys
from kompakt.folders import write_folder
files = {"saved_model.pb": b"new" * 1000, "variables/two.bin": b"new" * 200_000}
print("ready", flush=True)
sys.stdin.readline()
while True:
    write_folder(sys.argv[1], files)
"""


def test_a_pack_is_the_same_bytes_for_the_same_files():
    assert packed(OLD) == packed(dict(reversed(OLD.items())))
    assert unpacked(packed(OLD)) == OLD


def test_a_folder_comes_back_as_it_was(tmp_path):
    assert read_folder(write_folder(tmp_path / "m", OLD)) == OLD
    assert read_folder(write_folder(tmp_path / "m", NEW)) == NEW
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="macOS and Linux exchange folders in one step")
def test_two_folders_are_exchanged_in_one_step(tmp_path):
    write_folder(tmp_path / "a", OLD)
    write_folder(tmp_path / "b", NEW)
    assert _exchanged(tmp_path / "a", tmp_path / "b")
    assert read_folder(tmp_path / "a") == NEW and read_folder(tmp_path / "b") == OLD


def test_without_an_exchange_two_renames_do(tmp_path, monkeypatch):
    monkeypatch.setattr("kompakt.folders._exchanged", lambda one, other: False)
    write_folder(tmp_path / "m", OLD)
    assert read_folder(write_folder(tmp_path / "m", NEW)) == NEW
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_without_an_exchange_a_second_rename_that_fails_puts_the_old_one_back(tmp_path):
    write_folder(tmp_path / "m", OLD)
    with pytest.raises(FileNotFoundError):
        _replaced(tmp_path / ".m.0.tmp", tmp_path / "m")  # what is to be put there was taken away
    assert read_folder(tmp_path / "m") == OLD
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


@pytest.mark.parametrize("exchange", [True, False])
def test_several_that_write_one_new_folder_at_once(tmp_path, monkeypatch, exchange):
    if not exchange:
        monkeypatch.setattr("kompakt.folders._exchanged", lambda one, other: False)
    with ThreadPoolExecutor(4) as pool:
        for count in range(60):
            place = tmp_path / str(count)
            list(pool.map(write_folder, [place] * 4, [OLD, NEW] * 2))
            assert read_folder(place) in (OLD, NEW)
    assert len(list(tmp_path.iterdir())) == 60


@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_and_what_it_leads_to_is_written(tmp_path, there):
    place, link = tmp_path / "disk/m", tmp_path / "m"
    (tmp_path / "disk").mkdir()
    if there:
        write_folder(place, OLD)
    link.symlink_to(place, target_is_directory=True)
    assert write_folder(link, NEW) == link
    assert link.is_symlink() and read_folder(place) == NEW
    assert [path.name for path in place.parent.iterdir()] == ["m"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "m"]


def test_a_file_is_not_replaced_by_a_folder(tmp_path):
    (tmp_path / "m").write_bytes(b"1")
    with pytest.raises(InputError, match=r"^cannot write .*m: Not a directory"):
        write_folder(tmp_path / "m", NEW)
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_a_write_that_fails_leaves_the_old_one_and_nothing_beside_it(tmp_path):
    write_folder(tmp_path / "m", OLD)
    with pytest.raises(InputError, match=r"^cannot write .*m: "):
        write_folder(tmp_path / "m", {"a": b"1", "a/b": b"2"})  # a file where a folder has to be
    assert read_folder(tmp_path / "m") == OLD
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


@pytest.mark.parametrize("path", ["no", "file"])
def test_what_is_no_folder(tmp_path, path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match=r"(is a file|does not exist); give the folder that was exported$"):
        read_folder(tmp_path / path)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere there is a moment without a folder")
def test_a_writer_that_is_killed_leaves_the_old_or_the_new_one(tmp_path):
    place, random = tmp_path / "m", np.random.default_rng(0)
    for _ in range(10):
        write_folder(place, OLD)
        _killed_after(place, float(random.uniform(0.0, 0.05)))
        assert read_folder(place) in (OLD, NEW)


def _killed_after(place: Path, seconds: float) -> None:
    command = [sys.executable, "-c", WRITER, str(place)]
    writer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None and writer.stdin is not None
    writer.stdout.readline()
    writer.stdin.write("go\n")
    writer.stdin.flush()
    time.sleep(seconds)
    os.kill(writer.pid, signal.SIGKILL)
    writer.communicate()
