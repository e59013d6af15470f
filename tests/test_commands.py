"""What the command line says of a word that it does not know."""

import re

import pytest

from kompakt.cli import main


@pytest.mark.parametrize(
    ("word", "end"), [("optimise", "; nearest: 'optimize'; see kompakt --help"), ("zzz", "; see kompakt --help")]
)
def test_a_command_that_is_none(word, end, capsys):
    assert main([word]) == 2
    assert re.fullmatch(
        rf"kompakt: argument COMMAND: invalid choice: '{word}' \(choose from [^;]*\){end}\n", capsys.readouterr().err
    )


def test_help_says_how_pixels_are_read(capsys):
    with pytest.raises(SystemExit):
        main(["export", "--help"])
    assert "pixels from 0 to 255" in " ".join(capsys.readouterr().out.split())
