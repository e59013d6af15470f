"""Files appear whole or not at all."""

import gzip
import os
import random
import resource
import signal
import subprocess
import sys
import time
from functools import partial

import pytest

from kompakt.errors import InputError
from kompakt.files import gzip_bytes, sha256, writable_folder, write_atomic


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_bytes_and_text_are_written(tmp_path):
    assert write_atomic(tmp_path / "a", b"\x00\xff") == tmp_path / "a"
    write_atomic(str(tmp_path / "b"), "größer\n")
    assert contents(tmp_path) == {"a": b"\x00\xff", "b": "größer\n".encode()}


def test_folders_are_made_and_an_old_file_is_replaced(tmp_path):
    path = tmp_path / "x" / "y" / "a"
    write_atomic(path, "old")
    write_atomic(path, "new")
    assert contents(path.parent) == {"a": b"new"}


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_it_has_the_rights_of_any_new_file(tmp_path, umask):
    before = os.umask(umask)
    try:
        write_atomic(tmp_path / "a", "")
        (tmp_path / "b").write_text("")
    finally:
        after = os.umask(before)
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode and after == umask


# Links


def test_a_link_stays_and_what_it_points_at_is_written(tmp_path):
    """It was replaced by a file, and what it pointed at stayed old."""
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "a").write_text("old")
    (tmp_path / "near").symlink_to("store/a")
    (tmp_path / "link").symlink_to("near")
    assert write_atomic(tmp_path / "link", "new") == tmp_path / "link"
    assert (tmp_path / "link").readlink().name == "near" and (tmp_path / "near").is_symlink()
    assert contents(tmp_path / "store") == {"a": b"new"}


def test_a_link_to_what_is_not_there_yet(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "store" / "a")
    write_atomic(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink() and contents(tmp_path / "store") == {"a": b"new"}


def test_links_in_a_ring(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(InputError) as caught:
        write_atomic(tmp_path / "a", "new")
    assert (
        str(caught.value) == f"cannot write {tmp_path / 'a'}: Too many levels of symbolic links; choose another place"
    )
    assert sorted(os.listdir(tmp_path)) == ["a", "b"] and (tmp_path / "a").is_symlink()


# Writes that fail, in a process of their own

WRITE = """
import sys
from kompakt.errors import InputError
from kompakt.files import write_atomic
try:
    write_atomic(sys.argv[1], b"n" * 100_000)
except InputError as error:
    print(error, end="")
"""


def run(code, path, **options):
    return subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True, **options)


def test_a_write_that_fails_half_way_leaves_the_old_file(tmp_path):
    """The system refuses to let a file grow beyond 1,000 bytes, as it does on a full disk."""
    path = tmp_path / "a"
    path.write_text("old")
    small = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (1000, 1000))
    ran = run(WRITE, path, preexec_fn=small)
    assert ran.stdout == f"cannot write {path}: File too large; choose another place"
    assert contents(tmp_path) == {"a": b"old"}


def test_a_path_that_is_a_folder(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(InputError) as caught:
        write_atomic(tmp_path / "a", "new")
    assert str(caught.value) == f"cannot write {tmp_path / 'a'}: Is a directory; choose another place"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_name_that_the_system_does_not_take(tmp_path):
    path = tmp_path / ("long" * 100)
    with pytest.raises(InputError) as caught:
        write_atomic(path, "new")
    assert str(caught.value) == f"cannot write {path}: File name too long; choose another place"
    assert contents(tmp_path) == {}


FOREVER = """
import sys
from kompakt.files import write_atomic
old, new = b"old" * 300_000, b"newer" * 200_000
print("ready", flush=True)
while True:
    write_atomic(sys.argv[1], new)
    write_atomic(sys.argv[1], old)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["interrupted", "killed"])
def test_a_reader_sees_the_old_or_the_new_and_never_half(tmp_path, number):
    """Stopped at any moment; an interrupt leaves nothing beside the file either."""
    whole = {b"old" * 300_000, b"newer" * 200_000}
    path = tmp_path / "a"
    for wait in random.Random(0).choices(range(1, 40), k=6):
        writer = subprocess.Popen(
            [sys.executable, "-c", FOREVER, path],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
        )
        assert writer.stdout.readline() == b"ready\n"
        end = time.monotonic() + wait / 1000
        while time.monotonic() < end:
            assert not path.exists() or path.read_bytes() in whole
        writer.send_signal(number)
        assert writer.wait(timeout=30) != 0
        writer.stdout.close()
        assert not path.exists() or path.read_bytes() in whole
        if number == signal.SIGINT:
            assert set(os.listdir(tmp_path)) <= {"a"}


# Folders and digests


def test_a_folder_is_made_where_it_is_missing(tmp_path):
    assert writable_folder(tmp_path / "x" / "y") == tmp_path / "x" / "y"
    assert writable_folder(str(tmp_path / "x")) == tmp_path / "x"
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["y"]


@pytest.mark.parametrize(("place", "reason"), [("file", "File exists"), ("file/below", "Not a directory")])
def test_a_folder_that_cannot_be_made(tmp_path, place, reason):
    (tmp_path / "file").write_text("")
    text = f"cannot write to the folder {tmp_path / place}: {reason}; choose a folder you may write to"
    with pytest.raises(InputError) as caught:
        writable_folder(tmp_path / place)
    assert str(caught.value) == text
    with pytest.raises(InputError) as caught:
        write_atomic(tmp_path / place / "a", "new")
    assert str(caught.value) == text


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="/proc is Linux'")
def test_a_folder_that_cannot_be_written():
    with pytest.raises(InputError, match=r"^cannot write to the folder /proc/self: .*; choose a folder you may write"):
        writable_folder("/proc/self")


def test_digests():
    assert sha256(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    data = b"zeros" * 1000
    assert gzip_bytes(data) == gzip_bytes(data) == len(gzip.compress(data, 9, mtime=12345)) < 100
