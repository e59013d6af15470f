"""A real Node process that is asked: by threads at once, when it hangs, and when it stops listening or speaking."""

import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from kompakt.errors import InputError
from kompakt.isolated import Limits
from kompakt.targets.web_process import node_process

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")

ECHO = """
import readline from 'node:readline';
for await (const line of readline.createInterface({input: process.stdin})) {
  const {word, wait} = JSON.parse(line);
  await new Promise(done => setTimeout(done, wait));
  process.stdout.write(JSON.stringify({word}) + '\\n');
}
"""


@pytest.fixture
def started(tmp_path):
    """``started(code, seconds)``: a process with that limit of time."""

    def start(code, seconds):
        script = tmp_path / "script.mjs"
        script.write_text(code)
        return node_process(script, limits=Limits(seconds=seconds, gigabytes=0.5))

    return start


def test_each_thread_has_the_answer_to_its_own_request(started):
    """Two that asked at once took what came first, which was the other's as often as not."""
    with started(ECHO, 60.0) as process, ThreadPoolExecutor(8) as pool:
        words = [f"{n} " * 500 for n in range(200)]
        found = list(pool.map(lambda word: process.ask(word=word, wait=0)["word"], words))
    assert found == words


def test_a_request_that_nobody_reads_has_the_same_limit_of_time(started):
    """The pipe takes 64 KiB: the writing of what is larger waited for ever."""
    with started("setInterval(() => {}, 1000)", 1.0) as process:
        begun = time.monotonic()
        with pytest.raises(InputError, match=r"^Node was stopped: it gave no answer within 1 s \(KOMPAKT_TIME_LIMIT"):
            process.ask(word="x" * 10_000_000)
        assert time.monotonic() - begun < 10 and not process.alive


def test_a_process_that_speaks_no_more_and_lives_on(started):
    code = "import fs from 'node:fs'; fs.closeSync(1); setInterval(() => {}, 1000)"
    with (
        started(code, 3.0) as process,
        pytest.raises(InputError, match=r"^Node was stopped: it closed its output without an answer, and did not end$"),
    ):
        process.ask(word="x")


def test_a_child_that_it_leaves_behind_keeps_nobody_waiting(started):
    """It has the output too, and so the end of that never comes."""
    code = (
        "import {spawn} from 'node:child_process'; spawn('sleep', ['20'], {stdio: 'inherit'}); setInterval(() => {}, 9)"
    )
    begun = time.monotonic()
    with started(code, 2.0) as process, pytest.raises(InputError, match="it gave no answer within 2 s"):
        process.ask(word="x")
    assert time.monotonic() - begun < 10


def test_who_waits_for_a_request_that_hangs_is_told_in_its_turn(started):
    said = []

    def ask(process):
        try:
            process.ask(word="x", wait=60_000)
        except InputError as error:
            said.append(str(error))

    with started(ECHO, 2.0) as process:
        threads = [threading.Thread(target=ask, args=(process,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=30)
    assert said == [
        "Node was stopped: it gave no answer within 2 s (KOMPAKT_TIME_LIMIT sets it)",
        "Node was ended at an earlier request that it did not answer; begin anew",
    ]
