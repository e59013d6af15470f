"""A bar and its steps; what it shows of a path is the path."""

import io

from rich.console import Console

from kompakt import progress


def screen_of(monkeypatch, **options):
    screen = io.StringIO()
    monkeypatch.setattr(progress, "Console", lambda **_: Console(file=screen, width=100, **options))
    return screen


def test_a_file_has_a_line_for_each_thing_that_is_begun_where_it_is_asked_for(monkeypatch):
    screen = screen_of(monkeypatch)
    for lines in (False, True):
        with progress.shown(True, lines=lines) as report:
            report("calibrating, 5%", 0.1)
            report("calibrating, 50%", 0.3)
            report("converting", None)
    assert screen.getvalue() == " 10% calibrating\n  0% converting\n"


def test_a_step_within_a_step_never_goes_back():
    told = []
    outer = progress.part(lambda what, share: told.append(share), 0.0, 0.5)
    for start in (0.0, 0.5):
        inner = progress.part(outer, start, start + 0.5)
        for share in (0.0, 1.0, 0.2):
            inner("x", share)
    assert told == [0.0, 0.25, 0.25, 0.25, 0.5, 0.5]


def test_a_path_is_no_markup(monkeypatch):
    screen = screen_of(monkeypatch, force_terminal=True)
    with progress.shown(True) as report:
        report("measuring m[/b].tflite", 0.5)
        report("measuring [red]x.tflite", 0.9)
    assert "[red]x.tflite" in screen.getvalue()
