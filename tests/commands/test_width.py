"""What is printed is as wide as the terminal, or 80 columns where there is none."""

import os

import pytest

from kompakt.commands import shared

LINE = "  note       " + "a word " * 20


@pytest.fixture
def printed(monkeypatch, capsys):
    def call(columns=None, **more):
        monkeypatch.delenv("COLUMNS", raising=False)
        if columns:
            monkeypatch.setenv("COLUMNS", columns)
        shared.say(LINE, "/path" * 40, **more)
        return capsys.readouterr()

    return call


@pytest.mark.parametrize(("columns", "width"), [(None, 80), ("60", 60), ("200", 200)])
def test_lines_are_as_wide_as_columns_says_and_else_80(printed, columns, width):
    *lines, path = printed(columns).out.splitlines()
    assert width - 7 < max(map(len, lines)) <= width or columns == "200"
    assert path == "/path" * 40 and " ".join(lines).split() == LINE.split()


def test_a_file_is_not_as_wide_as_the_terminal_of_another_stream(printed, monkeypatch):
    """rich asks standard input too."""
    monkeypatch.setattr("os.get_terminal_size", lambda *_: os.terminal_size((200, 50)))
    assert max(map(len, printed().out.splitlines()[:-1])) <= 80


def test_standard_error_is_wrapped_too(printed):
    seen = printed("60", stderr=True)
    assert seen.out == "" and len(seen.err.splitlines()) == 5
